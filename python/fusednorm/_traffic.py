"""What the launches of a plan read from DRAM, write to it and move through L2.

This is a model, not a measurement: it replays a plan over a small L2. Blocks take
items in the order of the plan. All blocks of a grid advance together, each by one chunk
of its item at a time, and an item of `stream` waits for the sums that it needs.

The model assumes about a GPU:

- L2 drops first what was used longest ago, and half of it is there for data. On an H200
  with an L2 of 50 MB, two launches read a tensor of more than 25 MB twice from DRAM:
  each half of the chip keeps its own copies of what it reads.
- L2 is empty at first. What one launch leaves in it, the next launch of the plan finds.
- A result is written to DRAM once, sooner or later. If it bypasses L2 (`stream` of a
  plan) it takes no room there; otherwise it takes as much as data that are read.
- Bytes are counted, not sectors. Tiles whose rows are no multiple of 32 bytes move a
  little more than that.
- gamma and beta of a channel, which many blocks read, are counted once a sample. A mask
  is read from DRAM again by each launch.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

# The share of L2 that is there for data.
SHARE_OF_L2 = 0.5
# A block moves so much of each tensor before the next block has its turn.
CHUNK_BYTES = 32 << 10
# A plan with more chunks than this is replayed for its first sets only, which then
# stand for all sets.
MOST_CHUNKS = 1 << 14
# How many blocks of the second launch of `columns` a multiprocessor runs at a time: as
# many as have enough registers in any case.
COLUMNS_RESIDENT = 2

AMOUNTS = ("read_bytes", "written_bytes", "l2_bytes")


def launches(plan: dict[str, Any], device: dict[str, Any]) -> list[dict[str, Any]]:
    """Returns the traffic of each launch of a plan, in their order.

    Args:
        plan: As `fusednorm._native.plan` returns it.
        device: As `fusednorm._native.known_devices` has them.

    Returns:
        For each launch its `kernel`; `read_bytes` and `written_bytes` of DRAM; and
        `l2_bytes`, what the multiprocessors read and write.
    """
    replay = _Replay(plan, device)
    return [replay.launch(each["kernel"]) for each in plan["launches"]]


def dram_bytes(traffic: Sequence[dict[str, Any]]) -> int:
    """Returns what all launches read from DRAM and write to it."""
    return sum(each["read_bytes"] + each["written_bytes"] for each in traffic)


class _Cache:
    """An L2, and the bytes that were moved since `take` was last called."""

    def __init__(self, room: float) -> None:
        self._room = room
        self._held: OrderedDict[tuple[str, int], float] = OrderedDict()
        self._read = self._written = self._moved = 0.0

    def take(self) -> tuple[float, float, float]:
        """Returns bytes read from DRAM, written to it and moved through L2."""
        passed = (self._read, self._written, self._moved)
        self._read = self._written = self._moved = 0.0
        return passed

    def multiply(self, by: float) -> None:
        """Multiplies the bytes moved, which stand for those of more work alike."""
        self._read *= by
        self._written *= by
        self._moved *= by

    def read(self, name: str, piece: int, size: float) -> None:
        self._moved += size
        key = (name, piece)
        if key in self._held:
            self._held.move_to_end(key)
        else:
            self._read += size
            self._hold(key, size)

    def write(self, name: str, piece: int, size: float) -> None:
        self._moved += size
        self._written += size
        key = (name, piece)
        if key in self._held:
            self._held.move_to_end(key)
        else:
            self._hold(key, size)

    def read_once(self, size: float) -> None:
        self._moved += size
        self._read += size

    def write_past(self, size: float) -> None:
        self._moved += size
        self._written += size

    def _hold(self, key: tuple[str, int], size: float) -> None:
        self._held[key] = size
        self._room -= size
        while self._room < 0:
            self._room += self._held.popitem(last=False)[1]


class _Item(NamedTuple):
    """A work item of `stream`: it sums over a slab, or applies the sums to it."""

    apply: bool
    set: int
    slab: int  # Counted over the slabs of all sets.


def _order(sets: int, slabs: int, lag: int, *, backwards: bool) -> Iterator[_Item]:
    """Yields the items in the order of cuda/kernels/stream/order.h."""
    for i in range(sets * slabs + lag):
        if i < sets * slabs:
            yield _Item(apply=False, set=i // slabs, slab=i)
        if i >= lag:
            which, slab = divmod(i - lag, slabs)
            if backwards:
                slab = slabs - 1 - slab
            yield _Item(apply=True, set=which, slab=which * slabs + slab)


class _Replay:
    """The launches of a plan, one after the other over one L2."""

    def __init__(self, plan: dict[str, Any], device: dict[str, Any]) -> None:
        self._plan = plan
        self._tensors = plan["tensors"]
        self._multiprocessors = device["multiprocessors"]
        self._cache = _Cache(SHARE_OF_L2 * device["l2_bytes"])
        # The bytes of partial sums of gradients.
        self._partial = (
            plan["workspace_bytes"] - plan["partial_bytes"] - plan["count_bytes"]
        )
        schemes: dict[str, list[Callable[[], None]]] = {
            "columns": [self._row_sums, self._columns],
            "second_order": [self._inputs, self._inputs_again],
            "stream": [self._stream],
        }
        self._main = iter(schemes.get(plan["scheme"], [self._once]))

    def launch(self, kernel: str) -> dict[str, Any]:
        """Returns the traffic of the next launch."""
        if kernel == "CountMask":
            self._cache.read_once(self._tensors["mask"])
            self._whole(self._cache.write, "counts", self._plan["count_bytes"])
        elif kernel == "ColumnSums":
            self._whole(self._cache.read, "gradients", self._partial)
            self._cache.write_past(self._tensors["params_written"])
        else:
            next(self._main)()
        amounts = zip(AMOUNTS, self._cache.take(), strict=True)
        return {
            "kernel": kernel,
            **{name: round(amount) for name, amount in amounts},
        }

    def _whole(
        self, access: Callable[[str, int, float], None], name: str, size: int
    ) -> None:
        pieces = -(-size // CHUNK_BYTES)
        for piece in range(pieces):
            access(name, piece, size / pieces)

    def _statistics(self) -> None:
        self._cache.read_once(self._tensors["statistics_read"])
        self._cache.write_past(self._tensors["statistics_written"])
        # With a launch of ColumnSums, that kernel writes them.
        if "ColumnSums" not in (each["kernel"] for each in self._plan["launches"]):
            self._cache.write_past(self._tensors["params_written"])

    def _result(self, piece: int, size: float) -> None:
        if self._plan["stream"]:
            self._cache.write_past(size)
        else:
            self._cache.write("result", piece, size)

    # Launches that read and write everything once.

    def _once(self) -> None:
        tensors = self._tensors
        self._cache.read_once(tensors["inputs"] * tensors["data"])
        self._cache.read_once(tensors["params_read"] + tensors["mask"])
        self._cache.write_past(tensors["outputs"] * tensors["data"])
        self._statistics()
        self._whole(self._cache.write, "gradients", self._partial)

    # The two launches of the second order go through the tensors in the same way.

    def _inputs(self, *, results: bool = False) -> None:
        tensors = self._tensors
        pieces = max(1, min(MOST_CHUNKS, tensors["data"] // CHUNK_BYTES))
        size = tensors["data"] / pieces
        period = max(1, pieces // tensors["param_uses"])
        names = [f"input {number}" for number in range(tensors["inputs"])]
        for piece in range(pieces):
            for name in names:
                self._cache.read(name, piece, size)
            self._cache.read("params", piece % period, tensors["params_read"] / period)
            if results:
                for tensor in range(tensors["outputs"]):
                    self._result(tensor * pieces + piece, size)
        if not results:
            self._whole(self._cache.write, "sums", self._plan["partial_bytes"])

    def _inputs_again(self) -> None:
        self._whole(self._cache.read, "sums", self._plan["partial_bytes"])
        self._inputs(results=True)
        self._statistics()
        self._whole(self._cache.write, "gradients", self._partial)

    # `columns`: the first launch takes pieces of rows. The second takes some columns of
    # a chunk of rows, and begins with the last ones.

    def _grid_of_columns(self) -> tuple[int, int]:
        """Returns the number of rows and that of blocks of columns.

        Where there are many rows, several of them count as one.
        """
        geometry = self._plan["geometry"]
        rows = self._plan["launches"][0]["blocks"] // geometry["pieces"]
        columns = geometry["column_blocks"]
        return min(rows, max(1, MOST_CHUNKS // columns)), columns

    def _row_sums(self) -> None:
        tensors = self._tensors
        rows, columns = self._grid_of_columns()
        size = tensors["data"] / (rows * columns)
        for row in range(rows):
            for column in range(columns):
                self._cache.read("x", row * columns + column, size)
                self._cache.read("dy", row * columns + column, size)
                self._cache.read("params", column, tensors["params_read"] / columns)
        self._whole(self._cache.write, "sums", self._plan["partial_bytes"])

    def _columns(self) -> None:
        tensors = self._tensors
        rows, columns = self._grid_of_columns()
        size = tensors["data"] / (rows * columns)
        together = COLUMNS_RESIDENT * self._multiprocessors
        chunk_rows = min(rows, self._plan["geometry"]["chunk_rows"])
        grid = [
            (range(first, min(first + chunk_rows, rows)), column)
            for first in range(0, rows, chunk_rows)
            for column in range(columns)
        ]
        self._whole(self._cache.read, "sums", self._plan["partial_bytes"])
        for end in range(len(grid), 0, -together):
            blocks = grid[max(0, end - together) : end]
            for _, column in blocks:
                self._cache.read("params", column, tensors["params_read"] / columns)
            for turn in range(chunk_rows):
                for of_chunk, column in blocks:
                    if turn >= len(of_chunk):
                        continue
                    piece = of_chunk[turn] * columns + column
                    self._cache.read("x", piece, size)
                    self._cache.read("dy", piece, size)
                    if tensors["inputs"] > 2:
                        self._cache.read_once(size)
                    self._result(piece, size)
        self._statistics()
        self._whole(self._cache.write, "gradients", self._partial)

    def _stream(self) -> None:
        """Replays the items: blocks take one each, and advance by a chunk at a time."""
        geometry, blocks = self._plan["geometry"], self._plan["launches"][-1]["blocks"]
        sets, slabs = geometry["sets"], geometry["slabs"]
        chunks = round(self._tensors["data"] / (sets * slabs * CHUNK_BYTES))
        chunks = max(1, min(chunks, MOST_CHUNKS // (sets * slabs)))
        fewest = 4 + 4 * geometry["lag"] // slabs
        replayed = min(sets, max(fewest, MOST_CHUNKS // (slabs * chunks)))
        order = _order(
            replayed, slabs, geometry["lag"], backwards=geometry["backwards"]
        )
        move = self._mover(sets * slabs * chunks)
        of_sums = self._plan["partial_bytes"] / (sets * slabs)
        # For each set, the number of slabs whose sums are not there yet.
        missing = dict.fromkeys(range(replayed), slabs)
        working: list[tuple[_Item, int]] = []  # The item, and which chunk is next.
        while True:
            room = blocks - len(working)
            working.extend((item, 0) for item in itertools.islice(order, room))
            if not working:
                break
            unfinished, complete = [], []
            for item, chunk in working:
                if item.apply and item.set in missing:
                    unfinished.append((item, chunk))
                    continue
                move(item, item.slab * chunks + chunk)
                if chunk + 1 < chunks:
                    unfinished.append((item, chunk + 1))
                elif not item.apply:
                    self._cache.write("sums", item.slab, of_sums)
                    complete.append(item.set)
            for each in complete:
                missing[each] -= 1
                if missing[each] == 0:
                    del missing[each]
                    for slab in range(each * slabs, (each + 1) * slabs):
                        self._cache.read("sums", slab, of_sums)
                    self._cache.write("gradients", each, self._partial / sets)
            working = unfinished
        for each in range(replayed):
            self._cache.read("gradients", each, self._partial / sets)
        self._cache.multiply(sets / replayed)
        self._statistics()

    def _mover(self, pieces: int) -> Callable[[_Item, int], None]:
        """Returns a function that replays an item's accesses to one of `pieces`."""
        tensors, read = self._tensors, self._cache.read
        size, of_mask = tensors["data"] / pieces, tensors["mask"] / pieces
        period = max(1, pieces // tensors["param_uses"])
        of_params = tensors["params_read"] / period

        def forward(item: _Item, piece: int) -> None:
            residual = tensors["inputs"] > 1
            if item.apply:
                read("sum" if residual else "x", piece, size)
                read("params", piece % period, of_params)
                self._result(piece, size)
                return
            read("x", piece, size)
            if residual:
                read("residual", piece, size)
                self._cache.write("sum", piece, size)
            if of_mask:
                read("mask", piece, of_mask)

        def backward(item: _Item, piece: int) -> None:
            read("x", piece, size)
            read("dy", piece, size)
            read("params", piece % period, of_params)
            if not item.apply:
                return
            if tensors["inputs"] > 2:
                self._cache.read_once(size)
            if of_mask:
                read("mask", piece, of_mask)
            self._result(piece, size)

        kernel = self._plan["launches"][-1]["kernel"]
        return forward if kernel.endswith("Forward") else backward

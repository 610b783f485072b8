"""The goal of the CUDA kernels, and how far a report of a GPU is from it.

A case meets the goal if it takes no longer than one launch plus the least traffic at a
share of the speed of a copy, and no longer than the best peer. Needs neither GPU nor
torch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from fusednorm.bench import records
from fusednorm.bench.shapes import SHAPES

# Family -> pass -> share of the speed of a copy. Their source is "The goal" in
# docs/gpu_results.md: the project decided them, and no measurement led to them.
SHARES = {
    "rows": {"forward": 0.97, "backward": 0.90},
    "channels_first": {"forward": 0.85, "backward": 0.85},
    "channels_last": {"forward": 0.80, "backward": 0.75},
}
# What a launch costs. The smallest copies of benchmarks/results/h200/kernels.json take
# 2.0 us in a CUDA graph, and a norm may need a little more than a copy.
LAUNCH_US = 2.5

_SHAPES = {each.name: each for each in SHAPES}


def family(shape: str) -> str:
    """Returns the family of a canonical shape; it decides which share is the goal.

    `rows` are norms over trailing axes. `channels_last` includes norms whose axis is in
    the middle, because their elements lie apart in memory in the same way.

    Raises:
        ValueError: no canonical shape has this name.
    """
    if shape not in _SHAPES:
        raise ValueError(f"shape must be a canonical one, got {shape!r}")
    found = _SHAPES[shape]
    rank = len(found.shape)
    axes = sorted(axis % rank for axis in found.axes)
    trailing = axes == list(range(rank - len(axes), rank))
    if found.op == "group_norm":
        return "channels_last" if trailing else "channels_first"
    return "rows" if trailing else "channels_last"


@dataclass(frozen=True)
class Distance:
    """How far one case is from the goal. Times are in microseconds.

    Attributes:
        shape: The name of the canonical shape.
        dtype: Of the data.
        direction: "forward" or "backward".
        limit: The least traffic at the speed of a copy.
        ours: The time of our kernels.
        peer: The name of the fastest peer; None if no peer was timed.
        peer_time: The time of that peer.
    """

    shape: str
    dtype: str
    direction: str
    limit: float
    ours: float
    peer: str | None
    peer_time: float | None

    @property
    def family(self) -> str:
        """The family of the shape."""
        return family(self.shape)

    @property
    def share(self) -> float:
        """The share of the speed of a copy that our kernels reach."""
        return self.limit / self.ours

    @property
    def goal(self) -> float:
        """The time that the goal allows."""
        allowed = LAUNCH_US + self.limit / SHARES[self.family][self.direction]
        return allowed if self.peer_time is None else min(allowed, self.peer_time)

    @property
    def met(self) -> bool:
        """Whether the case meets the goal."""
        return self.ours <= self.goal

    @property
    def beaten(self) -> bool:
        """Whether a peer is faster."""
        return self.peer_time is not None and self.peer_time < self.ours


def distances(report: dict[str, Any]) -> list[Distance]:
    """Returns the distance of each case in which our kernels were timed on a GPU."""
    found = []
    for case in report["cases"]:
        ours = records.our_kernel(case)
        if "plan" not in case or ours is None or case["shape"] not in _SHAPES:
            continue
        if case["pass"] not in SHARES["rows"]:
            continue
        best = _best_peer(case)
        speed = report["copy"]["bytes_per_second"]
        found.append(
            Distance(
                case["shape"],
                case["dtype"],
                case["pass"],
                limit=case["least_bytes"] / speed * 1e6,
                ours=ours["median_us"],
                peer=best,
                peer_time=case["results"][best]["median_us"] if best else None,
            )
        )
    return found


def _best_peer(case: dict[str, Any]) -> str | None:
    """Returns the fastest of those that kernels are compared with."""
    times = {
        name: result["median_us"]
        for name, result in case["results"].items()
        if records.is_peer(name)
        and result.get("against", records.KERNEL) == records.KERNEL
    }
    return min(times, key=times.__getitem__) if times else None


def mean_shares(found: list[Distance]) -> Iterator[tuple[str, str, str, float, int]]:
    """Yields family, dtype, pass, geometric mean of the shares, number of cases."""
    dtypes = dict.fromkeys(each.dtype for each in found)
    for name, goals in SHARES.items():
        for dtype in dtypes:
            for direction in goals:
                key = name, dtype, direction
                shares = [
                    each.share
                    for each in found
                    if (each.family, each.dtype, each.direction) == key
                ]
                if shares:
                    yield *key, records.geometric_mean(shares), len(shares)


def verdict(found: list[Distance]) -> str:
    """Returns the sentence that sums a report up."""
    met = sum(each.met for each in found)
    beaten = sum(each.beaten for each in found)
    return f"{met} of {len(found)} cases meet the goal; a peer is faster in {beaten}."


def _cells(each: Distance) -> list[str]:
    return [
        each.shape,
        each.dtype,
        each.direction,
        f"{each.limit:.1f}",
        f"{each.ours:.1f}",
        "-" if each.peer_time is None else f"{each.peer_time:.1f}",
        each.peer or "-",
        f"{each.goal:.1f}",
        "yes" if each.met else "no",
    ]


def mean_rows(found: list[Distance]) -> list[list[str]]:
    """Returns the mean shares beside their goals as rows, with a heading."""
    rows = [["family", "dtype", "pass", "share", "goal", "cases"]]
    for name, dtype, direction, mean, count in mean_shares(found):
        goal = SHARES[name][direction]
        rows.append([name, dtype, direction, f"{mean:.1%}", f"{goal:.0%}", str(count)])
    return rows


def table(report: dict[str, Any]) -> str:
    """Returns the distance case by case, the mean shares, and the verdict last."""
    found = distances(report)
    cases = [
        ["shape", "dtype", "pass", "limit us", "ours us", "peer us", "best peer",
         "goal us", "met"],
        *map(_cells, found),
    ]  # fmt: skip
    return "\n".join(
        [
            records.aligned(cases, left=(0, 1, 2, 6)),
            "",
            records.aligned(mean_rows(found), left=range(3)),
            "share: geometric mean of the share of a copy's speed.",
            f"goal us: {LAUNCH_US} us and the limit at the goal's share, but never "
            "more than the best peer.",
            verdict(found),
        ]
    )

"""The scheme `stream`: blocks that take turns in any order, and outliers."""

import dataclasses
import itertools

import numpy as np
import pytest
from support.emulation.emulated_norms import (
    DTYPES,
    SMALL,
    Device,
    Options,
    all_plans,
    backward,
    draw,
    forward,
    hold,
)
from support.emulation.kernel_cases import group, layer, name_of, rms, same_bits

# A set exceeds what its L2 keeps.
TINY = dataclasses.replace(SMALL, l2_bytes=16 << 10)
MANY = Device(multiprocessors=5)

# One of each kind: lines that are interleaved groups, of several tiles, parts or copies
# of a row, or columns; groups whose runs have one gamma and beta each; long rows.
LINES = [
    (group(2), (3, 40, 16), SMALL),
    (group(2), (2, 150, 24), MANY),
    (group(3), (1, 60, 6), SMALL),
    (group(-1), (2, 70, 40), TINY),
    (group(1), (1, 9, 1500), SMALL),
]
COLUMNS = [
    (layer(1), (2, 90, 24), SMALL),
    (rms(1), (1, 400, 17), MANY),
]
RUNS = [
    (group(2, 1), (2, 8, 49), SMALL),
    (group(2, 1), (2, 70, 12), MANY),
    (group(1, 1), (1, 3, 7001), TINY),
    (group(1, 1), (1, 2, 20000), MANY),
]
LONG_ROWS = [
    (layer(), (2, 20001), SMALL),
    (rms(), (1, 17000), TINY),
]
CASES = [*LINES, *COLUMNS, *RUNS, *LONG_ROWS]
ORDERS = range(11, 21)  # blocks and threads drawn at random


def of_stream(emulated, norm, shape, dtype, device, options, which):
    """Returns the options with the first candidate of the scheme, and its plan."""
    plans = all_plans(emulated, norm, shape, dtype, device, options, which)
    for candidate, made in enumerate(plans):
        if made["scheme"] == "stream":
            return dataclasses.replace(options, candidate=candidate), made
    pytest.fail("no candidate is of the scheme")


def test_the_cases_are_of_every_kind(emulated):
    """They reach every way in which the work is divided, in the plain instances too."""
    kinds = set()
    for norm, shape, device in CASES:
        for which in ("forward", "backward"):
            case = (norm, shape, np.float32, device, Options(), which)
            geometry = of_stream(emulated, *case)[1]["geometry"]
            by = "runs" if geometry["by_runs"] else "lines"
            kinds.add((which, by, "general" if geometry["general"] else "plain"))
            kinds |= {(which, by, name) for name, n in geometry.items() if n > 1}
            kinds |= {(which, by, name) for name in ("columns",) if geometry.get(name)}
            kinds |= {(which, by, "backwards")} if geometry["backwards"] else set()
    lines = ["plain", "general", "tiles", "parts", "copies", "columns", "slabs"]
    runs = ["plain", "general", "runs", "pieces", "slab_runs", "slabs"]
    for which, (by, names) in itertools.product(
        ("forward", "backward"), (("lines", lines), ("runs", runs))
    ):
        wanted = {(which, by, name) for name in [*names, "sets", "backwards"]}
        assert not wanted - kinds
    assert {("backward", "lines", "params"), ("backward", "runs", "params")} <= kinds


@pytest.mark.parametrize(("norm", "shape", "device"), CASES, ids=name_of)
def test_the_bits_do_not_depend_on_who_takes_an_item(
    emulated, norm, shape, device, rng
):
    """In random orders, and with one block after the other, which waits for nobody."""
    norm = dataclasses.replace(norm, activation="silu")
    dtype = np.dtype(DTYPES[sum(shape) % 3])
    data = draw(norm, shape, dtype, Options(), rng)
    first, second = (
        of_stream(emulated, norm, shape, dtype, device, Options(), which)[0]
        for which in ("forward", "backward")
    )
    _, outputs = forward(emulated, norm, data, device, first)
    _, gradients = backward(emulated, norm, data, outputs, device, second)
    turns = [{"order": order, "resident": 2 + order % 5} for order in ORDERS]
    turns += [{"order": order, "resident": 1} for order in ORDERS]
    turns.append({"resident": 1})
    for turn in turns:
        chosen = dataclasses.replace(first, **turn)
        _, got = forward(emulated, norm, data, device, chosen)
        same_bits(got, outputs)
        chosen = dataclasses.replace(second, **turn)
        _, got = backward(emulated, norm, data, outputs, device, chosen)
        same_bits(got, gradients)


def places_of(shape, geometry):
    """Returns places of an outlier: the first and the last, and where threads begin.

    A thread adds up around its first element. Of 256 threads some are enough.
    """
    width = geometry["width"]
    if geometry["by_runs"]:
        begins = [width * member for member in range(geometry["team"])]
    else:
        line = geometry["tiles"] * geometry["tile_lanes"]
        begins = [
            line * row + width * column
            for row in range(geometry["thread_rows"])
            for column in range(geometry["thread_columns"])
        ]
    size = int(np.prod(shape))
    some = begins[1 :: len(begins) // 8]
    return sorted({0, size - 1, *(at for at in some if at < size)})


OUTLIERS = [
    (group(2), (1, 400, 16), SMALL),
    (group(2), (1, 150, 24), MANY),
    (layer(1), (1, 300, 24), SMALL),
    (group(2, 1), (1, 8, 300), SMALL),
    (group(1, 1), (1, 3, 7001), TINY),
    (layer(), (1, 20000), SMALL),
]


@pytest.mark.parametrize("dtype", [np.float32, DTYPES[2]], ids=name_of)
@pytest.mark.parametrize(("norm", "shape", "device"), OUTLIERS, ids=name_of)
def test_outliers(emulated, norm, shape, device, dtype, rng):
    """An element of 1e4 standard deviations is within the bounds wherever it stands.

    Also where it is a thread's first one: with sums of distances from it, which are all
    1e4, rstd would be 2.1 times its bound off.
    """
    dtype = np.dtype(dtype)
    (first, made), (second, _) = (
        of_stream(emulated, norm, shape, dtype, device, Options(), which)
        for which in ("forward", "backward")
    )
    data = draw(norm, shape, dtype, Options(), rng)
    for place in places_of(shape, made["geometry"]):
        x = data["x"].copy()
        x.reshape(-1)[place] = 1e4
        hold(emulated, norm, {**data, "x": x}, device, first, second)

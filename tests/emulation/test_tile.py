"""The scheme `tile`: sets in the registers of a block, or of a cluster of blocks."""

import dataclasses
import itertools

import numpy as np
import pytest
from support.emulation.emulated_norms import (
    CLUSTERS,
    DTYPES,
    LONELY,
    SMALL,
    Device,
    Options,
    all_plans,
    check,
    plan,
)
from support.reference import Norm, group_norm as group

# Of 16 and 8 bytes an element there is no instance.
TYPES = DTYPES[:3]
EIGHT = Device(
    max_cluster=8,
    shared_bytes_per_multiprocessor=100 << 10,
    shared_bytes_per_block=48 << 10,
)


def columns(**options):
    return Norm("layer_norm", (1,), **options)


def name_of(value):
    if isinstance(value, tuple):
        return "x".join(map(str, value))
    return getattr(value, "__name__", str(value))


# Groups, and a shape: groups of 1 to 264 channels; lines of less than an access, of no
# whole number of accesses, and wider than a tile.
CASES = [
    (1, (3, 9, 8)),
    (4, (2, 50, 40)),
    (3, (2, 20, 24)),
    (5, (3, 26, 26, 10)),
    (2, (3, 8, 2)),
    (4, (2, 16, 20)),
    (2, (2, 150, 24)),
    (-1, (2, 64, 32)),
    (-1, (1, 240, 6)),
    (32, (2, 8, 8, 320)),
    (16, (2, 5, 5, 96)),
    (2, (2, 40, 132)),
    (1, (2, 33, 264)),
]


# Columns of a middle axis: lines of whole accesses and not, more and fewer than a tile.
COLUMNS = [
    (3, 26, 260),
    (2, 30, 40),
    (5, 3, 7),
    (2, 17, 33),
    (1, 100, 24),
    (4, 2, 520),
    (3, 1, 16),
]


# Runs in all types: of those of 16 bits, no other one has so many accesses a thread in
# the largest clusters.
IN_ALL_TYPES = (2, (2, 40, 132))


def with_types(cases):
    """Returns each case in float32 and, in turn, in one of the types of 16 bits.

    Those two have the same accesses, and so the same plans.
    """
    return [
        (*case, dtype)
        for i, case in enumerate(cases)
        for dtype in (TYPES if case == IN_ALL_TYPES else (TYPES[0], TYPES[1 + i % 2]))
    ]


def plans(emulated, norm, shape, dtype, device, options, which):
    """Yields the plans of `tile` among the candidates, with their numbers."""
    candidates = all_plans(emulated, norm, shape, dtype, device, options, which)
    for candidate, made in enumerate(candidates):
        if made["scheme"] == "tile":
            yield candidate, made


@pytest.mark.parametrize(("groups", "shape", "dtype"), with_types(CASES), ids=name_of)
def test_every_plan(emulated, groups, shape, dtype, rng):
    """All clusters and numbers of threads, in some orders of threads and blocks."""
    norm = group(groups, activation=("none", "relu", "gelu")[len(shape) - 2])
    seen = 0
    for number, device in enumerate((SMALL, CLUSTERS, LONELY, EIGHT)):
        options = Options(statistics=number % 2 == 1, order=2 * number)
        found = {
            candidate
            for which in ("forward", "backward")
            for candidate, _ in plans(
                emulated, norm, shape, dtype, device, options, which
            )
        }
        for candidate in found:
            chosen = dataclasses.replace(options, candidate=candidate)
            check(emulated, norm, shape, dtype, rng, device, chosen)
        seen += len(found)
    assert seen > 0


@pytest.mark.parametrize(
    ("shape", "dtype"), with_types([(shape,) for shape in COLUMNS]), ids=name_of
)
def test_columns(emulated, shape, dtype, rng):
    seen = 0
    for number, device in enumerate((SMALL, CLUSTERS, EIGHT)):
        norm = columns(activation=("none", "silu", "tanh")[number])
        options = Options(narrow=number == 1, statistics=number > 0, order=2 * number)
        for which in ("forward", "backward"):
            for candidate, _ in plans(
                emulated, norm, shape, dtype, device, options, which
            ):
                chosen = dataclasses.replace(options, candidate=candidate)
                check(emulated, norm, shape, dtype, rng, device, chosen)
                seen += 1
    assert seen > 0


@pytest.mark.parametrize("device", [CLUSTERS, EIGHT], ids=["four", "eight"])
@pytest.mark.parametrize("shape", [(3, 2, 26, 40), (2, 3, 20, 33)], ids=name_of)
def test_columns_with_parameters_of_each_sample(emulated, shape, device, rng):
    norm = Norm("layer_norm", (2,), per_sample=True)
    made, _ = check(emulated, norm, shape, TYPES[0], rng, device)
    assert {each["scheme"] for each in made} == {"tile"}


def test_the_cases_reach_every_kernel(emulated):
    """In each type, of the cases that run in it."""
    for dtype, which in itertools.product(TYPES, ("forward", "backward")):
        found = {
            (made["geometry"]["vectors"], made["cluster"])
            for groups, shape, run_in in with_types(CASES)
            for device in (CLUSTERS, EIGHT)
            for _, made in plans(
                emulated, group(groups), shape, dtype, device, Options(), which
            )
            if run_in == dtype
        }
        assert found >= set(itertools.product((2, 4), (1, 2, 4, 8)))
        wide = {
            made["geometry"]["width"] > 1
            for shape, run_in in with_types([(shape,) for shape in COLUMNS])
            for _, made in plans(
                emulated, columns(), shape, dtype, SMALL, Options(), which
            )
            if run_in == dtype
        }
        assert wide == {False, True}


@pytest.mark.parametrize(
    "options",
    [
        Options(gamma=False, beta=False),
        Options(gamma=False),
        Options(beta=False, narrow=True),
        Options(narrow=True, statistics=True),
        Options(params=False),
        Options(alone="beta"),
    ],
    ids=str,
)
@pytest.mark.parametrize("device", [SMALL, CLUSTERS], ids=["one", "clusters"])
def test_options(emulated, options, device, rng):
    for zero_centered in (False, True) if options.gamma else (False,):
        norm = group(3, zero_centered=zero_centered)
        made, _ = check(emulated, norm, (2, 40, 24), TYPES[2], rng, device, options)
        assert {each["scheme"] for each in made} == {"tile"}


@pytest.mark.parametrize("dtype", TYPES, ids=name_of)
@pytest.mark.parametrize("device", [SMALL, CLUSTERS], ids=["one", "clusters"])
def test_parameters_of_each_sample(emulated, device, dtype, rng):
    norm = group(3, per_sample=True)
    made, _ = check(emulated, norm, (3, 40, 24), dtype, rng, device)
    assert {each["scheme"] for each in made} == {"tile"}


@pytest.mark.parametrize("device", [SMALL, EIGHT], ids=["one", "clusters"])
def test_order_changes_no_bit(emulated, device):
    norm, shape = group(4), (2, 25, 40)
    results = []
    for order in range(6):
        rng = np.random.default_rng(1)
        made, outputs = check(
            emulated, norm, shape, TYPES[0], rng, device, Options(order=order)
        )
        assert {each["scheme"] for each in made} == {"tile"}
        results.append(
            [array.tobytes() for array in outputs.values() if array is not None]
        )
    assert all(result == results[0] for result in results)


@pytest.mark.parametrize("dtype", TYPES, ids=name_of)
@pytest.mark.parametrize("device", [SMALL, CLUSTERS], ids=["one", "clusters"])
def test_an_outlier(emulated, device, dtype, rng):
    """Of 1e4 standard deviations: first, last, and where each thread begins."""
    norm, shape = group(2), (1, 60, 16)
    made = plan(emulated, norm, shape, dtype, device)
    assert made["scheme"] == "tile"
    rows = made["geometry"]["thread_rows"]
    places = {0, 60 * 16 - 1, 60 // made["cluster"] * 16 % 960}
    places |= {16 * row + lane for row in range(rows) for lane in (0, 8)}
    for place in sorted(places):
        check(emulated, norm, shape, dtype, rng, device, outlier=place)

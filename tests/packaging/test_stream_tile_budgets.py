"""The budgets of stream and tile: each has a kernel, and a fault is found."""

import dataclasses

import pytest
from fusednorm import _build_info
from support.machine_code import kernel_budgets, stream_budgets, tile_budgets
from support.machine_code.limits import Limit, loop_limit

needs_cuda = pytest.mark.skipif(
    _build_info.CUDA_VERSION is None, reason="BUILD WITHOUT CUDA: no kernels to look at"
)
SCHEMES = pytest.mark.parametrize(
    "scheme", [stream_budgets, tile_budgets], ids=["stream", "tile"]
)


def limits_of(budget):
    """Returns all limits of a budget."""
    if isinstance(budget, tile_budgets.Budget):
        return [budget.way, budget.silu]
    return [
        limit
        for item in budget.items.values()
        for limit in (item.none, item.silu, item.way)
        if limit is not None
    ]


@SCHEMES
def test_budgets_are_complete_and_differ(scheme):
    budgets = scheme.load_budgets()
    assert budgets
    assert len({each.instance for each in budgets}) == len(budgets)
    for budget in budgets:
        for limit in limits_of(budget):
            assert limit.goal > 0, budget
            # A number of its own says that the goal is missed.
            assert limit.own is None or limit.own > limit.goal, budget


def test_stream_has_a_budget_for_silu_where_there_are_activations():
    budgets = stream_budgets.load_budgets()
    assert budgets
    for budget in budgets:
        for item, limits in budget.items.items():
            several = budget.instance.loops(item) > 1
            assert (limits.silu is not None) == several, (budget, item)


def test_limit_says_that_the_goal_is_missed():
    assert str(loop_limit(20, None)) == "25"
    assert str(loop_limit(20, 27.5)) == "27.5 (goal 25)"


STREAM = "StreamLinesForward<float, fusednorm::cuda::StreamFeatures<false, true>>"
TILE = "TileForward<float, 2, fusednorm::cuda::TileFeatures<false, true>>"


@pytest.fixture
def stream_kernel(scheme_samples):
    """The sample of `stream` that is as it should be."""
    return scheme_samples[f"fusednorm::cuda::{STREAM}"]


@pytest.fixture
def tile_kernel(scheme_samples):
    """The sample of `tile` that is as it should be."""
    return scheme_samples[f"fusednorm::cuda::{TILE}"]


def stream_budget(loop=50.0, way=60):
    """Returns a budget of the sample's instance: of loops for each of 4 vectors."""
    limits = stream_budgets.ItemBudget(
        Limit(None, loop, None), Limit(None, loop, None), Limit(None, way, None)
    )
    sums = dataclasses.replace(limits, silu=None)
    return stream_budgets.Budget(
        stream_budgets.Instance("forward", "lines", 4),
        vectors=4,
        threads=768,
        goal_threads=768,
        items={"sums": sums, "apply": limits},
    )


def tile_budget(way=100, silu=130):
    """Returns a budget of the sample's instance."""
    return tile_budgets.Budget(
        tile_budgets.Instance("forward", 4, columns=False, vectors=2),
        Limit(None, way, None),
        Limit(None, silu, None),
        threads={256: 768, 512: 768},
        goal_threads=768,
    )


@needs_cuda
def test_good_kernels_keep_to_their_budgets(stream_kernel, tile_kernel):
    for scheme, kernel, budget in (
        (stream_budgets, stream_kernel, stream_budget()),
        (tile_budgets, tile_kernel, tile_budget()),
    ):
        assert kernel_budgets.all_faults(scheme, [kernel], [budget]) == []


@needs_cuda
@pytest.mark.parametrize(
    ("sample", "fault"),
    [
        ("ScalarLoad", "1 loads of less than 16 bytes in a vector loop of sums"),
        ("ScalarStore", "1 stores of less than 16 bytes in a vector loop of apply"),
        ("Division", "divisions by run-time integers in a vector loop of sums"),
        ("FewVectors", "1 loads of 16 bytes in a vector loop of sums, at least 4"),
        ("NoSwitch", "1 vector loops of apply, at least 4"),
        ("Call", "no way without a call through a vector loop of sums"),
        ("OtherItem", "instructions on the longest way of all, at most 60"),
        ("RareCall", "instructions behind 1 calls, at most 4 for each"),
        ("LongerWay", "instructions on the longest way of sums, at most 60"),
        ("MoreWork", "for each vector in the lightest loop of sums, at most 50"),
    ],
)
def test_stream_budget_finds_the_fault(scheme_samples, sample, fault):
    kernel = scheme_samples[f"Items<fault::{sample}>"]
    kernel = dataclasses.replace(kernel, name=STREAM)
    found = kernel_budgets.all_faults(stream_budgets, [kernel], [stream_budget()])
    assert any(fault in each for each in found), found


@needs_cuda
def test_stream_budget_finds_a_heavy_activation(stream_kernel):
    budget = stream_budget()
    lightest = min(
        stream_budgets.each_vector(loop, budget)
        for loop in stream_budgets.loops_of(stream_kernel, "apply")
    )
    found = stream_budgets.faults(stream_kernel, stream_budget(loop=lightest))
    assert len(found) == 1
    assert "in the heaviest loop of apply" in found[0]


@needs_cuda
@pytest.mark.parametrize(
    ("sample", "fault"),
    [
        ("Call", "no way without exponentials that has no call"),
        ("MoreWork", "no way without exponentials that has no call"),
        ("MoreWork", "instructions on the longest way, at most 130"),
        ("LongerWay", "on the longest way without exponentials, at most 100"),
        ("ScalarStore", "0 stores of 16 bytes, at least 2"),
    ],
)
def test_tile_budget_finds_the_fault(scheme_samples, sample, fault):
    kernel = dataclasses.replace(scheme_samples[f"Tile<fault::{sample}>"], name=TILE)
    found = kernel_budgets.all_faults(tile_budgets, [kernel], [tile_budget()])
    assert any(fault in each for each in found), found


@needs_cuda
@pytest.mark.parametrize(
    ("scheme", "name", "budget"),
    [(stream_budgets, STREAM, stream_budget()), (tile_budgets, TILE, tile_budget())],
    ids=["stream", "tile"],
)
def test_budget_finds_registers_local_memory_and_what_does_not_match(
    scheme, name, budget, stream_kernel, tile_kernel
):
    good = stream_kernel if scheme is stream_budgets else tile_kernel

    def faults(*kernels, budgets=(budget,)):
        return kernel_budgets.all_faults(scheme, list(kernels), list(budgets))

    found = faults(dataclasses.replace(good, registers=96))
    assert (
        "512 threads resident in blocks of 256 (96 registers), at least 768"
        in (found[0])
    )
    local = dataclasses.replace(good.whole, local=3)
    (found,) = faults(dataclasses.replace(good, whole=local))
    assert "3 accesses of local memory" in found
    (found,) = faults(good, budgets=())
    assert "no budget" in found
    (found,) = faults()
    assert "no kernel for the budget" in found
    (found,) = faults(good, budgets=(budget, budget))
    assert "two budgets" in found
    # Without a budget, and held to no local memory.
    features = "<true, false>" if scheme is stream_budgets else "<false, false>"
    general = good.name.replace("<false, true>", features)
    (found,) = faults(good, dataclasses.replace(good, name=general, whole=local))
    assert "3 accesses of local memory" in found
    with pytest.raises(ValueError, match=r"must have \w+Features<"):
        faults(dataclasses.replace(good, name=good.name.replace("Features", "Other")))


@needs_cuda
def test_tables_show_limits_and_kernels(stream_kernel, tile_kernel):
    of_stream = kernel_budgets.table(
        stream_budgets, [stream_kernel], [stream_budget()]
    ).splitlines()
    assert len(of_stream) == 2 + 2
    assert of_stream[2].startswith("| forward | lines | 4 | 4 | sums | None | 50 | ")
    of_tile = kernel_budgets.table(tile_budgets, [tile_kernel], [tile_budget()])
    row = of_tile.splitlines()[-1]
    without, longest = tile_budgets.ways_of(tile_kernel)
    assert row.startswith("| forward | 4 | no | 2 | - | 100 | ")
    assert f"| 100 | {without} | - | 130 | {longest} | " in row

"""Statistics of some positions, and gamma and beta of each, on emulated threads."""

import dataclasses
import itertools

import numpy as np
import pytest
from support import reference
from support.emulation.emulated_norms import (
    CLUSTERS,
    DTYPES,
    SMALL,
    Device,
    Options,
    backward,
    check,
    draw,
    forward,
    plan,
)
from support.emulation.kernel_cases import group, kernel_of, layer, name_of, rms

# Groups narrow, wide and cut into parts; slabs and slices that a mask hides whole.
GROUPS = [
    (group(4), (3, 50, 40)),
    (group(3), (2, 7, 5, 9)),
    (group(2), (2, 300, 16)),
    (group(1), (2, 40, 1500)),
    (group(-1), (3, 60, 24)),
    (group(2, 1), (3, 8, 49)),
    (group(2, 1), (2, 4, 2400)),
    (group(-1, 1), (3, 4, 64)),
    (group(-1, 1), (2, 1, 9000)),
    (group(2), (5, 56)),
    (group(2, 2), (3, 5, 4, 6)),
    (group(2, 2), (2, 50, 4, 9)),
    (group(1, 2), (2, 20, 60, 40)),
    (group(2), (2, 100, 12)),
    (group(1, 1), (2, 3, 7001)),
]
OTHERS = [
    (layer(), (7, 64)),
    (layer(), (9, 65)),
    (layer(), (3, 2051)),
    (layer(), (2, 9000)),
    (layer(-2, -1), (3, 6, 50)),
    (layer(1), (3, 26, 260)),
    (layer(1), (1, 2000, 40)),
    (rms(), (5, 100)),
    (rms(1), (2, 50, 33)),
]
# Few that reach each kernel that knows of masks, or of parameters of positions.
FEW_GROUPS = [GROUPS[0], GROUPS[1], GROUPS[2], GROUPS[6], GROUPS[7], GROUPS[11]]
FEW = [*FEW_GROUPS, OTHERS[1], OTHERS[5], OTHERS[6]]
OPTIONS = [
    Options(residual=True, statistics=True),
    Options(residual=True, narrow=True, offset=1),
    Options(gamma=False, order=1),
    Options(beta=False, order=11),
]


def with_types(cases):
    """Returns each case in float32 and, in turn, in another type."""
    return [
        (*case, dtype)
        for i, case in enumerate(cases)
        for dtype in (DTYPES[0], DTYPES[1 + i % 3])
    ]


def per_position(norm, **changes):
    return dataclasses.replace(norm, per_position=True, **changes)


@pytest.mark.parametrize(("norm", "shape", "dtype"), with_types(GROUPS), ids=name_of)
def test_masks(emulated, norm, shape, dtype, rng):
    plans, _ = check(emulated, norm, shape, dtype, rng, options=Options(mask=True))
    assert all(made["scheme"] == "stream" for made in plans)
    assert plans[1]["kernels"][0] == "CountMask"


@pytest.mark.parametrize(
    ("norm", "shape", "dtype"), with_types([*GROUPS, *OTHERS]), ids=name_of
)
def test_parameters_of_each_position(emulated, norm, shape, dtype, rng):
    plans, _ = check(emulated, per_position(norm), shape, dtype, rng, CLUSTERS)
    assert "ColumnSums" not in plans[1]["kernels"]


def kernels(emulated, cases, options, which):
    """Returns the kernels of the cases."""
    return {
        kernel_of(plan(emulated, norm, shape, dtype, device, options, which))
        for (norm, shape), device, dtype in itertools.product(
            cases, (SMALL, CLUSTERS), DTYPES
        )
    }


def test_the_cases_reach_every_kernel(emulated):
    stream = set(
        itertools.product(["stream"], ["lines", "runs"], [True], [False, True])
    )
    everywhere = [(per_position(norm), shape) for norm, shape in GROUPS + OTHERS]
    for which in ("forward", "backward"):
        assert kernels(emulated, GROUPS, Options(mask=True), which) == stream
        found = kernels(emulated, everywhere, Options(), which)
        assert found >= {kernel for kernel in stream if kernel[1] == "lines"}


@pytest.mark.parametrize(
    ("norm", "shape", "masked", "options"),
    # With and without a mask in turn, over the options and over the groups.
    [
        (*case, case in FEW_GROUPS and (i + j) % 2 == 0, options)
        for (i, case), (j, options) in itertools.product(
            enumerate(FEW), enumerate(OPTIONS)
        )
    ],
    ids=name_of,
)
def test_options(emulated, norm, shape, masked, options, rng):
    norm = per_position(norm, activation="silu", zero_centered=True)
    options = dataclasses.replace(options, mask=masked)
    check(emulated, norm, shape, DTYPES[2], rng, CLUSTERS, options)


@pytest.mark.parametrize(
    ("norm", "shape", "per_sample", "options"),
    [
        (*case, (i + j) % 2 == 0, options)
        for (i, case), (j, options) in itertools.product(
            enumerate(FEW_GROUPS), enumerate(OPTIONS)
        )
    ],
    ids=name_of,
)
def test_options_with_masks(emulated, norm, shape, per_sample, options, rng):
    norm = dataclasses.replace(norm, per_sample=per_sample, activation="silu")
    options = dataclasses.replace(options, mask=True)
    check(emulated, norm, shape, DTYPES[1], rng, SMALL, options)


@pytest.mark.parametrize("mask", [False, True])
@pytest.mark.parametrize(("norm", "shape"), FEW_GROUPS, ids=name_of)
def test_dx_alone(emulated, norm, shape, mask, rng):
    options = Options(params=False, mask=mask)
    check(emulated, per_position(norm), shape, np.float32, rng, SMALL, options)
    check(emulated, norm, shape, np.float32, rng, SMALL, options)


@pytest.mark.parametrize(
    ("norm", "shape"), [*FEW_GROUPS, GROUPS[8], GROUPS[14]], ids=name_of
)
def test_a_mean_far_from_zero_behind_a_mask(emulated, norm, shape, rng):
    options = Options(mask=True)
    check(emulated, norm, shape, np.float32, rng, SMALL, options, shift=3000.0)


def test_runs_whose_first_pieces_are_hidden(emulated, rng):
    """Their moments are around nothing that the others could be joined around."""
    device = Device(multiprocessors=16)
    options = Options(mask=True, offset=1)
    case = (group(-1, 1), (2, 3, 17000), np.float32)
    (made, _), _ = check(emulated, *case, rng, device, options, shift=3000.0)
    assert made["geometry"]["pieces"] > 2


def at_positions(norm, data):
    """Returns what the mask says of each element of x."""
    channel = reference.sorted_axes(norm, data["x"].ndim)[0]
    mask = np.expand_dims(data["mask"], channel)
    return np.broadcast_to(mask, data["x"].shape)


@pytest.mark.parametrize(
    ("residual", "hidden"),
    [(False, np.nan), (True, np.inf), (False, 1e30), (True, 1e30)],
)
@pytest.mark.parametrize(("norm", "shape"), FEW_GROUPS, ids=name_of)
def test_what_is_hidden_reaches_no_statistic(
    emulated, norm, shape, residual, hidden, rng
):
    options = Options(mask=True, residual=residual)
    data = draw(norm, shape, np.dtype(np.float32), options, rng)
    kept = at_positions(norm, data)
    data["dy"] = np.where(kept, data["dy"], np.float32(0))
    expected = {}
    for x in (data["x"], np.where(kept, data["x"], np.float32(hidden))):
        _, got = forward(emulated, norm, {**data, "x": x}, SMALL, options)
        if np.isfinite(hidden):
            given = {**data, "x": x}
            got |= backward(emulated, norm, given, got, SMALL, options)[1]
        for name, array in got.items():
            if array is not None and array.shape == tuple(shape):
                array = array[kept]
            if array is not None:
                assert expected.setdefault(name, array.tobytes()) == array.tobytes()


@pytest.mark.parametrize("hidden", ["most", "none"])
@pytest.mark.parametrize(("norm", "shape"), FEW_GROUPS, ids=name_of)
def test_constant_groups_give_beta_exactly(emulated, norm, shape, hidden, rng):
    norm = dataclasses.replace(norm, epsilon=1e-12)
    options = Options(mask=True)
    data = draw(norm, shape, np.dtype(np.float32), options, rng)
    if hidden == "none":
        data["mask"] = np.ones_like(data["mask"])
    kept = at_positions(norm, data)
    data["x"] = np.where(kept, np.float32(12345.678), data["x"])
    _, got = forward(emulated, norm, data, SMALL, options)
    channel = reference.sorted_axes(norm, len(shape))[0]
    beta = data["beta"].reshape([n if i == channel else 1 for i, n in enumerate(shape)])
    np.testing.assert_array_equal(got["y"][kept], np.broadcast_to(beta, shape)[kept])


@pytest.mark.parametrize(("norm", "shape"), FEW, ids=name_of)
def test_the_order_of_threads_leaves_the_bits_as_they_are(emulated, norm, shape):
    norm = per_position(norm)
    mask = norm.op == "group_norm"
    results = []
    for order in (0, 1, 11):
        options = Options(mask=mask, order=order)
        rng = np.random.default_rng(0)
        _, got = check(emulated, norm, shape, np.float32, rng, SMALL, options)
        results.append([None if a is None else a.tobytes() for a in got.values()])
    assert all(result == results[0] for result in results)


@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize(("norm", "shape"), FEW_GROUPS, ids=name_of)
def test_outputs_may_take_the_place_of_inputs(emulated, norm, shape, order, rng):
    norm = per_position(norm)
    options = Options(mask=True, residual=True, order=order)
    data = draw(norm, shape, np.dtype(np.float32), options, rng)
    _, expected = forward(emulated, norm, data, SMALL, options)
    for places in ({"y": "x", "sum": "residual"}, {"y": "residual", "sum": "x"}):
        _, got = forward(emulated, norm, data, SMALL, options, places)
        assert all(got[name].tobytes() == expected[name].tobytes() for name in got)


@pytest.mark.parametrize(
    ("norm", "shape", "launches"),
    [
        # Rows with gamma and beta of their own are rows that have them in common.
        (per_position(layer()), (7, 64), ["RowsBackward"]),
        (per_position(group(2, 1)), (3, 8, 49), ["RowsBackward"]),
        (per_position(group(3)), (2, 7, 5, 9), ["StreamLinesBackward"]),
        (per_position(layer(1)), (5, 3, 7), ["StreamLinesBackward"]),
        # One set of partial sums is the gradient, where it has the type.
        (dataclasses.replace(layer(), per_sample=True), (7, 64), ["RowsBackward"]),
    ],
    ids=name_of,
)
@pytest.mark.parametrize("narrow", [False, True])
def test_gradients_are_written_at_once(emulated, norm, shape, launches, narrow):
    options = Options(narrow=narrow)
    for dtype in (np.float32, np.float16):
        made = plan(emulated, norm, shape, dtype, CLUSTERS, options, "backward")
        rounds = narrow and dtype == np.float16 and "Rows" in launches[0]
        assert made["kernels"] == launches + ["ColumnSums"] * rounds

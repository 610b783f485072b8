"""Every CUDA kernel on emulated threads, against the reference and its bounds."""

import dataclasses
import itertools

import numpy as np
import pytest
from support import reference
from support.emulation.emulated_norms import (
    ACTIVATIONS,
    CLUSTERS,
    DTYPES,
    LONELY,
    ROOMY,
    SMALL,
    Device,
    Options,
    backward,
    check,
    draw,
    forward,
    plan,
    wide,
)
from support.emulation.kernel_cases import (
    CASES,
    ROWS,
    SCHEMES,
    TYPED_CASES,
    compiled_rows,
    group,
    kernel_of,
    layer,
    missed,
    name_of,
    rms,
    same_bits,
    with_types,
)
from support.reference import Norm

DEVICES = {"small": SMALL, "clusters": CLUSTERS, "roomy": ROOMY, "lonely": LONELY}


def devices_and_options(emulated, norm, shape, dtype):
    """Yields devices, of which no two take the same kernels, and options for each."""
    seen = []
    for number, device in enumerate((SMALL, CLUSTERS, ROOMY, LONELY)):
        plans = [
            plan(emulated, norm, shape, dtype, device, which=which)
            for which in ("forward", "backward")
        ]
        if plans in seen:
            continue
        seen.append(plans)
        # All orders of threads, and dsum and the gradients of statistics, in turn.
        yield (
            device,
            Options(residual=number % 2 == 1, statistics=True, order=3 * number),
        )


@pytest.mark.parametrize(
    ("norm", "shape", "dtype"), with_types(TYPED_CASES), ids=name_of
)
def test_values_and_gradients(emulated, norm, shape, dtype, rng):
    for device, options in devices_and_options(emulated, norm, shape, dtype):
        check(emulated, norm, shape, dtype, rng, device, options)


def reached(emulated, dtype, which, cases=CASES):
    """Returns the kernels of the cases, and what those of `stream` have several of."""
    kernels, several = set(), set()
    for (norm, shape), device, offset in itertools.product(
        cases, DEVICES.values(), (0, 1)
    ):
        for gamma, candidate in itertools.product((True, False), range(8)):
            options = Options(
                gamma=gamma, beta=gamma, offset=offset, candidate=candidate
            )
            made = plan(emulated, norm, shape, dtype, device, options, which)
            kernel = kernel_of(made)
            kernels.add(kernel)
            if kernel[0] == "stream":
                many = [name for name, n in made["geometry"].items() if n > 1]
                several |= {(kernel[1], name) for name in many}
            if candidate + 1 >= made["candidates"]:
                break
    return kernels, several


def compiled(dtype, which):
    """Returns the kernels of a data type, as `kernel_of` has them."""
    rows = {("rows", *line) for line in compiled_rows(dtype, which)}
    stream = set()
    for by in ("lines", "runs"):
        stream |= {("stream", by, True, False), ("stream", by, True, True)}
        if dtype != np.float64:
            stream.add(("stream", by, False, True))
    tile = set() if dtype == np.float64 else {("tile", 2), ("tile", 4)}
    columns = {("columns", True, False), ("columns", True, True)}
    if dtype != np.float64:
        columns.add(("columns", False, True))
    return rows | tile | stream | (columns if which == "backward" else set())


@pytest.mark.parametrize("which", ["forward", "backward"])
@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
def test_the_cases_reach_every_kernel(emulated, dtype, which):
    kernels, several = reached(emulated, dtype, which)
    assert kernels == compiled(dtype, which)
    of_lines = {"tiles", "parts", "sets", "slabs", "thread_rows"}
    if dtype != np.float64:  # of which two neighbours are an access
        of_lines.add("copies")
    of_runs = {"runs", "pieces", "sets", "slabs", "slab_runs"}
    if which == "backward":
        of_lines.add("params")
        of_runs.add("params")
    wanted = itertools.chain(
        itertools.product(["lines"], of_lines), itertools.product(["runs"], of_runs)
    )
    assert several >= set(wanted)


def ways(emulated, norm, shape, dtype):
    """Returns the kernels that `test_values_and_gradients` runs for a case.

    With what is a template argument of `rows` besides, whether blocks form clusters,
    and what `stream` has several of.
    """
    found = set()
    for (device, options), which in itertools.product(
        devices_and_options(emulated, norm, shape, dtype), ("forward", "backward")
    ):
        made = plan(emulated, norm, shape, dtype, device, options, which)
        kernel, residual = kernel_of(made), options.residual
        arguments = (norm.centred, residual) if kernel[0] == "rows" else ()
        found.add((which, kernel, *arguments, made["cluster"] > 1))
        found.add((which, *made["kernels"]))
        if kernel[0] == "stream":
            many = [name for name, n in made["geometry"].items() if n > 1]
            found |= {(which, kernel, name) for name in many}
    return found


@pytest.mark.parametrize("dtype", DTYPES[1:], ids=name_of)
def test_no_type_misses_what_only_other_cases_reach(emulated, dtype):
    def of_case(norm, shape):
        return ways(emulated, norm, shape, dtype)

    assert missed(of_case, TYPED_CASES, dtype) == {}


@pytest.mark.parametrize(
    ("norm", "shape", "dtype"),
    # In float32 and in a type of half the size: with a mean and without in turn.
    [
        ((layer(), rms())[(i + j) % 2], shape, (DTYPES[0], DTYPES[1 + i % 2])[j])
        for (i, shape), j in itertools.product(enumerate(ROWS), (0, 1))
    ],
    ids=name_of,
)
def test_every_candidate_computes_the_same_norm(emulated, norm, shape, dtype, rng):
    """The best is tested above; `tune` may choose any other."""
    many = max(
        plan(emulated, norm, shape, dtype, which=which)["candidates"]
        for which in ("forward", "backward")
    )
    assert many > 1
    for candidate in range(many):
        options = Options(
            residual=candidate % 2 == 0,
            statistics=candidate % 3 == 0,
            order=candidate,
            candidate=candidate,
        )
        check(emulated, norm, shape, dtype, rng, options=options)


@pytest.mark.parametrize(
    ("norm", "shape", "device", "activation"),
    # All schemes call the same functions: each calls three of them.
    [
        (*case, ACTIVATIONS[1 + (i + j) % (len(ACTIVATIONS) - 1)])
        for (i, case), j in itertools.product(enumerate(SCHEMES), range(3))
    ],
    ids=name_of,
)
def test_activations(emulated, norm, shape, device, activation, rng):
    norm = Norm(**{**vars(norm), "activation": activation})
    dtype = DTYPES[ACTIVATIONS.index(activation) % len(DTYPES)]
    check(emulated, norm, shape, dtype, rng, device)


OPTIONS = [
    Options(gamma=False, beta=False),
    Options(gamma=False),
    Options(beta=False, residual=True),
    Options(narrow=True, residual=True, statistics=True),
    Options(offset=1, residual=True),
    Options(offset=3, narrow=True),
]


@pytest.mark.parametrize(
    ("norm", "shape", "device", "options", "dtype"),
    # The types in turn, over the schemes and over the options.
    [
        (*case, options, (DTYPES[0], DTYPES[2])[(i + j) % 2])
        for (i, case), (j, options) in itertools.product(
            enumerate(SCHEMES), enumerate(OPTIONS)
        )
    ],
    ids=name_of,
)
def test_options(emulated, norm, shape, device, options, dtype, rng):
    check(emulated, norm, shape, dtype, rng, device, options)


@pytest.mark.parametrize(
    ("norm", "shape", "device"),
    [
        *SCHEMES,
        # One gamma a row, rows cut over the grid: runs, if dgamma were wanted.
        (group(-1, 1), (1, 2, 30001), SMALL),
        (group(-1, 1), (2, 2, 2000), SMALL),
    ],
    ids=name_of,
)
def test_dx_alone(emulated, norm, shape, device, rng):
    check(emulated, norm, shape, np.float32, rng, device, Options(params=False))


# Samples in one grid: several rows or tiles of each, in every variant.
SAMPLES = [
    (layer(), (3, 5, 72), SMALL),
    (layer(), (3, 5, 70), SMALL),
    # Several blocks a sample, and teams of them without a row; fewer rows than teams.
    (layer(), (2, 200, 24), SMALL),
    (layer(), (70, 2, 40), SMALL),
    (rms(), (2, 9, 400), SMALL),
    (layer(), (3, 7, 2304), SMALL),
    (layer(), (2, 3, 9000), CLUSTERS),
    (layer(), (2, 3, 9000), ROOMY),
    (layer(), (2, 5, 8200), Device(multiprocessors=8)),
    (rms(), (2, 3, 9001), SMALL),
    (group(2), (40, 3, 16), SMALL),
    (group(25), (2, 9, 400), SMALL),
    (group(2, 2), (3, 5, 4, 6), SMALL),
    (group(1), (2, 30, 1500), SMALL),
    (group(1), (2, 30, 1500), CLUSTERS),
    (layer(2), (3, 2, 30, 40), SMALL),
    (layer(2), (2, 3, 200, 24), SMALL),
    (layer(2), (1, 2, 5, 24), SMALL),
]


ALL_SAMPLES = [(norm, (3, *shape[1:]), device) for norm, shape, device in SCHEMES]
ALL_SAMPLES += SAMPLES


@pytest.mark.parametrize(
    ("norm", "shape", "device", "options"),
    # In turn with wide accesses, and with single ones and parameters of x's type.
    [
        (*case, (Options(), Options(narrow=True, offset=1))[i % 2])
        for i, case in enumerate(ALL_SAMPLES)
    ],
    ids=name_of,
)
def test_parameters_of_each_sample(emulated, norm, shape, device, options, rng):
    norm = dataclasses.replace(norm, per_sample=True)
    check(emulated, norm, shape, np.float16, rng, device, options)


SAMPLE_OPTIONS = [
    (np.float32, "silu", Options(residual=True, statistics=True, order=11)),
    (DTYPES[2], "gelu", Options(beta=False, order=12)),
    (np.float64, "none", Options(gamma=False, residual=True)),
    (np.float32, "tanh", Options(params=False)),
]


@pytest.mark.parametrize(
    ("norm", "shape", "device", "dtype", "activation", "options"),
    # Two of the options for each problem.
    [
        (*case, *SAMPLE_OPTIONS[(i + j) % 4])
        for (i, case), j in itertools.product(enumerate(SAMPLES), (0, 1))
    ],
    ids=name_of,
)
def test_options_with_parameters_of_each_sample(
    emulated, norm, shape, device, dtype, activation, options, rng
):
    norm = dataclasses.replace(norm, per_sample=True, activation=activation)
    check(emulated, norm, shape, dtype, rng, device, options)


@pytest.mark.parametrize("which", ["forward", "backward"])
@pytest.mark.parametrize("dtype", DTYPES[:2], ids=name_of)
def test_parameters_of_each_sample_take_no_launches(emulated, dtype, which):
    """They take those of the same tensor with one gamma and beta, at most."""
    found = set()
    for (norm, shape, device), offset in itertools.product(SAMPLES, (0, 1)):
        options = Options(offset=offset)
        of_each = dataclasses.replace(norm, per_sample=True)
        made, expected = (
            plan(emulated, each, shape, dtype, device, options, which)
            for each in (of_each, norm)
        )
        # Rows take the general instance, or another scheme.
        if made["scheme"] == expected["scheme"] == "stream":
            got, wanted = dict(made["geometry"]), dict(expected["geometry"])
            # What adds up dgamma and dbeta depends on how many of them there are, and
            # so does what L2 has room for.
            for name in ("params", "lag", "backwards"):
                del got[name], wanted[name]
            assert got == wanted
        # One partial sum of each number is the gradient.
        most = max(2, len(expected["kernels"]))
        assert len(made["kernels"]) <= most
        found.add(made["scheme"])
    assert found - {"columns"} == {"rows", "stream", "tile"}
    assert ("columns" in found) == (which == "backward")


@pytest.mark.parametrize("zero_centered", [False, True])
@pytest.mark.parametrize(
    ("norm", "shape", "device"), [v for v in SCHEMES if v[0].groups == -1], ids=name_of
)
def test_rms(emulated, norm, shape, device, zero_centered, rng):
    norm = Norm("rms_norm", norm.axes, zero_centered=zero_centered)
    check(emulated, norm, shape, np.float16, rng, device, Options(statistics=True))


@pytest.mark.parametrize(("norm", "shape", "device"), SCHEMES, ids=name_of)
def test_the_order_of_threads_leaves_the_bits_as_they_are(
    emulated, norm, shape, device, request
):
    results = []
    for order in (0, 1, 11, 12):
        _, got = check(
            emulated,
            norm,
            shape,
            np.float32,
            np.random.default_rng(0),
            device,
            Options(order=order),
        )
        results.append([None if a is None else a.tobytes() for a in got.values()])
    assert all(result == results[0] for result in results)


@pytest.mark.parametrize(("residual", "order"), [(False, 1), (True, 0), (True, 11)])
@pytest.mark.parametrize(("norm", "shape", "device"), SCHEMES, ids=name_of)
def test_outputs_may_take_the_place_of_inputs(
    emulated, norm, shape, device, residual, order, rng
):
    options = Options(residual=residual, order=order)
    data = draw(norm, shape, np.dtype(np.float32), options, rng)
    _, expected = forward(emulated, norm, data, device, options)
    ways = [{"y": "x"}]
    if residual:
        ways = [{"y": "x", "sum": "residual"}, {"y": "residual", "sum": "x"}]
    for places in ways:
        _, got = forward(emulated, norm, data, device, options, places)
        same_bits(got, expected)
    _, gradients = backward(emulated, norm, data, expected, device, options)
    for place in ["dy", "x"] + ["dsum"] * residual:
        _, got = backward(
            emulated, norm, data, expected, device, options, {"dx": place}
        )
        same_bits(got, gradients)


@pytest.mark.parametrize(("norm", "shape", "device"), SCHEMES, ids=name_of)
def test_constant_groups_give_beta_exactly(emulated, norm, shape, device, rng):
    data = draw(norm, shape, np.dtype(np.float32), Options(), rng)
    data["x"] = np.full(shape, 12345.678, np.float32)
    _, got = forward(emulated, norm, data, device, Options())
    axes = reference.sorted_axes(norm, len(shape))
    beta = data["beta"].reshape([n if i in axes else 1 for i, n in enumerate(shape)])
    np.testing.assert_array_equal(got["y"], np.broadcast_to(beta, shape))
    np.testing.assert_array_equal(got["mean"], np.float32(12345.678))


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=name_of)
@pytest.mark.parametrize(("norm", "shape", "device"), SCHEMES, ids=name_of)
def test_a_mean_far_from_zero(emulated, norm, shape, device, dtype, rng):
    check(emulated, norm, shape, dtype, rng, device, shift=3000.0)


@pytest.mark.parametrize(("norm", "shape", "device"), SCHEMES, ids=name_of)
def test_nan_stays_in_its_group(emulated, norm, shape, device, rng):
    options = Options()
    data = draw(norm, shape, np.dtype(np.float32), options, rng)
    data["x"][(-1,) * len(shape)] = np.nan
    _, got = forward(emulated, norm, data, device, options)
    _, gradients = backward(emulated, norm, data, got, device, options)
    viewed, reduced, _ = reference.view(norm, shape)
    bad = np.isnan(data["x"]).reshape(viewed).any(reduced, keepdims=True)
    bad = np.broadcast_to(bad, viewed).reshape(shape)
    np.testing.assert_array_equal(np.isnan(got["y"]), bad)
    np.testing.assert_array_equal(np.isnan(gradients["dx"]), bad)


@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
@pytest.mark.parametrize(
    ("norm", "shape"),
    [
        (layer(), (0, 5)),
        (group(2), (3, 0, 4)),
        (group(2, 1), (2, 4, 0)),
        (layer(1), (2, 3, 0)),
    ],
    ids=name_of,
)
def test_empty(emulated, norm, shape, dtype, rng):
    data = draw(norm, shape, np.dtype(dtype), Options(), rng)
    made, got = forward(emulated, norm, data, SMALL, Options())
    assert made["scheme"] == "empty"
    assert np.isnan(got["rstd"]).all()
    _, gradients = backward(emulated, norm, data, got, SMALL, Options())
    assert not gradients["dgamma"].any()
    assert not gradients["dbeta"].any()


@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
def test_one_long_row_on_a_large_device(emulated, dtype, rng):
    """Blocks are halved until they fill it: whole warps stay."""
    device = Device(multiprocessors=80)
    check(emulated, layer(), (1, 12288), dtype, rng, device)
    check(emulated, layer(), (2, 12000), dtype, rng, device)


@pytest.mark.parametrize(
    ("norm", "shape"),
    [
        (layer(), (70_001, 2)),
        (group(-1, 1), (1, 66_000, 3)),
        (group(-1), (1, 2, 66_000)),
        (layer(1), (1, 2, 66_000)),
    ],
    ids=name_of,
)
def test_more_groups_than_a_grid_has_rows(emulated, norm, shape, rng):
    """A second dimension of a grid would end at 65,535."""
    assert wide(np.float16) == np.float32
    check(emulated, norm, shape, np.float16, rng)

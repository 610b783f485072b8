"""The second-order CUDA kernels on emulated threads, held to their bounds."""

import dataclasses
import itertools

import numpy as np
import pytest
from support import reference
from support.emulation.emulated_norms import (
    CLUSTERS,
    DTYPES,
    LONELY,
    ROOMY,
    SMALL,
    Options,
    plan,
)
from support.emulation.emulated_second_order import check, draw, saved, second_order
from support.emulation.kernel_cases import (
    SCHEMES,
    group,
    layer,
    missed,
    name_of,
    same_bits,
    with_types,
)
from support.emulation.second_order_cases import CASES, TYPED_CASES
from support.reference import Norm

DEVICES = (SMALL, CLUSTERS, ROOMY, LONELY)


@pytest.mark.parametrize(
    ("norm", "shape", "dtype"), with_types(TYPED_CASES), ids=name_of
)
def test_values(emulated, norm, shape, dtype, rng):
    seen = []
    for number, device in enumerate(DEVICES):
        made = plan(emulated, norm, shape, dtype, device, which="second_order")
        if made in seen:
            continue  # another device with the same kernels
        seen.append(made)
        options = Options(statistics=number % 2 == 0, order=3 * number)
        check(emulated, norm, shape, dtype, rng, device, options)


@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
def test_the_cases_reach_every_kernel(emulated, dtype):
    found = set()
    for (norm, shape), device, offset in itertools.product(CASES, DEVICES, (0, 1)):
        options = Options(offset=offset)
        made = plan(emulated, norm, shape, dtype, device, options, "second_order")
        assert made["scheme"] == "second_order"
        geometry = made["geometry"]
        found.add((geometry["tiles"], geometry["runs"], geometry["width"] > 1))
    walks = ((0, 0), (0, 1), (1, 0))  # rows, runs, tiles
    assert found == {(*walk, wide) for walk in walks for wide in (False, True)}


@pytest.mark.parametrize("dtype", DTYPES[1:], ids=name_of)
def test_no_type_misses_what_only_other_cases_reach(emulated, dtype):
    def of_case(norm, shape):
        found = set()
        for device in DEVICES:
            made = plan(emulated, norm, shape, dtype, device, which="second_order")
            geometry = made["geometry"]
            walk = (geometry["tiles"], geometry["runs"], geometry["width"] > 1)
            found.add((*walk, norm.centred, made["cluster"] > 1, *made["kernels"]))
            found |= {(name, n > 1) for name, n in geometry.items()}
        return found

    assert missed(of_case, TYPED_CASES, dtype) == {}


OPTIONS = [
    Options(gamma=False, beta=False),
    Options(gamma=False),
    Options(beta=False),
    Options(narrow=True, statistics=True),
    Options(offset=1),
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
        *((norm, (3, *shape[1:]), device) for norm, shape, device in SCHEMES),
        (layer(), (3, 5, 70), SMALL),
    ],
    ids=name_of,
)
def test_parameters_of_each_sample(emulated, norm, shape, device, rng):
    norm = dataclasses.replace(norm, per_sample=True)
    check(emulated, norm, shape, np.float32, rng, device)


@pytest.mark.parametrize("zero_centered", [False, True])
@pytest.mark.parametrize(
    ("norm", "shape", "device"), [v for v in SCHEMES if v[0].groups == -1], ids=name_of
)
def test_rms(emulated, norm, shape, device, zero_centered, rng):
    norm = Norm("rms_norm", norm.axes, zero_centered=zero_centered)
    check(emulated, norm, shape, np.float16, rng, device, Options(statistics=True))


@pytest.mark.parametrize(("norm", "shape", "device"), SCHEMES, ids=name_of)
def test_the_order_of_threads_leaves_the_bits_as_they_are(
    emulated, norm, shape, device
):
    results = []
    for order in (0, 1, 11, 12):
        options, rng = Options(order=order), np.random.default_rng(0)
        _, got = check(emulated, norm, shape, np.float32, rng, device, options)
        results.append(got)
    for result in results[1:]:
        same_bits(result, results[0])


@pytest.mark.parametrize("order", [1, 11])
@pytest.mark.parametrize(("norm", "shape", "device"), SCHEMES, ids=name_of)
def test_outputs_may_take_the_place_of_inputs(
    emulated, norm, shape, device, order, rng
):
    options = Options(order=order)
    data = draw(norm, shape, np.dtype(np.float32), options, rng)
    outputs = saved(emulated, norm, data, device, options)
    _, expected = second_order(emulated, norm, data, outputs, device, options)
    for d_dy, d_x in itertools.permutations(("dy", "x", "ddx"), 2):
        places = {"d_dy": d_dy, "d_x": d_x}
        _, got = second_order(emulated, norm, data, outputs, device, options, places)
        same_bits(got, expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=name_of)
@pytest.mark.parametrize(("norm", "shape", "device"), SCHEMES, ids=name_of)
def test_a_mean_far_from_zero(emulated, norm, shape, device, dtype, rng):
    check(emulated, norm, shape, dtype, rng, device, shift=3000.0)


@pytest.mark.parametrize(("norm", "shape", "device"), SCHEMES, ids=name_of)
def test_nan_stays_in_its_group(emulated, norm, shape, device, rng):
    options = Options()
    data = draw(norm, shape, np.dtype(np.float32), options, rng)
    data["ddx"][(-1,) * len(shape)] = np.nan
    outputs = saved(emulated, norm, data, device, options)
    _, got = second_order(emulated, norm, data, outputs, device, options)
    viewed, reduced, _ = reference.view(norm, shape)
    bad = np.isnan(data["ddx"]).reshape(viewed).any(reduced, keepdims=True)
    bad = np.broadcast_to(bad, viewed).reshape(shape)
    np.testing.assert_array_equal(np.isnan(got["d_dy"]), bad)
    np.testing.assert_array_equal(np.isnan(got["d_x"]), bad)


@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
@pytest.mark.parametrize(
    ("norm", "shape"), [(layer(), (0, 5)), (group(2), (3, 0, 4))], ids=name_of
)
def test_empty(emulated, norm, shape, dtype, rng):
    data = draw(norm, shape, np.dtype(dtype), Options(), rng)
    outputs = saved(emulated, norm, data, SMALL, Options())
    made, got = second_order(emulated, norm, data, outputs, SMALL, Options())
    assert made["scheme"] == "empty"
    for name in ("d_gamma", "d_dmean", "d_drstd"):
        assert not got[name].any()

"""Values and gradients of the functional API against the reference.

Every case checks y, the sum, the statistics, dx, dgamma and dbeta, all against the
bounds of bounds.py.
"""

import dataclasses

import bounds
import fusednorm
import ml_dtypes
import numpy as np
import pytest
import reference
import tensorflow as tf
from reference import Norm

DTYPES = [np.float32, np.float64, np.float16, ml_dtypes.bfloat16]
ACTIVATIONS = list(reference.ACTIVATIONS)


def wide_parameters(dtype):
    return np.float64 if dtype == np.float64 else np.float32


def call(norm, x, gamma, beta, residual):
    """Calls the functional API as a user would."""
    options = {
        "epsilon": norm.epsilon,
        "activation": norm.activation,
        "residual": residual,
        "return_stats": True,
        "zero_centered": norm.zero_centered,
    }
    if norm.op == "group_norm":
        axis = norm.axes[0]
        if norm.groups == -1:
            return fusednorm.instance_norm(x, gamma, beta, axis=axis, **options)
        return fusednorm.group_norm(
            x, gamma, beta, groups=norm.groups, axis=axis, **options
        )
    axis = norm.axes[0] if len(norm.axes) == 1 else norm.axes
    if norm.op == "layer_norm":
        return fusednorm.layer_norm(x, gamma, beta, axis=axis, **options)
    return fusednorm.rms_norm(x, gamma, axis=axis, **options)


def check(
    norm,
    shape,
    rng,
    dtype=np.float32,
    affine="both",
    residual=False,
    param_dtype=None,
    scale=1.0,
    offset=0.5,
):
    """Runs forward and backward on random data and holds them to the bounds."""
    param_dtype = param_dtype or wide_parameters(dtype)
    parameter_shape = reference.parameter_shape(norm, shape)
    x = (rng.normal(size=shape) * scale + offset).astype(dtype)
    dy = rng.normal(size=shape).astype(dtype)
    gamma = beta = r = None
    if affine in ("scale", "both"):
        gamma = rng.uniform(0.5, 2, parameter_shape).astype(param_dtype)
    if affine in ("shift", "both") and norm.op != "rms_norm":
        beta = rng.normal(size=parameter_shape).astype(param_dtype)
    if residual:
        r = rng.normal(size=shape).astype(dtype)
    dsum = rng.normal(size=shape).astype(dtype) if residual else None

    inputs = {
        k: tf.constant(v)
        for k, v in {"x": x, "gamma": gamma, "beta": beta, "residual": r}.items()
        if v is not None
    }
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        outputs = call(
            norm,
            inputs["x"],
            inputs.get("gamma"),
            inputs.get("beta"),
            inputs.get("residual"),
        )
        targets = [outputs[0], outputs[1]] if residual else [outputs[0]]
    got = tape.gradient(
        targets, inputs, output_gradients=[dy, dsum] if residual else [dy]
    )

    of = reference.forward(norm, x, gamma, beta, r)
    exact = reference.backward(norm, of, dy, dsum if residual else 0.0)
    ratios = {
        "y": bounds.relative_to(bounds.forward(norm, of, dtype), outputs[0], of.y)
    }
    if residual:
        np.testing.assert_array_equal(outputs[1].numpy(), of.sum)
    unit = bounds.PRECISIONS[np.dtype(dtype)].compute
    statistics = outputs[-2:] if norm.centred else outputs[-1:]
    if norm.centred:
        mean = statistics[0].numpy().reshape(of.mean.shape)
        ratios["mean"] = bounds.relative_to(bounds.of_mean(of, unit), mean, of.mean)
    rstd = statistics[-1].numpy().reshape(of.rstd.shape)
    ratios["rstd"] = bounds.relative_to(bounds.of_rstd(norm, of, unit), rstd, of.rstd)
    dx, dgamma, dbeta = bounds.backward(norm, of, exact, dy, dtype, param_dtype)
    ratios["dx"] = bounds.relative_to(dx, got["x"], exact.dx)
    if residual:
        np.testing.assert_array_equal(got["residual"], got["x"])
    if gamma is not None:
        ratios["dgamma"] = bounds.relative_to(dgamma, got["gamma"], exact.dgamma)
        assert got["gamma"].dtype == param_dtype
    if beta is not None:
        ratios["dbeta"] = bounds.relative_to(dbeta, got["beta"], exact.dbeta)
    assert outputs[0].dtype == dtype
    print("error / bound:", ratios)
    assert max(ratios.values()) <= 1, ratios
    return ratios


GROUP_VIEWS = [
    # channels last, ranks 2 to 6
    ((5, 12), -1, 4),
    ((3, 7, 12), -1, 3),
    ((2, 5, 4, 12), 3, 6),
    ((2, 3, 4, 5, 8), -1, 2),
    ((2, 3, 2, 3, 2, 8), 5, 4),
    # channels first
    ((3, 12, 7), 1, 3),
    ((2, 12, 5, 4), 1, 4),
    ((2, 8, 3, 4, 5), 1, 2),
    ((2, 8, 3, 2, 3, 2), -5, 8),
    # in the middle
    ((2, 5, 12, 7), 2, 4),
    ((2, 3, 4, 10, 3), 3, 5),
    ((2, 3, 4, 6, 3, 5), 3, 2),
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("shape", "axis", "groups"), GROUP_VIEWS)
def test_group_norm(shape, axis, groups, dtype, rng):
    check(Norm("group_norm", (axis,), groups), shape, rng, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("shape", "axis", "groups"), GROUP_VIEWS)
def test_instance_norm(shape, axis, groups, dtype, rng):
    check(Norm("group_norm", (axis,)), shape, rng, dtype)


AXES_VIEWS = [
    # trailing
    ((9,), (-1,)),
    ((5, 33), (-1,)),
    ((3, 4, 20), (-1,)),
    ((3, 4, 20), (1, 2)),
    ((2, 3, 4, 5), (-3, -2, -1)),
    # one in the middle, or a run
    ((3, 7, 5), (1,)),
    ((2, 26, 6, 10), (1,)),
    ((2, 3, 4, 5), (1, 2)),
    ((4, 3, 5), (0,)),
    ((2, 3, 4, 5, 6), (2, 3)),
    # any other list is transposed
    ((3, 4, 5), (0, 2)),
    ((2, 3, 4, 5), (3, 1)),
    ((2, 3, 4, 5), (-1, 1)),
    ((2, 3, 4, 5, 2, 3), (1, 3, 5)),
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("shape", "axes"), AXES_VIEWS)
def test_layer_norm(shape, axes, dtype, rng):
    check(Norm("layer_norm", axes), shape, rng, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("shape", "axes"), AXES_VIEWS)
def test_rms_norm(shape, axes, dtype, rng):
    check(Norm("rms_norm", axes, epsilon=1e-6), shape, rng, dtype)


# One view for each way that the kernels walk memory.
WALKS = {
    "interleaved": (Norm("group_norm", (-1,), 4), (2, 9, 9, 24)),
    "chunks": (Norm("group_norm", (-1,), 2), (2, 5, 200)),
    "channels_first": (Norm("group_norm", (1,), 3), (2, 6, 5, 11)),
    "short_rows": (Norm("layer_norm"), (40, 10)),
    "rows": (Norm("layer_norm"), (7, 70)),
    "columns": (Norm("layer_norm", (1,)), (2, 19, 21)),
    "rms_rows": (Norm("rms_norm"), (7, 70)),
    "rms_columns": (Norm("rms_norm", (1,)), (2, 19, 21)),
}


def with_options(walk, **options):
    norm, shape = WALKS[walk]
    return Norm(**{**vars(norm), **options}), shape


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("walk", WALKS)
def test_activations(walk, activation, dtype, rng):
    norm, shape = with_options(walk, activation=activation)
    check(norm, shape, rng, dtype)


@pytest.mark.parametrize("activation", ["none", "silu"])
@pytest.mark.parametrize("affine", ["none", "scale", "shift"])
@pytest.mark.parametrize("walk", WALKS)
def test_affine_modes(walk, affine, activation, rng):
    norm, shape = with_options(walk, activation=activation)
    check(norm, shape, rng, affine=affine)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("walk", WALKS)
def test_residual(walk, dtype, rng):
    norm, shape = with_options(walk, activation="gelu")
    check(norm, shape, rng, dtype, residual=True)


def test_residual_over_transposed_axes(rng):
    check(Norm("layer_norm", (1, 3)), (2, 3, 4, 5), rng, residual=True)


# (norm, shape): each sample's problem, however the samples are put together.
PER_SAMPLE = [
    (Norm("group_norm", (-1,), 4, per_sample=True), (3, 9, 5, 24)),
    (Norm("group_norm", (-1,), 2, per_sample=True), (70, 3, 8)),
    (Norm("group_norm", (1,), 3, per_sample=True), (3, 6, 5, 11)),
    (Norm("group_norm", (2,), per_sample=True), (2, 3, 4, 5)),
    (Norm("group_norm", (-1,), 3, per_sample=True), (5, 12)),
    # Samples so large that each takes all threads.
    (Norm("group_norm", (-1,), 8, per_sample=True), (2, 4100, 256)),
    (Norm("layer_norm", per_sample=True), (3, 17, 70)),
    (Norm("layer_norm", per_sample=True), (5, 10)),
    (Norm("layer_norm", (1, 2), per_sample=True), (3, 4, 6)),
    (Norm("layer_norm", (1,), per_sample=True), (2, 19, 21)),
    (Norm("layer_norm", (1, 3), per_sample=True), (2, 3, 4, 5)),
    (Norm("rms_norm", per_sample=True), (3, 17, 70)),
    (Norm("layer_norm", per_sample=True), (1, 7)),
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("norm", "shape"), PER_SAMPLE)
def test_parameters_of_each_sample(norm, shape, dtype, rng):
    norm = dataclasses.replace(norm, activation="silu")
    check(norm, shape, rng, dtype, residual=True)


@pytest.mark.parametrize("affine", ["scale", "shift"])
@pytest.mark.parametrize(("norm", "shape"), PER_SAMPLE)
def test_one_parameter_of_each_sample(norm, shape, affine, rng):
    norm = dataclasses.replace(norm, zero_centered=True)
    check(norm, shape, rng, affine=affine, param_dtype=np.float32)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("walk", WALKS)
def test_parameters_in_the_dtype_of_the_data(walk, dtype, rng):
    norm, shape = with_options(walk)
    check(norm, shape, rng, dtype, param_dtype=dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("walk", ["rms_rows", "rms_columns"])
def test_zero_centered(walk, dtype, rng):
    norm, shape = with_options(walk, zero_centered=True)
    check(norm, shape, rng, dtype)


@pytest.mark.parametrize("epsilon", [1e-12, 1e-5, 0.1, 10.0])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_epsilon(epsilon, dtype, rng):
    # float64 tells whether epsilon went through float32: 0.1 is off by 1e-9 there.
    check(Norm("layer_norm", epsilon=epsilon), (4, 50), rng, dtype)


SIZES = [1, 2, 3, 7, 8, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 255, 511, 512, 513]


@pytest.mark.parametrize("size", [*SIZES, 1023, 1024, 1025, 2049])
def test_rows_around_vector_sizes(size, rng):
    check(Norm("layer_norm"), (3, size), rng)


@pytest.mark.parametrize("size", SIZES)
def test_columns_around_vector_sizes(size, rng):
    check(Norm("layer_norm", (1,)), (2, 5, size), rng)


@pytest.mark.parametrize("size", SIZES)
def test_channels_around_vector_sizes(size, rng):
    check(Norm("group_norm", (-1,)), (2, 5, size), rng)


@pytest.mark.parametrize("rows", [1, 63, 64, 65, 129, 1000])
@pytest.mark.parametrize("walk", ["interleaved", "rows", "short_rows", "columns"])
def test_counts_around_a_block_of_rows(walk, rows, rng):
    norm, shape = WALKS[walk]
    where = {"interleaved": 1, "rows": 0, "short_rows": 0, "columns": 1}[walk]
    check(norm, (*shape[:where], rows, *shape[where + 1 :]), rng)


LARGE = {
    "long_rows": (Norm("layer_norm"), (2, 300_000)),
    "one_group_channels_last": (Norm("group_norm", (-1,), 1), (1, 200, 200, 10)),
    "one_group_of_chunks": (Norm("group_norm", (-1,), 1), (1, 60, 60, 100)),
    "few_channels_first": (Norm("group_norm", (1,), 2), (1, 4, 300, 301)),
    # One cut falls on the last position of a channel.
    "short_runs_cut_in_slices": (Norm("group_norm", (1,), 1), (1, 7000, 19)),
    "few_interleaved": (Norm("group_norm", (-1,), 8), (1, 250, 250, 16)),
    "few_columns": (Norm("layer_norm", (1,)), (1, 9000, 70)),
    "rms_long_rows": (Norm("rms_norm"), (3, 200_001)),
    "many_rows": (Norm("layer_norm"), (30_000, 17)),
    # 64 blocks of 64 and 128 rows: as many as are summed before the total in float64.
    "whole_blocks_of_rows": (Norm("layer_norm"), (4096, 17)),
    "two_blocks_of_rows": (Norm("layer_norm"), (8192, 70)),
    "many_short_rows": (Norm("rms_norm"), (60_000, 7)),
    "many_instances": (Norm("group_norm", (1,)), (64, 64, 9, 9)),
    "wide_columns": (Norm("layer_norm", (1,)), (2, 3, 60_000)),
    "many_channels": (Norm("group_norm", (-1,), 50), (2, 20, 5000)),
}


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16])
@pytest.mark.parametrize("activation", ["none", "silu"])
@pytest.mark.parametrize("name", LARGE)
def test_large(name, activation, dtype, rng):
    norm, shape = LARGE[name]
    norm = Norm(**{**vars(norm), "activation": activation})
    check(norm, shape, rng, dtype, residual=activation != "none")


@pytest.mark.parametrize("name", ["long_rows", "few_columns", "few_interleaved"])
def test_large_in_float64(name, rng):
    """Sums that go into no wider type."""
    check(*LARGE[name], rng, np.float64)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_worst_ratio_is_not_far_below_the_bound(dtype, rng):
    """The bounds are tight: something in this sample comes near them."""
    worst = {}
    for norm, shape in [*WALKS.values(), LARGE["many_rows"]]:
        for key, ratio in check(norm, shape, rng, dtype, offset=5.0).items():
            worst[key] = max(ratio, worst.get(key, 0))
    print("worst error / bound:", worst)
    assert worst["y"] > 0.2
    assert worst["dx"] > 0.05

"""Views, options and the check of the ops against the reference and its bounds."""

import fusednorm
import ml_dtypes
import numpy as np
import tensorflow as tf

from support import bounds, reference
from support.reference import Norm

DTYPES = [np.float32, np.float64, np.float16, ml_dtypes.bfloat16]
ACTIVATIONS = list(reference.ACTIVATIONS)


def with_types(cases):
    """Returns each case in float32 and, in turn, in another type."""
    return [
        (*case, dtype)
        for i, case in enumerate(cases)
        for dtype in (DTYPES[0], DTYPES[1 + i % 3])
    ]


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


# (norm, shape): each sample's problem, however the samples are put together.
PER_SAMPLE = [
    (Norm("group_norm", (-1,), 4, per_sample=True), (3, 9, 5, 24)),
    (Norm("group_norm", (-1,), 2, per_sample=True), (70, 3, 8)),
    (Norm("group_norm", (1,), 3, per_sample=True), (3, 6, 5, 11)),
    (Norm("group_norm", (2,), per_sample=True), (2, 3, 4, 5)),
    (Norm("group_norm", (-1,), 3, per_sample=True), (5, 12)),
    (Norm("layer_norm", per_sample=True), (3, 17, 70)),
    (Norm("layer_norm", per_sample=True), (5, 10)),
    (Norm("layer_norm", (1, 2), per_sample=True), (3, 4, 6)),
    (Norm("layer_norm", (1,), per_sample=True), (2, 19, 21)),
    (Norm("layer_norm", (1, 3), per_sample=True), (2, 3, 4, 5)),
    (Norm("rms_norm", per_sample=True), (3, 17, 70)),
    (Norm("layer_norm", per_sample=True), (1, 7)),
]
# Samples so large that the kernels give each to all threads.
LARGE_SAMPLES = (Norm("group_norm", (-1,), 8, per_sample=True), (2, 4100, 256))

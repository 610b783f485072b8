"""Gradients against numeric differences and against autodiff of the composed formula.

Closed-form gradients of many more shapes and types are checked in test_ops_values.py.
"""

import math

import fusednorm
import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf

# Written out: tf.nn.gelu and tf.nn.leaky_relu have float32 constants in float64.
COMPOSED_ACTIVATIONS = {
    "none": lambda z: z,
    "relu": tf.nn.relu,
    "leaky_relu": lambda z: tf.where(z > 0, z, z * tf.constant(0.2, z.dtype)),
    "silu": lambda z: z * tf.sigmoid(z),
    "gelu": lambda z: z * 0.5 * (1 + tf.math.erf(z / math.sqrt(2))),
    "gelu_tanh": lambda z: (
        z * 0.5 * (1 + tf.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3)))
    ),
    "tanh": tf.tanh,
    "sigmoid": tf.sigmoid,
}

# name -> (function of x, gamma, beta and options; shape of x; axes reduced after
# splitting the channels; split of the channel axis; shape of gamma to broadcast)
CASES = {
    "group, last": (
        lambda x, g, b, **k: fusednorm.group_norm(x, g, b, groups=2, **k),
        (2, 3, 6),
        (2, 3, 2, 3),
        (1, 3),
        (1, 1, 2, 3),
    ),
    "group, first": (
        lambda x, g, b, **k: fusednorm.group_norm(x, g, b, groups=2, axis=1, **k),
        (2, 4, 5),
        (2, 2, 2, 5),
        (2, 3),
        (1, 2, 2, 1),
    ),
    "group, middle": (
        lambda x, g, b, **k: fusednorm.group_norm(x, g, b, groups=2, axis=2, **k),
        (2, 2, 4, 3),
        (2, 2, 2, 2, 3),
        (1, 3, 4),
        (1, 1, 2, 2, 1),
    ),
    "instance": (
        lambda x, g, b, **k: fusednorm.instance_norm(x, g, b, **k),
        (2, 5, 3),
        (2, 5, 3),
        (1,),
        (1, 1, 3),
    ),
    "layer, last": (
        lambda x, g, b, **k: fusednorm.layer_norm(x, g, b, **k),
        (3, 17),
        (3, 17),
        (1,),
        (1, 17),
    ),
    "layer, middle": (
        lambda x, g, b, **k: fusednorm.layer_norm(x, g, b, axis=1, **k),
        (2, 5, 3),
        (2, 5, 3),
        (1,),
        (1, 5, 1),
    ),
    "layer, apart": (
        lambda x, g, b, **k: fusednorm.layer_norm(x, g, b, axis=[2, 0], **k),
        (2, 3, 4),
        (2, 3, 4),
        (0, 2),
        (2, 1, 4),
    ),
    "rms, last": (
        lambda x, g, b, **k: fusednorm.rms_norm(x, g, **k),
        (3, 7),
        (3, 7),
        (1,),
        (1, 7),
    ),
    "rms, middle": (
        lambda x, g, b, **k: fusednorm.rms_norm(x, g, axis=1, zero_centered=True, **k),
        (2, 5, 3),
        (2, 5, 3),
        (1,),
        (1, 5, 1),
    ),
}
every_case = pytest.mark.parametrize("case", CASES)


def composed(case, x, gamma, beta, residual, activation="none"):
    """Returns y, sum, mean and rstd made of TensorFlow's ops."""
    _, _, split, reduced, broadcast = CASES[case]
    total = x + residual
    s = tf.reshape(total, split)
    centred = not case.startswith("rms")
    mean = tf.reduce_mean(s, reduced, keepdims=True) * (1.0 if centred else 0.0)
    variance = tf.reduce_mean((s - mean) ** 2, reduced, keepdims=True)
    epsilon = 1e-3 if centred else 1e-6
    rstd = 1 / tf.sqrt(variance + tf.constant(epsilon, x.dtype))
    gamma = tf.reshape(gamma, broadcast) + (1.0 if case == "rms, middle" else 0.0)
    z = (s - mean) * rstd * gamma
    if centred:
        z += tf.reshape(beta, broadcast)
    y = tf.reshape(COMPOSED_ACTIVATIONS[activation](z), x.shape)
    squeezed = [tf.squeeze(each, reduced) for each in (mean, rstd)]
    return (y, total, *squeezed) if centred else (y, total, squeezed[1])


def inputs_of(case, rng, dtype=np.float64):
    shape = CASES[case][1]
    parameter_shape = [size for size in CASES[case][4] if size > 1]
    if case.startswith("group"):
        parameter_shape = [int(np.prod(parameter_shape))]
    wide = np.float64 if dtype == np.float64 else np.float32
    return [
        tf.constant(rng.normal(size=shape).astype(dtype)),
        tf.constant(rng.uniform(0.5, 2, parameter_shape).astype(wide)),
        tf.constant(rng.normal(size=parameter_shape).astype(wide)),
        tf.constant(rng.normal(size=shape).astype(dtype)),
    ]


def fused(case, x, gamma, beta, residual, activation="none"):
    """Calls the op with all its outputs."""
    return CASES[case][0](
        x, gamma, beta, residual=residual, activation=activation, return_stats=True
    )


@pytest.mark.parametrize(
    ("case", "output"),
    [
        (case, output)
        for case in CASES
        for output in ("y", "sum", "mean", "rstd")
        if output != "mean" or not case.startswith("rms")
    ],
)
def test_numeric_differences(case, output, rng):
    """D output / d every input, in float64.

    Central differences with a step of 1e-4 are off by its square times a third
    derivative (up to 1e2 here, where rstd reaches 2) and by 2^-53 / 1e-4 = 1e-12.
    """
    centred = not case.startswith("rms")
    names = ["y", "sum", "mean", "rstd"] if centred else ["y", "sum", "rstd"]
    index = names.index(output)
    values = inputs_of(case, rng)
    if not centred:
        values[2] = None
    given = [each for each in values if each is not None]

    def function(*arguments):
        arguments = list(arguments)
        if not centred:
            arguments.insert(2, None)
        return fused(case, *arguments)[index]

    exact, numeric = tf.test.compute_gradient(function, given, delta=1e-4)
    for got, expected in zip(exact, numeric, strict=True):
        np.testing.assert_allclose(got, expected, rtol=0, atol=2e-6)


AFFINE = {
    "none": (False, False),
    "scale": (True, False),
    "shift": (False, True),
    "both": (True, True),
}


@pytest.mark.parametrize(
    ("activation", "affine"),
    [(name, "both") for name in COMPOSED_ACTIVATIONS]
    + [("silu", affine) for affine in ("none", "scale", "shift")],
)
@pytest.mark.parametrize("case", ["group, last", "layer, middle", "rms, middle"])
def test_numeric_differences_of_options(case, activation, affine, rng):
    """As above; z stays 0.02 away from 0, where relu and leaky_relu have a kink.

    A step of 1e-4 moves z by less: it is at most 1e-4 rstd gamma (1 + xhat^2 / m).
    """
    with_gamma, with_beta = AFFINE[affine]
    with_beta = with_beta and not case.startswith("rms")

    def function(x, *parameters):
        rest = iter(parameters)
        gamma = next(rest) if with_gamma else None
        beta = next(rest) if with_beta else None
        return CASES[case][0](x, gamma, beta, activation=chosen)

    chosen, nearest = "none", 0.0
    while nearest < 0.02:
        x, gamma, beta, _ = inputs_of(case, rng)
        given = [x] + [gamma] * with_gamma + [beta] * with_beta
        nearest = np.abs(function(*given)).min()
    chosen = activation
    exact, numeric = tf.test.compute_gradient(function, given, delta=1e-4)
    for got, expected in zip(exact, numeric, strict=True):
        np.testing.assert_allclose(got, expected, rtol=0, atol=2e-6)


def weighted_sum(values, phase):
    """Sums with a weight of its own for every element of every output."""
    positions = tf.cast(tf.range(tf.size(values)), values.dtype)
    return tf.reduce_sum(values * tf.reshape(tf.cos(positions + phase), values.shape))


@pytest.mark.parametrize("activation", COMPOSED_ACTIVATIONS)
@every_case
def test_composed_formula_in_float64(case, activation, rng):
    """Through all outputs at once; both sides make some hundred roundings of 2^-53."""
    inputs = inputs_of(case, rng)
    results = []
    for function in (fused, composed):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs = function(case, *inputs, activation=activation)
            loss = sum(weighted_sum(each, i) for i, each in enumerate(outputs))
        gradients = tape.gradient(
            loss, inputs, unconnected_gradients=tf.UnconnectedGradients.ZERO
        )
        results.append((outputs, gradients))
    for got, expected in zip(results[0][0], results[1][0], strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-13, atol=1e-13)
    for got, expected in zip(results[0][1], results[1][1], strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-12)


# The op's float32 arithmetic leaves some tens of units of 2^-24 of terms below 8; the
# gradient of x is then rounded to its type (half an ulp, relative).
LOW_PRECISION = {
    np.float32: (0.0, 2e-5),
    np.float16: (2.0**-11, 2e-5),
    ml_dtypes.bfloat16: (2.0**-8, 2e-5),
}


@pytest.mark.parametrize("dtype", LOW_PRECISION)
@every_case
def test_autodiff_in_float64_at_the_same_inputs(case, dtype, rng):
    inputs = inputs_of(case, rng, dtype)
    # No residual: its sum would be rounded to the data's type by the op alone.
    x, gamma, beta, _ = inputs
    dy = tf.constant(rng.normal(size=x.shape).astype(dtype))
    with tf.GradientTape() as tape:
        tape.watch([x, gamma, beta])
        y = CASES[case][0](x, gamma, beta, activation="silu")
    got = tape.gradient(y, [x, gamma, beta], output_gradients=dy)

    wide = [tf.cast(each, tf.float64) for each in (x, gamma, beta)]
    with tf.GradientTape() as tape:
        tape.watch(wide)
        y = composed(case, *wide, tf.zeros_like(wide[0]), activation="silu")[0]
    expected = tape.gradient(y, wide, output_gradients=tf.cast(dy, tf.float64))

    relative, absolute = LOW_PRECISION[dtype]
    for index, (a, b) in enumerate(zip(got, expected, strict=True)):
        if b is None:
            assert a is None  # RMSNorm has no beta
            continue
        np.testing.assert_allclose(
            a.numpy().astype(np.float64),
            b,
            rtol=relative if index == 0 else 0,
            atol=absolute,
        )


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_parameter_gradients_have_the_parameters_dtype(dtype):
    x = tf.ones((2, 6), dtype)
    for wanted in (dtype, np.float32):
        gamma = tf.ones((6,), wanted)
        with tf.GradientTape() as tape:
            tape.watch(gamma)
            y = fusednorm.layer_norm(x, gamma)
        assert tape.gradient(y, gamma).dtype == wanted


def test_residual_has_the_gradient_of_x(rng):
    x, gamma, beta, residual = inputs_of("layer, last", rng)
    with tf.GradientTape() as tape:
        tape.watch([x, residual])
        y, total = fusednorm.layer_norm(x, gamma, beta, residual=residual)
        loss = tf.reduce_sum(y**2) + tf.reduce_sum(total**3)
    dx, dresidual = tape.gradient(loss, [x, residual])
    np.testing.assert_array_equal(dx, dresidual)


def test_only_the_sum_is_used(rng):
    x, _, _, residual = inputs_of("layer, last", rng)
    with tf.GradientTape() as tape:
        tape.watch(x)
        _, total = fusednorm.layer_norm(x, residual=residual)
    np.testing.assert_array_equal(tape.gradient(total, x), np.ones(x.shape))

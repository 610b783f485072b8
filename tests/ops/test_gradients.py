"""Gradients against numeric differences and against autodiff of the composed formula.

Closed-form gradients of many more shapes and types are checked in test_ops_values.py.
"""

import fusednorm
import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf
from support.composed_norms import (
    AFFINE,
    CASES,
    COMPOSED_ACTIVATIONS,
    composed,
    every_case,
    fused,
    inputs_of,
)
from tensorflow.python.framework.ops import get_gradient_function


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


def test_none_for_an_output_is_zeros(rng):
    """Gradient functions may be given None, although TensorFlow gives ours zeros."""

    def both(op, index, given):
        """Returns the gradients for one output, with None and zeros for the others."""
        for other in (lambda _: None, tf.zeros_like):
            upstream = [other(output) for output in op.outputs]
            upstream[index] = given
            yield get_gradient_function(op)(op, *upstream)

    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        x, dy, ddx = (tf.constant(rng.normal(size=(5, 8))) for _ in range(3))
        gamma, ddgamma = (tf.constant(rng.normal(size=8)) for _ in range(2))
        (y, *_) = fusednorm.layer_norm(x, gamma, gamma, return_stats=True)
        pairs = [tuple(both(y.op, 0, dy))]
        first_order = pairs[0][0][0].op
        pairs += [tuple(both(first_order, *of)) for of in ((0, ddx), (1, ddgamma))]
        for got, wanted in pairs:
            present = [each is not None for each in got]
            assert present == [each is not None for each in wanted]
            assert sum(present) >= 3
            for a, b in zip(got, wanted, strict=True):
                if a is not None:
                    np.testing.assert_allclose(*session.run((a, b)), rtol=0, atol=1e-12)

"""Gradients of gradients: numeric differences, and autodiff of the composed formula.

The formula is that of test_gradients.py, which shares nothing with the package's.
"""

import types

import fusednorm
import keras
import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf
from fusednorm import _composition
from fusednorm.gradients import _second_order_gradient as second_order_of
from support import reference
from support.composed_norms import (
    AFFINE,
    CASES,
    COMPOSED_ACTIVATIONS,
    composed,
    every_case,
    fused,
    inputs_of,
)
from support.plain_layer import PlainNormalization

ZERO = tf.UnconnectedGradients.ZERO
UNITS = {np.float64: 2.0**-53, np.float32: 2.0**-24}
# Half an ulp of the type that gradients are stored in.
STORE = {np.float32: 0.0, np.float16: 2.0**-11, ml_dtypes.bfloat16: 2.0**-8}


# Errors are compared with the largest element of the result. Each of its elements is a
# sum of products of up to six factors, over at most 48 elements of a group or 15 rows:
# a term has some 30 roundings, of which those of rstd are carried through two further
# sums, and terms cancel by a factor of up to three. That is 100 units, of which
# independent roundings leave a third; one order more is three times that. gelu_tanh has
# 1 - tanh^2, which cancels, times z and the square of the slope inside, up to 100
# together, in both formulas.
def second_order_units(activation):
    return 500 if activation == "gelu_tanh" else 100


def constant(rng, like):
    return tf.cast(rng.normal(size=like.shape), like.dtype)


class Problem:
    """A norm, random inputs, seeds for its outputs and directions for its inputs."""

    def __init__(self, case, rng, affine="both", residual=True, dtype=np.float64):
        with_gamma, with_beta = AFFINE[affine]
        centred = not case.startswith("rms")
        x, gamma, beta, r = inputs_of(case, rng, dtype)
        self.case = case
        self.inputs = {"x": x}
        if with_gamma:
            self.inputs["gamma"] = gamma
        if with_beta and centred:
            self.inputs["beta"] = beta
        if residual:
            self.inputs["residual"] = r
        # What stands for an input that is not there.
        one = 0.0 if case == "rms, middle" else 1.0
        self.neutral = {
            "gamma": tf.fill(gamma.shape, tf.cast(one, gamma.dtype)),
            "beta": tf.zeros_like(beta),
            "residual": tf.zeros_like(x),
        }
        outputs = self.fused(self.inputs)
        self.seeds = [constant(rng, output) for output in outputs]
        self.directions = {k: constant(rng, v) for k, v in self.inputs.items()}

    def _arguments(self, inputs, otherwise):
        return [
            inputs.get(name, otherwise.get(name))
            for name in ("x", "gamma", "beta", "residual")
        ]

    def fused(self, inputs, activation="none"):
        return fused(self.case, *self._arguments(inputs, {}), activation=activation)

    def composed(self, inputs, activation="none"):
        y, total, *statistics = composed(
            self.case, *self._arguments(inputs, self.neutral), activation=activation
        )
        return [y, *([total] if "residual" in inputs else []), *statistics]

    def wide(self):
        """Returns the same problem in float64."""
        other = object.__new__(Problem)
        other.__dict__ = {
            k: v if k == "case" else tf.nest.map_structure(to_float64, v)
            for k, v in vars(self).items()
        }
        return other


def to_float64(x):
    return tf.cast(x, tf.float64)


def dot(a, b):
    return tf.reduce_sum(a * b)


def first_order(norm, inputs, seeds, activation):
    """Returns the gradients of all inputs, seeded with one tensor for each output."""
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        outputs = norm(inputs, activation)
    return tape.gradient(
        outputs, inputs, output_gradients=seeds, unconnected_gradients=ZERO
    )


def second_order(norm, problem, activation="none"):
    """Differentiates directions . gradients by every input and every seed."""
    sources = (problem.inputs, problem.seeds)
    with tf.GradientTape() as tape:
        tape.watch(sources)
        gradients = first_order(norm, *sources, activation)
        # In the wider type, so that float16 data loses nothing here.
        along = tf.add_n(
            [
                dot(to_float64(gradients[name]), to_float64(direction))
                for name, direction in problem.directions.items()
            ]
        )
    return tape.gradient(along, sources, unconnected_gradients=ZERO)


def largest_error(got, exact, store=0.0):
    """Returns the largest error relative to the largest element of the same tensor.

    Args:
        got: Nested tensors.
        exact: The same in float64.
        store: What rounding an element once costs, which is not counted.
    """
    worst = 0.0
    for a, b in zip(tf.nest.flatten(got), tf.nest.flatten(exact), strict=True):
        a, b = a.numpy().astype(np.float64), b.numpy()
        error = np.abs(a - b) - store * np.abs(b)
        worst = max(worst, float(error.max() / max(np.abs(b).max(), 1.0)))
    return worst


def covering(case):
    """Returns activations, affines and residuals: each activation with two affines.

    Over all cases, each activation is with each affine, with a residual and without.
    """
    at = list(CASES).index(case)
    return [
        (name, list(AFFINE)[(at + i + j) % len(AFFINE)], (at + i // 2 + j) % 4 > 0)
        for i, name in enumerate(COMPOSED_ACTIVATIONS)
        for j in (0, 1)
    ]


@pytest.mark.parametrize(
    ("case", "activation", "affine", "residual"),
    [(case, *options) for case in CASES for options in covering(case)],
)
def test_composed_formula(case, activation, affine, residual, rng):
    problem = Problem(case, rng, affine, residual)
    got = second_order(problem.fused, problem, activation)
    exact = second_order(problem.composed, problem, activation)
    error = largest_error(got, exact) / UNITS[np.float64]
    print("units:", error)
    assert error <= second_order_units(activation)


@pytest.mark.parametrize("activation", COMPOSED_ACTIVATIONS)
@every_case
def test_numeric_differences(case, activation, rng):
    """The derivative of the first-order gradient along a direction of all inputs.

    Central differences with a step of 1e-4 along a direction of elements near 1 are off
    by 1e-8 / 6 of a third derivative of the gradient (up to 1e3 of its size in the
    cases with rstd up to 2) and by 2^-53 / 1e-4 of the gradient. All of it relative to
    the sum of the magnitudes of the parts of the derivative.
    """
    nearest = 0.0
    while nearest < 0.02:  # Of z to the kink of relu and leaky_relu; a step moves less.
        problem = Problem(case, rng)
        nearest = np.abs(problem.fused(problem.inputs)[0]).min()
    by_inputs, by_seeds = second_order(problem.fused, problem, activation)
    along = {name: constant(rng, value) for name, value in problem.inputs.items()}
    seeds_along = [constant(rng, value) for value in problem.seeds]
    parts = [dot(by_inputs[name], along[name]) for name in along]
    parts += map(dot, by_seeds, seeds_along)

    def value(step):
        inputs = {k: v + step * along[k] for k, v in problem.inputs.items()}
        pairs = zip(problem.seeds, seeds_along, strict=True)
        seeds = [seed + step * direction for seed, direction in pairs]
        gradients = first_order(problem.fused, inputs, seeds, activation)
        return sum(dot(gradients[k], v) for k, v in problem.directions.items())

    numeric = (value(1e-4) - value(-1e-4)) / 2e-4
    scale = sum(abs(part) for part in parts)
    error = float(abs(sum(parts) - numeric) / scale)
    print("relative error:", error)
    assert error <= 2e-6


@pytest.mark.parametrize(
    ("activation", "dtype"),
    zip(("silu", "none", "silu"), STORE, strict=True),
)
@every_case
def test_types_against_float64_at_the_same_inputs(case, activation, dtype, rng):
    """All arithmetic is float32; what has the data's type is rounded to it once."""
    # No residual: its sum would be rounded to the data's type by the op alone.
    problem = Problem(case, rng, residual=False, dtype=dtype)
    got = second_order(problem.fused, problem, activation)
    wide = problem.wide()
    exact = second_order(wide.composed, wide, activation)
    error = largest_error(got, exact, STORE[dtype]) / UNITS[np.float32]
    print("units:", error)
    assert error <= second_order_units(activation)
    for name, value in problem.inputs.items():
        assert got[0][name].dtype == value.dtype


@pytest.mark.parametrize("activation", ["none", "gelu", "tanh"])
@every_case
def test_third_order(case, activation, rng):
    """Three nested tapes; every order adds the roundings and terms of a second one."""
    problem = Problem(case, rng)
    further = {name: constant(rng, value) for name, value in problem.inputs.items()}

    def third_order(norm):
        with tf.GradientTape() as tape:
            tape.watch((problem.inputs, problem.seeds))
            by_inputs, _ = second_order(norm, problem, activation)
            along = tf.add_n([dot(by_inputs[name], further[name]) for name in further])
        return tape.gradient(
            along, (problem.inputs, problem.seeds), unconnected_gradients=ZERO
        )

    got, exact = third_order(problem.fused), third_order(problem.composed)
    error = largest_error(got, exact) / UNITS[np.float64]
    print("units:", error)
    assert error <= 3 * second_order_units(activation)


# A function of x alone -> the norm of reference.py that it is.
REFERENCES = {
    "group": (
        lambda x: fusednorm.group_norm(x, groups=2, activation="silu"),
        reference.Norm("group_norm", (-1,), 2, activation="silu"),
    ),
    "columns": (
        lambda x: fusednorm.layer_norm(x, axis=1, activation="tanh"),
        reference.Norm("layer_norm", (1,), activation="tanh"),
    ),
    "rms": (
        lambda x: fusednorm.rms_norm(x, activation="sigmoid"),
        reference.Norm("rms_norm", epsilon=1e-6, activation="sigmoid"),
    ),
}


@pytest.mark.parametrize("name", REFERENCES)
def test_jacobian_and_hessian_against_numpy(name, rng):
    """Differences of the exact values and gradients, in more than float64.

    Steps of 1e-6 leave 1e-12 / 6 of a third derivative, which is below 1e3.
    """
    call, norm = REFERENCES[name]
    x, dy = rng.normal(size=(2, 2, 3, 4))
    x, dy = x.astype(reference.WIDE), dy.astype(reference.WIDE)

    def differences(function):
        columns = []
        for index in np.ndindex(x.shape):
            step = np.zeros_like(x)
            step[index] = 1e-6
            columns.append((function(x + step) - function(x - step)) / 2e-6)
        return np.moveaxis(np.array(columns).reshape(x.shape * 2), [0, 1, 2], [3, 4, 5])

    def gradient(x):
        return reference.backward(norm, reference.forward(norm, x), dy).dx

    data = tf.constant(x.astype(np.float64))
    # x is rounded on the way to TensorFlow, and the reference starts from the same.
    x = data.numpy().astype(reference.WIDE)
    with tf.GradientTape() as outer:
        outer.watch(data)
        with tf.GradientTape(persistent=True) as inner:
            inner.watch(data)
            y = call(data)
            loss = dot(y, tf.constant(dy.astype(np.float64)))
        dx = inner.gradient(loss, data)
    jacobian = inner.jacobian(y, data)
    hessian = outer.jacobian(dx, data)
    exact = differences(lambda x: reference.forward(norm, x).y)
    np.testing.assert_allclose(jacobian, exact, rtol=0, atol=1e-9)
    np.testing.assert_allclose(hessian, differences(gradient), rtol=0, atol=1e-9)


def critic(norm, x, kernel, gamma, beta, top):
    h = norm(x @ kernel, gamma, beta)
    return tf.reduce_sum(h * top, [1, 2])


def penalty_gradients(norm, x, weights):
    """Returns the gradients of Gulrajani's penalty (2017) with respect to weights."""
    with tf.GradientTape() as outer:
        outer.watch(weights)
        with tf.GradientTape() as inner:
            inner.watch(x)
            score = critic(norm, x, *weights)
        slopes = inner.gradient(score, x)
        norms = tf.sqrt(tf.reduce_sum(slopes**2, [1, 2]))
        penalty = tf.reduce_mean((norms - 1) ** 2)
    return outer.gradient(penalty, weights, unconnected_gradients=ZERO)


def fused_norm(h, gamma, beta):
    return fusednorm.instance_norm(h, gamma, beta, activation="leaky_relu")


def composed_norm(h, gamma, beta):
    return composed("instance", h, gamma, beta, tf.zeros_like(h), "leaky_relu")[0]


@pytest.mark.parametrize("graph", [False, True])
def test_gradient_penalty(graph, rng):
    x, gamma, beta, _ = inputs_of("instance", rng)
    weights = [
        tf.constant(rng.normal(size=(3, 3))),
        gamma,
        beta,
        tf.constant(rng.normal(size=x.shape[1:])),
    ]
    calculate = tf.function(penalty_gradients) if graph else penalty_gradients
    got = calculate(fused_norm, x, weights)
    exact = penalty_gradients(composed_norm, x, weights)
    assert largest_error(got, exact) <= second_order_units("none") * UNITS[np.float64]


class Penalized(keras.Model):
    """A critic whose loss is its gradient penalty."""

    def __init__(self, norm):
        super().__init__()
        self.stack = keras.Sequential(
            [
                keras.Input((8, 8, 1)),
                keras.layers.Conv2D(6, 3, activation="tanh"),
                norm,
                keras.layers.Conv2D(4, 3, activation="tanh"),
                keras.layers.Flatten(),
                keras.layers.Dense(1),
            ]
        )

    def call(self, x):
        return self.stack(x)

    def train_step(self, data):
        x = data
        with tf.GradientTape() as outer:
            with tf.GradientTape() as inner:
                inner.watch(x)
                score = self(x, training=True)
            slopes = inner.gradient(score, x)
            norms = tf.sqrt(tf.reduce_sum(slopes**2, [1, 2, 3]) + 1e-12)
            loss = tf.reduce_mean((norms - 1) ** 2)
        weights = [each.value for each in self.trainable_variables]
        gradients = outer.gradient(loss, weights, unconnected_gradients=ZERO)
        self.optimizer.apply(gradients, self.trainable_variables)
        return {"loss": loss}


def test_fit(rng):
    """Four steps of plain descent: float32 rounding does not grow in so few."""
    x = rng.normal(size=(32, 8, 8, 1)).astype(np.float32)
    losses, weights = [], None
    for norm in (
        fusednorm.LayerNormalization(axis=[1, 2, 3]),
        PlainNormalization([-3, -2, -1]),
    ):
        model = Penalized(norm)
        model(x[:1])
        weights = weights or model.get_weights()
        model.set_weights(weights)
        model.compile(optimizer=keras.optimizers.SGD(0.1))
        history = model.fit(x, batch_size=8, shuffle=False, verbose=0).history
        losses.append(history["loss"])
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)


def test_keras_is_wrong_in_second_order(rng):
    """Why nothing here is compared with Keras's layers.

    tf.nn.moments stops the gradient at the mean that it subtracts. Where a TensorFlow
    or Keras has mended it, this fails, and PlainNormalization can go.
    """
    x = tf.constant(rng.normal(size=(2, 5)))

    def second(layer):
        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape() as inner:
                inner.watch(x)
                y = layer(x)
            dx = inner.gradient(y, x, output_gradients=y)
        return dx, outer.gradient(dx, x, output_gradients=tf.sin(x))

    keras_layer = keras.layers.LayerNormalization(epsilon=1e-3, dtype="float64")
    theirs, plain, ours = map(
        second,
        (
            keras_layer,
            PlainNormalization(dtype="float64"),
            fusednorm.LayerNormalization(dtype="float64"),
        ),
    )
    for of_order in range(2):
        np.testing.assert_allclose(ours[of_order], plain[of_order], atol=1e-13)
    np.testing.assert_allclose(theirs[0], plain[0], atol=1e-6)
    assert np.abs(theirs[1] - plain[1]).max() > 1e-3


def test_gradients_of_a_graph(rng):
    """tf.gradients twice, which has neither a tape nor anything to skip."""
    x, gamma, beta, _ = inputs_of("group, last", rng)

    def twice(call):
        @tf.function
        def graph(x):
            [dx] = tf.gradients(tf.reduce_sum(call(x) ** 3), x)
            return tf.gradients(tf.reduce_sum(dx**2), x)[0]

        return graph(x)

    got = twice(lambda x: CASES["group, last"][0](x, gamma, beta))
    zero = tf.zeros_like(x)
    exact = twice(lambda x: composed("group, last", x, gamma, beta, zero)[0])
    assert largest_error(got, exact) <= second_order_units("none") * UNITS[np.float64]


def test_one_tensor_as_two_inputs(rng):
    """Where dy is x, each has its own gradient and their sum is counted once."""
    x = tf.constant(rng.normal(size=(3, 17)))

    def twice(norm):
        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape() as inner:
                inner.watch(x)
                y = norm(x)
            dx = inner.gradient(y, x, output_gradients=x)
        return outer.gradient(dx, x, output_gradients=tf.cos(x))

    one, zero = tf.ones(17, tf.float64), tf.zeros(17, tf.float64)
    got = twice(fusednorm.layer_norm)
    exact = twice(lambda x: composed("layer, last", x, one, zero, tf.zeros_like(x))[0])
    assert largest_error(got, exact) <= second_order_units("none") * UNITS[np.float64]


@pytest.mark.parametrize("epsilon", [0.0, 1e-3])
def test_constant_groups_have_finite_derivatives(epsilon):
    """Also where rstd is 0: y is then beta, and nothing depends on x."""
    x = tf.fill((2, 5), 7.0)
    with tf.GradientTape() as outer:
        outer.watch(x)
        with tf.GradientTape() as inner:
            inner.watch(x)
            y = fusednorm.layer_norm(x, epsilon=epsilon, activation="silu")
        dx = inner.gradient(y, x, output_gradients=tf.reshape(tf.range(10.0), (2, 5)))
    second = outer.gradient(dx, x, output_gradients=tf.ones_like(x))
    assert np.isfinite(second).all()


def test_empty_tensors():
    x, gamma = tf.zeros((0, 4)), tf.ones(4)
    with tf.GradientTape() as outer:
        outer.watch([x, gamma])
        with tf.GradientTape() as inner:
            inner.watch([x, gamma])
            y = fusednorm.layer_norm(x, gamma)
        dx, dgamma = inner.gradient(y, [x, gamma])
    second = outer.gradient([dx, dgamma], [x, gamma])
    assert second[0].shape == (0, 4)
    np.testing.assert_array_equal(second[1], np.zeros(4))


def test_training_does_not_pay_for_it(monkeypatch, rng):
    def fail(*_):
        raise AssertionError("second order was computed")

    monkeypatch.setattr(_composition.gradients, "first_order", fail)
    problem = Problem("group, last", rng)
    first_order(problem.fused, problem.inputs, problem.seeds, "silu")


def test_only_what_is_needed_is_computed(rng):
    """A tape says which inputs need no gradient; statistics never have one."""
    x = tf.constant(rng.normal(size=(3, 4)))
    rows, parameters = tf.ones(3, tf.float64), tf.ones(4, tf.float64)
    given = {
        **{"epsilon": 1e-3, "epsilon_low": 0.0, "zero_centered": False, "axes": [1]},
        **{"per_sample": False, "per_position": False},
        **{"num_gamma": 1, "num_beta": 1, "num_residual": 0, "activation": b"silu"},
    }
    op = types.SimpleNamespace(
        type="Fusednorm>LayerNormGrad",
        # dy, x, mean, rstd, gamma, beta, dmean, drstd
        inputs=[x, x, rows, rows, parameters, parameters, rows, rows],
        get_attr=given.__getitem__,
    )

    library = fusednorm.load_op_library()

    def which(unneeded):
        op.skip_input_indices = unneeded
        gradients = second_order_of(library, op, x, parameters, parameters)
        return [index for index, each in enumerate(gradients) if each is not None]

    assert which(()) == [0, 1, 4, 5, 6, 7]
    assert which((0, 2, 3, 5, 6, 7)) == [1, 4]

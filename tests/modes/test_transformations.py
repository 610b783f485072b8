"""The ops under TensorFlow's function transformations.

Forward mode, jacobians, vectorized maps without a loop, recomputation, control flow.
"""

import logging

import fusednorm
import keras
import numpy as np
import pytest
import tensorflow as tf
from support.composed_norms import CASES, composed, every_case, fused, inputs_of
from support.plain_layer import PlainNormalization

# The fused ops and the composition make a few dozen roundings each, in sums of at most
# 48 elements near 1; so do jacobian-vector products. 1e-12 is 10^4 units of 2^-53.
CLOSE = {"rtol": 0, "atol": 1e-12}


def function_of(case, options="none"):
    """Returns the norm of a case as a function of x, gamma and beta."""

    def norm(x, gamma, beta):
        return CASES[case][0](x, gamma, beta, activation=options)

    return norm


def operations(function, *arguments):
    """Traces a function and returns the names of all ops, also of what it calls."""
    concrete = tf.function(function, autograph=False).get_concrete_function(*arguments)
    definition = concrete.graph.as_graph_def()
    bodies = [each.node_def for each in definition.library.function]
    return [node.op for nodes in [definition.node, *bodies] for node in nodes], concrete


def without_loop(function, *arguments):
    """Runs a function whose graph must have no loop and give rise to no warning."""
    records = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = records.append
    tf.get_logger().addHandler(handler)
    try:
        names, concrete = operations(function, *arguments)
    finally:
        tf.get_logger().removeHandler(handler)
    loops = {name for name in names if "While" in name or name == "For"}
    assert not loops
    assert not [record.getMessage() for record in records]
    return concrete(*arguments)


def stacked(rng, count, *values):
    """Returns `count` different versions of each value, along a new first axis."""
    return [
        tf.stack([each + 0.1 * rng.normal(size=each.shape) for _ in range(count)])
        for each in values
    ]


def one_by_one(function, *arguments):
    """Returns what a map must: the results for each, stacked."""
    results = [function(list(each)) for each in zip(*arguments, strict=True)]
    return tf.nest.map_structure(lambda *each: tf.stack(each), *results)


def assert_close(got, expected):
    for a, b in zip(tf.nest.flatten(got), tf.nest.flatten(expected), strict=True):
        np.testing.assert_allclose(a, b, **CLOSE)


@pytest.mark.parametrize("activation", ["none", "silu"])
@every_case
def test_forward_mode(case, activation, rng):
    inputs = inputs_of(case, rng)
    tangents = [tf.constant(rng.normal(size=each.shape)) for each in inputs]
    results = []
    for norm in (fused, composed):
        with tf.autodiff.ForwardAccumulator(inputs, tangents) as forward:
            outputs = norm(case, *inputs, activation=activation)
        results.append([forward.jvp(each) for each in outputs])
    assert_close(*results)


# Where one case of each op will do, and tracing takes seconds.
ONE_OF_EACH = ["group, middle", "layer, apart", "rms, middle"]
one_of_each = pytest.mark.parametrize("case", ONE_OF_EACH)
# The ops of the second order are for norms without activation. With one, TensorFlow
# differentiates plain ops, which are much the same for all norms.
one_of_each_and_an_activation = pytest.mark.parametrize(
    ("case", "activation"),
    [*((case, "none") for case in ONE_OF_EACH), (ONE_OF_EACH[0], "silu")],
)


@one_of_each_and_an_activation
def test_forward_over_reverse(case, activation, rng):
    inputs = inputs_of(case, rng)
    tangents = [tf.constant(rng.normal(size=each.shape)) for each in inputs]
    results = []
    for norm in (fused, composed):
        with tf.autodiff.ForwardAccumulator(inputs, tangents) as forward:
            with tf.GradientTape() as tape:
                tape.watch(inputs)
                y, *_ = norm(case, *inputs, activation=activation)
            gradients = tape.gradient(y, inputs, output_gradients=tf.cos(y))
        used = [each for each in gradients if each is not None]
        results.append([forward.jvp(each) for each in used])
    assert_close(*results)


@every_case
def test_map_of_x(case, rng):
    """One fused op for all iterations."""
    x, gamma, beta, residual = inputs_of(case, rng)
    xs, residuals = stacked(rng, 3, x, residual)

    def norm(each):
        return fused(case, each[0], gamma, beta, each[1], activation="silu")

    got = without_loop(lambda *each: tf.vectorized_map(norm, each), xs, residuals)
    assert_close(got, one_by_one(norm, xs, residuals))


@every_case
def test_map_of_parameters(case, rng):
    x, gamma, beta, _ = inputs_of(case, rng)
    gammas, betas = stacked(rng, 3, gamma, beta)

    def norm(each):
        return function_of(case, "silu")(x, *each)

    got = without_loop(lambda *each: tf.vectorized_map(norm, each), gammas, betas)
    assert_close(got, one_by_one(norm, gammas, betas))


@pytest.mark.parametrize("which", ["x", "gamma", "all"])
@every_case
def test_gradients_of_each_iteration(case, which, rng):
    """Of x and, although the parameters may be shared, of gamma and beta too."""
    x, gamma, beta, _ = inputs_of(case, rng)
    shared = {"x": x, "gamma": gamma, "beta": beta}
    names = list(shared) if which == "all" else [which]
    mapped = stacked(rng, 3, *(shared[name] for name in names))

    def gradients(each):
        inputs = [{**shared, **dict(zip(names, each, strict=True))}[n] for n in shared]
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            y = function_of(case, "tanh")(*inputs)
        got = tape.gradient(y, inputs, output_gradients=tf.cos(y))
        return [each for each in got if each is not None]  # RMSNorm has no beta

    got = without_loop(lambda *each: tf.vectorized_map(gradients, each), *mapped)
    assert_close(got, one_by_one(gradients, *mapped))


@every_case
def test_gradient_of_a_map(case, rng):
    x, gamma, beta, _ = inputs_of(case, rng)
    [xs] = stacked(rng, 3, x)
    sources = [xs, gamma, beta]

    def gradients(mapped):
        with tf.GradientTape() as tape:
            tape.watch(sources)
            y = mapped(lambda each: function_of(case)(each, gamma, beta), xs)
        got = tape.gradient(y, sources, output_gradients=tf.cos(y))
        return [each for each in got if each is not None]

    got = gradients(tf.vectorized_map)
    assert_close(got, gradients(lambda f, xs: tf.stack([f(each) for each in xs])))


@every_case
def test_jacobian(case, rng):
    inputs = inputs_of(case, rng)[:3]

    def jacobian(norm, *inputs, loop=False):
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(inputs)
            y = norm(*inputs)
        return tape.jacobian(
            y, inputs, experimental_use_pfor=not loop, unconnected_gradients="zero"
        )

    def formula(x, gamma, beta):
        return composed(case, x, gamma, beta, tf.zeros_like(x), "silu")[0]

    norm = function_of(case, "silu")
    expected = jacobian(formula, *inputs)
    got = without_loop(lambda *inputs: jacobian(norm, *inputs), *inputs)
    assert_close(got, expected)
    assert_close(jacobian(norm, *inputs, loop=True), expected)


@one_of_each_and_an_activation
def test_hessian(case, activation, rng):
    """The jacobian of a gradient maps over the second-order gradient."""
    inputs = inputs_of(case, rng)[:3]

    def hessian(norm, *inputs):
        with tf.GradientTape() as outer:
            outer.watch(inputs)
            with tf.GradientTape() as inner:
                inner.watch(inputs)
                y = norm(*inputs)
            dx = inner.gradient(y, inputs[0], output_gradients=tf.cos(y))
        return outer.jacobian(dx, inputs, unconnected_gradients="zero")

    def formula(x, gamma, beta):
        return composed(case, x, gamma, beta, tf.zeros_like(x), activation)[0]

    norm = function_of(case, activation)
    got = without_loop(lambda *inputs: hessian(norm, *inputs), *inputs)
    assert_close(got, hessian(formula, *inputs))


@pytest.mark.parametrize(
    "case", ["group, last", "instance", "layer, last", "rms, last"]
)
def test_batch_jacobian(case, rng):
    x, gamma, beta, _ = inputs_of(case, rng)

    def jacobian(norm, x, pfor=True):
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(x)
            y = norm(x)
        return tape.batch_jacobian(y, x, experimental_use_pfor=pfor)

    def norm(x):
        return function_of(case, "silu")(x, gamma, beta)

    def formula(x):
        return composed(case, x, gamma, beta, tf.zeros_like(x), "silu")[0]

    expected = jacobian(formula, x)
    assert_close(without_loop(lambda x: jacobian(norm, x), x), expected)
    assert_close(jacobian(norm, x, pfor=False), expected)


def test_maps_fold_into_one_op(rng):
    """What runs is one fused op, with the iterations in its batch."""
    x, gamma, beta, _ = inputs_of("group, last", rng)
    [xs] = stacked(rng, 3, x)

    def mapped(xs):
        return tf.vectorized_map(
            lambda x: function_of("group, last")(x, gamma, beta), xs
        )

    _, concrete = operations(mapped, xs)
    shapes = [
        op.inputs[0].shape.as_list()
        for op in concrete.graph.get_operations()
        if op.type == "Fusednorm>GroupNorm"
    ]
    body, folded = shapes  # The traced body stays in the graph, used by nothing.
    assert body == x.shape
    assert folded[1:] == x.shape[1:]


@pytest.mark.parametrize("which", ["ddx", "gamma", "ddgamma", "all"])
@one_of_each
def test_map_of_second_order(case, which, rng):
    """Stacked parameters go through the composition, all else through one fused op."""
    x, gamma, beta, _ = inputs_of(case, rng)
    values = dict(zip(("ddx", "gamma", "ddgamma"), (x + 1, gamma, gamma), strict=True))
    mapped = list(values) if which == "all" else [which]
    versions = stacked(rng, 3, *(values[name] for name in mapped))

    def second_order(each):
        ddx, gamma, ddgamma = (values | dict(zip(mapped, each, strict=True))).values()
        with tf.GradientTape() as outer:
            outer.watch([x, gamma])
            with tf.GradientTape() as inner:
                inner.watch([x, gamma])
                y = function_of(case)(x, gamma, beta)
            dx, dgamma = inner.gradient(y, [x, gamma], output_gradients=tf.cos(x))
        return outer.gradient([dx, dgamma], [x, gamma], [ddx, ddgamma])

    got = without_loop(lambda *each: tf.vectorized_map(second_order, each), *versions)
    assert_close(got, one_by_one(second_order, *versions))


def test_maps_with_unknown_shapes(rng):
    def norm(each):
        return fusednorm.group_norm(each[0], groups=2)

    def mapped(xs):
        return tf.vectorized_map(norm, [xs])

    spec = tf.TensorSpec([None, None, None, 6], tf.float64)
    graph = tf.function(mapped, input_signature=[spec])
    for shape in [(3, 2, 5, 6), (1, 4, 2, 6), (3, 0, 5, 6)]:
        xs = tf.constant(rng.normal(size=shape))
        assert_close(graph(xs), one_by_one(norm, xs))


def test_converters_are_registered():
    """The registry is private: this fails where a TensorFlow has moved it."""
    from tensorflow.python.ops.parallel_for import pfor

    ops, orders = ("GroupNorm", "LayerNorm", "RMSNorm"), ("", "Grad", "GradGrad")
    names = {f"Fusednorm>{op}{order}" for op in ops for order in orders}
    fusednorm.load_op_library()
    assert names <= set(pfor._pfor_converter_registry)


def gradients_of(function, *inputs):
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        y = function(*inputs)
    return y, tape.gradient(y, inputs, output_gradients=tf.cos(y))


@pytest.fixture
def block(rng):
    """A function of a norm, and inputs for it."""
    x, gamma, beta, _ = inputs_of("layer, last", rng)
    return function_of("layer, last", "gelu"), (x, gamma, beta)


def test_recompute_grad(block):
    norm, inputs = block
    assert_close(
        gradients_of(tf.recompute_grad(norm), *inputs), gradients_of(norm, *inputs)
    )


def test_custom_gradient(block):
    """A gradient that is made of the norm's, doubled, and differentiated again."""
    norm, (x, gamma, beta) = block

    @tf.custom_gradient
    def doubled(x):
        y = norm(x, gamma, beta)

        def gradient(dy):
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = norm(x, gamma, beta)
            return 2 * tape.gradient(y, x, output_gradients=dy)

        return y, gradient

    def twice(function):
        return gradients_of(lambda x: gradients_of(function, x)[1][0], x)

    plain = twice(lambda x: norm(x, gamma, beta))
    got = twice(doubled)
    assert_close(got[0], 2 * plain[0])


@pytest.mark.parametrize("flow", ["cond", "switch_case", "while_loop", "map_fn"])
def test_second_order_through_control_flow(flow, block):
    norm, (x, gamma, beta) = block

    def once(x):
        return norm(x, gamma, beta)

    def through(x):
        if flow == "cond":
            return tf.cond(x[0, 0] < 9, lambda: once(x), lambda: x)
        if flow == "switch_case":
            return tf.switch_case(tf.size(x) % 2, [lambda: x, lambda: once(x)])
        if flow == "map_fn":
            return tf.map_fn(lambda row: once(row[None])[0], x)
        return tf.while_loop(lambda i, _: i < 2, lambda i, x: (i + 1, once(x)), (0, x))[
            1
        ]

    def plain(x):
        return once(once(x)) if flow == "while_loop" else once(x)

    def twice(function):
        return gradients_of(lambda x: gradients_of(function, x)[1][0], x)

    assert_close(tf.function(lambda: twice(through))(), twice(plain))


class NormalizedCell(keras.layers.Layer):
    """The cell of Ba, Kiros & Hinton (2016), as small as it gets."""

    def __init__(self, norm):
        super().__init__()
        self.state_size = self.output_size = 4
        self.norm = norm
        self.kernel = keras.layers.Dense(4, kernel_initializer="orthogonal")

    def build(self, input_shape):
        self.kernel.build((None, input_shape[-1] + 4))
        self.norm.build((None, 4))

    def call(self, x, states):
        state = tf.tanh(self.norm(self.kernel(tf.concat([x, states[0]], -1))))
        return state, [state]


def test_recurrent_cells(rng):
    """Through the steps of a loop, first and second order."""
    x = tf.constant(rng.normal(size=(2, 4, 3)).astype(np.float32))
    results, weights = [], None
    for make in (fusednorm.LayerNormalization, PlainNormalization):
        cell = NormalizedCell(make())
        layer = keras.layers.RNN(cell)
        layer(x)
        weights = weights or layer.get_weights()
        layer.set_weights(weights)

        @tf.function
        def twice(x, layer=layer):
            with tf.GradientTape() as outer:
                outer.watch(x)
                with tf.GradientTape() as inner:
                    inner.watch(x)
                    y = layer(x)
                dx = inner.gradient(y, x)
            return y, dx, outer.gradient(dx, x, output_gradients=tf.cos(x))

        results.append(twice(x))
    # A step rounds some ten times, by 2^-24; the next one amplifies it by rstd and the
    # kernel, and each order of the derivative once more: by up to 100 in all.
    for got, expected in zip(*results, strict=True):
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-4)


def test_data_pipelines(block):
    norm, (x, gamma, beta) = block
    rows = tf.data.Dataset.from_tensor_slices(x).map(
        lambda row: norm(row[None], gamma, beta)[0], num_parallel_calls=2
    )
    assert_close(tf.stack(list(rows)), norm(x, gamma, beta))

"""The ops in graphs: shapes that are not known yet, control flow, buffers, threads."""

from concurrent.futures import ThreadPoolExecutor

import fusednorm
import numpy as np
import pytest
import tensorflow as tf
from support.graph_norms import IN_PLACE, NORMS, data

UNKNOWN = tf.TensorSpec(None, tf.float32)


def spec(*shape, dtype=tf.float32):
    return tf.TensorSpec(shape, dtype)


every_norm = pytest.mark.parametrize("norm", NORMS)


@pytest.mark.parametrize("known", ["nothing", "rank", "channels", "all"])
@every_norm
def test_graph_equals_eager_bit_for_bit(norm, known, rng):
    call, shape = NORMS[norm]
    signature = {
        "nothing": UNKNOWN,
        "rank": spec(None, None, None),
        "channels": spec(None, 5, 8),
        "all": spec(*shape),
    }[known]

    def forward_and_backward(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = call(x)
        return y, tape.gradient(y, x, output_gradients=tf.cos(x))

    x = tf.constant(data(rng, *shape))
    graph = tf.function(forward_and_backward, input_signature=[signature])
    for got, expected in zip(graph(x), forward_and_backward(x), strict=True):
        assert got.numpy().tobytes() == expected.numpy().tobytes()


def static_shapes(function, *specs):
    outputs = tf.function(function).get_concrete_function(*specs).structured_outputs
    return [None if o.shape.rank is None else tuple(o.shape) for o in outputs]


def test_shapes_of_group_norm():
    def call(x):
        return fusednorm.group_norm(x, groups=4, axis=1, residual=x, return_stats=True)

    full = (2, 8, 3)
    assert static_shapes(call, spec(*full)) == [full, full, (2, 4), (2, 4)]
    partial = (None, 8, None)
    stats = (None, 4)
    assert static_shapes(call, spec(*partial)) == [partial, partial, stats, stats]
    assert static_shapes(call, UNKNOWN) == [None, None, stats, stats]


def test_shapes_of_instance_norm():
    def call(x):
        return fusednorm.instance_norm(x, return_stats=True)

    assert static_shapes(call, spec(2, 3, 7)) == [(2, 3, 7), (2, 7), (2, 7)]
    unknown = (None, None)
    assert static_shapes(call, spec(None, 3, None))[1:] == [unknown, unknown]


@pytest.mark.parametrize(
    ("axis", "shape", "stats"),
    [
        (-1, (2, 3, None), (2, 3)),
        (1, (2, 3, None), (2, None)),
        ([0, 1], (2, 3, 4), (4,)),
        ([0, 2], (2, 3, 4), (3,)),
    ],
)
def test_shapes_of_layer_and_rms_norm(axis, shape, stats):
    def layer(x):
        return fusednorm.layer_norm(x, axis=axis, return_stats=True)

    def rms(x):
        return fusednorm.rms_norm(x, axis=axis, return_stats=True)

    assert static_shapes(layer, spec(*shape)) == [shape, stats, stats]
    assert static_shapes(rms, spec(*shape)) == [shape, stats]


def test_parameters_tell_what_x_does_not():
    def group(x):
        return (fusednorm.group_norm(x, tf.ones(6), groups=2),)

    def layer(x):
        return (fusednorm.layer_norm(x, None, tf.ones(6)),)

    assert static_shapes(group, spec(None, None, None)) == [(None, None, 6)]
    assert static_shapes(layer, spec(None, None, None)) == [(None, None, 6)]


def test_residual_tells_what_x_does_not():
    def call(x, residual):
        return fusednorm.layer_norm(x, residual=residual)

    shapes = static_shapes(call, spec(None, 3), spec(2, None))
    assert shapes == [(2, 3), (2, 3)]


@pytest.mark.parametrize(
    ("function", "argument"),
    [
        (lambda x, p: fusednorm.group_norm(x, p, groups=2), "gamma"),
        (lambda x, p: fusednorm.layer_norm(x, None, p), "beta"),
        (lambda x, p: fusednorm.rms_norm(x, p), "gamma"),
        (lambda x, p: fusednorm.layer_norm(x, residual=p)[0], "residual"),
        (lambda x, p: fusednorm.group_norm(x, groups=3) + p, "groups"),
        (lambda x, p: fusednorm.group_norm(x, groups=3, axis=2) + p, "axis"),
        (lambda x, p: fusednorm.layer_norm(x, axis=5) + p, "axes"),
    ],
)
def test_what_only_running_shows_is_an_invalid_argument(function, argument):
    graph = tf.function(function, input_signature=[UNKNOWN, UNKNOWN])
    with pytest.raises(tf.errors.InvalidArgumentError, match=argument):
        graph(tf.ones((2, 4)), tf.ones((5,)))


@pytest.mark.parametrize(
    ("function", "specs", "message"),
    [
        (
            lambda x, p: fusednorm.group_norm(x, p, groups=2),
            (spec(None, None, 6), spec(4)),
            r"`gamma` must have shape \(6,\). Received: shape=\(4,\)",
        ),
        (
            lambda x, p: fusednorm.layer_norm(x, None, p, axis=[1, 2]),
            (spec(None, None, 6), spec(3, 4)),
            r"`beta` must have shape \(None, 6\). Received: shape=\(3, 4\)",
        ),
        (
            lambda x, p: fusednorm.rms_norm(x, residual=p),
            (spec(None, 6), spec(2, None, None)),
            r"`residual` .* \(None, 6\) float32. Received: \(2, None, None\) float32",
        ),
        (
            lambda x, p: fusednorm.group_norm(x, groups=4),
            (spec(None, None, 6), UNKNOWN),
            "`groups` must divide the number of channels",
        ),
        # Only gamma knows how many channels there are.
        (
            lambda x, p: fusednorm.group_norm(x, p, groups=4),
            (UNKNOWN, spec(6)),
            "groups must divide the number of channels, got groups = 4 for 6",
        ),
    ],
)
def test_what_tracing_shows_is_refused_there(function, specs, message):
    with pytest.raises(ValueError, match=message):
        tf.function(function, autograph=False).get_concrete_function(*specs)


def test_attributes_in_the_graph():
    graph = tf.function(
        lambda x: fusednorm.group_norm(x, groups=2, axis=1, epsilon=0.5)
    ).get_concrete_function(spec(2, 4, 3))
    nodes = graph.graph.as_graph_def().node
    [node] = [each for each in nodes if each.op == "Fusednorm>GroupNorm"]
    assert node.attr["groups"].i == 2
    assert node.attr["axis"].i == 1
    assert node.attr["epsilon"].f == 0.5


@every_norm
def test_control_flow(norm, rng):
    call, shape = NORMS[norm]
    x = tf.constant(data(rng, *shape))

    @tf.function
    def looped(x):
        for _ in tf.range(3):
            x = tf.cond(tf.reduce_sum(x) > 1e9, lambda x=x: -x, lambda x=x: call(x))
        return x

    with tf.GradientTape() as tape:
        tape.watch(x)
        y = looped(x)
    dx = tape.gradient(y, x, output_gradients=tf.sin(x))
    with tf.GradientTape() as tape:
        tape.watch(x)
        unrolled = call(call(call(x)))
    np.testing.assert_array_equal(y, unrolled)
    expected = tape.gradient(unrolled, x, output_gradients=tf.sin(x))
    np.testing.assert_array_equal(dx, expected)


@every_norm
def test_input_pipeline(norm, rng):
    call, shape = NORMS[norm]
    batches = data(rng, 4, *shape)
    mapped = tf.data.Dataset.from_tensor_slices(batches).map(call, num_parallel_calls=2)
    for got, batch in zip(mapped, batches, strict=True):
        np.testing.assert_array_equal(got, call(batch))


def test_saved_module(tmp_path, rng):
    class Module(tf.Module):
        def __init__(self):
            super().__init__()
            self.gamma = tf.Variable(tf.random.uniform([8]))

        @tf.function(input_signature=[spec(None, None, 8)])
        def __call__(self, x):
            return fusednorm.rms_norm(x, self.gamma, activation="silu")

    module = Module()
    tf.saved_model.save(module, str(tmp_path))
    loaded = tf.saved_model.load(str(tmp_path))
    x = data(rng, 2, 3, 8)
    np.testing.assert_array_equal(loaded(x), module(x))


@every_norm
def test_inputs_are_not_written_to(norm, rng):
    call, shape = NORMS[norm]
    original = data(rng, *shape)
    x = tf.constant(original)
    call(x)
    np.testing.assert_array_equal(x, original)

    @tf.function
    def reused(x):
        z = x + 1
        # The op may not take over z, which is read again.
        return call(z) * z

    expected = call(x + 1) * (x + 1)
    np.testing.assert_array_equal(reused(x), expected)


@pytest.mark.parametrize("size", [5, 100_000])
def test_taken_over_buffers(size, rng):
    # Sums, products and the norm's own outputs may all live in each other's memory.
    a, b, dy = (tf.constant(data(rng, 4, size)) for _ in range(3))

    def call(a, b):
        return fusednorm.layer_norm(a * 2, residual=b * 3, activation="gelu")

    @tf.function
    def graph(a, b, dy):
        with tf.GradientTape() as tape:
            tape.watch([a, b])
            y, total = call(a, b)
        return y, total, tape.gradient([y, total], [a, b], [dy * 2, dy + 1])

    kept = [a * 2, b * 3]  # eager tensors that stay alive are not taken over
    y, total = fusednorm.layer_norm(kept[0], residual=kept[1], activation="gelu")
    got_y, got_total, got = graph(a, b, dy)
    np.testing.assert_array_equal(got_y, y)
    np.testing.assert_array_equal(got_total, total)
    with tf.GradientTape() as tape:
        tape.watch([a, b])
        outputs = call(a, b)
    expected = tape.gradient(outputs, [a, b], [dy * 2, dy + 1])
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("dtype", [tf.float32, tf.bfloat16])
@pytest.mark.parametrize("place", ["y over x", "dx over dy", "dx over x"])
@pytest.mark.parametrize("path", IN_PLACE)
def test_results_in_the_place_of_inputs(path, place, dtype, rng):
    call, shape = IN_PLACE[path]
    # Products exist for the op alone, which may take over their buffers; arguments and
    # eager tensors with a name belong to the caller.
    x, dy, doubled_x, doubled_dy = (
        tf.cast(values, dtype)
        for a, b in [(data(rng, *shape), data(rng, *shape))]
        for values in (a, b, 2 * a, 2 * b)
    )

    def gradient(x, dy):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = call(x)
        return tape.gradient(y, x, output_gradients=dy)

    in_place, expected = {
        "y over x": (lambda x, dy: call(x * 2), call(doubled_x)),
        "dx over dy": (lambda x, dy: gradient(x, dy * 2), gradient(x, doubled_dy)),
        "dx over x": (lambda x, dy: gradient(x * 2, dy), gradient(doubled_x, dy)),
    }[place]
    got = tf.function(in_place)(x, dy)
    assert got.numpy().tobytes() == expected.numpy().tobytes()


def test_x_as_its_own_residual(rng):
    x = tf.constant(data(rng, 3, 7))
    y, total = fusednorm.layer_norm(x, residual=x)
    np.testing.assert_array_equal(total, x + x)
    np.testing.assert_array_equal(y, fusednorm.layer_norm(x + x))


def test_many_python_threads(rng):
    calls = [(NORMS[name][0], data(rng, *NORMS[name][1])) for name in NORMS] * 20
    serial = [call(x).numpy() for call, x in calls]
    with ThreadPoolExecutor(8) as pool:
        concurrent = list(pool.map(lambda each: each[0](each[1]).numpy(), calls))
    for got, expected in zip(concurrent, serial, strict=True):
        np.testing.assert_array_equal(got, expected)


def test_many_python_threads_share_the_pool(rng):
    # Large enough that each call asks for TensorFlow's own threads as well.
    calls = [(call, data(rng, *shape)) for call, shape in IN_PLACE.values()] * 5

    def forward_and_backward(each):
        call, x = each
        x = tf.constant(x)
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = call(x)
        dx = tape.gradient(y, x, output_gradients=tf.cos(x))
        return y.numpy().tobytes(), dx.numpy().tobytes()

    serial = list(map(forward_and_backward, calls))
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(forward_and_backward, calls)) == serial


@pytest.mark.parametrize("shape", [(0, 4, 6), (3, 0, 6), (3, 4, 0)])
@every_norm
def test_empty_tensors_in_graphs(norm, shape):
    call = NORMS[norm][0]

    @tf.function(input_signature=[UNKNOWN])
    def forward_and_backward(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = call(x)
        return y, tape.gradient(y, x)

    for got in forward_and_backward(tf.zeros(shape)):
        assert got.shape == shape

"""gamma and beta of each sample, wherever TensorFlow takes the ops.

Values and first gradients are in test_ops_values.py and test_native.py, the second
order in test_second_order_kernels.py.
"""

import re

import fusednorm
import numpy as np
import pytest
import tensorflow as tf

# name -> (the functional API's call, the shape of x, that of gamma and beta)
NORMS = {
    "group": (
        lambda *a, **k: fusednorm.group_norm(*a, groups=4, **k),
        (3, 5, 7, 8),
        (3, 8),
    ),
    "first": (
        lambda *a, **k: fusednorm.group_norm(*a, groups=2, axis=1, **k),
        (3, 8, 5),
        (3, 8),
    ),
    "layer": (fusednorm.layer_norm, (3, 5, 8), (3, 8)),
    "columns": (
        lambda *a, **k: fusednorm.layer_norm(*a, axis=1, **k),
        (3, 5, 8),
        (3, 5),
    ),
    "rms": (lambda x, g, b, **k: fusednorm.rms_norm(x, g, **k), (3, 5, 8), (3, 8)),
}
every_norm = pytest.mark.parametrize("name", NORMS)


def inputs_of(name, rng, dtype=np.float32):
    """Returns x, gamma and beta."""
    _, shape, parameters = NORMS[name]
    shapes = (shape, parameters, parameters)
    return [tf.constant(rng.normal(size=each).astype(dtype)) for each in shapes]


def sample_by_sample(name, x, gamma, beta, **options):
    """Returns what the norm with the parameters of all samples gives for each."""
    norm = NORMS[name][0]
    return tf.concat(
        [norm(x[i : i + 1], gamma[i], beta[i], **options) for i in range(x.shape[0])],
        0,
    )


def gradients(function, inputs):
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        y = function(*inputs)
    got = tape.gradient(
        y, inputs, tf.cos(y), unconnected_gradients=tf.UnconnectedGradients.ZERO
    )
    return [y, *got]


@pytest.mark.parametrize("zero_centered", [False, True])
@every_norm
def test_each_sample_is_normalized_as_if_alone(name, zero_centered, rng):
    inputs = inputs_of(name, rng)
    options = {"activation": "silu", "zero_centered": zero_centered}

    def fused(*given):
        return NORMS[name][0](*given, **options)

    def alone(*given):
        return sample_by_sample(name, *given, **options)

    for got, wanted in zip(
        gradients(fused, inputs), gradients(alone, inputs), strict=True
    ):
        # The gradients of a sample's parameters are sums in another order.
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-5)


@every_norm
def test_xla_gives_the_same(name, rng):
    inputs = inputs_of(name, rng)

    @tf.function(jit_compile=True)
    def compiled(*given):
        return gradients(NORMS[name][0], list(given))

    for got, wanted in zip(
        compiled(*inputs), gradients(NORMS[name][0], inputs), strict=True
    ):
        # But for the cosine in between, the kernels are the same.
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("activation", [None, "tanh"])
@every_norm
def test_second_order(name, activation, rng):
    """Fused without an activation, composed with one: against one sample at a time."""
    inputs = inputs_of(name, rng, np.float64)

    def twice(function):
        def first(*given):
            return tf.nest.flatten(gradients(function, list(given))[1:])

        with tf.GradientTape() as tape:
            tape.watch(inputs)
            results = first(*inputs)
            total = tf.add_n([tf.reduce_sum(tf.sin(each)) for each in results])
        return tape.gradient(
            total, inputs, unconnected_gradients=tf.UnconnectedGradients.ZERO
        )

    def fused(*given):
        return NORMS[name][0](*given, activation=activation)

    def alone(*given):
        return sample_by_sample(name, *given, activation=activation)

    for got, wanted in zip(twice(fused), twice(alone), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-9, atol=1e-9)


@every_norm
def test_vectorized_map_without_a_loop(name, rng):
    norm, shape, _ = NORMS[name]
    xs = tf.constant(rng.normal(size=(4, *shape)).astype(np.float32))
    _, gamma, beta = inputs_of(name, rng)

    def mapped(given):
        return tf.vectorized_map(
            lambda x: norm(x, gamma, beta), given, fallback_to_while_loop=False
        )

    wanted = tf.stack([norm(x, gamma, beta) for x in xs])
    np.testing.assert_allclose(mapped(xs), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "known", "portable"),
    [
        (name, known, portable)
        for name in NORMS
        for known in ("rank", "nothing")
        for portable in (False, True)
        # The composition of group_norm needs the rank of x.
        if not (known == "nothing" and portable and name in ("group", "first"))
    ],
)
def test_shapes_that_are_not_known(name, known, portable, rng):
    norm, shape, _ = NORMS[name]
    inputs = inputs_of(name, rng)
    unknown = [None] * len(shape) if known == "rank" else None
    of_parameters = tf.TensorSpec([None, None])

    @tf.function(input_signature=[tf.TensorSpec(unknown), of_parameters, of_parameters])
    def traced(*given):
        if not portable:
            return norm(*given)
        with fusednorm.portable():
            return norm(*given)

    np.testing.assert_allclose(traced(*inputs), norm(*inputs), rtol=1e-5, atol=1e-5)


def test_empty_batches_and_positions():
    gamma = tf.ones([0, 4])
    y = fusednorm.group_norm(tf.zeros([0, 3, 4]), gamma, gamma, groups=2)
    assert y.shape == (0, 3, 4)
    gamma = tf.Variable(tf.ones([2, 4]))
    with tf.GradientTape() as tape:
        y = fusednorm.group_norm(tf.zeros([2, 0, 4]), gamma, groups=2)
    np.testing.assert_array_equal(tape.gradient(y, gamma), np.zeros([2, 4]))


class TestErrors:
    """Each names the argument, what was expected and what came."""

    def test_the_batches_differ(self):
        with pytest.raises(ValueError, match=r"`gamma`.*\(2, 4\).*\(3, 4\)"):
            fusednorm.group_norm(tf.zeros([2, 5, 4]), tf.ones([3, 4]), groups=2)

    def test_one_of_the_two_is_for_all(self):
        with pytest.raises(ValueError, match="`gamma` for each sample, `beta` for all"):
            fusednorm.layer_norm(tf.zeros([2, 5, 4]), tf.ones([2, 4]), tf.ones([4]))

    @pytest.mark.parametrize("axis", [0, [0, 2], [-3, -2]])
    def test_the_batch_is_normalized(self, axis):
        axes = [axis] if isinstance(axis, int) else axis
        gamma = tf.ones([2, *([2, 5, 4][each] for each in axes)])
        with pytest.raises(ValueError, match="`axis` must leave out the batch axis 0"):
            fusednorm.layer_norm(tf.zeros([2, 5, 4]), gamma, axis=axis)

    def test_the_batch_is_normalized_at_an_unknown_rank(self):
        @tf.function(input_signature=[tf.TensorSpec(None)])
        def norm(x):
            return fusednorm.layer_norm(x, tf.ones([2, 2]), axis=-2)

        with pytest.raises(tf.errors.InvalidArgumentError, match="batch axis 0"):
            norm(tf.zeros([2, 5]))

    def test_the_batches_differ_at_an_unknown_shape(self):
        @tf.function(input_signature=[tf.TensorSpec([None, None, 4])])
        def norm(x):
            return fusednorm.layer_norm(x, tf.ones([3, 4]))

        with pytest.raises(tf.errors.InvalidArgumentError, match="gamma must have"):
            norm(tf.zeros([2, 5, 4]))


@every_norm
def test_shapes_of_a_traced_function(name, rng):
    norm, shape, parameters = NORMS[name]

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, *shape[1:]]),
            tf.TensorSpec([3, parameters[1]]),
            tf.TensorSpec([None, parameters[1]]),
        ]
    )
    def traced(*given):
        y = norm(*given)
        # What gamma knows of the batch, y knows too.
        assert y.shape[0] == 3
        return y

    traced(*inputs_of(name, rng))


LAYER, RMS = fusednorm.layer_norm, fusednorm.rms_norm


def group(*given, **options):
    return fusednorm.group_norm(*given, groups=2, **options)


# (the norm, its axis, the shape of x, that of gamma as given, that of it as one of the
# modes has it), where the modes have no axes of size 1 that are broadcast.
BROADCAST = [
    pytest.param(*each, id=f"{each[0].__name__}, {each[1]}, {each[3]}")
    for each in (
        (LAYER, -1, (3, 5, 8), (3, 1, 8), (3, 8)),
        (LAYER, -1, (3, 5, 8), (1, 1, 8), (8,)),
        (LAYER, -1, (3, 4, 5, 8), (3, 1, 1, 8), (3, 8)),
        (LAYER, -1, (3, 4, 5, 8), (1, 4, 5, 8), (3, 4, 5, 8)),
        (LAYER, -1, (3, 4, 5, 8), (3, 4, 1, 8), (3, 4, 5, 8)),
        (LAYER, -1, (3, 5, 8), (3, 5, 1), (3, 5, 8)),
        (LAYER, -1, (3, 8), (1, 8), (8,)),
        (LAYER, -1, (3, 5, 8), (1, 8), (8,)),
        (LAYER, -1, (3, 4, 5, 8), (1, 8), (8,)),
        (LAYER, -1, (1, 5, 8), (1, 8), (8,)),
        (RMS, (1, 3), (3, 4, 5, 8), (1, 4, 8), (4, 8)),
        (LAYER, 1, (3, 5, 8), (3, 5, 1), (3, 5)),
        (LAYER, (1, 2), (3, 4, 5, 8), (3, 4, 5, 1), (3, 4, 5)),
        (LAYER, (1, 3), (3, 4, 5, 8), (3, 4, 1, 8), (3, 4, 8)),
        (LAYER, (0, 2), (3, 5, 8), (3, 1, 8), (3, 8)),
        (RMS, -1, (3, 5, 8), (3, 1, 8), (3, 8)),
        (RMS, (2, 3), (3, 4, 5, 8), (3, 1, 5, 8), (3, 5, 8)),
        (group, -1, (3, 5, 7, 8), (3, 1, 1, 8), (3, 8)),
        (group, -1, (3, 5, 7, 8), (1, 1, 1, 8), (8,)),
        (group, -1, (3, 5, 7, 8), (3, 1, 1, 1), (3, 8)),
        (group, -1, (3, 5, 7, 8), (1, 5, 7, 8), (3, 5, 7, 8)),
        (group, 1, (3, 8, 5), (1, 8), (8,)),
        (group, 1, (3, 8, 5), (3, 8, 1), (3, 8)),
        (group, 1, (3, 8, 5), (1, 8, 5), (3, 8, 5)),
    )
]
broadcast = pytest.mark.parametrize(
    ("norm", "axis", "shape", "given", "mode"), BROADCAST
)


def in_mode(gamma, shape, mode):
    """Returns gamma as one of the modes has it."""
    if len(mode) == len(shape):
        return tf.broadcast_to(gamma, mode)
    gamma = (
        gamma if tf.size(gamma) == np.prod(mode) else gamma * tf.ones([1, *mode[1:]])
    )
    return tf.reshape(gamma, mode)


@broadcast
def test_parameters_of_axes_of_size_1(norm, axis, shape, given, mode, rng):
    """They are those of one of the modes, whose bits come out, and have gradients."""
    x = tf.constant(rng.normal(size=shape).astype(np.float32))
    gamma = tf.constant(rng.normal(size=given).astype(np.float32))
    options = {"axis": axis, "activation": "silu"}

    def as_given(x, gamma):
        return norm(x, gamma, **options)

    def as_the_mode_has_it(x, gamma):
        return norm(x, in_mode(gamma, shape, mode), **options)

    got, wanted = (gradients(f, [x, gamma]) for f in (as_given, as_the_mode_has_it))
    np.testing.assert_array_equal(got[0], wanted[0])
    assert got[2].shape == given
    for each, other in zip(got[1:], wanted[1:], strict=True):
        np.testing.assert_allclose(each, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", [np.asarray, tf.Variable, lambda each: each.tolist()])
def test_parameters_of_axes_of_size_1_in_any_form(kind, rng):
    x = tf.constant(rng.normal(size=(2, 3, 4)).astype(np.float32))
    gamma, beta = (rng.normal(size=(2, 1, 4)).astype(np.float32) for _ in range(2))
    # Either may have the axis and the other not.
    got = fusednorm.layer_norm(x, kind(gamma), beta[:, 0])
    wanted = fusednorm.layer_norm(x, gamma[:, 0], beta[:, 0])
    np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("portable", [False, True])
def test_parameters_of_axes_of_size_1_where_sizes_are_not_known(portable, rng):
    specs = [tf.TensorSpec([None, None, 8]), tf.TensorSpec([None, 1, 8])]

    @tf.function(input_signature=specs)
    def traced(x, gamma):
        if not portable:
            return fusednorm.layer_norm(x, gamma, gamma)
        with fusednorm.portable():
            return fusednorm.layer_norm(x, gamma, gamma)

    x = tf.constant(rng.normal(size=(3, 5, 8)).astype(np.float32))
    gamma = tf.constant(rng.normal(size=(3, 1, 8)).astype(np.float32))
    wanted = fusednorm.layer_norm(x, gamma[:, 0], gamma[:, 0])
    np.testing.assert_allclose(traced(x, gamma), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("norm", "axis", "gamma", "message"),
    [
        (
            LAYER,
            -1,
            (2, 4, 5, 7),
            "`gamma` must have shape (7,) for all samples, (2, 7) for each sample, or "
            "(2, 3, 5, 7), in which any axes may be 1. Received: shape=(2, 4, 5, 7)",
        ),
        (
            LAYER,
            (0, 3),
            (2, 4, 5, 7),
            "`gamma` must have shape (2, 7) for all samples, or (2, 3, 5, 7), in which "
            "any axes may be 1. Received: shape=(2, 4, 5, 7)",
        ),
        (
            fusednorm.instance_norm,
            1,
            (1, 2, 1, 1),
            "`gamma` must have shape (3,) for all samples, (2, 3) for each sample, or "
            "(2, 3, 5, 7), in which any axes may be 1. Received: shape=(1, 2, 1, 1)",
        ),
    ],
)
def test_the_error_names_all_shapes(norm, axis, gamma, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        norm(tf.zeros([2, 3, 5, 7]), tf.ones(gamma), axis=axis)

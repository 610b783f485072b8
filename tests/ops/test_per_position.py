"""gamma and beta of each position (SPADE), wherever TensorFlow takes the ops.

Values against the reference are in test_position_kernels.py; here against the norm
without parameters, which are then applied in plain TensorFlow ops.
"""

import fusednorm
import numpy as np
import pytest
import tensorflow as tf

# name -> (the functional API's call, the shape of x)
NORMS = {
    "group": (lambda *a, **k: fusednorm.group_norm(*a, groups=4, **k), (3, 5, 7, 8)),
    "first": (
        lambda *a, **k: fusednorm.group_norm(*a, groups=2, axis=1, **k),
        (3, 8, 5, 7),
    ),
    "instance": (fusednorm.instance_norm, (3, 5, 7, 8)),
    "layer": (fusednorm.layer_norm, (3, 5, 7, 8)),
    "columns": (
        lambda *a, **k: fusednorm.layer_norm(*a, axis=1, **k),
        (3, 5, 7, 8),
    ),
    "transposed": (
        lambda *a, **k: fusednorm.layer_norm(*a, axis=[1, 3], **k),
        (3, 5, 7, 8),
    ),
    "rms": (lambda x, g, b, **k: fusednorm.rms_norm(x, g, **k), (3, 5, 7, 8)),
}
every_norm = pytest.mark.parametrize("name", NORMS)


def inputs_for(name, rng, dtype=np.float64):
    """Returns x, gamma and beta, all of one shape."""
    _, shape = NORMS[name]
    return [tf.constant(rng.normal(size=shape).astype(dtype)) for _ in range(3)]


def fused(name, **options):
    return lambda *given: NORMS[name][0](*given, **options)


def apart(name, activation=tf.nn.silu):
    """Returns the norm, then its parameters, and then the activation."""

    def call(x, gamma, beta):
        y = NORMS[name][0](x, None, None) * gamma
        return activation(y if name == "rms" else y + beta)

    return call


def gradients(function, inputs):
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        y = function(*inputs)
    zero = tf.UnconnectedGradients.ZERO
    return [y, *tape.gradient(y, inputs, tf.cos(y), zero)]


def assert_all_close(got, wanted, bound):
    for a, b in zip(got, wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=bound, atol=bound)


@every_norm
def test_values_and_gradients(name, rng):
    inputs = inputs_for(name, rng)
    got = gradients(fused(name, activation="silu"), inputs)
    # Of float64, whose unit is 2^-53, over sums of a hundred terms.
    assert_all_close(got, gradients(apart(name), inputs), 1e-12)


@every_norm
def test_zero_centered(name, rng):
    x, gamma, beta = inputs_for(name, rng)
    got = gradients(fused(name, zero_centered=True), [x, gamma, beta])
    wanted = gradients(fused(name), [x, gamma + 1, beta])
    assert_all_close(got, wanted, 1e-12)


@every_norm
def test_xla_gives_the_same(name, rng):
    inputs = inputs_for(name, rng)
    call = fused(name, activation="silu")

    @tf.function(jit_compile=True)
    def compiled(*given):
        return gradients(call, list(given))

    # But for the cosine in between, the kernels are the same.
    assert_all_close(compiled(*inputs), gradients(call, inputs), 1e-12)


@pytest.mark.parametrize(
    ("name", "activation"),
    [*((name, "silu") for name in NORMS), *((n, "none") for n in ("group", "rms"))],
)
def test_second_order(name, activation, rng):
    inputs = inputs_for(name, rng)
    plain = {"silu": tf.nn.silu, "none": tf.identity}[activation]

    def twice(function):
        def first(*given):
            results = gradients(function, list(given))
            return tf.add_n([tf.reduce_sum(tf.sin(each)) for each in results])

        return gradients(first, inputs)

    got = twice(fused(name, activation=activation))
    assert_all_close(got, twice(apart(name, plain)), 1e-9)


@every_norm
def test_vectorized_map_without_a_loop(name, rng):
    call = fused(name)
    xs = tf.stack([inputs_for(name, rng)[0] for _ in range(4)])
    _, gamma, beta = inputs_for(name, rng)

    def mapped(x):
        return gradients(call, [x, gamma, beta])

    got = tf.vectorized_map(mapped, xs, fallback_to_while_loop=False)
    wanted = map(tf.stack, zip(*map(mapped, xs), strict=True))
    assert_all_close(got, wanted, 1e-12)


@pytest.mark.parametrize(
    ("name", "known", "portable"),
    [
        (name, known, portable)
        for name in ("group", "layer", "rms")
        for known in ("rank", "nothing")
        for portable in (False, True)
        # The composition of group_norm needs the rank of x.
        if (name, known, portable) != ("group", "nothing", True)
    ],
)
def test_shapes_that_are_not_known(name, known, portable, rng):
    inputs = inputs_for(name, rng, np.float32)
    of_x = tf.TensorSpec([None] * 4 if known == "rank" else None)
    of_parameters = tf.TensorSpec([None] * 4)

    @tf.function(input_signature=[of_x, of_parameters, of_parameters])
    def traced(*given):
        if not portable:
            return NORMS[name][0](*given)
        with fusednorm.portable():
            return NORMS[name][0](*given)

    np.testing.assert_allclose(
        traced(*inputs), NORMS[name][0](*inputs), rtol=1e-5, atol=1e-5
    )


def test_shapes_of_a_traced_function(rng):
    @tf.function(
        input_signature=[
            tf.TensorSpec([None, None, 8]),
            tf.TensorSpec([3, None, 8]),
            tf.TensorSpec([None, 5, 8]),
        ]
    )
    def traced(*given):
        y = fusednorm.group_norm(*given, groups=2)
        # What gamma and beta know, y knows too.
        assert y.shape == (3, 5, 8)
        return y

    traced(*(rng.normal(size=(3, 3, 5, 8)).astype(np.float32)))


@pytest.mark.parametrize("shape", [(0, 3, 4), (2, 0, 4)])
def test_empty_tensors(shape):
    gamma = tf.Variable(tf.ones(shape))
    with tf.GradientTape() as tape:
        y = fusednorm.group_norm(tf.zeros(shape), gamma, groups=2)
    assert y.shape == shape
    assert tape.gradient(y, gamma).shape == shape


def test_masks_go_with_them(rng):
    x, gamma, beta = inputs_for("group", rng)
    mask = rng.random((3, 5, 7)) > 0.4
    got = gradients(fused("group", mask=mask), [x, gamma, beta])

    def wanted(x, gamma, beta):
        return fusednorm.group_norm(x, groups=4, mask=mask) * gamma + beta

    assert_all_close(got, gradients(wanted, [x, gamma, beta]), 1e-12)


@pytest.mark.parametrize(
    ("gamma", "beta", "message"),
    [
        ((2, 4, 8), (2, 4, 8), r"`gamma`.*\(2, 5, 8\).*\(2, 4, 8\)"),
        ((2, 5, 8), (8,), "Received: `gamma` for each position, `beta` for all"),
        ((1, 5, 8), (2, 1, 8), "`gamma` for each position, `beta` for each sample"),
    ],
)
def test_bad_shapes(gamma, beta, message):
    with pytest.raises(ValueError, match=message):
        fusednorm.group_norm(
            tf.zeros([2, 5, 8]), tf.ones(gamma), tf.ones(beta), groups=2
        )

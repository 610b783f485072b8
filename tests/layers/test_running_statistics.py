"""InstanceNormalization(track_running_stats=True): PyTorch's, within Keras.

Runs with Keras 3, and with tf_keras as test_layers.py does.
"""

import re

import fusednorm
import numpy as np
import pytest
import tensorflow as tf
from fusednorm import _keras
from fusednorm._keras import keras
from support.layer_cases import (
    AGREE,
    built,
    data,
    dtype_of,
    export,
    keras_3_only,
    name_of,
)

SHAPES = {-1: (4, 5, 6, 8), 1: (4, 8, 5, 6)}
channel_axis = pytest.mark.parametrize(("axis", "shape"), SHAPES.items())


def tracking(**kwargs):
    return fusednorm.InstanceNormalization(track_running_stats=True, **kwargs)


def positions(axis, shape):
    return tuple(i for i in range(1, len(shape)) if i != axis % len(shape))


def updated(running, x, axis, rate):
    """Returns the running mean and variance after a batch, in float64."""
    reduced = positions(axis, x.shape)
    x = x.astype(np.float64)
    new = [x.mean(reduced).mean(0), x.var(reduced, ddof=1).mean(0)]
    pairs = zip(running, new, strict=True)
    return [(1 - rate) * old + rate * each for old, each in pairs]


def applied(layer, x):
    """Returns what the layer computes with its running statistics, in float64."""
    spread = [1] * x.ndim
    spread[layer.axis] = -1
    gamma, beta, mean, variance = (
        np.float64(weight).reshape(spread) for weight in layer.get_weights()
    )
    return (x - mean) / np.sqrt(variance + layer.epsilon) * gamma + beta


def running(layer):
    return [np.asarray(layer.running_mean), np.asarray(layer.running_var)]


# A mean of batches of numbers below 10 with variances below 10, each to a few
# roundings of 2^-24, and three steps.
CLOSE = 3 * 12 * 10 * 2.0**-24


@channel_axis
@pytest.mark.parametrize("rate", [0.1, 0.0, 1.0, 0.25])
def test_training_updates_the_running_statistics(axis, shape, rate, rng):
    layer = tracking(axis=axis, update_rate=rate)
    expected = [np.zeros(8), np.ones(8)]
    for _ in range(3):
        x = data(rng, shape) + np.float32(3)
        layer(x, training=True)
        expected = updated(expected, x, axis, rate)
        for got, wanted in zip(running(layer), expected, strict=True):
            np.testing.assert_allclose(got, wanted, rtol=0, atol=CLOSE)


@channel_axis
@pytest.mark.parametrize("activation", [None, "silu"])
def test_training_computes_what_a_layer_without_them_does(axis, shape, activation, rng):
    x, dy = tf.constant(data(rng, shape)), data(rng, shape)
    plain = fusednorm.InstanceNormalization(axis=axis, activation=activation)
    layer = tracking(axis=axis, activation=activation)
    built(plain, shape, rng)
    layer.build(shape)
    layer.set_weights([*plain.get_weights(), np.zeros(8), np.ones(8)])
    results = []
    for each in (layer, plain):
        variables = [_keras.value(weight) for weight in each.trainable_weights]
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = each(x, training=True)
        results.append([y, *tape.gradient(y, [x, *variables], dy)])
    assert len(results[0]) == 4
    for tracked, expected in zip(*results, strict=True):
        np.testing.assert_array_equal(tracked, expected)


@channel_axis
@pytest.mark.parametrize("jit_compile", [False, True])
def test_inference_applies_the_running_statistics(axis, shape, jit_compile, rng):
    layer = built(tracking(axis=axis), shape, rng)
    x = data(rng, shape)
    before = running(layer)
    y = tf.function(layer, jit_compile=jit_compile)(x, training=False)
    np.testing.assert_allclose(y, applied(layer, x), rtol=0, atol=AGREE)
    np.testing.assert_array_equal(layer(x), layer(x, training=False))
    np.testing.assert_array_equal(running(layer), before)
    fused = tracking(axis=axis, activation="gelu")
    fused.build(shape)
    fused.set_weights(layer.get_weights())
    np.testing.assert_allclose(fused(x), tf.nn.gelu(layer(x)), rtol=0, atol=AGREE)


def test_inference_is_differentiable(rng):
    shape = SHAPES[-1]
    layer = built(tracking(), shape, rng)
    x, dy = tf.constant(data(rng, shape)), data(rng, shape)
    gamma, beta = (_keras.value(weight) for weight in layer.trainable_weights)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x)
    dx, dgamma, dbeta = tape.gradient(y, [x, gamma, beta], dy)
    slope = np.asarray(gamma) / np.sqrt(layer.running_var + np.float32(1e-3))
    np.testing.assert_allclose(dx, dy * slope, rtol=0, atol=AGREE)
    xhat = (np.asarray(y) - np.asarray(beta)) / np.asarray(gamma)
    # Sums of 120 products.
    np.testing.assert_allclose(dgamma, (dy * xhat).sum((0, 1, 2)), atol=120 * AGREE)
    np.testing.assert_allclose(dbeta, dy.sum((0, 1, 2)), atol=120 * AGREE)


@pytest.mark.parametrize("training", [True, False])
def test_takes_a_residual(training, rng):
    shape = SHAPES[-1]
    x, skip = data(rng, shape), data(rng, shape)
    layer, other = (tracking() for _ in range(2))
    built(layer, shape, rng)
    other.build(shape)
    other.set_weights(layer.get_weights())
    y, total = layer(x, residual=skip, training=training)
    np.testing.assert_array_equal(total, x + skip)
    np.testing.assert_array_equal(y, other(x + skip, training=training))
    np.testing.assert_array_equal(running(layer), running(other))


def test_a_frozen_layer_is_in_inference_mode(rng):
    shape = SHAPES[-1]
    layer = built(tracking(), shape, rng)
    layer.trainable = False
    x, before = data(rng, shape), running(layer)
    np.testing.assert_array_equal(layer(x, training=True), layer(x, training=False))
    np.testing.assert_array_equal(running(layer), before)


@pytest.mark.parametrize(
    ("policy", "dtype"),
    [
        ("float32", "float32"),
        ("mixed_float16", "float32"),
        ("mixed_bfloat16", "float32"),
        ("float16", "float32"),
        ("float64", "float64"),
    ],
)
def test_weights(policy, dtype, rng):
    layer = tracking(dtype=policy)
    layer.build((None, 5, 8))
    names = ["gamma", "beta", "running_mean", "running_var"]
    assert [name_of(weight) for weight in layer.weights] == names
    assert [name_of(weight) for weight in layer.trainable_weights] == names[:2]
    assert [name_of(w) for w in layer.non_trainable_weights] == names[2:]
    assert {dtype_of(weight) for weight in layer.weights[2:]} == {dtype}
    assert [weight.shape for weight in layer.weights] == [(8,)] * 4
    np.testing.assert_array_equal(running(layer), [np.zeros(8), np.ones(8)])
    for training in (True, False):
        y = layer(data(rng, (2, 5, 8)), training=training)
        assert y.dtype == layer.compute_dtype


def test_a_float16_layer_tracks_what_float16_cannot_hold(rng):
    x = 1e5 * data(rng, (2, 5, 8))
    layer = tracking(dtype="mixed_float16", update_rate=1.0, epsilon=1e-5)
    y = layer(x, training=True)
    assert np.isfinite(np.asarray(y)).all()
    expected = updated([0, 0], x, -1, 1.0)
    np.testing.assert_allclose(running(layer), expected, rtol=1e-5)
    y = np.asarray(layer(x), np.float64)
    # Rounded to float16, of numbers below 4.
    np.testing.assert_allclose(y, applied(layer, x), rtol=0, atol=4 * 2.0**-11)


def test_the_variance_of_constant_channels_is_zero():
    for epsilon in (1e-3, 3e-5, 0.0):  # 3e-5 rounds to below zero
        layer = tracking(update_rate=1.0, epsilon=epsilon)
        layer(np.full((2, 5, 8), 7, np.float32), training=True)
        mean, variance = running(layer)
        np.testing.assert_array_equal(mean, np.full(8, 7))
        assert np.all(variance >= 0)
        assert np.all(variance <= 4 * 2.0**-24 * epsilon)
        y = layer(np.full((2, 5, 8), 7, np.float32))
        np.testing.assert_array_equal(y, np.zeros((2, 5, 8)))


@pytest.mark.parametrize("shape", [(0, 5, 8), (2, 0, 8)])
@pytest.mark.parametrize("known", [True, False])
def test_an_empty_batch_changes_nothing(shape, known, rng):
    layer = built(tracking(), shape, rng)
    before = running(layer)
    spec = tf.TensorSpec(shape if known else (None, None, 8))
    step = tf.function(lambda x: layer(x, training=True), input_signature=[spec])
    assert step(np.zeros(shape, np.float32)).shape == shape
    np.testing.assert_array_equal(running(layer), before)


def test_one_position_has_no_variance():
    layer = tracking()
    text = (
        "The variance of one position is unknown: with `track_running_stats=True` the "
        "input must have more than one position per channel while training. Received: "
        "shape=(2, 1, 1, 8)"
    )
    with pytest.raises(ValueError, match=re.escape(text)):
        layer(tf.zeros((2, 1, 1, 8)), training=True)
    assert np.all(layer(tf.zeros((2, 1, 1, 8))) == 0)


def model_of(layer):
    return keras.Sequential([keras.Input((5, 6, 8)), layer])


def test_fit_tracks_and_predict_applies(rng):
    x = data(rng, (32, 5, 6, 8)) + np.float32(2)
    layer = tracking(update_rate=0.5)
    model = model_of(layer)
    model.compile(keras.optimizers.SGD(0.1), "mse")
    model.fit(x, x, batch_size=8, epochs=1, shuffle=False, verbose=0)
    expected = [np.zeros(8), np.ones(8)]
    for start in range(0, 32, 8):
        expected = updated(expected, x[start : start + 8], -1, 0.5)
    np.testing.assert_allclose(running(layer), expected, rtol=0, atol=2 * CLOSE)
    predicted = model.predict(x, verbose=0)
    np.testing.assert_allclose(predicted, applied(layer, x), rtol=0, atol=AGREE)


def test_saves_and_exports(rng, tmp_path):
    layer = built(tracking(update_rate=0.25), (None, 5, 6, 8), rng)
    model = model_of(layer)
    x = data(rng, SHAPES[-1])
    expected = model(x)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.layers[-1].update_rate == 0.25
    np.testing.assert_array_equal(loaded(x), expected)
    export(model, str(tmp_path / "exported"))
    exported = tf.saved_model.load(str(tmp_path / "exported"))
    # Graphs may multiply in another order.
    served = exported.serve(tf.constant(x))
    np.testing.assert_allclose(served, expected, rtol=0, atol=AGREE)


def test_config_says_so_only_where_it_is_so():
    config = fusednorm.InstanceNormalization().get_config()
    assert "track_running_stats" not in config
    assert "update_rate" not in config
    config = tracking(update_rate=0.25).get_config()
    again = fusednorm.InstanceNormalization.from_config(config)
    assert (again.track_running_stats, again.update_rate) == (True, 0.25)


def test_momentum_is_refused_with_what_to_write_instead():
    text = (
        "InstanceNormalization has no argument `momentum`, which is the weight of the "
        "new statistics in PyTorch and of the old ones in Keras. Give `update_rate`, "
        "the weight of the new: PyTorch's momentum, or 1 minus Keras's. Received: "
        "momentum=0.1"
    )
    with pytest.raises(ValueError, match=re.escape(text)):
        tracking(momentum=0.1)


@pytest.mark.parametrize("rate", [-0.1, 1.1, float("nan"), None, "fast"])
def test_update_rate_is_a_share(rate):
    text = (
        "Argument `update_rate`, the weight of the new statistics, must be between 0 "
        f"and 1. Received: update_rate={rate!r}"
    )
    with pytest.raises(ValueError, match=re.escape(text)):
        tracking(update_rate=rate)


@channel_axis
def test_is_pytorchs(axis, shape, rng):
    torch = pytest.importorskip("torch", reason="needs PyTorch: pip install torch")
    theirs = torch.nn.InstanceNorm2d(
        8, eps=1e-5, momentum=0.3, affine=True, track_running_stats=True
    )
    layer = built(tracking(axis=axis, epsilon=1e-5, update_rate=0.3), shape, rng)
    state = zip(
        ("weight", "bias", "running_mean", "running_var"),
        layer.get_weights(),
        strict=True,
    )
    theirs.load_state_dict(
        {
            **{name: torch.tensor(value) for name, value in state},
            "num_batches_tracked": torch.tensor(0),
        }
    )

    def torchs(x):
        channels_first = np.moveaxis(x, axis, 1).copy()
        y = theirs(torch.tensor(channels_first)).detach().numpy()
        return np.moveaxis(y, 1, axis)

    for training in (True, True, False):
        x = data(rng, shape) + np.float32(1)
        theirs.train(training)
        expected = torchs(x)
        np.testing.assert_allclose(
            layer(x, training=training), expected, rtol=0, atol=AGREE
        )
        for got, wanted in zip(
            running(layer), (theirs.running_mean, theirs.running_var), strict=True
        ):
            np.testing.assert_allclose(got, wanted.numpy(), rtol=0, atol=CLOSE)


@keras_3_only
def test_has_no_side_effects_in_a_stateless_call(rng):
    layer = built(tracking(), SHAPES[-1], rng)
    before = running(layer)
    x = data(rng, SHAPES[-1])
    y, state = layer.stateless_call(
        layer.trainable_variables, layer.non_trainable_variables, x, training=True
    )
    np.testing.assert_array_equal(running(layer), before)
    np.testing.assert_allclose(
        [np.asarray(each) for each in state],
        updated(before, x, -1, 0.1),
        rtol=0,
        atol=CLOSE,
    )
    np.testing.assert_array_equal(y, layer(x, training=True))

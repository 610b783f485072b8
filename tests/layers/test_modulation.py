"""`gamma=` and `beta=` in the call of a layer: scale and offset from elsewhere.

Runs with Keras 3, and with tf_keras as test_layers.py does.
"""

import functools

import fusednorm
import numpy as np
import pytest
import tensorflow as tf
from fusednorm import _keras
from fusednorm._keras import keras
from support.layer_cases import AGREE, built, data, keras_3_only

SHAPE = (2, 5, 8)
# Of gamma and beta for an input of SHAPE, normalized over the last axis.
SHAPES = [(2, 8), (2, 1, 8), (8,), (1, 1, 8), (2, 5, 8), (1, 5, 8)]
# Bounds are of outputs below 16 (tests/support/layer_cases.py), times a scale below 3.
BOUND = 3 * AGREE


def layer_norm(**kwargs):
    return fusednorm.LayerNormalization(**kwargs)


def plain(**kwargs):
    return fusednorm.LayerNormalization(center=False, scale=False, **kwargs)


def only_scaled(**kwargs):
    return fusednorm.LayerNormalization(center=False, **kwargs)


def only_shifted(**kwargs):
    return fusednorm.LayerNormalization(scale=False, **kwargs)


every_layer = pytest.mark.parametrize(
    "made", [plain, layer_norm, only_scaled, only_shifted]
)


def spread(parameter):
    """Returns gamma or beta of each sample with the axes of an input of SHAPE."""
    return parameter[:, None] if parameter.shape == (2, 8) else parameter


def apart(layer, x, gamma=None, beta=None, zero_centered=False):
    """Returns what the ops after a layer give that are fused."""
    y = layer(x)
    if gamma is not None:
        y = y * (spread(gamma) + (1 if zero_centered else 0))
    return y if beta is None else y + spread(beta)


@pytest.mark.parametrize("zero_centered", [False, True])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@every_layer
def test_values_and_gradients(made, shape, zero_centered, rng):
    layer = built(made(), SHAPE, rng)
    x, dy = (tf.constant(data(rng, SHAPE)) for _ in range(2))
    gamma, beta = (tf.constant(data(rng, shape)) for _ in range(2))
    for arguments in (
        {"gamma": gamma, "beta": beta, "zero_centered": zero_centered},
        {"gamma": gamma, "zero_centered": zero_centered},
        {"beta": beta},
    ):
        weights = [_keras.value(weight) for weight in layer.trainable_weights]
        results = []
        for call in (layer, functools.partial(apart, layer)):
            with tf.GradientTape() as tape:
                tape.watch([x, gamma, beta])
                y = call(x, **arguments)
            gradients = tape.gradient(y, [x, gamma, beta, *weights], dy)
            results.append([y, *gradients])
        for got, wanted in zip(*results, strict=True):
            assert (got is None) is (wanted is None)
            if got is not None:
                np.testing.assert_allclose(got, wanted, rtol=0, atol=BOUND)


def types_of(call, *inputs):
    traced = tf.function(call, autograph=False).get_concrete_function(*inputs)
    return [operation.type for operation in traced.graph.get_operations()]


def test_a_layer_without_weights_is_one_op(rng):
    layer = plain(activation="silu")
    x, gamma, beta = (tf.constant(data(rng, s)) for s in (SHAPE, (2, 8), (2, 8)))

    def call(x, gamma, beta):
        return layer(x, gamma=gamma, beta=beta, zero_centered=True)

    assert types_of(call, x, gamma, beta) == [
        *3 * ["Placeholder"],
        "Fusednorm>LayerNorm",
        "Identity",
    ]
    wanted = tf.nn.silu(apart(plain(), x, gamma, beta, zero_centered=True))
    np.testing.assert_allclose(call(x, gamma, beta), wanted, rtol=0, atol=BOUND)


@pytest.mark.parametrize("zero_centered", [False, True])
@pytest.mark.parametrize("own", [False, True])
def test_rms_norm_takes_a_scale(own, zero_centered, rng):
    layer = built(fusednorm.RMSNormalization(zero_centered=own), SHAPE, rng)
    x = data(rng, SHAPE)
    for shape in SHAPES:
        gamma = data(rng, shape)
        y = layer(x, gamma=gamma, zero_centered=zero_centered)
        wanted = apart(layer, x, gamma, zero_centered=zero_centered)
        np.testing.assert_allclose(y, wanted, rtol=0, atol=BOUND)


@pytest.mark.parametrize(
    ("axis", "shape"),
    [
        (1, (2, 5)),
        (1, (2, 5, 1)),
        (1, (5,)),
        ([1, 2], (2, 5, 8)),
        ([2, 1], (5, 8)),
    ],
)
def test_other_axes(axis, shape, rng):
    layer = built(layer_norm(axis=axis), SHAPE, rng)
    x, gamma, beta = data(rng, SHAPE), data(rng, shape), data(rng, shape)
    kept = [2 if len(shape) > np.size(axis) else 1, 5, 8 if np.size(axis) > 1 else 1]
    wanted = layer(x) * gamma.reshape(kept) + beta.reshape(kept)
    y = layer(x, gamma=gamma, beta=beta)
    np.testing.assert_allclose(y, wanted, rtol=0, atol=BOUND)


@every_layer
def test_with_a_residual_and_an_activation(made, rng):
    layer = built(made(activation="tanh"), SHAPE, rng)
    linear = built(made(), SHAPE, rng)
    linear.set_weights(layer.get_weights())
    x, skip, gamma = data(rng, SHAPE), data(rng, SHAPE), data(rng, (2, 1, 8))
    y, total = layer(x, residual=skip, gamma=gamma)
    np.testing.assert_array_equal(total, x + skip)
    wanted = tf.tanh(apart(linear, x + skip, gamma))
    np.testing.assert_allclose(y, wanted, rtol=0, atol=BOUND)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@every_layer
def test_dtypes(made, dtype, rng):
    layer = built(made(dtype=f"mixed_{dtype}" if "16" in dtype else dtype), SHAPE, rng)
    x = tf.cast(data(rng, SHAPE), dtype)
    wide = made(dtype="float64")
    wide.build(SHAPE)
    wide.set_weights(layer.get_weights())
    for given in ("float16", "float32", "float64"):
        gamma, beta = (tf.cast(data(rng, (2, 8)), given) for _ in range(2))
        y = layer(x, gamma=gamma, beta=beta, zero_centered=True)
        assert y.dtype == dtype
        gamma, beta = tf.cast(gamma, tf.float64), tf.cast(beta, tf.float64)
        wanted = apart(wide, tf.cast(x, tf.float64), gamma, beta, zero_centered=True)
        # Computed in float32, or float64 with parameters that may be float32, and
        # rounded to the data's type.
        rtol = {"float16": 2.0**-11, "bfloat16": 2.0**-8}.get(dtype, 0)
        y = tf.cast(y, tf.float64)
        np.testing.assert_allclose(y, wanted, rtol=rtol, atol=BOUND)


@every_layer
def test_under_xla_and_with_unknown_sizes(made, rng):
    layer = built(made(), SHAPE, rng)
    x, gamma, beta = (data(rng, s) for s in (SHAPE, (2, 1, 8), (2, 1, 8)))
    expected = layer(x, gamma=gamma, beta=beta)

    def call(x, gamma, beta):
        return layer(x, gamma=gamma, beta=beta)

    unknown = [tf.TensorSpec((None, None, 8))] + 2 * [tf.TensorSpec((None, 1, 8))]
    for options in ({"jit_compile": True}, {"input_signature": unknown}):
        y = tf.function(call, **options)(x, gamma, beta)
        np.testing.assert_allclose(y, expected, rtol=0, atol=BOUND)


@keras_3_only
def test_functional_models_are_saved_and_loaded(rng, tmp_path):
    inputs, condition = keras.Input(SHAPE[1:]), keras.Input((1, 8))
    scale, shift = (keras.layers.Dense(8)(condition) for _ in range(2))
    y = plain()(inputs, gamma=scale, beta=shift, zero_centered=True)
    assert (y.shape, y.dtype) == ((None, *SHAPE[1:]), "float32")
    y = fusednorm.RMSNormalization()(y, gamma=scale)
    model = keras.Model([inputs, condition], y)
    x = [data(rng, SHAPE), data(rng, (2, 1, 8))]
    expected = model(x)
    model.save(tmp_path / "model.keras")
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    for again in (keras.models.load_model(tmp_path / "model.keras"), clone):
        np.testing.assert_array_equal(again(x), expected)


def test_masks_are_passed_on(rng):
    x = keras.layers.Masking()(data(rng, SHAPE))
    y = plain()(x, gamma=data(rng, (2, 8)))
    np.testing.assert_array_equal(y._keras_mask, x._keras_mask)


def test_ragged_inputs_are_refused(rng):
    x = tf.ragged.constant([[[1.0, 2.0]], [[3.0, 4.0], [5.0, 6.0]]], ragged_rank=1)
    with pytest.raises(ValueError, match="must not be given where the input is ragged"):
        plain()(x, gamma=tf.ones([2, 2]))


@pytest.mark.filterwarnings("ignore:.*rms_scaling")
def test_rms_scaling_is_refused(rng):
    layer = fusednorm.LayerNormalization(rms_scaling=True)
    with pytest.raises(ValueError, match="where the layer has rms_scaling=True"):
        layer(data(rng, SHAPE), beta=data(rng, (2, 8)))


@every_layer
def test_shapes_that_do_not_fit_are_refused(made, rng):
    layer = built(made(), SHAPE, rng)
    with pytest.raises(ValueError, match="Argument `gamma` must have shape"):
        layer(data(rng, SHAPE), gamma=data(rng, (2, 7)))
    with pytest.raises(ValueError, match="must both be given for each sample"):
        layer(data(rng, SHAPE), gamma=data(rng, (2, 8)), beta=data(rng, (8,)))

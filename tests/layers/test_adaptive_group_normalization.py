"""The AdaptiveGroupNormalization layer."""

import fusednorm
import keras
import numpy as np
import pytest
import tensorflow as tf


def randomized(layer, data, condition, rng):
    """Builds a layer and gives it weights that are not zero."""
    layer([data, condition])
    layer.set_weights([rng.normal(size=w.shape) for w in layer.get_weights()])
    return layer


def drawn(rng, shape=(3, 4, 5, 8), features=6):
    return (
        rng.normal(size=shape).astype(np.float32),
        rng.normal(size=(shape[0], features)).astype(np.float32),
    )


def formula(layer, data, condition):
    """Returns what the docstring says, in TensorFlow's ops."""
    kernel, bias = layer.projection.kernel, layer.projection.bias
    projected = tf.matmul(condition, kernel) + bias
    scale, offset = tf.split(projected, 2, axis=-1)
    axis = layer.axis % data.ndim
    spread = [-1] + [1] * (data.ndim - 1)
    spread[axis] = data.shape[axis]
    plain = fusednorm.group_norm(
        data, groups=layer.groups, axis=axis, epsilon=layer.epsilon
    )
    y = plain * (1 + tf.reshape(scale, spread)) + tf.reshape(offset, spread)
    return tf.nn.silu(y)


@pytest.mark.parametrize(("axis", "groups"), [(-1, 4), (1, 2), (-1, -1), (2, 5)])
def test_computes_what_it_says(axis, groups, rng):
    data, condition = drawn(rng)
    layer = fusednorm.AdaptiveGroupNormalization(groups, axis, activation="silu")
    randomized(layer, data, condition, rng)

    def gradients(function):
        inputs = [tf.constant(data), tf.constant(condition)]
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            y = function(inputs)
            loss = tf.reduce_sum(tf.square(y))
        variables = [v.value for v in layer.trainable_variables]
        return [y, *tape.gradient(loss, [*inputs, *variables])]

    for got, wanted in zip(
        gradients(layer), gradients(lambda x: formula(layer, *x)), strict=True
    ):
        # Sums of up to 60 terms of about 10, in float32.
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-3)


def test_begins_as_a_plain_group_normalization(rng):
    data, condition = drawn(rng)
    layer = fusednorm.AdaptiveGroupNormalization(groups=4)
    np.testing.assert_array_equal(
        layer([data, condition]), fusednorm.GroupNormalization(groups=4)(data)
    )


@pytest.mark.parametrize(("center", "scale"), [(True, False), (False, True)])
def test_only_one_of_scale_and_offset(center, scale, rng):
    data, condition = drawn(rng)
    layer = fusednorm.AdaptiveGroupNormalization(4, center=center, scale=scale)
    randomized(layer, data, condition, rng)
    projected = layer.projection(condition)
    assert projected.shape == (3, 8)
    given = {"gamma": projected} if scale else {"beta": projected}
    wanted = fusednorm.group_norm(data, **given, groups=4, zero_centered=True)
    np.testing.assert_array_equal(layer([data, condition]), wanted)


@pytest.mark.parametrize("policy", ["float32", "mixed_float16", "mixed_bfloat16"])
def test_trains_in_a_functional_model_and_is_saved(policy, rng, tmp_path):
    data, condition = drawn(rng)
    x, c = keras.Input((4, 5, 8)), keras.Input((6,))
    layer = fusednorm.AdaptiveGroupNormalization(4, activation="relu", dtype=policy)
    y = layer([x, c])
    assert y.shape == (None, 4, 5, 8)
    assert y.dtype == layer.compute_dtype
    model = keras.Model([x, c], keras.layers.GlobalAveragePooling2D()(y))
    model.compile("sgd", "mse")
    target = np.zeros((3, 8), np.float32)
    before = model.evaluate([data, condition], target, verbose=0)
    model.fit([data, condition], target, epochs=5, verbose=0)
    assert model.evaluate([data, condition], target, verbose=0) < before
    path = tmp_path / "model.keras"
    model.save(path)
    loaded = keras.models.load_model(path)
    np.testing.assert_array_equal(
        loaded.predict([data, condition], verbose=0),
        model.predict([data, condition], verbose=0),
    )


def test_configuration_round_trip():
    layer = fusednorm.AdaptiveGroupNormalization(
        groups=2,
        axis=1,
        epsilon=1e-5,
        center=False,
        kernel_initializer="glorot_uniform",
        bias_initializer="ones",
        kernel_regularizer="l2",
        activation="gelu",
        name="ada",
    )
    copy = type(layer).from_config(layer.get_config())
    assert copy.get_config() == layer.get_config()


def test_passes_on_the_mask_of_the_data(rng):
    x, c = keras.Input((7,), dtype="int32"), keras.Input((6,))
    embedded = keras.layers.Embedding(5, 8, mask_zero=True)(x)
    y = fusednorm.AdaptiveGroupNormalization(4)([embedded, c])
    model = keras.Model([x, c], keras.layers.LSTM(3)(y))
    tokens = np.array([[1, 2, 3, 0, 0, 0, 0]])
    longer = np.array([[1, 2, 3, 0, 0, 0, 0]])
    condition = rng.normal(size=(1, 6)).astype(np.float32)
    assert model([tokens, condition]).shape == (1, 3)
    layer = model.layers[-2]
    mask = layer.compute_mask([embedded, c], [longer != 0, None])
    np.testing.assert_array_equal(mask, longer != 0)


class TestErrors:
    def test_neither_scale_nor_offset(self):
        with pytest.raises(ValueError, match="`center` and `scale`"):
            fusednorm.AdaptiveGroupNormalization(center=False, scale=False)

    def test_no_condition(self):
        with pytest.raises(ValueError, match="list of two"):
            fusednorm.AdaptiveGroupNormalization(4)(np.zeros((3, 4, 8), np.float32))

    def test_a_condition_with_positions(self):
        data, condition = np.zeros((3, 4, 8), "f4"), np.zeros((3, 4, 6), "f4")
        with pytest.raises(ValueError, match=r"\(batch, features\).*\(3, 4, 6\)"):
            fusednorm.AdaptiveGroupNormalization(4)([data, condition])

    def test_another_batch(self):
        data, condition = np.zeros((3, 4, 8), "f4"), np.zeros((2, 6), "f4")
        with pytest.raises(ValueError, match=r"`gamma`.*\(3, 8\).*\(2, 8\)"):
            fusednorm.AdaptiveGroupNormalization(4)([data, condition])

    def test_channels_that_the_groups_do_not_divide(self):
        data, condition = np.zeros((3, 4, 7), "f4"), np.zeros((3, 6), "f4")
        with pytest.raises(ValueError, match="`groups` must divide"):
            fusednorm.AdaptiveGroupNormalization(4)([data, condition])

    def test_integers(self):
        with pytest.raises(ValueError, match="floating-point dtype"):
            fusednorm.AdaptiveGroupNormalization(4)(
                [keras.Input((4, 8), dtype="int32"), keras.Input((6,))]
            )

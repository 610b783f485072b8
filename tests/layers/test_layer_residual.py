"""`residual=` in the call of a layer: the norm of a sum, and the sum.

Runs with Keras 3, and with tf_keras as test_layers.py does.
"""

import re

import fusednorm
import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf
from fusednorm import _keras
from fusednorm._keras import keras
from support.layer_cases import (
    AGREE,
    LAYERS,
    built,
    data,
    every_layer,
    keras_3_only,
    share_of_bound,
)

SHAPE = (2, 5, 8)
BFLOAT16 = ml_dtypes.bfloat16


@every_layer
def test_returns_the_norm_of_the_sum_and_the_sum(kind, rng):
    x, skip = data(rng, SHAPE), data(rng, SHAPE)
    layer = built(LAYERS[kind](activation="silu"), SHAPE, rng)
    y, total = layer(x, residual=skip)
    np.testing.assert_array_equal(total, x + skip)
    np.testing.assert_array_equal(y, layer(x + skip))
    compiled = tf.function(layer, jit_compile=True)
    for again in (layer(x, skip), tf.function(layer)(x, skip), compiled(x, skip)):
        np.testing.assert_array_equal(again[0], y)
        np.testing.assert_array_equal(again[1], total)


@every_layer
def test_gradients_are_those_of_an_add_and_a_norm(kind, rng):
    x, skip, dy, dsum = (tf.constant(data(rng, SHAPE)) for _ in range(4))
    layer = built(LAYERS[kind](activation="gelu"), SHAPE, rng)
    variables = [_keras.value(weight) for weight in layer.trainable_weights]
    gradients = []
    for call in (
        lambda: layer(x, residual=skip),
        lambda: (layer(x + skip), x + skip),
    ):
        with tf.GradientTape() as tape:
            tape.watch([x, skip])
            y, total = call()
            loss = tf.reduce_sum(y * dy) + tf.reduce_sum(total * dsum)
        gradients.append(tape.gradient(loss, [x, skip, *variables]))
    for fused, separate in zip(*gradients, strict=True):
        np.testing.assert_allclose(fused, separate, rtol=0, atol=AGREE)


def test_rms_scaling_takes_a_residual(rng):
    with pytest.warns(UserWarning, match="rms_scaling"):
        layer = fusednorm.LayerNormalization(rms_scaling=True)
    x, skip = data(rng, SHAPE), data(rng, SHAPE)
    y, total = layer(x, residual=skip)
    np.testing.assert_array_equal(total, x + skip)
    np.testing.assert_array_equal(y, layer(x + skip))


@every_layer
@pytest.mark.parametrize(
    ("policy", "x_dtype", "residual_dtype", "computed_in"),
    [
        ("float32", np.float32, np.float64, np.float64),
        ("float32", np.float16, np.float32, np.float32),
        ("mixed_float16", np.float16, np.float16, np.float16),
        ("mixed_float16", np.float16, np.float32, np.float32),
        ("mixed_float16", np.float32, np.float16, np.float32),
        ("mixed_float16", np.float16, BFLOAT16, np.float32),
        ("mixed_bfloat16", BFLOAT16, BFLOAT16, BFLOAT16),
        ("float64", np.float32, np.float64, np.float64),
    ],
)
def test_dtypes(kind, policy, x_dtype, residual_dtype, computed_in, rng):
    x, skip = data(rng, SHAPE, x_dtype), data(rng, SHAPE, residual_dtype)
    layer = built(LAYERS[kind](dtype=policy), SHAPE, rng)
    y, total = layer(x, residual=skip)
    assert y.dtype == total.dtype == layer.compute_dtype
    exact = x.astype(computed_in) + skip.astype(computed_in)
    expected = exact.astype(tf.as_dtype(layer.compute_dtype).as_numpy_dtype)
    np.testing.assert_array_equal(np.asarray(total), expected)
    assert share_of_bound(layer, exact, y) <= 1


@every_layer
def test_a_large_float32_sum_does_not_overflow_in_a_float16_layer(kind, rng):
    x, skip = data(rng, SHAPE) * np.float32(1e5), data(rng, SHAPE)
    layer = built(LAYERS[kind](dtype="mixed_float16"), SHAPE, rng)
    y, _ = layer(x, residual=skip)
    assert np.isfinite(np.asarray(y)).all()
    assert share_of_bound(layer, x + skip, y) <= 1


@every_layer
def test_both_outputs_carry_the_mask_of_the_input(kind, rng):
    x, skip = data(rng, SHAPE), data(rng, SHAPE)
    x[:, 3:] = 0.0
    inputs, skipped = keras.Input(SHAPE[1:]), keras.Input(SHAPE[1:])
    pool = keras.layers.GlobalAveragePooling1D()
    layer = LAYERS[kind]()
    outputs = layer(keras.layers.Masking()(inputs), residual=skipped)
    model = keras.Model([inputs, skipped], [pool(each) for each in outputs])
    given = {"mask": x.any(-1)} if hasattr(layer, "use_mask") else {}
    apart = layer(x, residual=skip, **given)
    expected = [np.asarray(each)[:, :3].mean(1) for each in apart]
    eager = [pool(each) for each in layer(keras.layers.Masking()(x), residual=skip)]
    for results in (eager, model([x, skip]), model.predict([x, skip], verbose=0)):
        for got, wanted in zip(results, expected, strict=True):
            np.testing.assert_allclose(got, wanted, rtol=0, atol=AGREE)


def prenorm_model(rng):
    """A transformer's residual stream, in which every norm but the first adds."""
    inputs = keras.Input(SHAPE[1:])
    x, stream = keras.layers.Dense(8, name="first")(inputs), inputs
    for kind, make in LAYERS.items():
        x, stream = make(name=kind)(x, residual=stream)
        x = keras.layers.Dense(8, activation="relu", name=f"{kind}_dense")(x)
    model = keras.Model(inputs, keras.layers.Add(name="last")([x, stream]))
    for kind in LAYERS:
        built(model.get_layer(kind), SHAPE, rng)
    return model


def test_a_functional_model_saves_and_trains(rng, tmp_path):
    model = prenorm_model(rng)
    x = data(rng, (8, *SHAPE[1:]))
    expected = model(x)
    manual, stream = model.get_layer("first")(x), x
    for kind in LAYERS:
        stream = manual + stream
        manual = model.get_layer(kind)(stream)
        manual = model.get_layer(f"{kind}_dense")(manual)
    np.testing.assert_array_equal(expected, manual + stream)

    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(x), expected)
    before = loaded.get_weights()
    loaded.compile(keras.optimizers.SGD(0.1), "mse")
    loaded.fit(x, np.tanh(x), verbose=0)
    for weight, start in zip(loaded.get_weights(), before, strict=True):
        assert np.any(weight != start)


@keras_3_only
@every_layer
def test_symbolic_outputs_are_described(kind):
    layer = LAYERS[kind](dtype="mixed_float16")
    x = keras.KerasTensor((None, 5, 8), dtype="float16")
    outputs = layer.compute_output_spec(x, residual=keras.KerasTensor((4, 5, 8)))
    assert [(each.shape, each.dtype) for each in outputs] == [
        ((None, 5, 8), "float16")
    ] * 2
    outputs = layer(x, residual=np.zeros((4, 5, 8), np.float32))
    assert [each.shape for each in outputs] == [(None, 5, 8)] * 2


WRONG = {
    "another dimension": (
        np.zeros((2, 5, 7), np.float32),
        "Argument `residual` must have the shape of the input, ({batch}, 5, 8). "
        "Received: shape=(2, 5, 7)",
    ),
    "another rank": (
        np.zeros((5, 8), np.float32),
        "Argument `residual` must have the shape of the input, ({batch}, 5, 8). "
        "Received: shape=(5, 8)",
    ),
    "to be broadcast": (
        np.zeros((2, 1, 8), np.float32),
        "Argument `residual` must have the shape of the input, ({batch}, 5, 8). "
        "Received: shape=(2, 1, 8)",
    ),
    "integers": (
        np.zeros(SHAPE, np.int64),
        "Argument `residual` must have a floating-point dtype",
    ),
}
wrong = pytest.mark.parametrize(("residual", "text"), WRONG.values(), ids=WRONG)


@every_layer
@wrong
def test_refuses_what_does_not_fit(kind, residual, text):
    x = tf.zeros(SHAPE)
    for call in (LAYERS[kind](), tf.function(LAYERS[kind]())):
        with pytest.raises(ValueError, match=re.escape(text.format(batch=2))):
            call(x, residual=residual)


@every_layer
@wrong
def test_refuses_it_while_a_model_is_built(kind, residual, text):
    inputs = keras.Input(SHAPE[1:])
    skip = keras.Input(residual.shape[1:], dtype=residual.dtype.name)
    text = re.escape(text.format(batch=None).partition("Received")[0])
    with pytest.raises(ValueError, match=text):
        LAYERS[kind]()(inputs, residual=skip)


@every_layer
def test_a_portable_layer_takes_a_residual(kind, rng):
    x, skip = data(rng, SHAPE), data(rng, SHAPE)
    layer = built(LAYERS[kind](portable=True), SHAPE, rng)
    y, total = layer(x, residual=skip)
    np.testing.assert_array_equal(total, x + skip)
    assert share_of_bound(layer, x + skip, y) <= 1
    graph = tf.function(layer).get_concrete_function(x, residual=skip).graph
    ops = [op.type for op in graph.get_operations()]
    assert not any(op.startswith("Fusednorm>") for op in ops)

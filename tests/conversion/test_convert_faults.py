"""What random models (test_convert_fuzz.py) have found wrong in conversions.

And faults of their kind. With Keras 3, and with tf_keras (test_legacy_keras.py).
"""

import fusednorm
import numpy as np
import pytest
import tensorflow as tf
from fusednorm._keras import LEGACY, keras
from fusednorm.layers.base import Normalization

layers = keras.layers
keras_3_only = pytest.mark.skipif(LEGACY, reason="of Keras 3")
# See tests/conversion/test_convert.py.
AGREE = 2.0**-16


def model_of(shape, *given):
    return keras.Sequential([keras.Input(shape), *given])


def with_other_weights(model, rng):
    model.set_weights([rng.uniform(0.5, 1.5, each.shape) for each in model.weights])
    return model


def relative(y, expected):
    y, expected = map(np.asarray, (y, expected))
    return np.abs(y - expected).max() / np.abs(expected).max()


@keras_3_only
@pytest.mark.parametrize("axis", [1, -2])
def test_weights_of_ones_do_not_hide_how_they_are_applied(axis, rng):
    """Keras multiplies by `scale` along the last axes; ours does along `axis`."""
    x = rng.standard_normal((3, 4, 4), np.float32)
    model = model_of((4, 4), layers.RMSNormalization(axis=axis, name="rms"))
    fusednorm.convert(model, verbose=False)
    (row,) = model.fusednorm_conversion.left
    assert row.why.startswith("its outputs would differ by ")
    ones = model.get_weights()
    theirs = model_of((4, 4), layers.RMSNormalization(axis=axis))
    np.testing.assert_array_equal(ones[0], 1)
    theirs.set_weights(with_other_weights(model, rng).get_weights())
    np.testing.assert_array_equal(model(x), theirs(x))


@pytest.mark.parametrize("dtype", ["float32", "float64", "mixed_bfloat16"])
def test_outputs_that_are_nothing_but_rounding_are_no_difference(dtype):
    """The mean of what InstanceNormalization gives is zero."""
    norm = layers.GroupNormalization(-1, center=False, dtype=dtype)
    pool = layers.GlobalAveragePooling1D(dtype=dtype)
    inputs = keras.Input((32, 8))
    model = keras.Model(inputs, pool(norm(inputs)))
    fusednorm.convert(model, verbose=False)
    assert isinstance(norm, Normalization)
    report = model.fusednorm_conversion
    assert report.difference is not None
    assert report.difference <= 2.0**-8


@keras_3_only
def test_outputs_that_are_small_are_still_compared(monkeypatch):
    norm, scale = layers.LayerNormalization(), layers.Rescaling(0.01)
    model = model_of((32, 8), norm, scale)
    # An error of the size of the outputs, which no comparison of a layer has seen.
    before = fusednorm.LayerNormalization.call
    monkeypatch.setattr(
        fusednorm.LayerNormalization,
        "call",
        lambda self, x, **more: before(self, x, **more) * (1 + (x.shape[-2] == 32)),
    )
    monkeypatch.setattr(fusednorm.conversion.compare, "layer_tolerance", lambda *_: 9.0)
    with pytest.raises(RuntimeError, match="differ by"):
        fusednorm.convert(model, verbose=False)
    assert type(norm) is layers.LayerNormalization


@pytest.mark.parametrize(
    ("name", "axis", "shape", "is_ours"),
    [
        # Keras has these weights in the order of the numbers, ours of the input's axes.
        ("LayerNormalization", [-1, 1], (4, 8), False),
        ("LayerNormalization", [1, -1], (4, 8), False),
        ("LayerNormalization", [-2, -1], (4, 8), True),
        ("LayerNormalization", [1, 2], (4, 8), True),
        # Keras multiplies by these along the last axes.
        ("RMSNormalization", 1, (4, 4), False),
        ("RMSNormalization", [-1, -2], (4, 4), False),
        ("RMSNormalization", [-2, -1], (4, 8), True),
        ("RMSNormalization", -1, (4, 8), True),
    ],
)
def test_patched_layers_have_the_weights_of_keras(name, axis, shape, is_ours, rng):
    if not hasattr(layers, name):
        pytest.skip(f"tf_keras has no {name}")
    x = rng.standard_normal((3, *shape), np.float32)
    theirs = with_other_weights(model_of(shape, getattr(layers, name)(axis=axis)), rng)
    with fusednorm.patch_keras():
        model = model_of(shape, getattr(layers, name)(axis=axis))
    assert isinstance(model.layers[0], Normalization) is is_ours
    model.set_weights(theirs.get_weights())
    assert relative(model(x), theirs(x)) <= AGREE


class Generating(keras.Model):
    """Keeps a traced function, as KerasHub's language models do."""

    def __init__(self):
        super().__init__()
        self.norm = layers.LayerNormalization()
        self.generate_function = None

    def call(self, x):
        return self.norm(x)

    def generate(self, x):
        if self.generate_function is None:
            self.generate_function = tf.function(self)
        return self.generate_function(x)


def test_what_generates_is_traced_anew(rng):
    x = rng.standard_normal((3, 4, 8), np.float32)
    model = Generating()
    before = model.generate(x)
    traced = model.generate_function
    fusednorm.convert(model, inputs=x, verbose=False)
    assert model.generate_function is None
    assert relative(model.generate(x), before) <= AGREE
    ops = model.generate_function.get_concrete_function(x).graph.get_operations()
    assert [op.type for op in ops if "LayerNorm" in op.type]
    assert model.generate_function is not traced
    traced = model.generate_function
    fusednorm.convert(model, inputs=x, verbose=False)  # Which changes nothing.
    assert model.generate_function is traced


# Ours, and what Keras's layer would do with the mask that comes to it.
MASKED = {
    "rms": (
        fusednorm.RMSNormalization,
        "Keras's layer ends the mask that it gets",
    ),
    "group": (
        lambda **options: fusednorm.GroupNormalization(4, **options),
        "Keras's layer counts masked positions in its statistics",
    ),
    "instance": (
        fusednorm.InstanceNormalization,
        "Keras's layer counts masked positions in its statistics",
    ),
    "layer": (
        lambda **options: fusednorm.LayerNormalization(pass_mask=False, **options),
        "Keras's layer passes on the mask that it gets",
    ),
}


@keras_3_only
@pytest.mark.parametrize(
    ("kind", "arrives"),
    [
        (kind, arrives)
        for kind in MASKED
        for arrives in ("from_before", "given", "not")
        # The calls of the others take no mask.
        if arrives != "given" or kind in ("group", "instance")
    ],
)
def test_unconvert_leaves_what_treats_a_mask_in_another_way(kind, arrives, rng):
    make, why = MASKED[kind]
    norm = make(name="norm")
    tokens = keras.Input((6,), dtype="int32")
    mask = keras.Input((6,), dtype="bool")
    y = layers.Embedding(5, 8, mask_zero=arrives == "from_before")(tokens)
    y = norm(y, mask=mask) if arrives == "given" else norm(y)
    inputs = [tokens, mask] if arrives == "given" else tokens
    model = keras.Model(inputs, layers.GlobalAveragePooling1D()(y))
    x = rng.integers(0, 5, (3, 6))
    x[:, :2] = [1, 0]
    data = [x, x > 0] if arrives == "given" else x
    before = model(data)
    fusednorm.unconvert(model, verbose=False)
    left = [(row.path, row.why) for row in model.fusednorm_conversion.left]
    assert left == ([] if arrives == "not" else [("norm", why)])
    assert isinstance(norm, Normalization) is (arrives != "not")
    np.testing.assert_allclose(model(data), before, rtol=0, atol=AGREE)


@keras_3_only
@pytest.mark.parametrize("kind", ["rms", "group"])
def test_unconvert_replaces_what_treats_a_mask_as_keras_does(kind):
    norm = MASKED[kind][0](**{"pass_mask" if kind == "rms" else "use_mask": False})
    tokens = keras.Input((6,), dtype="int32")
    y = norm(layers.Embedding(5, 8, mask_zero=True)(tokens))
    model = keras.Model(tokens, y)
    fusednorm.unconvert(model, verbose=False)
    assert not isinstance(norm, Normalization)

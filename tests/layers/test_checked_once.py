"""Arguments are checked once, and what is kept of that never stands for other ones.

Functions and layers keep a norm for the next call with the same arguments. But equal
numbers are not equally valid (1 and True), and both the attributes of a layer and the
rank of its input may change from one call to the next.

Runs with Keras 3, and with tf_keras as test_layers.py does.
"""

import copy
import re

import fusednorm
import numpy as np
import pytest
import tensorflow as tf
from fusednorm import _norm
from fusednorm._keras import keras
from support.layer_cases import (
    AGREE,
    LAYERS,
    built,
    data,
    every_layer,
    share_of_bound,
)

SHAPE = (3, 8, 8)
OVER_AXES = {
    "layer": fusednorm.LayerNormalization,
    "rms": fusednorm.RMSNormalization,
}
DROP_INS = [
    kind
    for kind, make in LAYERS.items()
    if hasattr(keras.layers, type(make()).__name__)
]


@every_layer
def test_a_call_after_build_makes_no_norm(kind, rng, monkeypatch):
    layer = built(LAYERS[kind](epsilon=0.0625), SHAPE, rng)
    x = data(rng, SHAPE)

    def fail(**_):
        raise AssertionError("the arguments were checked again")

    monkeypatch.setattr(_norm, "Norm", fail)
    assert share_of_bound(layer, x, layer(x)) <= 1
    layer.epsilon = 0.03125
    with pytest.raises(AssertionError, match="checked again"):
        layer(x)


@every_layer
@pytest.mark.parametrize(("name", "value"), [("epsilon", 0.5), ("activation", "tanh")])
def test_an_attribute_that_is_set_later_counts(kind, name, value, rng):
    layer, x = built(LAYERS[kind](), SHAPE, rng), data(rng, SHAPE)
    before = np.asarray(layer(x))
    assert share_of_bound(layer, x, before) <= 1
    setattr(layer, name, value)
    after = np.asarray(layer(x))
    assert share_of_bound(layer, x, after) <= 1
    assert np.abs(after - before).max() > 0.01


@pytest.mark.parametrize("kind", DROP_INS)
def test_epsilon_that_is_set_later_counts_as_in_keras(kind, rng):
    layer, x = built(LAYERS[kind](), SHAPE, rng), data(rng, SHAPE)
    theirs = getattr(keras.layers, type(layer).__name__)
    like = theirs(**({"groups": 4} if kind == "group" else {}))
    like.build(SHAPE)
    like.set_weights(layer.get_weights())
    for epsilon in (1e-3, 0.5, 0.25):
        layer.epsilon = like.epsilon = epsilon
        np.testing.assert_allclose(layer(x), like(x), rtol=0, atol=AGREE)


@pytest.mark.parametrize("kind", [kind for kind in DROP_INS if kind != "group"])
def test_epsilon_of_a_converted_layer_counts_when_it_is_set_later(kind, rng):
    theirs = getattr(keras.layers, type(LAYERS[kind]()).__name__)()
    model = keras.Sequential([keras.Input(SHAPE[1:]), theirs])
    x = data(rng, SHAPE)
    fusednorm.convert(model, verbose=False)
    assert isinstance(theirs, OVER_AXES[kind])
    assert share_of_bound(theirs, x, model(x)) <= 1
    theirs.epsilon = 0.5
    assert share_of_bound(theirs, x, model(x)) <= 1


@every_layer
def test_a_bad_epsilon_that_is_set_later_is_refused(kind, rng):
    layer, x = LAYERS[kind](), data(rng, SHAPE)
    layer(x)
    layer.epsilon = -1.0
    message = "Argument `epsilon` must be a finite number >= 0. Received: epsilon=-1.0"
    with pytest.raises(ValueError, match=re.escape(message)):
        layer(x)


def test_groups_that_are_set_later_count_and_must_divide(rng):
    layer, x = built(fusednorm.GroupNormalization(4), SHAPE, rng), data(rng, SHAPE)
    layer(x)
    layer.groups = 2
    assert share_of_bound(layer, x, layer(x)) <= 1
    layer.groups = 3
    with pytest.raises(ValueError, match="must divide the number of channels"):
        layer(x)


def test_zero_centered_that_is_set_later_counts(rng):
    layer, x = built(fusednorm.RMSNormalization(), SHAPE, rng), data(rng, SHAPE)
    layer(x)
    layer.zero_centered = True
    assert share_of_bound(layer, x, layer(x)) <= 1


@pytest.mark.parametrize("kind", OVER_AXES)
def test_an_axis_that_is_set_later_counts(kind, rng):
    layer, x = built(OVER_AXES[kind](), SHAPE, rng), data(rng, SHAPE)
    layer(x)
    layer.axis = 1
    assert share_of_bound(layer, x, layer(x)) <= 1
    layer.axis = 0
    with pytest.raises(ValueError, match="that the layer was built for"):
        layer(x)


@pytest.mark.parametrize("kind", OVER_AXES)
@pytest.mark.parametrize("axis", [-1, [-1], (-1,)], ids=str)
def test_inputs_may_have_another_rank_than_the_layer_was_built_for(kind, axis, rng):
    layer = built(OVER_AXES[kind](axis=axis), SHAPE, rng)
    for shape in (SHAPE, (5, 8), (2, 3, 4, 8), (8,), SHAPE):
        x = data(rng, shape)
        assert share_of_bound(layer, x, layer(x)) <= 1, shape
    with pytest.raises(ValueError, match="that the layer was built for"):
        layer(data(rng, (5, 7)))


@every_layer
def test_a_copy_has_an_epsilon_of_its_own(kind, rng):
    layer, x = built(LAYERS[kind](), SHAPE, rng), data(rng, SHAPE)
    layer(x)
    layer.epsilon = 0.5
    like = copy.deepcopy(layer)
    like.epsilon = 0.25
    again = built(type(layer).from_config(layer.get_config()), SHAPE, rng)
    for each in (layer, like, again):
        assert share_of_bound(each, x, each(x)) <= 1
    assert [each.epsilon for each in (layer, like, again)] == [0.5, 0.25, 0.5]


@pytest.mark.parametrize(
    ("function", "valid", "equal"),
    [
        ("group_norm", {"groups": 1}, {"groups": True}),
        ("group_norm", {"groups": 2, "axis": 1}, {"groups": 2, "axis": True}),
        ("layer_norm", {"axis": 1}, {"axis": True}),
        ("layer_norm", {"axis": 1}, {"axis": 1.0}),
        ("layer_norm", {"axis": (1, 2)}, {"axis": (True, 2)}),
        ("rms_norm", {"axis": [1, 2]}, {"axis": [1.0, 2]}),
    ],
)
def test_what_equals_a_valid_argument_is_refused_all_the_same(
    function, valid, equal, rng
):
    x = data(rng, SHAPE)
    getattr(fusednorm, function)(x, **valid)
    with pytest.raises((TypeError, ValueError), match=r"Argument `(axis|groups)` must"):
        getattr(fusednorm, function)(x, **equal)


@pytest.mark.parametrize("axis", [(0, 1), [0, 1], (1, 0)], ids=str)
def test_an_error_names_the_axes_as_they_were_given(axis, rng):
    x = data(rng, SHAPE)
    fusednorm.layer_norm(x, axis=axis)
    message = re.escape(f"are given for each sample. Received: axis={axis}")
    with pytest.raises(ValueError, match=f"{message}$"):
        fusednorm.layer_norm(x, np.ones((3, 3, 8), np.float32), axis=axis)


@pytest.mark.parametrize("function", ["layer_norm", "rms_norm"])
def test_one_axis_is_another_one_in_each_rank(function, rng):
    norm = getattr(fusednorm, function)

    @tf.function(input_signature=[tf.TensorSpec(None)])
    def of_any_rank(x):
        return norm(x, axis=-1)

    for shape in ((5, 8), SHAPE, (2, 3, 4, 8), (5, 8)):
        x = data(rng, shape)
        by_rows = np.reshape(norm(x.reshape(-1, 8), axis=-1), shape)
        np.testing.assert_array_equal(norm(x, axis=-1), by_rows)
        np.testing.assert_array_equal(norm(x, axis=len(shape) - 1), by_rows)
        np.testing.assert_array_equal(of_any_rank(x), by_rows)


@pytest.mark.parametrize(
    "make",
    [
        lambda **kwargs: fusednorm.AdaptiveGroupNormalization(4, **kwargs),
        lambda **kwargs: fusednorm.FilterResponseNormalization(**kwargs),
    ],
    ids=["adaptive", "filter response"],
)
def test_epsilon_of_other_layers_counts_when_it_is_set_later(make, rng):
    x = data(rng, (2, 3, 4, 8))
    layer, new = make(), make(epsilon=0.5)
    adaptive = isinstance(layer, fusednorm.AdaptiveGroupNormalization)
    inputs = [x, data(rng, (2, 5))] if adaptive else x
    before = np.asarray(layer(inputs))
    layer.epsilon = 0.5
    after = np.asarray(layer(inputs))
    # Both have the weights that layers begin with.
    np.testing.assert_array_equal(after, new(inputs))
    assert np.abs(after - before).max() > 0.01

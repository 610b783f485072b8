"""`fusednorm.convert(fuse=True)` folds an Add before a norm into it, and back."""

import fusednorm
import keras
import numpy as np
import pytest
from support.folding import (
    AGREE,
    SHAPE,
    assert_trains_as_before,
    convert,
    dense,
    relative,
)

layers = keras.layers


def prenorm(blocks=3):
    """Returns a stack of residual blocks as transformers have them."""
    inputs = keras.Input(SHAPE)
    stream = dense(name="embed")(inputs)
    update = dense(name="first")(stream)
    for block in range(blocks):
        stream = layers.Add(name=f"add{block}")([stream, update])
        y = layers.LayerNormalization(name=f"norm{block}")(stream)
        if block:
            y = layers.ReLU(name=f"relu{block}")(y)
        # Longer than the way to the next Add, so that it must wait.
        update = dense(name=f"b{block}")(dense(name=f"a{block}")(y))
    return keras.Model(inputs, layers.Add(name="out")([stream, update]))


def names(model):
    return {layer.name for layer in model.layers}


def test_a_norm_takes_the_sum_before_it(x):
    model = prenorm()
    before, weights = model(x), [id(weight) for weight in model.weights]
    convert(model)
    assert names(model).isdisjoint({"add0", "add1", "add2"})
    assert "out" in names(model)
    assert [model.get_layer(f"norm{i}").activation for i in range(3)] == [
        None,
        "relu",
        "relu",
    ]
    assert relative(model(x), before) <= AGREE
    assert [id(weight) for weight in model.weights] == weights
    rows = {row.path: row.after for row in model.fusednorm_conversion.rows}
    assert rows["add1"] == "the residual of norm1"


def test_it_trains_as_before(x):
    assert_trains_as_before(prenorm, x, np.tanh(x))


def test_the_graph_saves_loads_and_clones(x, tmp_path):
    model = convert(prenorm())
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert names(loaded) == names(model)
    np.testing.assert_array_equal(loaded(x), model(x))
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    np.testing.assert_array_equal(clone(x), model(x))


def test_other_models_of_the_layers_go_on(x):
    model = prenorm()
    others = [
        keras.Model(model.input, model.get_layer(name).output)
        for name in ("add1", "norm0", "b2")
    ]
    before = [other(x) for other in others]
    convert(model)
    for other, y in zip(others, before, strict=True):
        assert relative(other(x), y) <= AGREE
    # And a model that is made now.
    late = keras.Model(model.input, model.get_layer("b2").output)
    assert relative(late(x), before[-1]) <= AGREE


@pytest.mark.parametrize("times", [1, 2])
def test_unconvert_is_the_way_back(times, x):
    model = prenorm()
    before, weights = model(x), [id(weight) for weight in model.weights]
    for _ in range(times):
        convert(model)
        fusednorm.unconvert(model, verbose=False)
    kinds = [type(layer) for layer in model.layers]
    assert kinds.count(layers.Add) == 4
    assert kinds.count(layers.LayerNormalization) == 3
    assert [id(weight) for weight in model.weights] == weights
    np.testing.assert_array_equal(model(x), before)


def test_a_graph_is_put_back_if_outputs_differ(x):
    model = prenorm()
    before, kept = model(x), names(model)
    nodes = {layer.name: list(layer._outbound_nodes) for layer in model.layers}
    for _ in range(2):
        with pytest.raises(RuntimeError, match="The model is as it was"):
            convert(model, tolerance=-1.0)
    assert names(model) == kept
    assert len(model._flatten_layers()) == len(kept) + 1
    assert {layer.name: list(layer._outbound_nodes) for layer in model.layers} == nodes
    np.testing.assert_array_equal(model(x), before)
    convert(model)
    converted, kept = model(x), names(model)
    with pytest.raises(RuntimeError, match="The model is as it was"):
        fusednorm.unconvert(model, tolerance=-1.0, verbose=False)
    assert names(model) == kept
    np.testing.assert_array_equal(model(x), converted)


def kept_sums():
    """Yields models whose Add has to stay, by what is in the way."""
    a, b = (keras.Input(SHAPE, name=name) for name in "ab")
    norm = layers.LayerNormalization

    total = layers.Add()([a, b])
    yield "an output of the model", keras.Model([a, b], [norm()(total), total])
    yield "three terms", keras.Model([a, b], norm()(layers.Add()([a, b, a])))
    narrow = layers.Dense(1)(b)
    yield "broadcasting", keras.Model([a, b], norm()(layers.Add()([a, narrow])))
    add = layers.Add()
    y = layers.Subtract()([norm()(add([a, b])), add([b, b])])
    yield "a shared Add", keras.Model([a, b], y)
    shared, total = norm(), layers.Add()([a, b])
    y = layers.Subtract()([shared(total), shared(a)])
    yield "a shared norm", keras.Model([a, b], y)
    masked = layers.Add()([layers.Masking()(a), b])
    yield "a mask", keras.Model([a, b], norm()(masked))
    regular = layers.Add(activity_regularizer="l2")([a, b])
    yield "a regularized sum", keras.Model([a, b], norm()(regular))
    half = layers.Add(dtype="mixed_float16")([a, b])
    yield "another dtype", keras.Model([a, b], norm()(half))


def test_an_add_that_is_needed_stays(x):
    for name, model in kept_sums():
        before = keras.tree.flatten(model([x, x[::-1]]))
        convert(model)
        assert any(type(layer) is layers.Add for layer in model.layers), name
        # Keras rounds to the dtype of the input, then casts to that of the layer.
        bound = 2.0**-11 if name == "another dtype" else AGREE
        after = keras.tree.flatten(model([x, x[::-1]]))
        assert all(map(lambda *pair: relative(*pair) <= bound, after, before)), name


class Both(keras.Model):
    """Holds two models of the same layers."""

    def __init__(self, whole, part):
        super().__init__()
        self.whole, self.part = whole, part

    def call(self, x):
        return self.whole(x) + self.part(x)


def test_a_sum_that_is_in_two_models_stays(x):
    model = prenorm(1)
    part = keras.Model(model.input, model.get_layer("norm0").output)
    both = Both(model, part)
    before = both(x)
    convert(both)
    assert "add0" in names(model)
    assert isinstance(model.get_layer("norm0"), fusednorm.LayerNormalization)
    assert not both.fusednorm_conversion.left
    assert relative(both(x), before) <= AGREE


class Twice(layers.Layer):
    """Gives two tensors, as a layer of a Sequential model can."""

    def call(self, x):
        return [x, 2 * x]


def test_a_sequential_model_stays_a_row_of_layers(x):
    given = [Twice(), layers.Add(), layers.LayerNormalization()]
    model = keras.Sequential([keras.Input(SHAPE), *given])
    before = model(x)
    convert(model)
    assert model.layers == given
    assert isinstance(given[-1], fusednorm.LayerNormalization)
    assert not model.fusednorm_conversion.left
    assert relative(model(x), before) <= AGREE
    # As its layers are called after a change.
    model.add(layers.Activation("linear"))
    assert relative(model(x), before) <= AGREE


def test_unconvert_leaves_a_shared_norm_with_a_residual(x):
    inputs = keras.Input(SHAPE)
    norm = fusednorm.LayerNormalization(name="norm")
    y, total = norm(dense()(inputs), residual=inputs)
    model = keras.Model(inputs, norm(layers.Add()([y, total])))
    before = model(x)
    fusednorm.unconvert(model, verbose=False)
    (row,) = model.fusednorm_conversion.left
    assert (row.path, row.why) == (
        "norm",
        "is called with a residual",
    )
    np.testing.assert_array_equal(model(x), before)

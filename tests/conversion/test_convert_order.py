"""After `fusednorm.convert` a model's layers and weights stand in their order."""

import fusednorm
import keras
import numpy as np
import pytest
from support.folding import AGREE, SHAPE, convert, dense, relative

layers = keras.layers


def norm(name):
    # Each with weights of its own, so that no two can be swapped without notice.
    return layers.LayerNormalization(
        name=name, gamma_initializer="random_uniform", beta_initializer="random_uniform"
    )


def reordered():
    """Returns the smallest model in which taking the sum would move a norm."""
    a, b = keras.Input(SHAPE, name="x"), keras.Input(SHAPE, name="y")
    total = layers.Add(name="sum")([a, b])
    first = norm("a")(layers.Activation("tanh", name="tanh")(total))
    return keras.Model([a, b], layers.Subtract()([first, norm("b")(total)]))


def two_towers():
    """Returns a model of two stacks, in which all sums together keep the order."""
    inputs = [keras.Input(SHAPE, name=name) for name in "xy"]
    ends = []
    for tower, y in enumerate(inputs):
        for block in range(2):
            total = layers.Add(name=f"sum{tower}{block}")([y, dense()(y)])
            y = layers.Multiply()([norm(f"norm{tower}{block}")(total), total])
        ends.append(y)
    return keras.Model(inputs, layers.Subtract()(ends))


def parallel():
    """Returns two parallel residual blocks, as in GPT-NeoX: two norms of one sum."""
    inputs = [keras.Input(SHAPE, name=name) for name in "xy"]
    total = layers.Add(name="sum0")(inputs)
    for block in range(2):
        branches = [
            dense()(norm(f"{name}{block}")(total)) for name in ("attend", "mlp")
        ]
        total = layers.Add()([total, layers.Add()(branches)])
    return keras.Model(inputs, norm("last")(total))


def nested():
    inner = reordered()
    a, b = keras.Input(SHAPE, name="outer_x"), keras.Input(SHAPE, name="outer_y")
    total = layers.Add(name="outer_sum")([inner([a, dense()(b)]), a])
    return keras.Model([a, b], dense()(norm("outer")(total)))


MODELS = {each.__name__: each for each in (reordered, two_towers, parallel, nested)}
every_model = pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)


def weighted(model):
    return [layer.name for layer in model.layers if layer.weights]


def sums(model):
    everything = model._flatten_layers()
    return [each.name for each in everything if type(each) is layers.Add]


@pytest.fixture
def data(x):
    return [x, x[::-1].copy()]


@every_model
def test_layers_and_weights_keep_their_order(make, data):
    model = make()
    names, weights = weighted(model), [id(weight) for weight in model.weights]
    before = model(data)
    convert(model)
    assert weighted(model) == names
    assert [id(weight) for weight in model.weights] == weights
    assert relative(model(data), before) <= AGREE


@every_model
def test_weights_go_between_the_original_and_the_converted_model(make, data, tmp_path):
    keras.utils.set_random_seed(1)
    model = make()
    twin = keras.models.clone_model(model)
    twin.set_weights([weight + 0.5 for weight in model.get_weights()])
    expected = [model(data), twin(data)]
    convert(model)
    clone = keras.models.clone_model(model)
    clone.set_weights(twin.get_weights())
    assert relative(clone(data), expected[1]) <= AGREE
    read = keras.models.model_from_json(model.to_json())
    read.set_weights(twin.get_weights())
    assert relative(read(data), expected[1]) <= AGREE
    for suffix in (".weights.h5", ".h5"):
        files = [str(tmp_path / f"{name}{suffix}") for name in ("twin", "model")]
        for each, file in zip((twin, model), files, strict=True):
            each.save_weights(file) if suffix == ".weights.h5" else each.save(file)
        clone.load_weights(files[1])
        assert relative(clone(data), expected[0]) <= AGREE
        clone.load_weights(files[0])
        assert relative(clone(data), expected[1]) <= AGREE
        original = make()
        original.load_weights(files[1])
        assert relative(original(data), expected[0]) <= AGREE


def test_a_sum_stays_where_the_order_would_change():
    model = convert(reordered())
    (row,) = model.fusednorm_conversion.left
    assert row.path == "sum"
    assert row.why == "the model's weights would be in another order"
    assert sums(model) == ["sum"]


def test_says_once_that_a_sum_stays(data):
    a, b = keras.Input(SHAPE, name="x"), keras.Input(SHAPE, name="y")
    total = layers.Add(name="sum")([a, b])
    first = norm("a")(layers.ReLU()(total))
    ends = [first, norm("b")(total), norm("c")(total)]
    model = keras.Model([a, b], layers.Concatenate()(ends))
    before = model(data)
    convert(model)
    (row,) = model.fusednorm_conversion.left
    assert row.path == "sum"
    assert len(model.fusednorm_conversion.replaced) == 3
    assert weighted(model) == ["a", "b", "c"]
    assert relative(model(data), before) <= AGREE


def test_sums_that_keep_the_order_together_are_all_taken():
    assert sums(convert(two_towers())) == []


def test_one_of_two_norms_takes_the_sum(data):
    model = parallel()
    before, names = model(data), weighted(model)
    convert(model)
    assert "sum0" not in sums(model)
    assert [row.path for row in model.fusednorm_conversion.left] == []
    fusednorm.unconvert(model, verbose=False)
    assert weighted(model) == names
    np.testing.assert_array_equal(model(data), before)


def test_unconvert_leaves_a_sum_in_a_norm_where_the_order_would_change(data):
    a, b = keras.Input(SHAPE, name="x"), keras.Input(SHAPE, name="y")
    y, total = fusednorm.LayerNormalization(name="b")(a, residual=b)
    first = fusednorm.LayerNormalization(name="a")(layers.ReLU()(total))
    model = keras.Model([a, b], layers.Subtract()([first, y]))
    before = model(data)
    fusednorm.unconvert(model, verbose=False)
    assert weighted(model) == ["b", "a"]
    reasons = [row.why for row in model.fusednorm_conversion.left if row.path == "b"]
    assert reasons == [
        "the model's weights would be in another order",
        "is called with a residual",
    ]
    np.testing.assert_allclose(model(data), before, rtol=0, atol=1e-5)

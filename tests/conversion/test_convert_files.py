"""Files and checkpoints with optimizers go between a model and the converted one.

Whatever `fusednorm.convert(fuse=True)` has folded away, training goes on from a file or
a `tf.train.Checkpoint` of either model as it would have in the original.
"""

import fusednorm
import keras
import numpy as np
import pytest
import tensorflow as tf
from fusednorm.layers.base import Normalization

layers = keras.layers
SHAPE = (6, 8)
# Weights after a few steps of Adam of 0.01: the gradients agree to 2^-16 (see
# test_convert.py), and a step is 0.01 times a quotient of averages of them, which are
# not small here. A slot that is zero or another weight's makes 1e-2.
AGREE = 1e-4


def block(x, name):
    """Returns a block with a sum that a norm takes."""
    total = layers.Add(name=f"{name}_sum")([x, layers.Dense(8, name=f"{name}_in")(x)])
    y = layers.LayerNormalization(name=f"{name}_norm")(total)
    y = layers.Dense(8, name=f"{name}_out")(layers.ReLU(name=f"{name}_relu")(y))
    return layers.Add(name=f"{name}_end")([total, y])


def functional():
    inputs = keras.Input(SHAPE, name="x")
    y = block(inputs, "a")
    y = layers.GroupNormalization(4, name="group")(y)
    return keras.Model(inputs, y, name="functional")


def nested():
    inner = functional()
    inputs = keras.Input(SHAPE, name="outer_x")
    return keras.Model(inputs, block(inner(inputs), "after"))


def reordered():
    """Returns a model of two norms that would change places if a sum were folded."""
    inputs = keras.Input(SHAPE, name="x")
    total = layers.Add(name="sum")([inputs, layers.Dense(8, name="dense")(inputs)])
    first = layers.LayerNormalization(name="a")(layers.ReLU(name="relu")(total))
    second = layers.LayerNormalization(name="b")(total)
    return keras.Model(inputs, layers.Subtract(name="minus")([first, second]))


@keras.saving.register_keras_serializable("test_convert_files")
class InCode(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.norms = [layers.RMSNormalization(), layers.LayerNormalization()]
        self.inner = functional()

    def build(self, shape):
        for norm in self.norms:
            norm.build(shape)

    def call(self, x):
        return self.norms[1](self.inner(self.norms[0](x)))


def in_code():
    model = InCode()
    model(np.zeros((1, *SHAPE), np.float32))
    return model


MODELS = {each.__name__: each for each in (functional, nested, reordered, in_code)}
every_model = pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
GRAPHS = {name: make for name, make in MODELS.items() if make is not in_code}
every_graph = pytest.mark.parametrize("make", GRAPHS.values(), ids=GRAPHS)


@pytest.fixture
def x(rng):
    return rng.standard_normal((4, *SHAPE), np.float32)


def new(make, seed=0):
    """Returns a compiled model, the same one for a seed, but not with equal norms."""
    keras.utils.set_random_seed(seed)
    model = make()
    rng = np.random.default_rng(seed)
    model.set_weights([w + 0.1 * rng.standard_normal(w.shape) for w in model.weights])
    model.compile(keras.optimizers.Adam(0.01), "mse", run_eagerly=True)
    return model


def trained(model, x, steps=1):
    model.fit(x, np.tanh(x[..., ::-1]), batch_size=4, epochs=steps, verbose=0)
    return model


def converted(model, x):
    fusednorm.convert(model, fuse=True, inputs=x, verbose=False)
    assert model.fusednorm_conversion.replaced
    return model


def assert_same_training(model, expected):
    """Says that weights and the optimizer's slots are those of a model."""
    assert model.optimizer.iterations == expected.optimizer.iterations
    for now, then in (
        (model.weights, expected.weights),
        (model.optimizer.variables, expected.optimizer.variables),
    ):
        for a, b in zip(now, then, strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=AGREE)


def test_sums_are_folded_where_that_keeps_the_order(x):
    folded = [
        [row.path for row in model.fusednorm_conversion.replaced if row.before == "Add"]
        for model in (converted(make(), x) for make in GRAPHS.values())
    ]
    assert [len(paths) for paths in folded] == [2, 3, 0]


# ---------------------------------------------------------------- .keras


@every_model
def test_a_converted_model_goes_on_training_from_its_file(make, x, tmp_path):
    expected = trained(new(make), x, 2)
    converted(trained(new(make), x), x).save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert_same_training(trained(loaded, x), expected)


@every_model
def test_a_model_that_was_loaded_goes_on_training_converted(make, x, tmp_path):
    expected = trained(new(make), x, 2)
    trained(new(make), x).save(tmp_path / "model.keras")
    loaded = converted(keras.models.load_model(tmp_path / "model.keras"), x)
    assert_same_training(trained(loaded, x), expected)


@every_model
def test_a_converted_model_takes_the_file_of_the_original(make, x, tmp_path):
    """With the optimizer's slots, which the model has once it has trained."""
    expected = trained(new(make), x, 2)
    trained(new(make), x).save(tmp_path / "model.keras")
    model = trained(converted(new(make, seed=1), x), x)
    model.load_weights(tmp_path / "model.keras")
    assert_same_training(trained(model, x), expected)


# ---------------------------------------------------------------- checkpoints


def checkpoint(model):
    return tf.train.Checkpoint(model=model, optimizer=model.optimizer)


@every_graph
@pytest.mark.parametrize(
    ("source", "target"),
    [("original", "converted"), ("converted", "original"), ("original", "clone")],
)
def test_checkpoints_go_everywhere(make, source, target, x, tmp_path):
    expected = trained(new(make), x, 2)
    model = trained(new(make), x)
    if source == "converted":
        converted(model, x)
    path = checkpoint(model).save(str(tmp_path / "checkpoint"))
    other = new(make, seed=1)
    if target != "original":
        converted(other, x)
    if target == "clone":
        other = keras.models.clone_model(other)
        other.compile(keras.optimizers.Adam(0.01), "mse", run_eagerly=True)
        assert any(isinstance(each, Normalization) for each in other._flatten_layers())
    # Has the optimizer's slots made.
    status = checkpoint(trained(other, x)).restore(path)
    status.assert_consumed()
    assert_same_training(trained(other, x), expected)


# ---------------------------------------------------------------- .h5


@every_graph
@pytest.mark.parametrize(
    "options",
    [{}, {"by_name": True}, {"skip_mismatch": True}],
    ids=["in_order", "by_name", "skip_mismatch"],
)
def test_h5_files_load_into_either_model(make, options, x, tmp_path):
    original, model = new(make), converted(new(make, seed=1), x)
    before, others = original.get_weights(), model.get_weights()
    for each, name in ((original, "original.h5"), (model, "converted.h5")):
        each.save(tmp_path / name)
    model.load_weights(tmp_path / "original.h5", **options)
    original.load_weights(tmp_path / "converted.h5", **options)
    for each, weights in ((model, before), (original, others)):
        for a, b in zip(each.get_weights(), weights, strict=True):
            np.testing.assert_array_equal(a, b)


def with_head(units):
    y = functional()
    return keras.Model(y.input, layers.Dense(units, name="head")(y.output))


@pytest.mark.parametrize("by_name", [False, True])
def test_h5_files_leave_out_what_does_not_fit(by_name, x, tmp_path):
    original = new(lambda: with_head(3))
    original.save(tmp_path / "original.h5")
    model = converted(new(lambda: with_head(5), seed=1), x)
    head = model.get_layer("head").get_weights()
    path = tmp_path / "original.h5"
    with pytest.raises(ValueError, match=r"[Ss]hape"):
        model.load_weights(path, by_name=by_name)
    with pytest.warns(UserWarning, match="Skipping loading"):
        model.load_weights(path, by_name=by_name, skip_mismatch=True)
    for layer in model.layers:
        kept = layer.name == "head"
        weights = head if kept else original.get_layer(layer.name).get_weights()
        for a, b in zip(layer.get_weights(), weights, strict=True):
            np.testing.assert_array_equal(a, b)


def test_layers_that_one_of_two_models_has_are_left_out_by_name(x, tmp_path):
    """The way for files where layers with weights have come or gone."""
    original = new(functional)
    original.save(tmp_path / "original.h5")
    model = converted(new(lambda: with_head(3), seed=1), x)
    with pytest.raises(ValueError, match="ayer"):
        model.load_weights(tmp_path / "original.h5")
    model.load_weights(tmp_path / "original.h5", by_name=True)
    for layer in original.layers:
        if not layer.weights:
            continue  # Such as an Add, which is in a norm now.
        pairs = zip(
            layer.get_weights(),
            model.get_layer(layer.name).get_weights(),
            strict=True,
        )
        for a, b in pairs:
            np.testing.assert_array_equal(a, b)


def test_only_h5_files_load_by_name(x, tmp_path):
    """Keras has `by_name` for no other files, converted or not."""
    model = converted(new(functional), x)
    model.save_weights(tmp_path / "model.weights.h5")
    for each in (new(functional), model):
        with pytest.raises(ValueError, match="by_name"):
            each.load_weights(tmp_path / "model.weights.h5", by_name=True)

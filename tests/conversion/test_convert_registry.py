"""`fusednorm.register_conversion`: classes of layers that users teach `convert`."""

import warnings

import fusednorm
import keras
import numpy as np
import pytest
import tensorflow as tf
from fusednorm.conversion import registry
from keras import ops


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    monkeypatch.setattr(registry, "_registered", {})


class MyRMS(keras.layers.Layer):
    """An RMS norm with names of its own."""

    def __init__(self, eps=1e-5, **kwargs):
        super().__init__(**kwargs)
        self.eps = eps

    def build(self, shape):
        self.weight = self.add_weight((shape[-1],), "ones", name="weight")

    def call(self, x):
        x = ops.cast(x, "float32")
        square = ops.mean(ops.square(x), axis=-1, keepdims=True)
        y = x * ops.rsqrt(square + self.eps)
        return ops.cast(y * self.weight, self.compute_dtype)


class MyNorm(keras.layers.Layer):
    """A layer norm with names of its own."""

    def build(self, shape):
        self.g = self.add_weight((shape[-1],), "ones", name="g")
        self.b = self.add_weight((shape[-1],), "zeros", name="b")

    def call(self, x):
        x = x - ops.mean(x, axis=-1, keepdims=True)
        return (
            x * ops.rsqrt(ops.var(x, axis=-1, keepdims=True) + 1e-4) * self.g + self.b
        )


def to_rms(layer):
    return fusednorm.RMSNormalization(epsilon=layer.eps, dtype=layer.dtype_policy)


def to_norm(layer):
    return fusednorm.LayerNormalization(epsilon=1e-4, dtype=layer.dtype_policy)


def model_of(*layers):
    model = keras.Sequential([keras.Input((5, 12)), *layers])
    rng = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(weight + rng.normal(size=weight.shape) / 4)
    return model


def only_row(model):
    (row,) = model.fusednorm_conversion.rows
    return row


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("name", ["by class", "by name"])
def test_replaces_a_registered_class_and_gives_it_back(policy, name):
    model = model_of(MyRMS(dtype=policy, name="mine"))
    layer, weight = model.layers[0], model.layers[0].weight
    x = np.random.default_rng(1).normal(size=(3, 5, 12)).astype("float32")
    before, order = model(x), [each.path for each in model.weights]
    cls = MyRMS if name == "by class" else f"{__name__}.MyRMS"
    fusednorm.register_conversion(cls, to_rms, weights={"scale": "weight"})
    fusednorm.convert(model, verbose=False)
    assert model.layers == [layer]
    assert isinstance(layer, fusednorm.RMSNormalization)
    assert layer.scale is weight
    assert layer.weight is weight
    assert [each.path for each in model.weights] == order
    after = model(x)
    assert after.dtype == before.dtype
    # Three roundings of the compute dtype, and of float32 on the way.
    unit = {"float32": 2.0**-24, "mixed_bfloat16": 2.0**-8, "mixed_float16": 2.0**-11}
    bound = 4 * unit[policy] * np.abs(before).max()
    assert np.max(np.abs(ops.cast(after - before, "float32"))) <= bound
    layer.trainable = False
    fusednorm.unconvert(model, verbose=False)
    assert type(layer) is MyRMS
    assert layer.weight is weight
    assert not layer.trainable
    assert not hasattr(layer, "scale")
    assert not hasattr(layer, "activation")
    assert np.array_equal(model(x), before)
    assert only_row(model).after == "MyRMS"


def test_weights_may_have_other_names_and_be_several():
    model = model_of(MyNorm())
    names = {"gamma": "g", "beta": "b"}
    fusednorm.register_conversion(MyNorm, to_norm, weights=names)
    fusednorm.convert(model, verbose=False)
    layer = model.layers[0]
    assert isinstance(layer, fusednorm.LayerNormalization)
    assert layer.gamma is layer.g
    assert layer.beta is layer.b


def test_weights_that_are_mixed_up_show():
    # Fresh ones are all ones and all zeros, and so is a layer of random weights not.
    model = keras.Sequential([keras.Input((5, 12)), MyNorm()])
    names = {"gamma": "b", "beta": "g"}
    fusednorm.register_conversion(MyNorm, to_norm, weights=names)
    fusednorm.convert(model, verbose=False)
    assert "outputs would differ by" in only_row(model).why
    assert type(model.layers[0]) is MyNorm


class Exponential(MyRMS):
    """Computes the same as `zero_centered` while its weight is zero."""

    def build(self, shape):
        self.weight = self.add_weight((shape[-1],), "zeros", name="weight")

    def call(self, x):
        square = ops.mean(ops.square(x), axis=-1, keepdims=True)
        return x * ops.rsqrt(square + self.eps) * ops.exp(self.weight)


def test_another_formula_shows_on_fresh_weights():
    model = keras.Sequential([keras.Input((5, 12)), Exponential()])
    fusednorm.register_conversion(
        Exponential,
        lambda layer: fusednorm.RMSNormalization(
            epsilon=layer.eps, zero_centered=True, dtype=layer.dtype_policy
        ),
        weights={"scale": "weight"},
    )
    fusednorm.convert(model, verbose=False)
    assert "outputs would differ by" in only_row(model).why
    assert type(model.layers[0]) is Exponential
    assert not np.any(model.layers[0].weight)


def test_subclasses_stay():
    fusednorm.register_conversion(MyRMS, to_rms, weights={"scale": "weight"})

    class Derived(MyRMS):
        pass

    model = model_of(Derived())
    fusednorm.convert(model, verbose=False)
    assert type(model.layers[0]) is Derived


@pytest.mark.parametrize(
    ("to_fused", "why"),
    [
        (lambda layer: layer.no_such, "'MyRMS' object has no attribute 'no_such'"),
        (lambda layer: None, "`to_fused` must return a layer that is not built"),
        (lambda layer: keras.layers.Dense, "`to_fused` must return a layer that is"),
        (
            lambda layer: layer,
            "`to_fused` must return a layer that is not built, not <",
        ),
        (lambda layer: 1 / 0, "division by zero"),
        (to_norm, "has the weights"),
        (
            lambda layer: fusednorm.RMSNormalization(epsilon=1, dtype="float64"),
            "its outputs would be float64, not float32",
        ),
        (
            lambda layer: fusednorm.RMSNormalization(epsilon=1e-2),
            "its outputs would differ by",
        ),
    ],
)
def test_leaves_a_layer_for_which_there_is_none(to_fused, why):
    model = model_of(MyRMS())
    layer, before = model.layers[0], dict(vars(model.layers[0]))
    fusednorm.register_conversion(MyRMS, to_fused, weights={"scale": "weight"})
    fusednorm.convert(model, verbose=False)
    assert why in only_row(model).why
    assert type(layer) is MyRMS
    assert vars(layer) == before


def test_tolerance_is_that_of_the_class():
    fusednorm.register_conversion(
        MyRMS,
        lambda layer: fusednorm.RMSNormalization(epsilon=1e-4),
        weights={"scale": "weight"},
        tolerance=1e-2,
    )
    model = model_of(MyRMS())
    fusednorm.convert(model, verbose=False)
    assert 64 * 2.0**-24 < only_row(model).difference < 1e-2


def test_what_making_a_layer_warns_of_was_said_before():
    def to_fused(layer):
        warnings.warn("epsilon is small", stacklevel=1)
        return to_rms(layer)

    fusednorm.register_conversion(MyRMS, to_fused, weights={"scale": "weight"})
    model = model_of(MyRMS())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        filters = list(warnings.filters)
        fusednorm.convert(model, verbose=False)
        assert warnings.filters == filters
    assert isinstance(model.layers[0], fusednorm.RMSNormalization)


def test_what_is_said_last_holds():
    fusednorm.register_conversion(MyRMS, to_norm)
    fusednorm.register_conversion(MyRMS, to_rms, weights={"scale": "weight"})
    model = model_of(MyRMS())
    fusednorm.convert(model, verbose=False)
    assert isinstance(model.layers[0], fusednorm.RMSNormalization)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((int, to_rms), "Argument `cls` must be a class of Keras layers, or its full"),
        ((MyRMS(), to_rms), "Argument `cls` must be a class of Keras layers"),
        ((MyRMS, "RMSNormalization"), "Argument `to_fused` must be a function"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(TypeError, match=message):
        fusednorm.register_conversion(*arguments)


# --------------------------------------------------------------- in patch_keras


class Block(keras.layers.Layer):
    """A layer that holds norms and has them built for other shapes, as KerasHub's."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.first = MyRMS(name="first")

    def build(self, shape):
        self.first.build(shape)
        self.second = MyRMS(name="second")  # Built by its call.

    def call(self, x):
        return self.second(self.first(x))


@pytest.fixture
def known():
    fusednorm.register_conversion(MyRMS, to_rms, weights={"scale": "weight"})


def blocks(**kwargs):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((5, 12))
    x = keras.layers.Dense(12, name="dense")(inputs)
    outputs = MyRMS(name="last", **kwargs)(Block(name="block")(x))
    return keras.Model(inputs, keras.layers.Dense(3, name="end")(outputs))


def norms(model):
    held = model.get_layer("block")
    return [held.first, held.second, model.get_layer("last")]


@pytest.mark.usefixtures("known")
def test_patch_replaces_a_registered_class_when_it_is_built(tmp_path):
    made = keras.layers.Layer.__new__
    theirs = blocks()
    with fusednorm.patch_keras():
        ours = blocks()
        unbuilt = MyRMS()
    assert keras.layers.Layer.__new__ is made
    assert type(unbuilt) is MyRMS
    assert all(isinstance(each, fusednorm.RMSNormalization) for each in norms(ours))
    assert type(blocks().layers[-2]) is MyRMS
    assert [each.path for each in ours.weights] == [
        each.path for each in theirs.weights
    ]
    assert all(map(np.array_equal, ours.get_weights(), theirs.get_weights()))
    x = np.random.default_rng(1).normal(size=(3, 5, 12)).astype("float32")
    # Some roundings of float32, of numbers below 10.
    assert np.allclose(ours(x), theirs(x), atol=1e-5)
    ours.compile("sgd", "mse")
    theirs.compile("sgd", "mse")
    for model in (ours, theirs):
        model.fit(x, np.zeros((3, 5, 3)), verbose=0)
    assert np.allclose(ours(x), theirs(x), atol=1e-5)
    ours.save_weights(tmp_path / "ours.weights.h5")
    theirs.load_weights(tmp_path / "ours.weights.h5")
    assert all(map(np.array_equal, ours.get_weights(), theirs.get_weights()))
    fusednorm.unconvert(ours, verbose=False)
    assert all(type(each) is MyRMS for each in norms(ours))
    assert np.array_equal(ours(x), theirs(x))


@pytest.mark.usefixtures("known")
def test_a_layer_that_is_built_in_a_traced_function_is_replaced():
    with fusednorm.patch_keras():
        layer = MyRMS()
        y = tf.function(lambda x: layer(x))(tf.ones((2, 12)))
    assert isinstance(layer, fusednorm.RMSNormalization)
    assert np.allclose(y, 1, atol=1e-4)


@pytest.mark.usefixtures("known")
def test_variables_of_a_strategy_stay_those_of_the_strategy():
    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    with strategy.scope(), fusednorm.patch_keras():
        layer = MyRMS()
        layer.build((None, 12))
    assert isinstance(layer, fusednorm.RMSNormalization)
    assert isinstance(layer.scale.value, tf.distribute.DistributedValues)


def test_patch_warns_of_a_layer_that_it_leaves():
    fusednorm.register_conversion(MyRMS, to_norm)
    with (
        fusednorm.patch_keras(),
        pytest.warns(
            UserWarning, match=r"MyRMS is not replaced by a fused one: has the"
        ),
    ):
        model = model_of(MyRMS())
    assert type(model.layers[0]) is MyRMS


@pytest.mark.parametrize("tolerance", [1e-2, None])
def test_patch_compares_within_the_tolerance_of_the_class(tolerance):
    fusednorm.register_conversion(
        MyRMS,
        lambda layer: fusednorm.RMSNormalization(epsilon=1e-4),
        weights={"scale": "weight"},
        tolerance=tolerance,
    )
    with fusednorm.patch_keras(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        layer = model_of(MyRMS()).layers[0]
    assert isinstance(layer, fusednorm.RMSNormalization) is (tolerance is not None)


def test_patch_compares_with_other_weights():
    fusednorm.register_conversion(
        Exponential,
        lambda layer: fusednorm.RMSNormalization(epsilon=layer.eps, zero_centered=True),
        weights={"scale": "weight"},
    )
    with (
        fusednorm.patch_keras(),
        pytest.warns(UserWarning, match=r"Exponential is not .* outputs would differ"),
    ):
        model_of(Exponential())


@pytest.mark.usefixtures("known")
def test_files_are_those_of_the_class(tmp_path):
    keras.saving.get_custom_objects().update(MyRMS=MyRMS, Block=Block)
    try:
        model = fusednorm.convert(blocks(), verbose=False)
        x = np.random.default_rng(1).normal(size=(3, 5, 12)).astype("float32")
        model.save(tmp_path / "converted.keras")
        loaded = keras.models.load_model(tmp_path / "converted.keras")
        assert all(type(each) is MyRMS for each in norms(loaded))
        assert np.allclose(loaded(x), model(x), atol=1e-5)
        again = keras.models.clone_model(model)
        again.set_weights(model.get_weights())
        assert np.allclose(again(x), model(x), atol=1e-5)
        with fusednorm.patch_keras():
            loaded = keras.models.load_model(tmp_path / "converted.keras")
        assert all(
            isinstance(each, fusednorm.RMSNormalization) for each in norms(loaded)
        )
        assert np.array_equal(loaded(x), model(x))
    finally:
        for name in ("MyRMS", "Block"):
            del keras.saving.get_custom_objects()[name]


def test_keras_has_no_norm_without_scale():
    model = keras.Sequential(
        [keras.Input((5, 12)), fusednorm.RMSNormalization(with_scale=False)]
    )
    fusednorm.unconvert(model, verbose=False)
    assert only_row(model).why == "Keras's layer cannot do without a scale"


@pytest.mark.usefixtures("known")
def test_nothing_is_fused_into_what_files_take_for_the_class(tmp_path):
    inputs = keras.Input((5, 12))
    total = keras.layers.Add()([inputs, keras.layers.Dense(12)(inputs)])
    y = keras.layers.ReLU()(MyRMS()(total))
    scale = keras.layers.Dense(12)(keras.layers.Flatten()(inputs))
    y = MyRMS(name="last")(y) * (1 + ops.expand_dims(scale, 1))
    model = keras.Model(inputs, keras.layers.Add()([y, total]))
    fusednorm.convert(model, fuse=True, verbose=False)
    report = model.fusednorm_conversion
    assert report.by_class == {"MyRMS": (2, 2)}
    assert [row.why for row in report.left] == [
        "files name the norm's own class, which takes no activation"
    ]
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", {"MyRMS": MyRMS})
    x = np.random.default_rng(1).normal(size=(3, 5, 12)).astype("float32")
    assert np.allclose(loaded(x), model(x), atol=1e-5)

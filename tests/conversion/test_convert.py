"""`fusednorm.convert` and `fusednorm.unconvert`, on models of Keras's own layers.

Runs with Keras 3, and with tf_keras where TF_USE_LEGACY_KERAS=1 is in the environment
(tests/modes/test_legacy_keras.py does that).
"""

import fusednorm
import numpy as np
import pytest
from fusednorm._keras import LEGACY, keras
from fusednorm.layers.base import Normalization

layers = keras.layers
keras_3_only = pytest.mark.skipif(LEGACY, reason="tf_keras has nothing like it")

# Two float32 computations of these models agree to this, relative to the largest
# number: up to four norms in a row of at most 64 roundings of 2^-24 each.
AGREE = 2.0**-16
SHAPE = (6, 6, 8)


def norm(kind, **kwargs):
    """Returns a layer of Keras's whose weights are random."""
    if kind == "rms" and not LEGACY:  # tf_keras has none.
        return layers.RMSNormalization(**kwargs)
    random = {
        "gamma_initializer": keras.initializers.RandomUniform(0.5, 2, seed=1),
        "beta_initializer": keras.initializers.RandomUniform(-1, 1, seed=2),
    }
    if kind == "group":
        return layers.GroupNormalization(4, **random, **kwargs)
    return layers.LayerNormalization(**random, **kwargs)


def dense(units=8, **kwargs):
    # No bias: before a norm its gradient is nothing but rounding.
    return layers.Dense(units, use_bias=False, **kwargs)


def sequential():
    return keras.Sequential(
        [
            keras.Input(SHAPE),
            layers.Conv2D(8, 3, use_bias=False),
            norm("group", name="group"),
            layers.ReLU(name="relu"),
            norm("layer", axis=[1, 2, 3], name="layer"),
            dense(),
            norm("rms", name="rms"),
            layers.Activation("tanh", name="tanh"),
            layers.Flatten(),
            dense(3),
        ]
    )


def functional():
    """Returns a model whose norm `shared` is called twice."""
    x = keras.Input(SHAPE)
    shared = norm("group", name="shared")
    a, b = (shared(dense()(x)) for _ in range(2))
    y = layers.Add()([a, b])
    y = layers.Activation("tanh", name="tanh")(norm("layer", name="layer")(y))
    y = layers.GlobalAveragePooling2D()(y)
    return keras.Model(x, dense(3)(y))


def nested():
    inner = keras.Sequential([keras.Input(SHAPE), dense(), norm("layer", name="deep")])
    x = keras.Input(SHAPE)
    y = norm("group", name="outer")(inner(layers.ReLU()(inner(x))))
    return keras.Model(x, dense(3)(layers.Flatten()(y)))


class Subclassed(keras.Model):
    """Holds norms as an attribute, in a list, a dict and a wrapper."""

    def __init__(self):
        super().__init__()
        self.first = norm("group", name="first")
        self.blocks = [[dense(), norm("layer", name=f"block{i}")] for i in range(2)]
        self.by_name = {"norm": norm("rms", name="by_name")}
        self.wrapper = layers.TimeDistributed(norm("layer", name="wrapped"))
        self.head = keras.Sequential([layers.Flatten(), dense(3)])

    def call(self, x):
        y = self.first(x)
        for project, normalize in self.blocks:
            y = normalize(project(y))
        return self.head(self.wrapper(self.by_name["norm"](y)))


def subclassed():
    model = Subclassed()
    model(np.zeros((1, *SHAPE), np.float32))
    return model


MODELS = {each.__name__: each for each in (sequential, functional, nested, subclassed)}
every_model = pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)


@pytest.fixture(autouse=True)
def _seed():
    keras.utils.set_random_seed(1)


@pytest.fixture
def x(rng):
    return rng.standard_normal((4, *SHAPE), np.float32)


def norms(model):
    named = "GroupN", "InstanceN", "LayerN", "RMSN", "BatchN", "Own"
    everything = model._flatten_layers()
    return [each for each in everything if type(each).__name__.startswith(named)]


def classes(model):
    return [type(layer) for layer in norms(model)]


def ids(objects):
    return [id(each) for each in objects]


def relative(y, expected):
    y, expected = (np.asarray(each, np.float64) for each in (y, expected))
    return np.abs(y - expected).max() / np.abs(expected).max()


def rows(model):
    return {row.path: row for row in model.fusednorm_conversion.rows}


def reason(model, path):
    row = rows(model)[path]
    assert row.after is None
    return row.why


def convert(model, **options):
    return fusednorm.convert(model, verbose=False, **options)


def unconvert(model, **options):
    return fusednorm.unconvert(model, verbose=False, **options)


def model_of(*given, dtype="float32"):
    return keras.Sequential([keras.Input(SHAPE, dtype=dtype), *given])


# ---------------------------------------------------------------- what is kept


@every_model
def test_replaces_every_norm_and_keeps_the_rest(make, x):
    model = make()
    before = model(x)
    kept = [ids(model.weights), ids(model.trainable_weights), ids(norms(model))]
    names = [weight.name for weight in model.weights]
    policies = [layer.dtype_policy for layer in norms(model)]
    assert not any(issubclass(cls, Normalization) for cls in classes(model))

    assert convert(model) is model
    assert all(issubclass(cls, Normalization) for cls in classes(model))
    assert len(model.fusednorm_conversion.replaced) == len(norms(model))
    after = [ids(model.weights), ids(model.trainable_weights), ids(norms(model))]
    assert after == kept
    assert [weight.name for weight in model.weights] == names
    assert [layer.dtype_policy for layer in norms(model)] == policies
    assert relative(model(x), before) <= AGREE
    assert relative(model.predict(x, verbose=0), before) <= AGREE


@every_model
def test_training_goes_on_where_it_was(make, x, rng):
    labels = rng.integers(0, 3, len(x))

    def step(model):
        model.train_on_batch(x, labels)

    trained = []
    for _ in range(2):
        keras.utils.set_random_seed(1)
        model = make()
        # Adam divides gradients by their size; this epsilon is above their rounding.
        model.compile(
            keras.optimizers.Adam(0.01, epsilon=1e-3),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        )
        step(model)
        trained.append(model)
    theirs, ours = trained
    variables = ours.optimizer.variables
    variables = ids(variables() if callable(variables) else variables)
    start = theirs.get_weights()
    convert(ours)
    now = ours.optimizer.variables
    assert ids(now() if callable(now) else now) == variables
    assert ours.compiled if not LEGACY else ours._is_compiled
    for model in trained:
        step(model)
    assert int(ours.optimizer.iterations) == 2
    for a, b, s in zip(ours.get_weights(), theirs.get_weights(), start, strict=True):
        # A step is 0.01 times m / (sqrt(v) + epsilon), whose parts are off by AGREE of
        # the largest gradient, here below 1, and which epsilon may amplify.
        np.testing.assert_allclose(a, b, rtol=0, atol=0.01 * AGREE / 1e-3)
        assert np.abs(a - s).max() > 0.001


def test_functions_that_fit_has_traced_are_traced_again(x, monkeypatch):
    model = model_of(norm("layer"))
    model.compile("sgd", "mse")
    model.fit(x, x, verbose=0)
    model.predict(x, verbose=0)
    convert(model)
    calls = []
    cls = fusednorm.LayerNormalization
    call = cls.call
    monkeypatch.setattr(
        cls, "call", lambda self, *args: calls.append(self) or call(self, *args)
    )
    model.fit(x, x, verbose=0)
    assert len(calls) >= 1
    calls.clear()
    model.predict(x, verbose=0)
    assert len(calls) >= 1


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float64"])
def test_dtype_policies_are_kept(policy, x):
    given = [norm(kind, dtype=policy) for kind in ("group", "layer", "rms")]
    model = model_of(*given, dtype=given[0].compute_dtype)
    if not LEGACY:  # Ones would be exact in any dtype.
        given[-1].scale.assign(np.linspace(0.5, 2, 8))
    before = np.asarray(model(x), np.float64)
    dtypes = [weight.dtype for weight in model.weights]
    convert(model)
    assert [row.why for row in model.fusednorm_conversion.rows] == [""] * 3
    y = model(x)
    assert [weight.dtype for weight in model.weights] == dtypes
    assert y.dtype == model.layers[-1].compute_dtype
    ours = [layer.from_config(layer.get_config()) for layer in model.layers]
    ours = model_of(*ours, dtype=given[0].compute_dtype)
    ours.set_weights(model.get_weights())
    np.testing.assert_array_equal(y, ours(x))
    # Three norms, each of which rounds once to the data's type and hands that on.
    unit = {"float64": 2.0**-53, "mixed_float16": 2.0**-11, "mixed_bfloat16": 2.0**-8}
    assert relative(np.asarray(y, np.float64), before) <= 16 * unit[policy]


def test_frozen_layers_stay_frozen(x):
    model = model_of(norm("group"), norm("layer"))
    model.layers[0].trainable = False
    convert(model)
    assert [layer.trainable for layer in model.layers] == [False, True]
    assert len(model.trainable_weights) == 2
    frozen, trained = (layer.get_weights() for layer in model.layers)
    model.compile("sgd", "mse")
    model.fit(x, x, verbose=0)
    for now, before in zip(model.layers[0].get_weights(), frozen, strict=True):
        np.testing.assert_array_equal(now, before)
    assert all(map(np.any, np.subtract(model.layers[1].get_weights(), trained)))


def test_regularizers_and_constraints_are_kept(x):
    layer = layers.LayerNormalization(
        gamma_regularizer=keras.regularizers.L2(0.5), beta_constraint="non_neg"
    )
    model = model_of(layer)
    convert(model)
    assert [float(loss) for loss in model.losses] == [0.5 * 8]
    assert layer.get_config()["gamma_regularizer"] is not None
    model.compile(keras.optimizers.SGD(1.0), "mse")
    model.fit(x, x - 10, verbose=0)  # Wants a beta of -10.
    np.testing.assert_array_equal(layer.beta, np.zeros(8))


def test_what_was_said_of_a_layer_stays(x):
    model = model_of(norm("layer"))
    model.layers[0].note = "mine"
    convert(model)
    assert model.layers[0].note == "mine"
    unconvert(model)
    assert model.layers[0].note == "mine"


def test_another_model_of_the_same_layers_goes_on(x):
    model = functional()
    features = keras.Model(model.input, model.get_layer("tanh").output)
    before = features(x)
    convert(model, fuse=True)
    assert model.get_layer("layer").activation == "tanh"
    assert relative(features(x), before) <= AGREE


@pytest.mark.parametrize("fuse", [False, True])
@pytest.mark.parametrize("make", [sequential, functional, nested])
def test_converted_model_saves_and_loads(make, fuse, x, tmp_path):
    model = convert(make(), fuse=fuse)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert classes(loaded) == classes(model)
    np.testing.assert_array_equal(loaded(x), model(x))


def test_converts_what_keras_has_saved(x, tmp_path):
    model = sequential()
    model.compile("adam", "mse")
    model.fit(x, np.zeros((len(x), 3)), verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = convert(keras.models.load_model(tmp_path / "model.keras"))
    assert all(issubclass(cls, Normalization) for cls in classes(loaded))
    assert relative(loaded(x), model(x)) <= AGREE


# ---------------------------------------------------------------- what is left


class Own(layers.LayerNormalization):
    """A subclass that computes something else."""

    def call(self, inputs):
        return 2 * super().call(inputs)


class NormBlock(layers.Layer):
    """No norm, though it is called so: it holds one."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.inner = norm("layer", name="inner")

    def call(self, x):
        return self.inner(x)


def test_leaves_what_it_has_nothing_for_and_says_why(x):
    model = model_of(
        NormBlock(name="block"),
        Own(name="own"),
        layers.BatchNormalization(name="batch"),
        layers.UnitNormalization(name="unit"),
        norm("layer", name="layer"),
        layers.Dense(8),
    )
    before = model(x)
    convert(model)
    assert reason(model, "own") == (
        "a subclass of LayerNormalization, which may compute something else"
    )
    assert reason(model, "batch") == "normalizes over the batch, as none of ours does"
    assert reason(model, "unit") == "not a class that one of ours replaces"
    assert set(rows(model)) == {"own", "batch", "unit", "layer", "block/inner"}
    assert [type(layer) for layer in model.layers[1:4]] == [
        Own,
        layers.BatchNormalization,
        layers.UnitNormalization,
    ]
    assert relative(model(x), before) <= AGREE


@keras_3_only
def test_leaves_a_layer_with_weights_of_another_shape():
    # Keras sorts before it resolves: gamma is (channels, height), read in that order.
    model = model_of(layers.LayerNormalization(axis=[-1, 1], name="layer"))
    convert(model)
    assert reason(model, "layer") == (
        "has the weights {'gamma': (8, 6), 'beta': (8, 6)}, not "
        "{'gamma': (6, 8), 'beta': (6, 8)}"
    )
    assert classes(model) == [layers.LayerNormalization]


def test_leaves_a_layer_that_was_never_called(x):
    class Model(keras.Model):
        def __init__(self):
            super().__init__()
            self.used = norm("layer", name="used")
            self.unused = norm("layer", name="unused")

        def call(self, x):
            return self.used(x)

    model = Model()
    model(x)
    convert(model)
    assert reason(model, "unused") == "it is not built, as if the model never called it"
    assert rows(model)["used"].after == "fusednorm.LayerNormalization"


def test_leaves_a_layer_that_would_compute_something_else(x, monkeypatch):
    monkeypatch.setattr(fusednorm.GroupNormalization, "call", lambda self, x: x)
    model = model_of(norm("group", name="group"), norm("layer", name="layer"))
    before = model(x)
    convert(model)
    assert reason(model, "group").startswith("its outputs would differ by ")
    assert classes(model) == [layers.GroupNormalization, fusednorm.LayerNormalization]
    assert relative(model(x), before) <= AGREE


@every_model
def test_puts_everything_back_if_the_outputs_differ(make, x):
    model = make()
    before, state = model(x), classes(model)
    kwargs = [vars(layer).keys() for layer in norms(model)]
    with pytest.raises(RuntimeError, match=r"more than the tolerance of -1.0e\+00"):
        convert(model, fuse=True, inputs=x, tolerance=-1.0)
    assert classes(model) == state
    assert [vars(layer).keys() for layer in norms(model)] == kwargs
    np.testing.assert_array_equal(model(x), before)
    assert not hasattr(model, "fusednorm_conversion")


def test_says_that_outputs_of_unknown_inputs_were_not_compared(x):
    model = convert(subclassed())
    report = model.fusednorm_conversion
    assert report.difference is None
    assert report.outputs == (
        "The model's outputs were not compared: what it takes is not known; pass "
        "`inputs=`"
    )
    report = convert(subclassed(), inputs=x).fusednorm_conversion
    assert 0 <= report.difference <= AGREE
    assert report.outputs.startswith("Outputs on the given input: largest difference")


def test_compares_models_of_integers_and_several_inputs():
    tokens = keras.Input((None,), dtype="int32", name="tokens")
    image = keras.Input((None, None, 4), name="image")
    y = norm("layer")(layers.Embedding(2, 8)(tokens))
    z = norm("group")(layers.Conv2D(8, 3)(image))
    pooled = [layers.GlobalAveragePooling1D()(y), layers.GlobalAveragePooling2D()(z)]
    model = convert(keras.Model({"tokens": tokens, "image": image}, pooled))
    assert 0 <= model.fusednorm_conversion.difference <= AGREE


def test_argument_that_is_no_model_is_refused():
    with pytest.raises(
        TypeError, match=r"must be a Keras model or layer. Received: 3 "
    ):
        convert(3)


def test_model_that_is_not_built_is_refused(x):
    model = keras.Sequential([dense(), norm("layer")])
    with pytest.raises(ValueError, match=r"is not built.*norm.convert\(model, inp"):
        convert(model)
    with pytest.raises(ValueError, match=r"is not built.*norm.unconvert\(model"):
        unconvert(model)
    convert(model, inputs=x)
    assert classes(model) == [fusednorm.LayerNormalization]


def test_summary_reads_well(capsys):
    model = keras.Sequential(
        [
            keras.Input((8,)),
            layers.LayerNormalization(name="norm"),
            layers.BatchNormalization(name="batch"),
        ],
        name="small",
    )
    fusednorm.convert(model)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "fusednorm.convert(small): 1 replaced, 1 left"
    assert lines[1] == (
        "norms replaced: LayerNormalization 1 of 1, BatchNormalization 0 of 1"
    )
    assert lines[2] == "layer  was                 is now (difference on random input)"
    assert lines[3].startswith("norm   LayerNormalization  fusednorm.LayerNormalizatio")
    assert lines[4].endswith("left: normalizes over the batch, as none of ours does")
    assert lines[5].startswith("Outputs on random input: largest difference ")


def test_summary_says_that_there_was_nothing_to_replace(capsys):
    fusednorm.convert(keras.Sequential([keras.Input((8,)), layers.Dense(4)]))
    assert "norms replaced: none, as there are none but ours" in capsys.readouterr().out


def test_again_there_is_nothing_to_do():
    model = convert(sequential(), fuse=True)
    before = classes(model)
    convert(model, fuse=True)
    assert classes(model) == before
    assert model.fusednorm_conversion.rows == ()


# ---------------------------------------------------------------- Addons' layers


@pytest.fixture
def addons():
    """Layers with the names that TensorFlow Addons registers, as in a user's copy."""
    register = keras.saving.register_keras_serializable("Addons")

    @register
    class GroupNormalization(layers.GroupNormalization):
        pass

    @register
    class InstanceNormalization(layers.GroupNormalization):
        def __init__(self, **kwargs):
            kwargs["groups"] = -1
            super().__init__(**kwargs)

    yield GroupNormalization, InstanceNormalization
    for name in ("GroupNormalization", "InstanceNormalization"):
        del keras.saving.get_custom_objects()[f"Addons>{name}"]


# tf_keras's GroupNormalization cannot take the mask of an embedding.
GROUP = pytest.param("group", marks=keras_3_only)


@pytest.mark.parametrize("kind", [GROUP, "layer", "rms"])
def test_masks_go_as_far_as_before(kind, rng):
    """Keras's RMSNormalization ends them, so that what follows counts every step."""
    tokens = rng.integers(0, 3, (4, 6))
    tokens[:, 0] = 1
    model = keras.Sequential(
        [
            layers.Embedding(3, 8, mask_zero=True),
            norm(kind),
            layers.GlobalAveragePooling1D(),
        ]
    )
    expected = np.asarray(model(tokens))
    assert convert(model, inputs=tokens).fusednorm_conversion.replaced
    assert relative(model(tokens), expected) <= AGREE
    config = model.layers[1].get_config()
    again = type(model.layers[1]).from_config(config)
    assert again.supports_masking is model.layers[1].supports_masking


def test_a_layer_that_was_told_to_end_masks_still_does():
    layer = layers.LayerNormalization()
    layer.supports_masking = False
    model = keras.Sequential([keras.Input((6, 8)), layer])
    convert(model)
    assert isinstance(layer, fusednorm.LayerNormalization)
    assert layer.supports_masking is False
    assert layer.get_config()["pass_mask"] is False


def test_replaces_what_is_registered_as_addons_layers(addons, x):
    group, instance = addons
    model = model_of(group(4), instance())
    before = model(x)
    convert(model)
    assert classes(model) == [
        fusednorm.GroupNormalization,
        fusednorm.InstanceNormalization,
    ]
    assert relative(model(x), before) <= AGREE
    unconvert(model)
    assert classes(model) == [layers.GroupNormalization] * 2
    assert [layer.groups for layer in model.layers] == [4, 8]
    assert relative(model(x), before) <= AGREE


def test_leaves_a_class_of_that_name_from_another_package():
    @keras.saving.register_keras_serializable("Mine")
    class GroupNormalization(layers.Layer):
        def call(self, x):
            return 2 * x

    layer = GroupNormalization()
    model = convert(model_of(norm("layer"), layer))
    assert classes(model) == [fusednorm.LayerNormalization, GroupNormalization]
    assert reason(model, layer.name) == "not a class that one of ours replaces"
    del keras.saving.get_custom_objects()["Mine>GroupNormalization"]


# ---------------------------------------------------------------- activations


def leaky(slope):
    return layers.LeakyReLU(**{"alpha" if LEGACY else "negative_slope": slope})


ACTIVATIONS = {
    "relu": lambda: layers.Activation("relu"),
    "gelu": lambda: layers.Activation("gelu"),
    "tanh, function": lambda: layers.Activation(keras.activations.tanh),
    "ReLU": layers.ReLU,
    "ReLU, slope 0.2": lambda: layers.ReLU(negative_slope=0.2),
    "LeakyReLU": lambda: leaky(0.2),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("kind", ["sequential", "added", "functional"])
def test_a_norm_takes_the_activation_after_it(kind, name, x):
    parts = [norm("group", name="norm"), ACTIVATIONS[name](), dense()]
    if kind == "functional":
        inputs = y = keras.Input(SHAPE)
        for part in parts:
            y = part(y)
        model = keras.Model(inputs, y)
    elif kind == "sequential":
        model = model_of(*parts)
    else:  # Which calls all layers anew for each.
        model = model_of()
        for part in parts:
            model.add(part)
    before = model(x)
    convert(model, fuse=True)
    assert parts[0].activation == {"ReLU": "relu"}.get(
        name, "leaky_relu" if "0.2" in name or "Leaky" in name else name.split(",")[0]
    )
    assert type(parts[1]) is layers.Activation
    assert parts[1].activation is keras.activations.linear
    assert relative(model(x), before) <= AGREE

    unconvert(model)
    assert type(parts[0]) is layers.GroupNormalization
    assert parts[1].activation is not keras.activations.linear
    assert relative(model(x), before) <= AGREE


def test_norm_and_activation_that_are_shared_together_are_fused(x):
    inputs = keras.Input(SHAPE)
    shared, relu = norm("group"), layers.ReLU()
    a, b = (relu(shared(dense()(inputs))) for _ in range(2))
    model = keras.Model(inputs, layers.Add()([a, b]))
    before = model(x)
    convert(model, fuse=True)
    assert shared.activation == "relu"
    assert relative(model(x), before) <= AGREE


def unsafe():
    """Yields models whose norm must keep its output, by what is in the way."""
    inputs = keras.Input(SHAPE)

    def after(normalize=None, activation=None):
        y = (normalize or norm("group"))(inputs)
        return y, (activation or layers.ReLU())(y)

    y, z = after()
    yield "another layer takes it", keras.Model(inputs, layers.Add()([y, z]))
    y, z = after()
    yield "an output of the model", keras.Model(inputs, [y, z])
    relu = layers.ReLU()
    z = [after(activation=relu)[1], relu(dense()(inputs))]
    yield "the activation is shared", keras.Model(inputs, z)
    z = after(activation=leaky(0.3))[1]
    yield "another slope", keras.Model(inputs, z)
    z = after(activation=layers.ReLU(max_value=6))[1]
    yield "ReLU6", keras.Model(inputs, z)
    z = after(activation=layers.Activation("elu"))[1]
    yield "not an activation of the kernels", keras.Model(inputs, z)
    z = after(activation=layers.ReLU(dtype="float64"))[1]
    yield "another dtype", keras.Model(inputs, z)
    z = after(normalize=norm("layer", activity_regularizer="l2"))[1]
    yield "regularized output", keras.Model(inputs, z)


def test_a_norm_whose_output_is_needed_keeps_it(x):
    for name, model in unsafe():
        before = keras.tree.flatten(model(x)) if not LEGACY else model(x)
        convert(model, fuse=True)
        assert [layer.activation for layer in norms(model)] == [None], name
        after = keras.tree.flatten(model(x)) if not LEGACY else model(x)
        for a, b in zip(after, before, strict=True):
            assert relative(a, b) <= AGREE, name


@pytest.mark.parametrize(
    ("activation", "why"),
    [
        (lambda: leaky(0.3), "the kernels have slope 0.2. Received: 0.3"),
        (
            lambda: layers.ReLU(max_value=6),
            "its max_value or threshold is not that of a plain ReLU",
        ),
        (
            lambda: layers.ReLU(threshold=0.5),
            "its max_value or threshold is not that of a plain ReLU",
        ),
    ],
)
def test_says_why_an_activation_stays(activation, why):
    layer = activation()
    model = convert(model_of(norm("layer"), layer), fuse=True)
    assert reason(model, layer.name) == why


def test_activations_in_the_code_of_a_model_stay(x):
    class Model(keras.Model):
        def __init__(self):
            super().__init__()
            self.norm, self.relu = norm("layer"), layers.ReLU()
            self.graph = model_of(norm("group"), layers.ReLU())
            self.of_graph = self.graph.layers[0]

        def call(self, x):
            y = self.graph(x) + self.of_graph(x)
            return self.relu(self.norm(y)) + self.norm(y)

    model = Model()
    before = model(x)
    convert(model, fuse=True)
    assert [layer.activation for layer in norms(model)] == [None, None]
    assert relative(model(x), before) <= AGREE


# ---------------------------------------------------------------- and back


@pytest.mark.parametrize("fuse", [False, True])
@every_model
def test_unconvert_is_the_way_back(make, fuse, x):
    model = make()
    before, kept = model(x), classes(model)
    configs = [layer.get_config() for layer in norms(model)]
    weights = ids(model.weights)
    assert unconvert(convert(model, fuse=fuse)) is model
    assert classes(model) == kept
    assert [layer.get_config() for layer in norms(model)] == configs
    assert ids(model.weights) == weights
    np.testing.assert_array_equal(model(x), before)


def test_models_built_with_our_layers_become_keras_models(x, tmp_path):
    model = model_of(
        fusednorm.GroupNormalization(4, epsilon=1e-2),
        fusednorm.InstanceNormalization(axis=1),
        fusednorm.LayerNormalization(axis=[1, 2], center=False, portable=True),
    )
    before = model(x)
    unconvert(model)
    assert classes(model) == [
        layers.GroupNormalization,
        layers.GroupNormalization,
        layers.LayerNormalization,
    ]
    assert relative(model(x), before) <= AGREE
    model.save(tmp_path / "model.keras")
    with pytest.MonkeyPatch.context() as patch:
        for name in list(keras.saving.get_custom_objects()):
            patch.delitem(keras.saving.get_custom_objects(), name)
        loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(x), model(x))


def test_what_keras_cannot_compute_stays_ours(x):
    model = model_of(
        fusednorm.GroupNormalization(4, activation="silu", name="silu"),
        layers.Dropout(0.5),
        fusednorm.RMSNormalization(zero_centered=True, name="centered"),
        fusednorm.LayerNormalization(axis=[-1, 1], name="axes"),
        fusednorm.LayerNormalization(activation="gelu_tanh", name="gelu"),
        layers.Activation("linear"),
    )
    before = model(x)
    unconvert(model)
    assert reason(model, "silu") == "Keras's layer has no activation='silu'"
    assert reason(model, "gelu") == "Keras's layer has no activation='gelu_tanh'"
    assert not model.fusednorm_conversion.replaced or LEGACY
    if not LEGACY:
        assert reason(model, "centered") == "Keras's layer has no zero_centered=True"
        assert reason(model, "axes").startswith("has the weights {'gamma': (6, 8)")
    assert relative(model(x), before) <= AGREE

"""FilterResponseNormalization: TensorFlow Addons', and the threshold of the paper.

Runs with Keras 3, and with tf_keras as test_layers.py does.
"""

import inspect
import json
import re

import fusednorm
import numpy as np
import pytest
import tensorflow as tf
from fusednorm import _keras
from fusednorm._keras import keras
from support.layer_cases import AGREE, BFLOAT16, data, dtype_of, export, name_of

SHAPE = (2, 5, 6, 8)
OPTIONS = {
    "plain": {},
    "learned epsilon": {"learned_epsilon": True},
    "threshold": {"thresholded": True},
    "both": {"learned_epsilon": True, "thresholded": True},
}
every_option = pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)


def ready(rng, shape=SHAPE, **options):
    """Returns a built layer with weights with which order and place matter."""
    layer = fusednorm.FilterResponseNormalization(**options)
    layer.build((None, *shape[1:]))
    for weight in layer.weights:
        low = {"learned_epsilon": -2, "beta": -2, "tau": -1}.get(name_of(weight), 0.5)
        high = {"learned_epsilon": -1, "tau": 1}.get(name_of(weight), 2)
        weight.assign(rng.uniform(low, high, weight.shape))
    return layer


def formula(layer, x):
    """Returns the outputs in float64 ops, and their weights as float64 tensors."""
    weights = {name_of(w): tf.constant(np.float64(w)) for w in layer.weights}
    x = tf.constant(np.float64(x))
    with tf.GradientTape() as tape:
        tape.watch([x, *weights.values()])
        epsilon = layer.epsilon + abs(weights.get("learned_epsilon", 0.0))
        square = tf.reduce_mean(x * x, [1, 2], keepdims=True)
        y = x / tf.sqrt(square + epsilon) * weights["gamma"] + weights["beta"]
        if "tau" in weights:
            y = tf.where(y > weights["tau"], y, weights["tau"] + 0 * y)
    return y, lambda dy: tape.gradient(y, [x, *weights.values()], np.float64(dy))


@every_option
@pytest.mark.parametrize("epsilon", [1e-6, 0.5])
def test_values_and_gradients(options, epsilon, rng):
    layer = ready(rng, epsilon=epsilon, **options)
    x, dy = tf.constant(data(rng, SHAPE)), data(rng, SHAPE)
    variables = [_keras.value(weight) for weight in layer.weights]
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x)
    exact, exact_gradients = formula(layer, x)
    np.testing.assert_allclose(y, exact, rtol=0, atol=AGREE)
    gradients = tape.gradient(y, [x, *variables], dy)
    for got, wanted in zip(gradients, exact_gradients(dy), strict=True):
        # dx is of one element; the others are sums over up to 480.
        terms = 1 if got.shape == SHAPE else 480
        np.testing.assert_allclose(got, wanted, rtol=0, atol=terms * AGREE)
        assert np.any(np.asarray(got) != 0)


@every_option
@pytest.mark.parametrize(
    ("policy", "x_dtype", "unit"),
    [
        ("float16", np.float16, 2.0**-11),
        ("mixed_float16", np.float16, 2.0**-11),
        ("mixed_float16", np.float32, 2.0**-11),
        ("mixed_bfloat16", BFLOAT16, 2.0**-8),
        ("float64", np.float64, 2.0**-52),
    ],
)
def test_only_the_result_is_rounded(options, policy, x_dtype, unit, rng):
    layer = ready(rng, dtype=policy, **options)
    x = data(rng, SHAPE, x_dtype)
    y = layer(x)
    assert y.dtype == layer.compute_dtype
    exact, _ = formula(layer, x.astype(np.float64))
    bound = unit * np.abs(exact) + AGREE * (2.0**-29 if policy == "float64" else 1)
    error = np.abs(np.asarray(y).astype(np.float64) - exact)
    assert np.all(error <= bound)


def test_large_data_do_not_overflow_in_a_float16_layer(rng):
    layer = ready(rng, dtype="mixed_float16")
    x = np.float16(1e4) * data(rng, SHAPE, np.float16)
    exact, _ = formula(layer, x.astype(np.float64))
    error = np.abs(np.asarray(layer(x)).astype(np.float64) - exact)
    assert np.all(error <= 2.0**-11 * np.abs(exact) + AGREE)


def test_zeros_give_beta(rng):
    for epsilon in (1e-6, 0.0):
        layer = ready(rng, epsilon=epsilon)
        y = layer(np.zeros(SHAPE, np.float32))
        np.testing.assert_array_equal(y, np.broadcast_to(layer.beta, SHAPE))


# ---------------------------------------------------------------- as in Addons


def test_arguments_are_those_of_addons():
    parameters = inspect.signature(
        fusednorm.FilterResponseNormalization.__init__
    ).parameters
    expected = {
        "epsilon": 1e-6,
        "axis": (1, 2),
        "beta_initializer": "zeros",
        "gamma_initializer": "ones",
        "beta_regularizer": None,
        "gamma_regularizer": None,
        "beta_constraint": None,
        "gamma_constraint": None,
        "learned_epsilon": False,
        "learned_epsilon_constraint": None,
        "name": None,
    }
    given = {name: each.default for name, each in list(parameters.items())[1:12]}
    assert given == expected


@every_option
def test_weights_are_those_of_addons(options):
    layer = fusednorm.FilterResponseNormalization(**options)
    before = [name_of(weight) for weight in layer.weights]
    assert before == (["learned_epsilon"] if "learned_epsilon" in options else [])
    layer.build((None, 5, 6, 8))
    shapes = {name_of(weight): tuple(weight.shape) for weight in layer.weights}
    expected = {"learned_epsilon": (1,), "gamma": (1, 1, 1, 8), "beta": (1, 1, 1, 8)}
    expected["tau"] = (1, 1, 1, 8)
    if "learned_epsilon" not in options:
        del expected["learned_epsilon"]
    if "thresholded" not in options:
        del expected["tau"]
    assert list(shapes.items()) == list(expected.items())
    values = {name_of(weight): np.unique(weight) for weight in layer.weights}
    starts = {"learned_epsilon": np.float32(1e-4), "gamma": 1, "beta": 0, "tau": 0}
    assert values == {name: starts[name] for name in shapes}
    assert {dtype_of(weight) for weight in layer.weights} == {"float32"}


ADDONS_CONFIG = {
    "name": "frn",
    "trainable": True,
    "dtype": "float32",
    "axis": [1, 2],
    "epsilon": 1e-5,
    "learned_epsilon": True,
    "beta_initializer": {"class_name": "Zeros", "config": {}},
    "gamma_initializer": {"class_name": "Constant", "config": {"value": 2.0}},
    "beta_regularizer": None,
    "gamma_regularizer": None,
    "beta_constraint": None,
    "gamma_constraint": None,
    "learned_epsilon_constraint": None,
}


@pytest.mark.parametrize(
    "epsilon",
    [
        1e-5,
        tf.constant(1e-5),  # what Addons keeps
        {"class_name": "__tensor__", "config": {"value": 1e-5, "dtype": "float32"}},
    ],
    ids=["number", "tensor", "saved tensor"],
)
def test_config_of_addons_makes_ours(epsilon):
    config = {**ADDONS_CONFIG, "epsilon": epsilon}
    cls = fusednorm.custom_objects()["Addons>FilterResponseNormalization"]
    assert cls is fusednorm.FilterResponseNormalization
    layer = cls.from_config(config)
    assert layer.name == "frn"
    assert layer.epsilon == pytest.approx(1e-5, rel=1e-7)
    assert layer.learned_epsilon is True
    layer.build((None, 5, 6, 8))
    assert np.unique(layer.gamma) == 2
    # As an .h5 file has it.
    again = type(layer).from_config(json.loads(json.dumps(layer.get_config())))
    assert again.get_config() == layer.get_config()
    assert set(layer.get_config()) == set(ADDONS_CONFIG)


@every_option
def test_config_makes_the_same_layer(options):
    layer = fusednorm.FilterResponseNormalization(
        beta_regularizer="l2", gamma_constraint="non_neg", **options
    )
    restored = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(layer)
    )
    assert restored.get_config() == layer.get_config()


def test_regularizers_and_constraints_act():
    layer = fusednorm.FilterResponseNormalization(
        gamma_regularizer=keras.regularizers.L2(0.5),
        beta_constraint="non_neg",
        learned_epsilon=True,
        learned_epsilon_constraint="non_neg",
        thresholded=True,
        tau_constraint="non_neg",
    )
    layer.build((None, 5, 6, 8))
    assert [float(loss) for loss in layer.losses] == [0.5 * 8]
    variables = [layer.eps_learned, layer.beta, layer.tau]
    steps = [(tf.ones(variable.shape), variable) for variable in variables]
    keras.optimizers.SGD(1.0).apply_gradients(steps)
    for variable in variables:
        np.testing.assert_array_equal(variable, np.zeros(variable.shape))


# ---------------------------------------------------------------- in models


def model_of(layer):
    inputs = keras.Input((None, None, 8))
    return keras.Model(inputs, layer(inputs))


@pytest.mark.parametrize("options", [OPTIONS["plain"], OPTIONS["both"]], ids=str)
def test_saves_trains_and_exports(options, rng, tmp_path):
    layer = ready(rng, **options)
    model = model_of(layer)
    assert model.output_shape == (None, None, None, 8)
    x = data(rng, SHAPE)
    expected = model(x)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(x), expected)
    export(model, str(tmp_path / "exported"))
    exported = tf.saved_model.load(str(tmp_path / "exported"))
    # Graphs may multiply in another order.
    served = exported.serve(tf.constant(x))
    np.testing.assert_allclose(served, expected, rtol=0, atol=AGREE)
    loaded.compile(keras.optimizers.SGD(0.1), "mse")
    loaded.fit(x, np.zeros_like(x), verbose=0)
    for weight, start in zip(loaded.get_weights(), model.get_weights(), strict=True):
        assert np.any(weight != start)


def test_passes_masks_on(rng):
    layer = fusednorm.FilterResponseNormalization()
    x = tf.constant(data(rng, SHAPE))
    x._keras_mask = tf.ones(SHAPE[:1], tf.bool)
    assert layer.supports_masking
    assert layer(x)._keras_mask is x._keras_mask


@every_option
@pytest.mark.parametrize("jit_compile", [False, True])
def test_portable_and_compiled_layers_agree(options, jit_compile, rng):
    layer, portable = ready(rng, **options), ready(rng, **options, portable=True)
    portable.set_weights(layer.get_weights())
    x = data(rng, SHAPE)
    function = tf.function(portable, jit_compile=jit_compile)
    ops = function.get_concrete_function(x).graph.get_operations()
    assert not any(op.type.startswith("Fusednorm>") for op in ops)
    compiled = tf.function(layer, jit_compile=jit_compile)
    for y in (function(x), compiled(x)):
        np.testing.assert_allclose(y, layer(x), rtol=0, atol=AGREE)


# ---------------------------------------------------------------- errors

AXIS = "Argument `axis` must be a list of the two spatial axes, [1, 2]. Received: axis="


@pytest.mark.parametrize(
    ("axis", "error"),
    [
        *((axis, ValueError) for axis in ([1], [1, 3], [2, 1], [0, 1], [1, 2, 3], [])),
        *((axis, TypeError) for axis in (1, "12", None, {1, 2})),
    ],
    ids=str,
)
def test_axis_is_spatial(axis, error):
    with pytest.raises(error, match=re.escape(f"{AXIS}{axis!r}")):
        fusednorm.FilterResponseNormalization(axis=axis)


@pytest.mark.parametrize("method", ["build", "compute_output_shape"])
def test_input_is_images(method):
    text = (
        "The input must be images, of shape (batch, height, width, channels). "
        "Received: shape=(None, 6, 8)"
    )
    layer = fusednorm.FilterResponseNormalization()
    with pytest.raises(ValueError, match=re.escape(text)):
        getattr(layer, method)((None, 6, 8))


def test_channels_are_known():
    with pytest.raises(ValueError, match=r"axis=3, shape=\(None, 5, 6, None\)"):
        fusednorm.FilterResponseNormalization().build((None, 5, 6, None))


def test_refuses_integers():
    layer = fusednorm.FilterResponseNormalization()
    with pytest.raises(ValueError, match="must have a floating-point dtype"):
        layer(np.ones(SHAPE, np.int32))

"""What the test suites of Keras 3, tf_keras, Addons and PyTorch hold their layers to.

What test_layers.py and its neighbours hold already is not here again. Runs with Keras
3, and with tf_keras as test_layers.py does.
"""

import copy
import importlib
import math
import pickle
import unittest

import fusednorm
import numpy as np
import pytest
import tensorflow as tf
from fusednorm import _keras
from fusednorm._keras import LEGACY, keras
from support.layer_cases import (
    AGREE,
    LAYERS,
    built,
    data,
    every_affine_layer,
    every_layer,
    keras_3_only,
    name_of,
    tf_keras_only,
)

ALL = {
    **LAYERS,
    "instance, tracking": lambda **kwargs: fusednorm.InstanceNormalization(
        track_running_stats=True, **kwargs
    ),
    "filter response": fusednorm.FilterResponseNormalization,
}
every_one = pytest.mark.parametrize("kind", ALL)
SHAPE = (2, 3, 4, 8)

# ---------------------------------------------------------------- their own suites


@pytest.fixture
def keras_testing():
    """Returns Keras's own test cases, which are installed with it."""
    testing = importlib.import_module("keras.src.testing")
    filtering = keras.config.is_traceback_filtering_enabled()
    yield testing
    if filtering:
        keras.config.enable_traceback_filtering()


@keras_3_only
@pytest.mark.parametrize(
    ("name", "in_other_words"),
    [
        (
            "GroupNormalization",
            [
                "test_groups_bigger_than_dim_error",
                "test_groups_not_a_multiple_of_dim_error",
                "test_groups_rejects_invalid_values",
                "test_undefined_dim_error",
            ],
        ),
        ("LayerNormalization", ["test_invalid_axis"]),
        ("RMSNormalization", []),
    ],
)
@pytest.mark.filterwarnings("ignore:`rms_scaling=True` is deprecated")
def test_suite_of_keras_3(name, in_other_words, keras_testing, monkeypatch):
    """Runs Keras's tests of a layer on ours; only messages may differ, not errors."""
    words = name.replace("Normalization", "").lower()
    module = f"keras.src.layers.normalization.{words}_normalization_test"
    suite = importlib.import_module(module)
    monkeypatch.setattr(
        importlib.import_module("keras.src.layers"), name, getattr(fusednorm, name)
    )
    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromModule(suite).run(result)
    assert result.testsRun > 3
    assert [text for _, text in result.errors] == []
    differing = [
        text for _, text in result.failures if '" does not match "' not in text
    ]
    assert differing == []
    failed = {case.id().rpartition(".")[2] for case, _ in result.failures}
    assert failed <= set(in_other_words)


CONTRACTS = {
    "group, activation": ("GroupNormalization", {"groups": 4, "activation": "gelu"}, 0),
    "group, axis 1": ("GroupNormalization", {"groups": 3, "axis": 1}, 0),
    "instance": ("InstanceNormalization", {"gamma_regularizer": "l2"}, 1),
    "instance, tracking": (
        "InstanceNormalization",
        {"track_running_stats": True, "update_rate": 0.3},
        0,
    ),
    "layer, axes": ("LayerNormalization", {"axis": [-1, 1]}, 0),
    "rms, axes": ("RMSNormalization", {"axis": [-1, 1], "zero_centered": True}, 0),
    "filter response": (
        "FilterResponseNormalization",
        {"learned_epsilon": True, "thresholded": True, "beta_regularizer": "l2"},
        1,
    ),
}
contracts = pytest.mark.parametrize(
    ("name", "arguments", "losses"), CONTRACTS.values(), ids=CONTRACTS
)


@keras_3_only
@contracts
def test_contract_of_keras_3(name, arguments, losses, keras_testing):
    """Serialization, build, symbolic and eager calls, a step of training, float16."""
    keras_testing.TestCase().run_layer_test(
        getattr(fusednorm, name),
        init_kwargs=arguments,
        input_shape=SHAPE,
        expected_output_shape=SHAPE,
        expected_num_seed_generators=0,
        expected_num_losses=losses,
        supports_masking=True,
    )


@tf_keras_only
@contracts
def test_contract_of_tf_keras(name, arguments, losses):
    utils = importlib.import_module("tf_keras.src.testing_infra.test_utils")
    utils.layer_test(
        getattr(fusednorm, name),
        kwargs=arguments,
        input_shape=SHAPE,
        custom_objects={name: getattr(fusednorm, name)},
        supports_masking=True,
    )


# ---------------------------------------------------------------- values by hand


BY_HAND = {
    # Whatever is spread evenly about its mean is 1 away from it.
    "group": ("GroupNormalization", {"groups": 2}, [0, 4, 9, 7], [-1, 1, 1, -1]),
    "group, one": ("GroupNormalization", {"groups": 1}, [5, 3, 5, 3], [1, -1, 1, -1]),
    "instance": ("InstanceNormalization", {}, [6, 1, 2, 3], [0, 0, 0, 0]),
    "layer": ("LayerNormalization", {}, [2, 2, 8, 8], [-1, -1, 1, 1]),
    # The root of the mean square is 5, and 13 / sqrt(2).
    "rms": ("RMSNormalization", {}, [1, 7, 5, 5], [0.2, 1.4, 1, 1]),
    "rms, pair": (
        "RMSNormalization",
        {},
        [5, 12],
        [5 * math.sqrt(2) / 13, 12 * math.sqrt(2) / 13],
    ),
}


@pytest.mark.parametrize(
    ("name", "arguments", "x", "expected"), BY_HAND.values(), ids=BY_HAND
)
def test_values_by_hand(name, arguments, x, expected):
    layer = getattr(fusednorm, name)(epsilon=0.0, **arguments)
    y = layer(np.array([x], np.float32))
    np.testing.assert_allclose(y, [expected], rtol=0, atol=AGREE)


def test_filter_response_by_hand():
    layer = fusednorm.FilterResponseNormalization(epsilon=0.0)
    x = np.reshape(np.float32([1, 7, 5, 5]), (1, 2, 2, 1))
    np.testing.assert_allclose(layer(x), x / 5, rtol=0, atol=AGREE)


@every_one
def test_a_sample_does_not_notice_its_batch(kind, rng):
    layer = built(ALL[kind](), SHAPE, rng)
    x = data(rng, (5, *SHAPE[1:]))
    for sample, expected in zip(x, layer(x), strict=True):
        np.testing.assert_array_equal(layer(sample[None])[0], expected)


# ---------------------------------------------------------------- PyTorch's values

TORCH = {
    "group": ((2, 8, 5, 6), lambda t: t.nn.GroupNorm(4, 8), (1,)),
    "group, rank 2": ((3, 8), lambda t: t.nn.GroupNorm(2, 8), (1,)),
    "group, rank 5": ((2, 8, 3, 2, 5), lambda t: t.nn.GroupNorm(8, 8), (1,)),
    "instance": ((2, 8, 5), lambda t: t.nn.InstanceNorm1d(8, affine=True), (1,)),
    "layer": ((2, 5, 8), lambda t: t.nn.LayerNorm(8), (-1,)),
    "layer, two axes": ((2, 5, 4, 8), lambda t: t.nn.LayerNorm([4, 8]), (-2, -1)),
    "rms": ((2, 5, 8), lambda t: t.nn.RMSNorm(8, eps=1e-6), (-1,)),
    "rms, two axes": ((2, 5, 4, 8), lambda t: t.nn.RMSNorm([4, 8], eps=1e-6), (2, 3)),
}


def like_torchs(name, module, axes, dtype):
    if name.startswith("group"):
        layer = fusednorm.GroupNormalization(
            module.num_groups, axis=axes[0], epsilon=module.eps, dtype=dtype
        )
    elif name == "instance":
        layer = fusednorm.InstanceNormalization(axes[0], module.eps, dtype=dtype)
    else:
        kind = "LayerNormalization" if "layer" in name else "RMSNormalization"
        layer = getattr(fusednorm, kind)(axes, module.eps, dtype=dtype)
    return layer


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", TORCH)
def test_values_and_gradients_of_pytorch(name, dtype, rng):
    torch = pytest.importorskip("torch", reason="needs PyTorch: pip install torch")
    shape, make, axes = TORCH[name]
    module = make(torch).to(getattr(torch, dtype))
    layer = like_torchs(name, module, axes, dtype)
    x, dy = (data(rng, shape, dtype) for _ in range(2))
    built(layer, shape, rng)
    with torch.no_grad():
        for theirs, ours in zip(module.parameters(), layer.get_weights(), strict=True):
            theirs.copy_(torch.tensor(ours))
    torch_x = torch.tensor(x, requires_grad=True)
    expected = module(torch_x)
    expected.backward(torch.tensor(dy))

    x = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x)
    variables = [_keras.value(weight) for weight in layer.trainable_weights]
    dx, *gradients = tape.gradient(y, [x, *variables], dy)
    unit = 1 if dtype == "float32" else 2.0**-29
    np.testing.assert_allclose(y, expected.detach(), rtol=0, atol=unit * AGREE)
    # Everything divides by a standard deviation above 0.3 three times at most.
    np.testing.assert_allclose(dx, torch_x.grad, rtol=0, atol=30 * unit * AGREE)
    for got, theirs in zip(gradients, module.parameters(), strict=True):
        terms = math.prod(shape) // math.prod(got.shape)
        atol = 4 * terms * unit * AGREE
        np.testing.assert_allclose(got, theirs.grad, rtol=0, atol=atol)


# ---------------------------------------------------------------- life of a layer


@every_one
def test_copies_and_pickles(kind, rng):
    layer = built(ALL[kind](), SHAPE, rng)
    x = data(rng, SHAPE)
    copies = [copy.deepcopy(layer)]
    if not LEGACY:  # whose layers cannot be pickled
        copies.append(pickle.loads(pickle.dumps(layer)))
    for other in copies:
        np.testing.assert_array_equal(other(x), layer(x))
        for weight, original in zip(other.weights, layer.weights, strict=True):
            assert weight is not original


@every_one
def test_a_clone_has_weights_of_its_own(kind, rng):
    model = keras.Sequential([keras.Input(SHAPE[1:]), ALL[kind]()])
    built(model.layers[-1], SHAPE, rng)
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    x = data(rng, SHAPE)
    expected = model(x)
    np.testing.assert_array_equal(clone(x), expected)
    model.layers[-1].set_weights([0 * w for w in model.layers[-1].get_weights()])
    np.testing.assert_array_equal(clone(x), expected)


@every_one
def test_one_layer_serves_inputs_of_several_sizes(kind, rng):
    inputs = [keras.Input((None, None, 8)) for _ in range(2)]
    layer = ALL[kind]()
    model = keras.Model(inputs, [layer(each) for each in inputs])
    assert len(model.weights) == len(layer.weights)
    built(layer, SHAPE, rng)
    x = [data(rng, (2, 3, 4, 8)), data(rng, (2, 6, 1, 8))]
    for got, each in zip(model(x), x, strict=True):
        np.testing.assert_array_equal(got, layer(each))


@every_layer
def test_time_distributed_is_a_norm_of_each_step(kind, rng):
    layer = LAYERS[kind]()
    x = data(rng, (2, 3, 4, 8))
    y = keras.layers.TimeDistributed(layer)(x)
    for step in range(3):
        np.testing.assert_array_equal(y[:, step], layer(x[:, step]))


@every_one
def test_activity_regularizer_sees_the_output(kind, rng):
    layer = ALL[kind](activity_regularizer=keras.regularizers.L2(0.5))
    y = np.asarray(layer(data(rng, SHAPE)), np.float64)
    [loss] = layer.losses
    assert float(loss) == pytest.approx(0.5 * np.sum(y**2) / len(y), rel=1e-5)
    if not LEGACY:  # whose configurations leave it out
        again = type(layer).from_config(layer.get_config())
        assert again.activity_regularizer.l2 == 0.5


@every_one
def test_trainable_can_be_given_at_once(kind):
    layer = ALL[kind](trainable=False)
    layer.build(SHAPE)
    assert layer.trainable_weights == []
    assert layer.get_config()["trainable"] is False


@every_one
def test_weights_of_another_shape_are_refused(kind, rng):
    layer = built(ALL[kind](), SHAPE, rng)
    wrong = [np.ones((*weight.shape, 2)) for weight in layer.weights]
    with pytest.raises(ValueError, match="shape"):
        layer.set_weights(wrong)


@every_one
def test_unknown_arguments_are_refused(kind):
    with pytest.raises((TypeError, ValueError), match="virtual_batch_size"):
        ALL[kind](virtual_batch_size=2)


@every_one
def test_an_empty_batch_goes_through_with_gradients_of_zero(kind, rng):
    layer = built(ALL[kind](), SHAPE, rng)
    x = tf.zeros((0, *SHAPE[1:]))
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x)
    variables = [_keras.value(weight) for weight in layer.trainable_weights]
    dx, *gradients = tape.gradient(y, [x, *variables])
    assert y.shape == dx.shape == x.shape
    for gradient in gradients:
        np.testing.assert_array_equal(gradient, np.zeros(gradient.shape))


@every_one
def test_trains_alike_however_it_runs(kind, rng):
    x = data(rng, (4, *SHAPE[1:]))
    weights = None
    results = []
    for how in ({}, {"run_eagerly": True}, {"jit_compile": True}):
        layer = ALL[kind]()
        model = keras.Sequential([keras.Input(SHAPE[1:]), layer])
        weights = weights or built(layer, SHAPE, rng).get_weights()
        layer.set_weights(weights)
        model.compile(keras.optimizers.SGD(0.1), "mse", **how)
        model.fit(x, np.tanh(x), batch_size=2, shuffle=False, verbose=0)
        results.append(layer.get_weights())
    for one, *others, start in zip(*results, weights, strict=True):
        for other in others:
            np.testing.assert_allclose(one, other, rtol=0, atol=AGREE)
        assert np.any(one != start)


@every_affine_layer
def test_a_constraint_may_be_a_function(kind):
    def halved(weight):
        return weight / 2

    layer = LAYERS[kind](gamma_constraint=halved)
    layer.build((None, 8))
    assert layer.gamma.constraint is halved


# ---------------------------------------------------------------- holes of Keras's


@pytest.mark.parametrize("name", ["LayerNormalization", "RMSNormalization"])
@pytest.mark.parametrize(
    ("axis", "same"),
    [([-1, -2], [2, 3]), ([3, 1], (-3, -1)), ([2, 0], [0, 2]), ([-2], 2)],
    ids=str,
)
def test_one_set_of_axes_is_one_norm(name, axis, same, rng):
    layers = [getattr(fusednorm, name)(axis=each) for each in (axis, same)]
    built(layers[0], SHAPE, rng) if 0 not in axis else layers[0].build(SHAPE)
    layers[1].build(SHAPE)
    layers[1].set_weights(layers[0].get_weights())
    x, dy = tf.constant(data(rng, SHAPE)), data(rng, SHAPE)
    results = []
    for layer in layers:
        variables = [_keras.value(weight) for weight in layer.trainable_weights]
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x)
        results.append([y, *tape.gradient(y, [x, *variables], dy)])
    for one, other in zip(*results, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", ["LayerNormalization", "RMSNormalization"])
@pytest.mark.parametrize(
    ("axis", "shape", "text"),
    [
        ([-1, 2], (2, 3, 4), r"\[-1, 2\] for an input of rank 3$"),
        ([-1, 3], (2, 3, 4), r"\[-1, 3\]$"),
        ([1, 2], (None, None, 4), r"\[1, 2\], shape=\(None, None, 4\)$"),
    ],
    ids=["twice", "out of range", "unknown"],
)
def test_messages_show_the_axes_as_given(name, axis, shape, text):
    with pytest.raises(ValueError, match=f"Received: axis={text}"):
        getattr(fusednorm, name)(axis=axis).build(shape)


@pytest.mark.parametrize("axis", [1, [1, 2], [-1, 1], (2, 0)], ids=str)
def test_rms_over_any_axes_saves_and_trains(axis, rng, tmp_path):
    inputs = keras.Input(SHAPE[1:], batch_size=SHAPE[0])
    model = keras.Model(inputs, fusednorm.RMSNormalization(axis=axis)(inputs))
    x = data(rng, SHAPE)
    wide = x.astype(np.float64)
    axes = (axis,) if isinstance(axis, int) else tuple(axis)
    square = (wide**2).mean(axes, keepdims=True)
    expected = wide / np.sqrt(square + 1e-6)
    np.testing.assert_allclose(model(x), expected, rtol=0, atol=AGREE)
    model.compile(keras.optimizers.SGD(0.1), "mse")
    model.fit(x, np.tanh(x), batch_size=2, verbose=0)
    assert np.all(model.layers[-1].get_weights()[0] != 1)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert [name_of(weight) for weight in loaded.weights] == ["scale"]
    np.testing.assert_array_equal(loaded(x), model(x))


@keras_3_only
def test_keras_rounds_integers_that_ours_refuse():
    """What refusing them is about; skips where Keras has mended it."""
    x = np.array([[1, 2, 3, 4]])
    y = np.asarray(keras.layers.GroupNormalization(1)(x))
    if np.any(y != np.round(y)):
        pytest.skip("this Keras does not round")
    with pytest.raises(ValueError, match="Received: dtype=int64"):
        fusednorm.GroupNormalization(1)(x)

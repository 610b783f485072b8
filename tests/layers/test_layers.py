"""The layers: drop-ins for Keras's and TensorFlow Addons', within Keras.

What the norms compute is tests/ops/test_ops_values.py; here is what layers add to it:
arguments, weights, dtypes, configuration, saving and training.

Runs with Keras 3, and with tf_keras where TF_USE_LEGACY_KERAS=1 is in the environment
(tests/modes/test_legacy_keras.py does that).
"""

import copy
import inspect
import warnings

import fusednorm
import numpy as np
import pytest
import tensorflow as tf
from fusednorm import _library
from fusednorm._keras import keras
from support import forks
from support.layer_cases import (
    AGREE,
    BFLOAT16,
    LAYERS,
    built,
    data,
    dtype_of,
    every_affine_layer,
    every_layer,
    export,
    keras_3_only,
    name_of,
    share_of_bound,
    tf_keras_only,
)

# What replaces what: name -> (layer's name, arguments, input shape).
_DROP_INS = {
    "group, channels last": ("GroupNormalization", {"groups": 4}, (2, 5, 6, 8)),
    "group, channels first": (
        "GroupNormalization",
        {"groups": 4, "axis": 1},
        (2, 8, 5, 6),
    ),
    "group, one per channel": ("GroupNormalization", {"groups": -1}, (2, 5, 6, 8)),
    "layer, axis -1": ("LayerNormalization", {}, (2, 5, 16)),
    "layer, axis 1": ("LayerNormalization", {"axis": 1}, (2, 16, 5)),
    "layer, axis [1, 2, 3]": ("LayerNormalization", {"axis": [1, 2, 3]}, (2, 5, 6, 8)),
    "rms, axis -1": ("RMSNormalization", {}, (2, 5, 16)),
}
# tf_keras has no RMSNormalization.
DROP_INS = {k: v for k, v in _DROP_INS.items() if hasattr(keras.layers, v[0])}
drop_ins = pytest.mark.parametrize(
    ("name", "arguments", "shape"), DROP_INS.values(), ids=DROP_INS
)


# ---------------------------------------------------------------- arguments


def positional(cls):
    parameters = list(inspect.signature(cls.__init__).parameters.values())[1:]
    return [
        (each.name, each.default)
        for each in parameters
        if each.kind is not inspect.Parameter.VAR_KEYWORD
    ]


@pytest.mark.parametrize(
    ("ours", "theirs", "missing"),
    [
        ("GroupNormalization", "GroupNormalization", 0),
        ("LayerNormalization", "LayerNormalization", 0),
        pytest.param("RMSNormalization", "RMSNormalization", 0, marks=keras_3_only),
        # Addons' InstanceNormalization is its GroupNormalization without `groups`.
        ("InstanceNormalization", "GroupNormalization", 1),
    ],
)
def test_arguments_start_with_those_of_keras(ours, theirs, missing):
    expected = positional(getattr(keras.layers, theirs))[missing:]
    assert expected
    assert positional(getattr(fusednorm, ours))[: len(expected)] == expected


ADDONS_TUTORIAL = {
    "group": (
        lambda: fusednorm.GroupNormalization(groups=5, axis=3),
        lambda: keras.layers.GroupNormalization(groups=5, axis=3),
    ),
    "instance": (
        lambda: fusednorm.InstanceNormalization(
            axis=3,
            center=True,
            scale=True,
            beta_initializer="random_uniform",
            gamma_initializer="random_uniform",
        ),
        lambda: keras.layers.GroupNormalization(groups=-1, axis=3),
    ),
    "layer": (
        lambda: fusednorm.LayerNormalization(axis=1, center=True, scale=True),
        lambda: keras.layers.LayerNormalization(axis=1, center=True, scale=True),
    ),
}


@pytest.mark.parametrize("call", ADDONS_TUTORIAL)
def test_calls_of_the_addons_tutorial_work(call, rng):
    ours, theirs = (make() for make in ADDONS_TUTORIAL[call])
    x = data(rng, (2, 26, 26, 10))
    y = ours(x)
    theirs.build(x.shape)
    theirs.set_weights(ours.get_weights())
    np.testing.assert_allclose(y, theirs(x), rtol=0, atol=AGREE)


def test_instance_normalization_ignores_groups_with_a_warning():
    with pytest.warns(UserWarning, match=r"`groups` is ignored. Received: groups=5$"):
        layer = fusednorm.InstanceNormalization(groups=5)
    layer.build((None, 6))
    assert layer.groups == -1


@pytest.mark.parametrize("groups", [-1, None])
def test_instance_normalization_takes_the_groups_it_has_silently(groups):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert fusednorm.InstanceNormalization(groups=groups).groups == -1


# ---------------------------------------------------------------- weights


@drop_ins
def test_weights_are_those_of_keras(name, arguments, shape):
    def described(layer):
        layer.build(shape)
        return [(name_of(each), each.shape, dtype_of(each)) for each in layer.weights]

    ours = described(getattr(fusednorm, name)(**arguments))
    assert ours
    assert ours == described(getattr(keras.layers, name)(**arguments))


@drop_ins
@pytest.mark.parametrize("direction", ["from Keras", "to Keras"])
def test_outputs_agree_with_the_weights_of(direction, name, arguments, shape, rng):
    ours, theirs = (
        getattr(module, name)(**arguments) for module in (fusednorm, keras.layers)
    )
    source, target = (theirs, ours) if direction == "from Keras" else (ours, theirs)
    built(source, shape, rng)
    target.build(shape)
    target.set_weights(source.get_weights())
    x = data(rng, shape)
    np.testing.assert_allclose(ours(x), theirs(x), rtol=0, atol=AGREE)


@every_affine_layer
@pytest.mark.parametrize(
    ("center", "scale", "names"),
    [
        (True, True, ["gamma", "beta"]),
        (True, False, ["beta"]),
        (False, True, ["gamma"]),
        (False, False, []),
    ],
)
def test_center_and_scale_choose_the_weights(kind, center, scale, names, rng):
    layer = built(LAYERS[kind](center=center, scale=scale), (2, 5, 8), rng)
    assert [name_of(weight) for weight in layer.weights] == names
    x = data(rng, (2, 5, 8))
    gamma, beta = (
        getattr(layer, name) if name in names else default((8,))
        for name, default in (("gamma", np.ones), ("beta", np.zeros))
    )
    full = LAYERS[kind]()
    full.build(x.shape)
    full.set_weights([gamma, beta])
    np.testing.assert_array_equal(layer(x), full(x))


@every_affine_layer
@pytest.mark.parametrize("weight", ["gamma", "beta"])
def test_initializers_regularizers_and_constraints_act(kind, weight):
    layer = LAYERS[kind](
        **{
            f"{weight}_initializer": keras.initializers.Constant(3.0),
            f"{weight}_regularizer": keras.regularizers.L2(0.5),
            f"{weight}_constraint": "non_neg",
        }
    )
    layer.build((None, 8))
    variable = getattr(layer, weight)
    np.testing.assert_array_equal(variable, np.full(8, 3.0))
    assert [float(loss) for loss in layer.losses] == [0.5 * 8 * 3.0**2]
    # A step of 1.0 down a gradient of 4 would lead to -1.
    keras.optimizers.SGD(1.0).apply_gradients([(tf.fill([8], 4.0), variable)])
    np.testing.assert_array_equal(variable, np.zeros(8))


@every_layer
def test_trainable_moves_all_weights(kind):
    layer = LAYERS[kind]()
    layer.build((None, 8))
    names = [name_of(weight) for weight in layer.trainable_weights]
    assert names == (["scale"] if kind == "rms" else ["gamma", "beta"])
    layer.trainable = False
    assert layer.trainable_weights == []
    assert [name_of(weight) for weight in layer.non_trainable_weights] == names


@every_layer
def test_has_no_weights_before_it_is_built(kind):
    layer = LAYERS[kind]()
    assert not layer.built
    assert layer.weights == []


# ---------------------------------------------------------------- options


@pytest.mark.parametrize("name", ["LayerNormalization", "RMSNormalization"])
@pytest.mark.parametrize(
    ("axis", "weight_shape"),
    [
        ([-1, 1], (4, 6)),  # Keras reads gamma as if it were (6, 4).
        ((3, 1), (4, 6)),
        ([2, 1], (4, 5)),
        ([-1, 2, -3], (4, 5, 6)),
        ([0, 2], (3, 5)),
    ],
    ids=str,
)
def test_weights_follow_the_axes_in_increasing_order(name, axis, weight_shape, rng):
    shape = (3, 4, 5, 6)
    layer = getattr(fusednorm, name)(axis=axis)
    layer.build(shape)
    assert [weight.shape for weight in layer.weights] == [weight_shape] * len(
        layer.weights
    )
    weights = [rng.uniform(0.5, 2, weight_shape) for _ in layer.weights]
    layer.set_weights(weights)

    x = data(rng, shape)
    axes = tuple(sorted(each % 4 for each in axis))
    wide = x.astype(np.float64)
    if name == "LayerNormalization":
        wide -= wide.mean(axes, keepdims=True)
    wide /= np.sqrt((wide**2).mean(axes, keepdims=True) + layer.epsilon)
    spread = [size if d in axes else 1 for d, size in enumerate(shape)]
    scale, *offset = (weight.reshape(spread) for weight in layer.get_weights())
    expected = wide * scale + sum(offset)
    np.testing.assert_allclose(layer(x), expected, rtol=0, atol=AGREE)


KERAS_ACTIVATIONS = {
    name: getattr(keras.activations, name)
    for name in ("relu", "leaky_relu", "silu", "gelu", "tanh", "sigmoid", "linear")
    if hasattr(keras.activations, name)  # tf_keras has fewer
}


@every_layer
@pytest.mark.parametrize(
    ("activation", "separate"),
    [
        *((name, function) for name, function in KERAS_ACTIVATIONS.items()),
        *((function, function) for function in KERAS_ACTIVATIONS.values()),
        ("swish", tf.nn.silu),
        ("gelu_tanh", lambda x: keras.activations.gelu(x, approximate=True)),
        (tf.nn.silu, tf.nn.silu),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_fused_activation_is_a_separate_one(kind, activation, separate, rng):
    x = data(rng, (2, 5, 8))
    fused = built(LAYERS[kind](activation=activation), x.shape, rng)
    plain = LAYERS[kind]()
    plain.build(x.shape)
    plain.set_weights(fused.get_weights())
    expected = keras.layers.Activation(separate)(plain(x))
    np.testing.assert_allclose(fused(x), expected, rtol=0, atol=AGREE)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (None, None),
        ("none", None),
        ("linear", None),
        (keras.activations.linear, None),
        ("relu", "relu"),
        ("swish", "silu"),
        (keras.activations.gelu, "gelu"),
    ],
)
def test_config_keeps_the_name_of_an_activation(given, kept):
    layer = fusednorm.RMSNormalization(activation=given)
    assert layer.get_config()["activation"] == kept


@keras_3_only
@pytest.mark.filterwarnings("ignore:You passed `rms_scaling=True`")  # Keras's call
@pytest.mark.parametrize("axis", [-1, 1, [1, 2], [1, -1]], ids=str)
@pytest.mark.parametrize("activation", [None, "relu"])
def test_rms_scaling_is_that_of_keras(axis, activation, rng):
    shape = (2, 5, 6, 8)
    with pytest.warns(UserWarning, match="`rms_scaling=True` is deprecated"):
        ours = fusednorm.LayerNormalization(
            axis, activation=activation, rms_scaling=True
        )
    with pytest.warns(UserWarning, match="rms_scaling"):
        # Keras sorts before it resolves: [1, -1] would scramble gamma.
        theirs = keras.layers.LayerNormalization(
            [1, 3] if axis == [1, -1] else axis, rms_scaling=True
        )
    built(ours, shape, rng)
    theirs.build(shape)
    assert [name_of(weight) for weight in ours.weights] == ["gamma"]
    theirs.set_weights(ours.get_weights())
    x = data(rng, shape)
    expected = keras.layers.Activation(activation or "linear")(theirs(x))
    np.testing.assert_allclose(ours(x), expected, rtol=0, atol=AGREE)


def test_zero_centered_starts_at_zero_and_scales_by_one_more(rng):
    layer = fusednorm.RMSNormalization(zero_centered=True)
    x = data(rng, (2, 5, 8))
    plain = fusednorm.RMSNormalization()
    np.testing.assert_array_equal(layer(x), plain(x))
    np.testing.assert_array_equal(layer.scale, np.zeros(8))
    scale = rng.integers(-8, 8, 8) / 8  # 1 + scale is exact
    layer.set_weights([scale])
    plain.set_weights([1 + scale])
    np.testing.assert_array_equal(layer(x), plain(x))


def test_without_scale_it_has_no_weights(rng):
    layer, plain = fusednorm.RMSNormalization(with_scale=False), LAYERS["rms"]()
    x = data(rng, (2, 5, 8))
    np.testing.assert_array_equal(layer(x), plain(x))
    assert layer.weights == []
    assert layer.scale is None
    with pytest.raises(ValueError, match=r"`zero_centered` says what to add to `scal"):
        fusednorm.RMSNormalization(zero_centered=True, with_scale=False)


# ---------------------------------------------------------------- dtypes


@every_layer
@pytest.mark.parametrize(
    ("policy", "x_dtype", "y_dtype", "variable_dtype"),
    [
        ("float32", np.float32, np.float32, "float32"),
        ("float32", np.float16, np.float32, "float32"),
        ("float32", np.float64, np.float32, "float32"),
        ("mixed_float16", np.float16, np.float16, "float32"),
        ("mixed_float16", np.float32, np.float16, "float32"),
        ("mixed_bfloat16", BFLOAT16, BFLOAT16, "float32"),
        ("mixed_bfloat16", np.float32, BFLOAT16, "float32"),
        ("float64", np.float64, np.float64, "float64"),
        ("float64", np.float32, np.float64, "float64"),
        ("float16", np.float16, np.float16, "float16"),
        ("float16", np.float32, np.float16, "float16"),
        ("bfloat16", BFLOAT16, BFLOAT16, "bfloat16"),
    ],
)
def test_dtype_policies(kind, policy, x_dtype, y_dtype, variable_dtype, rng):
    x = data(rng, (2, 5, 8), x_dtype)
    layer = built(LAYERS[kind](dtype=policy, activation="silu"), x.shape, rng)
    y = layer(x)
    assert y.dtype.as_numpy_dtype == y_dtype
    assert {dtype_of(weight) for weight in layer.weights} == {variable_dtype}
    assert share_of_bound(layer, x, y) <= 1


@every_layer
def test_float32_input_does_not_overflow_in_a_float16_layer(kind, rng):
    x = data(rng, (2, 5, 8)) * np.float32(1e5)
    assert np.abs(x).max() > np.finfo(np.float16).max
    layer = built(LAYERS[kind](dtype="mixed_float16"), x.shape, rng)
    y = np.asarray(layer(x))
    assert np.isfinite(y).all()
    assert share_of_bound(layer, x, y) <= 1


# ---------------------------------------------------------------- configuration


CONFIGURED = {
    "group": lambda: fusednorm.GroupNormalization(groups=-1, axis=-2),
    "group, all": lambda: fusednorm.GroupNormalization(
        groups=2,
        axis=1,
        epsilon=1e-5,
        center=False,
        beta_initializer="random_normal",
        gamma_initializer=keras.initializers.Constant(2.0),
        beta_regularizer="l1",
        gamma_regularizer=keras.regularizers.L2(0.5),
        beta_constraint="unit_norm",
        gamma_constraint="non_neg",
        activation="silu",
        dtype="mixed_float16",
        name="all",
    ),
    "instance": lambda: fusednorm.InstanceNormalization(axis=1, scale=False),
    "layer": lambda: fusednorm.LayerNormalization(axis=[-1, 1], activation="gelu"),
    "layer, tuple": lambda: fusednorm.LayerNormalization(axis=(2, 1)),
    "rms": lambda: fusednorm.RMSNormalization(axis=[-1], zero_centered=True),
    "rms, no scale": lambda: fusednorm.RMSNormalization(with_scale=False),
}


@pytest.mark.parametrize("make", CONFIGURED.values(), ids=CONFIGURED)
def test_config_makes_the_same_layer_and_nothing_changes_it(make):
    layer = make()
    config = copy.deepcopy(layer.get_config())
    layer(np.ones((2, 4, 6), np.float32))
    assert layer.get_config() == config
    given = copy.deepcopy(config)
    same = type(layer).from_config(config)
    assert config == given
    assert same.get_config() == config
    assert same.axis == layer.axis
    restored = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(layer)
    )
    assert type(restored) is type(layer)
    assert restored.get_config() == config


def test_what_was_given_stays_in_the_config_of_a_built_layer():
    layer = fusednorm.GroupNormalization(groups=-1, axis=-2)
    layer.build((None, 6, 5))
    assert (layer.get_config()["groups"], layer.get_config()["axis"]) == (-1, -2)
    layer = fusednorm.LayerNormalization(axis=[-1, 1])
    layer.build((None, 6, 5))
    assert layer.get_config()["axis"] == [-1, 1]


@drop_ins
@pytest.mark.parametrize("state", ["new", "built"])
def test_config_of_a_keras_layer_makes_ours(state, name, arguments, shape, rng):
    theirs = getattr(keras.layers, name)(**arguments, name="norm")
    if state == "built":
        theirs.build(shape)
    ours = getattr(fusednorm, name).from_config(theirs.get_config())
    ours.build(shape)
    ours.set_weights(built(theirs, shape, rng).get_weights())
    x = data(rng, shape)
    assert ours.name == "norm"
    np.testing.assert_allclose(ours(x), theirs(x), rtol=0, atol=AGREE)


# ---------------------------------------------------------------- in models


@every_layer
def test_passes_masks_on(kind, rng):
    x = data(rng, (2, 5, 8))
    x[:, 3:] = 0.0
    layer = LAYERS[kind]()
    masked = layer(keras.layers.Masking()(x))
    # The pooling layer averages over the steps that the mask leaves.
    pooled = keras.layers.GlobalAveragePooling1D()(masked)
    counted = x.any(-1)
    given = {"mask": counted} if hasattr(layer, "use_mask") else {}
    expected = np.asarray(layer(x, **given))[:, :3].mean(axis=1)
    np.testing.assert_allclose(pooled, expected, rtol=0, atol=AGREE)


# Those whose counterparts in Keras 3 or tf_keras take them.
takes_ragged = pytest.mark.parametrize("kind", ["layer", "rms"])


@pytest.mark.parametrize("axis", [-1, 2, [-1]])
@takes_ragged
def test_ragged_tensors(kind, axis, rng):
    """Rows of any length."""
    values = data(rng, (5, 8))
    x = tf.RaggedTensor.from_row_lengths(values, [2, 0, 3])
    layer = built(LAYERS[kind](axis=axis, activation="relu"), (3, 1, 8), rng)
    y = layer(x)
    np.testing.assert_array_equal(y.row_lengths(), x.row_lengths())
    assert share_of_bound(layer, values[None], y.flat_values[None]) <= 1


@takes_ragged
def test_ragged_tensors_of_several_ragged_and_normalized_axes(kind, rng):
    values = data(rng, (5, 3, 8))
    rows = tf.RaggedTensor.from_row_lengths(values, [2, 0, 3])
    x = tf.RaggedTensor.from_row_lengths(rows, [1, 2])
    layer = LAYERS[kind](axis=[-1, -2])
    y = layer(x)
    assert [tuple(weight.shape) for weight in layer.weights[:1]] == [(3, 8)]
    assert y.shape.as_list() == [2, None, None, 3, 8]
    np.testing.assert_array_equal(y.flat_values, layer(values))


@takes_ragged
def test_ragged_tensors_in_a_traced_function(kind, rng):
    layer = built(LAYERS[kind](), (3, 1, 8), rng)
    spec = tf.RaggedTensorSpec([None, None, 8], tf.float32, ragged_rank=1)
    traced = tf.function(layer, input_signature=[spec])
    x = tf.RaggedTensor.from_row_lengths(data(rng, (6, 8)), [1, 5])
    np.testing.assert_array_equal(traced(x).flat_values, layer(x.flat_values))


@takes_ragged
def test_ragged_axes_are_not_normalized(kind, rng):
    x = tf.RaggedTensor.from_row_lengths(data(rng, (5, 8)), [2, 0, 3])
    layer = LAYERS[kind](axis=1)
    layer.build((3, 4, 8))
    message = r"`axis` must name axes of a ragged tensor after.*axis=1.*\(3, None, 8\)"
    with pytest.raises(ValueError, match=message):
        layer(x)


@every_layer
def test_spatial_dimensions_may_be_unknown(kind, rng):
    inputs = keras.Input((None, None, 8))
    layer = LAYERS[kind]()
    model = keras.Model(inputs, layer(inputs))
    assert model.output_shape == (None, None, None, 8)
    built(layer, (None, None, None, 8), rng)
    for shape in ((2, 5, 6, 8), (1, 3, 1, 8)):
        x = data(rng, shape)
        np.testing.assert_array_equal(model.predict(x, verbose=0), layer(x))


@every_layer
def test_is_built_by_a_sequential_model(kind, rng):
    x = data(rng, (3, 8))
    layer = LAYERS[kind]()
    model = keras.Sequential([layer])
    y = model.predict(x, verbose=0)
    assert share_of_bound(layer, x, y) <= 1


@every_layer
def test_compute_output_shape_is_the_input_shape(kind):
    assert LAYERS[kind]().compute_output_shape((None, None, 8)) == (None, None, 8)


def test_compute_output_shape_checks_the_axis():
    with pytest.raises(ValueError, match=r"axis=-3"):
        fusednorm.LayerNormalization(axis=-3).compute_output_shape((2, 8))


@pytest.mark.parametrize("name", ["LayerNormalization", "RMSNormalization"])
def test_a_built_layer_takes_tensors_of_unknown_rank(name, rng):
    x = data(rng, (2, 3, 8))
    layer = built(getattr(fusednorm, name)(), x.shape, rng)

    @tf.function(input_signature=[tf.TensorSpec(None)])
    def call(x):
        return layer.call(x)

    np.testing.assert_array_equal(call(x), layer.call(x))


@keras_3_only
@every_layer
def test_supports_xla_where_it_has_kernels_for_all_devices(kind, monkeypatch):
    assert LAYERS[kind]().supports_jit is True
    monkeypatch.setattr(_library, "xla_devices", set)
    assert LAYERS[kind]().supports_jit is False


def tutorial_model(module, name, arguments):
    norm = getattr(module, name)(**arguments)
    return keras.Sequential(
        [
            keras.Input((6, 6, 4)),
            keras.layers.Conv2D(8, 3, padding="same"),
            norm,
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(3),
        ]
    )


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("GroupNormalization", {"groups": 4}),
        ("LayerNormalization", {"axis": [1, 2, 3]}),
        ("LayerNormalization", {}),
        pytest.param("RMSNormalization", {}, marks=keras_3_only),
    ],
)
def test_trains_as_keras_does(name, arguments, rng):
    ours, theirs = (
        tutorial_model(module, name, arguments) for module in (fusednorm, keras.layers)
    )
    ours.set_weights(theirs.get_weights())
    before = ours.get_weights()
    x = data(rng, (32, 6, 6, 4))
    labels = rng.integers(0, 3, 32)
    losses = []
    for model in (ours, theirs):
        model.compile(  # jit_compile stays "auto"
            keras.optimizers.SGD(0.1),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        )
        history = model.fit(x, labels, batch_size=8, epochs=2, shuffle=False, verbose=0)
        losses.append(history.history["loss"])
    # Gradients here are below 4 and agree to AGREE of that; eight steps of 0.1 of it
    # add up to 8 * 0.1 * 4 * AGREE. Two more such steps' worth is for what a step
    # passes on to the next.
    bound = 10 * 0.1 * 4 * AGREE
    np.testing.assert_allclose(*losses, rtol=0, atol=bound)
    for a, b, start in zip(ours.weights, theirs.weights, before, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=bound, err_msg=a.name)
        # Training moved every weight, by far more than the bound.
        assert np.max(np.abs(np.asarray(a) - start)) > 10 * bound


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_trains_in_mixed_precision(policy, rng):
    x = data(rng, (16, 5, 8))
    norms = [make(dtype=policy) for make in LAYERS.values()]
    model = keras.Sequential([keras.Input((5, 8)), *norms])
    model.compile(keras.optimizers.SGD(0.1), "mse")
    history = model.fit(x, np.tanh(x), batch_size=8, epochs=3, verbose=0)
    assert history.history["loss"][-1] < history.history["loss"][0]
    assert {dtype_of(weight) for weight in model.trainable_weights} == {"float32"}


# ---------------------------------------------------------------- saving


@pytest.fixture
def model(rng):
    """All four layers and nothing else: what is loaded must compute the same bits."""
    model = keras.Sequential(
        [
            keras.Input((None, 8)),
            fusednorm.GroupNormalization(groups=4, activation="silu"),
            fusednorm.InstanceNormalization(epsilon=1e-5, activation="leaky_relu"),
            fusednorm.LayerNormalization(axis=(-1,), center=False),
            fusednorm.RMSNormalization(zero_centered=True),
        ]
    )
    for layer in model.layers:
        built(layer, (None, None, 8), rng)
    return model


@pytest.fixture
def x(rng):
    return data(rng, (2, 5, 8))


@pytest.mark.parametrize(
    "file",
    [
        "model.keras",
        "model.h5",
        pytest.param("model", marks=tf_keras_only),
    ],
)
def test_keras_file_loads_back(file, model, x, tmp_path):
    path = str(tmp_path / file)
    model.save(path)
    loaded = keras.models.load_model(path)
    assert [type(a) for a in loaded.layers] == [type(b) for b in model.layers]
    np.testing.assert_array_equal(loaded(x), model(x))
    loaded.compile("sgd", "mse")
    loaded.fit(x, x, verbose=0)
    for a, b in zip(loaded.weights, model.weights, strict=True):
        assert np.abs(np.asarray(a) - np.asarray(b)).max() > 0, a.name


def test_keras_file_loads_where_fusednorm_is_only_imported(model, x, tmp_path):
    model.save(tmp_path / "model.keras")
    np.save(tmp_path / "x.npy", x)
    forks.output(
        "-c",
        "import sys, fusednorm, numpy as np\n"
        "from fusednorm._keras import keras\n"
        "model = keras.models.load_model(sys.argv[1] + '/model.keras')\n"
        "np.save(sys.argv[1] + '/y.npy', model(np.load(sys.argv[1] + '/x.npy')))",
        tmp_path,
    )
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), model(x))


def test_weights_file_loads_into_keras_layers(rng, tmp_path):
    theirs, ours = (
        tutorial_model(module, "GroupNormalization", {"groups": 4})
        for module in (keras.layers, fusednorm)
    )
    theirs.save_weights(tmp_path / "model.weights.h5")
    ours.load_weights(tmp_path / "model.weights.h5")
    for a, b in zip(ours.weights, theirs.weights, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("save", "call"),
    [
        (
            tf.saved_model.save,
            lambda loaded, x: loaded.signatures["serving_default"](x).popitem()[1],
        ),
        (
            lambda model, path: export(model, path),
            lambda loaded, x: loaded.serve(x),
        ),
    ],
    ids=["tf.saved_model.save", "model.export"],
)
def test_saved_model_loads_back(save, call, model, x, tmp_path):
    expected = model(x)
    save(model, str(tmp_path))
    np.testing.assert_array_equal(
        call(tf.saved_model.load(str(tmp_path)), tf.constant(x)), expected
    )

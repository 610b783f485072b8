"""`keras.ops.layer_normalization` and `rms_normalization` within `patch_keras`."""

import functools
import threading
import warnings

import fusednorm
import keras
import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf
from fusednorm.conversion import functions as our_functions, internals
from fusednorm.conversion.suspension import suspended
from support import bounds, reference
from support.reference import Norm

layers, ops = keras.layers, keras.ops
KINDS = ("layer_normalization", "rms_normalization")
NORMS = {"layer_normalization": "layer_norm", "rms_normalization": "rms_norm"}
OPS = {"layer_normalization": "LayerNorm", "rms_normalization": "RMSNorm"}
DTYPES = [np.float32, np.float64, np.float16, ml_dtypes.bfloat16]
SHAPE = (2, 5, 8)
# See tests/support/layer_cases.py.
AGREE = 2 * 12 * 16 * 2.0**-24
every_kind = pytest.mark.parametrize("kind", KINDS)


def data(rng, *shape, dtype=np.float32):
    return rng.standard_normal(shape).astype(dtype)


def weights_for(kind, rng, shape, dtype=np.float32):
    count = 2 if kind == "layer_normalization" else 1
    return [data(rng, *shape, dtype=dtype) for _ in range(count)]


def function(kind):
    return getattr(ops, kind)


def types_of(call, *inputs):
    """Returns the types of the operations that a function is traced as."""
    traced = tf.function(call, autograph=False).get_concrete_function(*inputs)
    return {operation.type for operation in traced.graph.get_operations()}


def is_ours(call, *inputs):
    """Tells whether a function is traced as one of our ops."""
    return any(each.startswith("Fusednorm>") for each in types_of(call, *inputs))


@pytest.fixture
def _patched():
    with fusednorm.patch_keras():
        yield


patched = pytest.mark.usefixtures("_patched")


@pytest.fixture(autouse=True)
def _nothing_is_left_behind():
    before = {kind: internals.function_of_norm(kind) for kind in KINDS}
    theirs = {kind: getattr(*place) for kind, place in before.items()}
    yield
    assert {kind: getattr(*place) for kind, place in before.items()} == theirs


def test_keras_has_the_functions_that_are_replaced():
    served = [each.ours.__name__ for each in our_functions.of_keras()]
    assert served == list(KINDS), (
        f"Keras {keras.__version__} has no functions that `patch_keras` knows to be "
        "behind keras.ops.layer_normalization and rms_normalization, or with other "
        "arguments. Look for the new ones, and change `function_of_norm` in "
        "fusednorm/conversion/internals.py"
    )


@every_kind
def test_is_our_op_within_and_keras_outside(kind, rng):
    x = tf.constant(data(rng, *SHAPE))
    call = function(kind)
    assert not is_ours(call, x)
    with fusednorm.patch_keras():
        types = types_of(call, x)
        assert f"Fusednorm>{OPS[kind]}" in types
        # Nothing else but what the graph takes and gives.
        assert types == {"Placeholder", f"Fusednorm>{OPS[kind]}", "Identity"}
        with suspended():
            assert not is_ours(call, x)
        with fusednorm.portable():
            assert not is_ours(call, x)
            assert types_of(call, x) != types
    assert not is_ours(call, x)


# Axes of x, and whether Keras multiplies by a scale of their sizes along them: for RMS
# norms it does so along the last axes.
AXES = [
    (-1, True),
    ([2], True),
    ((1, 2), True),
    ([2, 1], True),
    ([-2, -1], True),
    (1, False),
    ((0, 2), False),
]


@pytest.mark.parametrize(("axis", "last"), AXES)
@pytest.mark.parametrize("dtype", DTYPES)
@every_kind
@patched
def test_values_and_gradients(kind, dtype, axis, last, rng):
    x, dy = data(rng, *SHAPE, dtype=dtype), data(rng, *SHAPE, dtype=dtype)
    axes = tuple(each % 3 for each in np.atleast_1d(axis).tolist())
    weights, weight_dtype = [], np.float64 if dtype == np.float64 else np.float32
    if last or kind == "layer_normalization":
        sizes = [SHAPE[each] for each in sorted(axes)]
        weights = weights_for(kind, rng, sizes, weight_dtype)
    norm = Norm(NORMS[kind], axes, epsilon=0.25)
    exact = reference.forward(norm, x, *weights)
    inputs = [tf.constant(each) for each in (x, *weights)]

    def call(*inputs):
        return function(kind)(*inputs, axis=axis, epsilon=0.25)

    assert is_ours(call, *inputs)
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        y = call(*inputs)
    assert y.dtype == tf.as_dtype(dtype)
    assert bounds.relative_to(bounds.forward(norm, exact, dtype), y, exact.y) <= 1
    of = reference.backward(norm, exact, dy)
    limits = bounds.backward(norm, exact, of, dy, dtype, weight_dtype)
    wanted = (of.dx, of.dgamma, of.dbeta)
    got = tape.gradient(y, inputs, output_gradients=tf.constant(dy))
    for limit, each, gradient in zip(limits, wanted, got, strict=False):
        assert bounds.relative_to(limit, gradient, each) <= 1


@pytest.mark.parametrize("weight_dtype", DTYPES)
@pytest.mark.parametrize("dtype", DTYPES)
@every_kind
def test_mixed_dtypes_are_those_of_keras(kind, dtype, weight_dtype, rng):
    x = data(rng, *SHAPE, dtype=dtype)
    weights = weights_for(kind, rng, [8], dtype=weight_dtype)
    theirs = function(kind)(x, *weights)
    with fusednorm.patch_keras():
        assert is_ours(lambda x: function(kind)(x, *weights), tf.constant(x))
        ours = function(kind)(x, *weights)
    assert ours.dtype == theirs.dtype == tf.as_dtype(dtype)
    ours, theirs = (np.asarray(each).astype(np.float64) for each in (ours, theirs))
    # Both compute in float32, or float64, and are rounded to the data's type.
    computed = AGREE * 2.0 ** (24 - 53 if dtype == np.float64 else 0)
    limit = computed + float(ml_dtypes.finfo(dtype).eps) * np.abs(theirs)
    assert np.all(np.abs(ours - theirs) <= limit)


@every_kind
@patched
def test_the_default_epsilon_is_that_of_keras(kind, rng):
    x = 1e-3 * data(rng, *SHAPE)
    keras_epsilon = keras.backend.epsilon()
    norm = Norm(NORMS[kind], epsilon=keras_epsilon)
    y = function(kind)(x)
    exact = reference.forward(norm, x)
    assert bounds.relative_to(bounds.forward(norm, exact, np.float32), y, exact.y) <= 1
    try:
        keras.backend.set_epsilon(0.5)
        again = function(kind)(x)
    finally:
        keras.backend.set_epsilon(keras_epsilon)
    np.testing.assert_array_equal(again, function(kind)(x, epsilon=0.5))


@pytest.mark.parametrize(
    "made",
    [
        tf.Variable,
        keras.Variable,
        tf.constant,
        lambda x: x,
    ],
    ids=["tf.Variable", "keras.Variable", "tensor", "array"],
)
@every_kind
def test_takes_tensors_variables_and_arrays(kind, made, rng, monkeypatch):
    x = made(data(rng, *SHAPE))
    weights = [made(each) for each in weights_for(kind, rng, [8])]
    theirs = function(kind)(x, *weights)
    calls = calls_of_keras(kind, monkeypatch)
    with fusednorm.patch_keras():
        y = function(kind)(x, *weights)
    assert not calls
    np.testing.assert_allclose(y, theirs, rtol=0, atol=AGREE)


def calls_of_keras(kind, monkeypatch):
    """Returns a list to which each call of Keras's own function adds its arguments."""
    module, name = internals.function_of_norm(kind)
    theirs, calls = getattr(module, name), []

    @functools.wraps(theirs)
    def noted(*args, **kwargs):
        calls.append((args, kwargs))
        return theirs(*args, **kwargs)

    monkeypatch.setattr(module, name, noted)
    return calls


def assert_left_to_keras(kind, monkeypatch, *args, **kwargs):
    theirs = outcome(kind, *args, **kwargs)
    calls = calls_of_keras(kind, monkeypatch)
    with fusednorm.patch_keras():
        ours = outcome(kind, *args, **kwargs)
    assert len(calls) == 1
    assert type(ours) is type(theirs)
    if isinstance(theirs, Exception):
        assert str(ours) == str(theirs)
    else:
        assert ours.dtype == theirs.dtype
        for one, other in zip(*map(parts, (ours, theirs)), strict=True):
            np.testing.assert_array_equal(one, other)


def parts(tensor):
    """Returns the dense tensors that a tensor consists of."""
    return tf.nest.flatten(tensor, expand_composites=True)


@pytest.mark.parametrize(
    ("x", "options"),
    [
        (np.array([[1, 2, 4]]), {}),
        (tf.constant([[1, 2, 4]]), {}),
        (tf.constant([[True, False]]), {}),
        (np.array(2, np.float32), {}),
        (np.ones((2, 3), np.float32), {"epsilon": -0.25}),
        (np.ones((2, 3), np.float32), {"epsilon": tf.constant(0.25)}),
        (np.ones((2, 3), np.float32), {"axis": []}),
        (np.ones((2, 3), np.float32), {"axis": None}),
    ],
    ids=[
        "array of integers",
        "integers",
        "booleans",
        "scalar",
        "epsilon < 0",
        "tensor as epsilon",
        "no axis",
        "all axes",
    ],
)
@every_kind
def test_what_ours_do_not_take_is_left_to_keras(kind, x, options, monkeypatch):
    assert_left_to_keras(kind, monkeypatch, x, **options)


def outcome(kind, *args, **kwargs):
    """Returns the result of Keras's function, or the error that it raises."""
    try:
        return function(kind)(*args, **kwargs)
    except Exception as error:
        return error


BROADCAST = [(), (1,), (1, 8), (5, 8), (2, 1, 8), (2, 5, 8), (1, 1, 8)]


@pytest.mark.parametrize("shape", BROADCAST)
@every_kind
def test_weights_that_broadcast_are_left_to_keras(kind, shape, rng, monkeypatch):
    x, weight = data(rng, *SHAPE), data(rng, *shape)
    assert_left_to_keras(kind, monkeypatch, x, weight)
    if kind == "layer_normalization":
        assert_left_to_keras(kind, monkeypatch, x, None, weight)


@pytest.mark.parametrize("axis", [1, (0, 2), (0, 1)])
def test_a_scale_of_other_axes_than_the_last_is_left_to_keras(axis, rng, monkeypatch):
    # Which multiplies by it along the last, as it can where the sizes are the same.
    x = data(rng, 4, 4, 4)
    scale = data(rng, *(4 for _ in np.atleast_1d(axis)))
    assert_left_to_keras("rms_normalization", monkeypatch, x, scale, axis=axis)


def test_weights_in_the_order_of_unsorted_axes_are_left_to_keras(rng, monkeypatch):
    # Keras sorts the axes as they are written, and takes -1 for the first one.
    x, gamma = data(rng, *SHAPE), data(rng, 8, 5)
    kind = "layer_normalization"
    assert_left_to_keras(kind, monkeypatch, x, gamma, axis=[1, -1])


@pytest.mark.filterwarnings("ignore:.*rms_scaling")
def test_rms_scaling_is_left_to_keras(rng, monkeypatch):
    x, gamma = data(rng, *SHAPE), data(rng, 8)
    kind = "layer_normalization"
    assert_left_to_keras(kind, monkeypatch, x, gamma, rms_scaling=True)
    with fusednorm.patch_keras(), pytest.warns(UserWarning, match="rms_scaling"):
        ops.layer_normalization(x, rms_scaling=True)


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        (([1.0, 2.0],), {}),
        ((np.ones((2, 3), np.float32), np.ones(4, np.float32)), {}),
        ((np.ones((2, 3), np.float32),), {"axis": 2}),
        ((np.ones((2, 3), np.float32),), {"axis": "last"}),
        ((np.ones((2, 3), np.float32),), {"axis": (1, 1)}),
        ((np.ones((2, 3), np.complex64),), {}),
        ((np.ones((2, 3), np.float32),), {"epsilon": "small"}),
    ],
    ids=["list", "weight", "axis", "text", "twice", "complex", "epsilon"],
)
@every_kind
def test_errors_are_those_of_keras(kind, args, kwargs, monkeypatch):
    assert_left_to_keras(kind, monkeypatch, *args, **kwargs)


@every_kind
def test_unknown_rank_is_left_to_keras(kind, monkeypatch):
    @tf.function(input_signature=[tf.TensorSpec(None)], autograph=False)
    def of_unknown_rank(x):
        assert_left_to_keras(kind, monkeypatch, x)

    of_unknown_rank.get_concrete_function()


@every_kind
@patched
def test_unknown_sizes(kind, rng):
    x, weights = data(rng, *SHAPE), weights_for(kind, rng, [8])

    def call(x):
        return function(kind)(x, *weights, axis=2)

    assert is_ours(call, tf.TensorSpec((None, None, 8), tf.float32))
    traced = tf.function(call, input_signature=[tf.TensorSpec((None, None, 8))])
    np.testing.assert_array_equal(traced(x), call(x))
    # Keras broadcasts a weight of one number, and this axis may have more.
    assert not is_ours(call, tf.TensorSpec((2, None, None), tf.float32))


@pytest.mark.parametrize(
    "x",
    [
        tf.ragged.constant([[[1.0, 2.0], [3.0, 5.0]], [[3.0, 1.0]]], ragged_rank=1),
        tf.sparse.from_dense([[1.0, 2.0], [3.0, 0.0]]),
    ],
    ids=["ragged", "sparse"],
)
@every_kind
def test_sparse_and_ragged_tensors_are_left_to_keras(kind, x, monkeypatch):
    assert_left_to_keras(kind, monkeypatch, x)


@every_kind
@patched
def test_under_xla_and_in_second_derivatives(kind, rng):
    x, weights = tf.constant(data(rng, *SHAPE)), weights_for(kind, rng, [8])

    def call(x):
        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape() as inner:
                inner.watch(x)
                loss = tf.reduce_sum(function(kind)(x, *weights) ** 3)
            first = inner.gradient(loss, x)
        return first, outer.gradient(first, x, output_gradients=x)

    types = types_of(call, x)
    assert {f"Fusednorm>{OPS[kind]}{end}" for end in ("", "Grad", "GradGrad")} <= types
    expected = call(x)
    for options in ({}, {"jit_compile": True}):
        for got, wanted in zip(tf.function(call, **options)(x), expected, strict=True):
            scale = np.abs(wanted).max()
            np.testing.assert_allclose(got, wanted, rtol=0, atol=AGREE * scale)


@every_kind
def test_functions_are_left_that_xla_may_have_no_kernels_for(kind, rng, monkeypatch):
    monkeypatch.setattr(fusednorm._portable, "supports_xla", lambda: False)
    x = tf.constant(data(rng, *SHAPE))
    with fusednorm.patch_keras():
        assert not is_ours(function(kind), x)


# ------------------------------------------------------------------ models


def model_of_functions():
    """Returns a functional model with nodes of both functions, and their weights."""
    inputs, conditions = keras.Input((5, 8)), keras.Input((8,))
    y = ops.layer_normalization(layers.Dense(8)(inputs), epsilon=0.25)
    scale = ops.mean(conditions, axis=0)
    y = ops.rms_normalization(y, scale, epsilon=0.25)
    y = ops.layer_normalization(y, scale, scale)
    return keras.Model([inputs, conditions], layers.Dense(3)(y))


def test_graphs_are_keras_own_and_run_on_ours_within(rng, tmp_path):
    file = tmp_path / "model.keras"  # An h5 file has no nodes of `keras.ops`.
    with fusednorm.patch_keras():
        model = model_of_functions()
    x = [tf.constant(data(rng, *SHAPE)), tf.constant(data(rng, 4, 8))]
    assert not is_ours(model, x)
    expected = model(x)
    with fusednorm.patch_keras():
        assert is_ours(model, x)
        np.testing.assert_allclose(model(x), expected, rtol=0, atol=AGREE)
        model.save(file)
        within = keras.models.load_model(file)
        np.testing.assert_allclose(within(x), expected, rtol=0, atol=AGREE)
    outside = keras.models.load_model(file)
    read = keras.models.model_from_json(model.to_json())
    for again in (outside, within, read, keras.models.clone_model(model)):
        again.set_weights(model.get_weights())
        assert not is_ours(again, x)
        np.testing.assert_array_equal(again(x), expected)


def test_symbolic_results_are_those_of_keras():
    x = keras.KerasTensor((None, 8), dtype="bfloat16")
    with fusednorm.patch_keras():
        for kind in KINDS:
            y = function(kind)(x)
            assert (y.shape, y.dtype) == ((None, 8), "bfloat16")


class Own(layers.LayerNormalization):
    """A subclass, which `patch_keras` leaves alone."""


@pytest.mark.parametrize("policy", ["float32", "mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize(
    "made", [Own, layers.LayerNormalization, layers.RMSNormalization]
)
def test_layers_of_keras_run_on_ours_within(made, policy, rng):
    layer, x = made(dtype=policy), tf.constant(data(rng, *SHAPE))
    layer.build(SHAPE)
    layer.set_weights([data(rng, 8) for _ in layer.weights])
    theirs = layer(x)
    with fusednorm.patch_keras():
        assert is_ours(layer, x)
        ours = layer(x)
    assert not is_ours(layer, x)
    assert ours.dtype == theirs.dtype
    # Both round to the data's type last.
    rtol = float(ml_dtypes.finfo(theirs.dtype.as_numpy_dtype).eps)
    ours, theirs = (np.asarray(each, np.float32) for each in (ours, theirs))
    np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=AGREE)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_models_are_trained_alike(jit_compile, rng):
    x, y = data(rng, 16, 5, 8), data(rng, 16, 5, 8)

    def trained(weights):
        model = keras.Sequential([keras.Input((5, 8)), layers.Dense(8), Own()])
        model.set_weights(weights)
        model.compile("sgd", keras.losses.MeanSquaredError(), jit_compile=jit_compile)
        model.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0)
        return model.get_weights()

    weights = [data(rng, 8, 8), data(rng, 8), data(rng, 8), data(rng, 8)]
    expected = trained(weights)
    with fusednorm.patch_keras():
        got = trained(weights)
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=AGREE)


def test_conversion_compares_with_keras_own_functions(rng):
    model = keras.Sequential([keras.Input((5, 8)), layers.LayerNormalization()])
    with fusednorm.patch_keras():
        fusednorm.convert(model, verbose=False)
    # Ours and ours would not differ at all.
    assert model.fusednorm_conversion.replaced[0].difference > 0


# --------------------------------------------------------------- the patch


@every_kind
def test_patches_may_overlap(kind, rng):
    x = tf.constant(data(rng, *SHAPE))
    first, second = fusednorm.patch_keras(), fusednorm.patch_keras()
    first.undo()
    assert is_ours(function(kind), x)
    second.undo()
    assert not is_ours(function(kind), x)


def test_holds_for_all_threads_but_where_it_is_suspended(rng):
    x = tf.constant(data(rng, *SHAPE))
    found = {}

    def look(name):
        found[name] = is_ours(ops.layer_normalization, x)

    with fusednorm.patch_keras(), suspended():
        thread = threading.Thread(target=look, args=["other"])
        thread.start()
        thread.join()
        look("this")
    assert found == {"other": True, "this": False}


@every_kind
def test_functions_of_the_backend_go_before(kind, rng, monkeypatch):
    module, name = internals.function_of_norm(kind)
    theirs = getattr(module, name)
    monkeypatch.setattr(module.backend.nn, kind, theirs, raising=False)
    with fusednorm.patch_keras():
        assert getattr(module, name) is theirs
        backend = getattr(module.backend.nn, kind)
        assert is_ours(backend, tf.constant(data(rng, *SHAPE)))
    assert getattr(module.backend.nn, kind) is theirs


@every_kind
def test_a_keras_without_the_functions_is_left_alone(kind, monkeypatch):
    module, name = internals.function_of_norm(kind)
    with monkeypatch.context() as context:
        context.delattr(module, name)
        with fusednorm.patch_keras():
            assert not hasattr(module, name)
            assert isinstance(layers.LayerNormalization(), fusednorm.LayerNormalization)
    with monkeypatch.context() as context:
        other = lambda inputs, weight: inputs  # noqa: E731
        context.setattr(module, name, other)
        with fusednorm.patch_keras():
            assert getattr(module, name) is other


@every_kind
@patched
def test_tracing_warns_of_nothing(kind, rng):
    x = tf.constant(data(rng, *SHAPE))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tf.function(lambda x: function(kind)(x))(x)

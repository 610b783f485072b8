"""Every message a user meets, word for word, and what the ops check when they run."""

import functools
import re

import fusednorm
import keras
import numpy as np
import pytest
import tensorflow as tf

INF, NAN = float("inf"), float("nan")
ACTIVATIONS = (
    "Argument `activation` must be None, 'linear' or one of 'relu', 'leaky_relu', "
    "'silu', 'gelu', 'gelu_tanh', 'tanh', 'sigmoid' (or the Keras function of that "
    "name). Received: activation="
)
DTYPE = (
    "Argument `x` must have a floating-point dtype (float16, bfloat16, float32 or "
    "float64); convert it, for example with `tf.cast(x, tf.float32)`. Received: dtype="
)
GROUPS = (
    "Argument `groups` must be a positive integer, or -1 for one group per channel. "
    "Received: groups="
)
INTEGER = "Argument `axis` must be an integer. Received: axis="
INTEGERS = (
    "Argument `axis` must be an integer or a list or tuple of integers. Received: axis="
)
CHANNEL = (
    "Argument `axis` must name a channel axis, not the batch axis 0, of an input of "
    "rank "
)
RANGE = "Argument `axis` is out of range for an input of rank "
TWICE = "Argument `axis` must not name an axis twice. Received: axis="
EMPTY = "Argument `axis` must name at least one axis. Received: axis="
RUN = (
    "Argument `axis` must name one contiguous run of axes, all counted from the same "
    "end, of an input of unknown rank. Received: axis="
)
EPSILON = "Argument `epsilon` must be a finite number >= 0. Received: epsilon="
UNKNOWN = "The normalized axes of the input must have known dimensions. Received: axis="
RESIDUAL = "Argument `residual` must have the shape and dtype of `x`, "
DENSE = (
    "Argument `x` must be a dense tensor; convert it with `x.to_tensor()` or "
    "`tf.sparse.to_dense(x)`, or normalize its values. Received: x="
)


def zeros(*shape, dtype=tf.float32):
    return tf.zeros(shape, dtype)


def divide(groups, channels, axis, shape):
    return (
        "Argument `groups` must divide the number of channels. Received: "
        f"groups={groups} for {channels} channels (axis {axis} of shape {shape})"
    )


def wrong_shape(name, expected, received):
    return f"Argument `{name}` must have shape {expected}. Received: shape={received}"


def wrong_dtype(name, x, received):
    return (
        f"Argument `{name}` must have dtype float32 or the dtype of `x`, {x}. "
        f"Received: dtype={received}"
    )


def graph(function, *shapes):
    """Makes a graph function of float32 tensors of these shapes."""
    specs = [tf.TensorSpec(shape) for shape in shapes]
    return tf.function(function, input_signature=specs, autograph=False)


X = zeros(2, 3, 4)
RAGGED = tf.ragged.constant([[1.0], [2.0, 3.0]])
SPARSE = tf.sparse.from_dense([[1.0, 0.0]])

FUNCTIONS = {
    "group": lambda x, *args, **kwargs: fusednorm.group_norm(
        x, *args, **{"groups": 2, **kwargs}
    ),
    "instance": fusednorm.instance_norm,
    "layer": fusednorm.layer_norm,
    "rms": fusednorm.rms_norm,
}
LAYERS = {
    "group": lambda **kwargs: fusednorm.GroupNormalization(**{"groups": 2, **kwargs}),
    "instance": fusednorm.InstanceNormalization,
    "layer": fusednorm.LayerNormalization,
    "rms": fusednorm.RMSNormalization,
}
# Which of them take a channel axis, take a list of axes, have a beta.
CHANNELS, AXES, CENTRED = ("group", "instance"), ("layer", "rms"), tuple(FUNCTIONS)[:3]
ALL = tuple(FUNCTIONS)


def table(*rows):
    """Returns one case per norm of each row: (norms, what to do..., message)."""
    return [
        # Without addresses: parallel test processes must agree on the names.
        pytest.param(norm, *row, id=re.sub(" at 0x[0-9a-f]+", "", f"{norm}-{row[-1]}"))
        for norms, *row in rows
        for norm in norms
    ]


# What needs no input to be wrong: (norms, arguments, message).
ARGUMENTS = table(
    *(
        (("group",), {"groups": groups}, f"{GROUPS}{groups!r}")
        for groups in (0, -2, 2.0, "2", None, True)
    ),
    *((AXES, {"axis": empty}, f"{EMPTY}{empty}") for empty in ([], ())),
    *(
        (ALL, {"epsilon": epsilon}, f"{EPSILON}{epsilon!r}")
        for epsilon in (-1e-3, INF, NAN, 1e39, "small", None)
    ),
    *(
        (ALL, {"activation": name}, f"{ACTIVATIONS}{name!r}")
        for name in ("softplus", "ReLU", "", 3, keras.activations.elu)
    ),
)
WRONG_TYPES = table(
    *(
        (CHANNELS, {"axis": axis}, f"{INTEGER}{axis!r}")
        for axis in (1.0, "1", None, [1], (1,), True)
    ),
    *(
        (AXES, {"axis": axis}, f"{INTEGERS}{axis!r}")
        for axis in (1.0, "1", None, [1.0], (1, None), {1}, False)
    ),
)
# What an input's shape shows: (norms, arguments, shape, message).
SHAPES = table(
    (("group",), {"groups": 3}, (2, 3, 4), divide(3, 4, -1, (2, 3, 4))),
    (("group",), {"axis": 1}, (2, 3, 4), divide(2, 3, 1, (2, 3, 4))),
    (("group",), {"groups": 8}, (None, None, 4), divide(8, 4, -1, (None, None, 4))),
    *(
        (CHANNELS, {"axis": axis}, (2, 3, 4), f"{CHANNEL}3. Received: axis={axis}")
        for axis in (-3, 3, -4)
    ),
    (CHANNELS, {}, (4,), f"{CHANNEL}1. Received: axis=-1"),
    (CHANNELS, {}, (), f"{CHANNEL}0. Received: axis=-1"),
    *(
        (AXES, {"axis": axis}, (2, 3, 4), f"{RANGE}3. Received: axis={axis}")
        for axis in (3, -4, [1, 3], (-4, -1))
    ),
    (AXES, {}, (), f"{RANGE}0. Received: axis=-1"),
    *(
        (AXES, {"axis": axis}, (2, 3, 4), f"{TWICE}{axis} for an input of rank 3")
        for axis in ([1, 1], [2, -1], (0, 1, -3))
    ),
)
# Layers refuse it before they see a shape.
BATCH_AXIS = table((CHANNELS, {"axis": 0}, (2, 3, 4), f"{CHANNEL}3. Received: axis=0"))


def exactly(text):
    return rf"\A{re.escape(text)}\Z"


# ---------------------------------------------------------------- functions


@pytest.mark.parametrize(("norm", "arguments", "text"), ARGUMENTS)
def test_functions_check_their_arguments(norm, arguments, text):
    with pytest.raises(ValueError, match=exactly(text)):
        FUNCTIONS[norm](X, **arguments)


@pytest.mark.parametrize("norm", ALL)
def test_the_largest_epsilon_is_the_largest_float32(norm):
    largest = float(np.finfo(np.float32).max)
    # At most one times the reciprocal square root of it.
    assert np.abs(FUNCTIONS[norm](X + 1, epsilon=largest)).max() <= 1e-19
    more = float(np.nextafter(largest, INF))
    with pytest.raises(ValueError, match=exactly(f"{EPSILON}{more!r}")):
        FUNCTIONS[norm](X, epsilon=more)


@pytest.mark.parametrize(("norm", "arguments", "text"), WRONG_TYPES)
def test_functions_check_types(norm, arguments, text):
    with pytest.raises(TypeError, match=exactly(text)):
        FUNCTIONS[norm](X, **arguments)


@pytest.mark.parametrize(("norm", "arguments", "shape", "text"), [*SHAPES, *BATCH_AXIS])
def test_functions_check_the_shape_of_x(norm, arguments, shape, text):
    function = graph(lambda x: FUNCTIONS[norm](x, **arguments), shape)
    with pytest.raises(ValueError, match=exactly(text)):
        function.get_concrete_function()


OPERANDS = table(
    *(
        (ALL, [zeros(2, 4, dtype=dtype)], {}, f"{DTYPE}{dtype.name}")
        for dtype in (tf.int32, tf.bool, tf.complex64)
    ),
    (ALL, [np.zeros((2, 4), np.int64)], {}, f"{DTYPE}int64"),
    *((ALL, [sparse], {}, f"{DENSE}{sparse}") for sparse in (RAGGED, SPARSE)),
    *(
        (ALL, [X, zeros(*shape)], {}, wrong_shape("gamma", (4,), shape))
        for shape in ((3,), (1,), ())
    ),
    (
        ALL,
        [X, zeros(3, 4)],
        {},
        "Argument `gamma` must have shape (2, 4), or (4,) for all samples. Received: "
        "shape=(3, 4)",
    ),
    (CENTRED, [X, None, zeros(3)], {}, wrong_shape("beta", (4,), (3,))),
    (CENTRED, [X, zeros(4), [0.0, 1.0]], {}, wrong_shape("beta", (4,), (2,))),
    # gamma follows the axes in increasing order, whatever the order given.
    (AXES, [X, zeros(4, 3)], {"axis": [2, 1]}, wrong_shape("gamma", (3, 4), (4, 3))),
    (AXES, [X, zeros(4, 2)], {"axis": (2, 0)}, wrong_shape("gamma", (2, 4), (4, 2))),
    *(
        (
            ALL,
            [zeros(2, 4, dtype=x), zeros(4, dtype=gamma)],
            {},
            wrong_dtype("gamma", x.name, gamma.name),
        )
        for x, gamma in (
            (tf.float32, tf.float16),
            (tf.float32, tf.float64),
            (tf.float16, tf.bfloat16),
            (tf.float64, tf.float16),
            (tf.float32, tf.int32),
        )
    ),
    (
        CENTRED,
        [X, zeros(4), zeros(4, dtype=tf.float16)],
        {},
        wrong_dtype("beta", "float32", "float16"),
    ),
    *(
        (
            ALL,
            [X],
            {"residual": residual},
            f"{RESIDUAL}(2, 3, 4) float32. Received: {received}",
        )
        for residual, received in (
            (zeros(2, 3), "(2, 3) float32"),
            (zeros(2, 1, 4), "(2, 1, 4) float32"),
            (zeros(2, 3, 4, dtype=tf.float16), "(2, 3, 4) float16"),
            ([0.0], "(1,) float32"),
        )
    ),
)


@pytest.mark.parametrize(("norm", "operands", "arguments", "text"), OPERANDS)
def test_functions_check_tensors(norm, operands, arguments, text):
    with pytest.raises(ValueError, match=exactly(text)):
        FUNCTIONS[norm](*operands, **arguments)


@pytest.mark.parametrize(
    ("norm", "axis", "text"),
    table(
        *((AXES, axis, f"{RUN}{axis}") for axis in ([-1, 1], [1, 3], (-3, -1))),
        (AXES, [1, 1], f"{TWICE}[1, 1] for an input of rank unknown"),
    ),
)
def test_functions_check_axes_of_an_unknown_rank(norm, axis, text):
    function = graph(lambda x: FUNCTIONS[norm](x, axis=axis), None)
    with pytest.raises(ValueError, match=exactly(text)):
        function.get_concrete_function()


# ---------------------------------------------------------------- layers


@pytest.mark.parametrize(("norm", "arguments", "text"), ARGUMENTS)
def test_layers_check_their_arguments_at_once(norm, arguments, text):
    with pytest.raises(ValueError, match=exactly(text)):
        LAYERS[norm](**arguments)


@pytest.mark.parametrize("norm", CHANNELS)
def test_layers_refuse_the_batch_axis_at_once(norm):
    text = (
        "Argument `axis` must name a channel axis, not the batch axis 0. Received: "
        "axis=0"
    )
    with pytest.raises(ValueError, match=exactly(text)):
        LAYERS[norm](axis=0)


@pytest.mark.parametrize(("norm", "arguments", "text"), WRONG_TYPES)
def test_layers_check_types_at_once(norm, arguments, text):
    with pytest.raises(TypeError, match=exactly(text)):
        LAYERS[norm](**arguments)


@pytest.mark.parametrize("method", ["build", "compute_output_shape"])
@pytest.mark.parametrize(("norm", "arguments", "shape", "text"), SHAPES)
def test_layers_check_the_shape_they_are_built_for(
    method, norm, arguments, shape, text
):
    layer = LAYERS[norm](**arguments)
    with pytest.raises(ValueError, match=exactly(text)):
        getattr(layer, method)(shape)


@pytest.mark.parametrize(
    ("norm", "arguments", "shape", "text"),
    table(
        (ALL, {}, (None, 4, None), f"{UNKNOWN}-1, shape=(None, 4, None)"),
        (ALL, {"axis": 1}, (None, None, 4), f"{UNKNOWN}1, shape=(None, None, 4)"),
        (AXES, {"axis": [2, 0]}, (None, 4, 4), f"{UNKNOWN}[2, 0], shape=(None, 4, 4)"),
    ),
)
def test_layers_need_known_dimensions_for_their_weights(norm, arguments, shape, text):
    with pytest.raises(ValueError, match=exactly(text)):
        LAYERS[norm](**arguments).build(shape)


# Keras adds the call's arguments to errors raised inside call().


@pytest.mark.parametrize("norm", ALL)
@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
@pytest.mark.parametrize("dtype", ["int32", "int64", "uint8", "bool", "complex64"])
def test_layers_refuse_integers(norm, policy, dtype):
    make = functools.partial(LAYERS[norm], dtype=policy)
    array = np.ones((2, 4), dtype)
    text = re.escape(f"{DTYPE}{dtype}")
    for x in (array, tf.constant(array), keras.Input((4,), dtype=dtype)):
        with pytest.raises(ValueError, match=text):
            make()(x)
    with pytest.raises(ValueError, match=text):
        make()(inputs=array)
    with pytest.raises(ValueError, match=text):
        tf.function(make())(array)
    built = make()
    built.build((None, 4))
    with pytest.raises(ValueError, match=text):
        built(array)


@pytest.mark.parametrize("norm", ALL)
@pytest.mark.parametrize(
    ("inputs", "shape"),
    [
        ([X, X], "[(2, 3, 4), (2, 3, 4)]"),
        ([keras.Input((4,))] * 2, "[(None, 4), (None, 4)]"),
        ({"a": X}, "{'a': (2, 3, 4)}"),
        ([[1.0, 2.0]], "None"),
        (None, "None"),
    ],
    ids=["tensors", "symbolic tensors", "dict", "numbers", "None"],
)
def test_layers_take_one_tensor(norm, inputs, shape):
    text = f"The layer must be called with one tensor. Received: shape={shape}"
    with pytest.raises(ValueError, match=exactly(text)):
        LAYERS[norm]()(inputs=inputs)


@pytest.mark.parametrize("norm", AXES)
def test_layers_refuse_another_shape_than_they_were_built_for(norm):
    layer = LAYERS[norm]()
    layer.build((None, 4))
    text = (
        "The input must have the dimensions that the layer was built for, (4,) along "
        "axis=-1. Received: shape=(2, 5)"
    )
    with pytest.raises(ValueError, match=re.escape(text)):
        layer(zeros(2, 5))


@pytest.mark.parametrize("norm", CHANNELS)
@pytest.mark.parametrize("shape", [(2, 3, 6), (2, 4)])
def test_channel_layers_leave_the_shape_to_keras_once_built(norm, shape):
    layer = LAYERS[norm]()
    layer.build((None, 3, 4))
    with pytest.raises(ValueError, match="is incompatible with the layer"):
        layer(zeros(*shape))


@pytest.mark.parametrize("norm", ALL)
def test_layers_need_the_tensorflow_backend(norm, monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    text = (
        "fusednorm's layers are TensorFlow ops and need Keras's TensorFlow backend; "
        "set the environment variable KERAS_BACKEND=tensorflow before importing keras. "
        "Received: KERAS_BACKEND=jax"
    )
    with pytest.raises(RuntimeError, match=exactly(text)):
        LAYERS[norm]()


# ---------------------------------------------------------------- at run time


# Shapes that are unknown until the graph runs: (norms, arguments, shapes of x, gamma
# and the residual, message of the op).
AT_RUN_TIME = table(
    (
        ("group",),
        {"groups": 3},
        [(2, 4)],
        "groups must divide the number of channels, got groups = 3 for 4 channels",
    ),
    *(
        (
            CHANNELS,
            {"axis": axis},
            [(2, 4)],
            "axis must name a channel axis, not the batch axis 0, of an input of rank "
            f"2, got axis = {axis}",
        )
        for axis in (0, 2, -2)
    ),
    *(
        (
            AXES,
            {"axis": axis},
            [(2, 4)],
            "axes are out of range for an input of rank 2, got "
            f"[{', '.join(map(str, axis))}]",
        )
        for axis in ([2], [1, 2], [-3, -2])
    ),
    (ALL, {}, [(2, 4), (3,)], "gamma must have shape [4], got [3]"),
    (ALL, {}, [(2, 4), (1, 4)], "gamma must have shape [4], got [1,4]"),
    (
        AXES,
        {"axis": [1, 2]},
        [(2, 3, 4), (4, 3)],
        "gamma must have shape [3,4], got [4,3]",
    ),
    (ALL, {}, [(2, 4), (4,), (2, 3)], "residual must have shape [2,4], got [2,3]"),
)


@pytest.mark.parametrize(("norm", "arguments", "shapes", "text"), AT_RUN_TIME)
def test_ops_check_what_is_unknown_until_they_run(norm, arguments, shapes, text):
    def call(x, gamma=None, residual=None):
        return FUNCTIONS[norm](x, gamma, residual=residual, **arguments)

    function = graph(call, *[None] * len(shapes))
    with pytest.raises(tf.errors.InvalidArgumentError, match=re.escape(text)):
        function(*(zeros(*shape) for shape in shapes))


def test_ops_check_beta_when_they_run():
    function = graph(lambda x, b: fusednorm.layer_norm(x, beta=b), None, None)
    with pytest.raises(
        tf.errors.InvalidArgumentError,
        match=re.escape("beta must have shape [4], got [5]"),
    ):
        function(zeros(2, 4), zeros(5))


# ---------------------------------------------------------------- raw ops

RAW = {
    "group_norm": {"groups": 2, "axis": -1, "beta": [], "mask": []},
    "layer_norm": {"axes": [-1], "beta": []},
    "rms_norm": {"axes": [-1]},
}
STATISTICS = "S must be {} for T {}, got {}"
# (ops, inputs and attributes, message)
RAW_CASES = table(
    *(
        (
            ["group_norm"],
            {"axis": axis},
            "axis must name a channel axis, not the batch axis 0, of an input of rank "
            f"3, got axis = {axis}",
        )
        for axis in (0, 3, -3)
    ),
    *(
        (
            ["group_norm"],
            {"groups": groups},
            "groups must be a positive integer, or -1 for one group per channel, got "
            f"{groups}",
        )
        for groups in (0, -2)
    ),
    (
        ["group_norm"],
        {"groups": 3},
        "groups must divide the number of channels, got groups = 3 for 4 channels",
    ),
    *(
        (
            ["layer_norm", "rms_norm"],
            {"axes": axes},
            "axes must be consecutive and increasing (transpose the input for any "
            f"other list), got {axes} for an input of rank 3",
        )
        for axes in ([0, 2], [2, 1], [1, 1], [-1, 1])
    ),
    (
        ["layer_norm", "rms_norm"],
        {"axes": []},
        "axes must name at least one axis, got []",
    ),
    (
        ["layer_norm", "rms_norm"],
        {"axes": [3]},
        "axes are out of range for an input of rank 3, got [3]",
    ),
    (RAW, {"gamma": [zeros(3)]}, "gamma must have shape [4], got [3]"),
    (RAW, {"gamma": [zeros(4), zeros(4)]}, "gamma must be 0 or 1 tensors"),
    (
        ["group_norm", "layer_norm"],
        {"beta": [zeros(3)]},
        "beta must have shape [4], got [3]",
    ),
    (
        ["group_norm", "layer_norm"],
        {"beta": [zeros(4), zeros(4)]},
        "beta must be 0 or 1 tensors",
    ),
    (
        RAW,
        {"gamma": [zeros(4, dtype=tf.float16)]},
        "gamma and beta must have dtype float32 or the dtype of x, float32, got "
        "float16",
    ),
    (RAW, {"residual": [zeros(2, 4)]}, "residual must have shape [2,3,4], got [2,4]"),
    (RAW, {"residual": [X, X]}, "residual must be 0 or 1 tensors"),
    (
        ["group_norm"],
        {"mask": [zeros(2, 4, dtype=tf.bool)]},
        "mask must have shape [2,3], got [2,4]",
    ),
    (
        ["group_norm"],
        {"mask": [zeros(2, 3, dtype=tf.bool)] * 2},
        "mask must be 0 or 1 tensors",
    ),
    (
        RAW,
        {"gamma": [zeros(2, 3, 5)], "per_position": True},
        "gamma must have shape [2,3,4], got [2,3,5]",
    ),
    (
        RAW,
        {"per_sample": True, "per_position": True},
        "per_sample and per_position must not both be true",
    ),
    (RAW, {"S": tf.float64}, STATISTICS.format("float32", "float32", "float64")),
    (
        RAW,
        {"x": zeros(2, 3, 4, dtype=tf.float64)},
        STATISTICS.format("float64", "float64", "float32"),
    ),
    *(
        (
            RAW,
            {"epsilon": epsilon},
            f"epsilon must be a finite number >= 0, got {printed}",
        )
        for epsilon, printed in ((-1.0, "-1.000000"), (INF, "inf"), (NAN, "nan"))
    ),
    (RAW, {"epsilon_low": -1.0}, "epsilon must be a finite number >= 0, got -0.5"),
)


def raw(op, changes):
    inputs = {"x": X, "gamma": [], "residual": [], "epsilon": 0.5, **RAW[op], **changes}
    return getattr(fusednorm.load_op_library(), f"fusednorm_{op}")(**inputs)


@pytest.mark.parametrize(("op", "changes", "text"), RAW_CASES)
def test_raw_ops_check_everything(op, changes, text):
    with pytest.raises(tf.errors.InvalidArgumentError, match=re.escape(text)):
        raw(op, changes)


@pytest.mark.parametrize(("op", "changes", "text"), RAW_CASES)
def test_shape_functions_check_everything(op, changes, text):
    # TensorFlow turns what a shape function says into a ValueError.
    with pytest.raises(ValueError, match=re.escape(text)):
        graph(lambda: raw(op, changes)).get_concrete_function()


@pytest.mark.parametrize("op", RAW)
@pytest.mark.parametrize(
    ("inputs", "text"),
    [
        ({"dy": zeros(2, 4)}, "dy must have shape [2,3,4], got [2,4]"),
        ({"rstd": zeros(3)}, "rstd must have shape {}, got [3]"),
        ({"drstd": zeros(1)}, "drstd must have shape {}, got [1]"),
        ({"dsum": [zeros(2, 3, 5)]}, "dsum must have shape [2,3,4], got [2,3,5]"),
        ({"gamma": [zeros(5)]}, "gamma must have shape [4], got [5]"),
        ({"epsilon": -1.0}, "epsilon must be a finite number >= 0, got -1.000000"),
    ],
)
def test_gradient_ops_check_everything(op, inputs, text):
    statistics = zeros(2, 2) if op == "group_norm" else zeros(2, 3)
    names = (
        ("rstd", "drstd") if op == "rms_norm" else ("mean", "dmean", "rstd", "drstd")
    )
    call = {"x": X, "dy": X, "gamma": [], "dsum": [], "epsilon": 0.5, **RAW[op]}
    call |= dict.fromkeys(names, statistics) | inputs
    text = text.format("[2,2]" if op == "group_norm" else "[2,3]")
    with pytest.raises(tf.errors.InvalidArgumentError, match=re.escape(text)):
        getattr(fusednorm.load_op_library(), f"fusednorm_{op}_grad")(**call)

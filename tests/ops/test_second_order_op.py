"""The second-order ops: what the kernels compute, shapes, errors and buffers."""

import re
import sys
from pathlib import Path

import fusednorm
import numpy as np
import pytest
import tensorflow as tf
from fusednorm import _native
from support.native_norms import DTYPES, PATHS
from support.native_second_order import second_order, second_order_arrays
from support.reference import Norm

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))
import second_order as benchmark


def call(norm, options, arguments):
    """Runs the op on the arguments of `_native.second_order`; returns its outputs."""
    inputs = dict(arguments)
    for name in ("gamma", "ddgamma", "ddbeta"):
        inputs[name] = [] if inputs[name] is None else [inputs[name]]
    # The op has the attributes of its kind, and only the centred ones those inputs.
    own = dict(options)
    if norm.op == "group_norm":
        (own["axis"],) = own.pop("axes")
    else:
        del own["groups"]
    if norm.op == "rms_norm":
        del inputs["mean"], inputs["ddbeta"]
    op = getattr(fusednorm.load_op_library(), f"fusednorm_{norm.op}_grad_grad")
    return tf.nest.flatten(list(op(**inputs, **own)))


# Exact in float32, as an attribute is; the kernels do not use it.
EPSILON = 2.0**-10


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("path", PATHS)
def test_equal_to_the_kernels(path, dtype, rng):
    norm, options, arguments = second_order_arrays(path, "both", dtype, rng)
    options["epsilon"] = EPSILON
    if dtype == np.float32:
        arguments["ddx"].flat[::7] = 2.0**-140  # TensorFlow's threads flush subnormals
    expected = [
        each for each in second_order(norm, options, arguments) if each is not None
    ]
    for got, wanted in zip(call(norm, options, arguments), expected, strict=True):
        assert got.numpy().tobytes() == wanted.tobytes()


@pytest.mark.parametrize("affine", ["none", "scale", "shift", "in the data's dtype"])
@pytest.mark.parametrize("path", ["rms rows", "channels first", "columns"])
def test_lists_that_are_empty(path, affine, rng):
    norm, options, arguments = second_order_arrays(path, affine, np.float16, rng)
    expected = [
        each for each in second_order(norm, options, arguments) if each is not None
    ]
    for got, wanted in zip(call(norm, options, arguments), expected, strict=True):
        assert got.numpy().tobytes() == wanted.tobytes()


@pytest.mark.parametrize("dtype", [np.float32, DTYPES[3]])
@pytest.mark.parametrize("path", PATHS)
def test_results_in_the_place_of_inputs(path, dtype, rng):
    """Products exist for the op alone: it may take over two of the three."""
    norm, options, arguments = second_order_arrays(path, "both", dtype, rng)
    doubled = ("dy", "x", "ddx")

    @tf.function
    def in_place(tensors):
        tensors = {k: v * 2 if k in doubled else v for k, v in tensors.items()}
        return call(norm, options, {**dict.fromkeys(arguments), **tensors})

    got = in_place({k: tf.constant(v) for k, v in arguments.items() if v is not None})
    for name in doubled:
        arguments[name] = arguments[name] * dtype(2)
    for a, b in zip(got, call(norm, options, arguments), strict=True):
        assert a.numpy().tobytes() == b.numpy().tobytes()


def static_shapes(op, specs, **attributes):
    """Returns the shapes that the shape function finds."""
    lists = ("gamma", "ddgamma", "ddbeta")

    @tf.function
    def graph(tensors):
        inputs = {k: [v] if k in lists else v for k, v in tensors.items()}
        function = getattr(fusednorm.load_op_library(), f"fusednorm_{op}_grad_grad")
        return tf.nest.flatten(list(function(**inputs, **attributes)))

    signature = {k: tf.TensorSpec(v, tf.float32) for k, v in specs.items()}
    outputs = graph.get_concrete_function(signature).structured_outputs
    return [o.shape.as_list() if o.shape.rank is not None else None for o in outputs]


def test_shapes_are_merged():
    specs = {
        "dy": (None, 3, None),
        "x": (2, None, None),
        "ddx": (None, None, 4),
        "mean": (None, 3),
        "rstd": (2, None),
        "drstd": None,
        "gamma": (None,),
        "ddgamma": (4,),
        "ddbeta": None,
    }
    x, statistics = [2, 3, 4], [2, 3]
    got = static_shapes("layer_norm", specs, axes=[-1])
    assert got == [x, x, [4], statistics, statistics]
    del specs["mean"], specs["ddbeta"]
    assert static_shapes("rms_norm", specs, axes=[-1]) == [x, x, [4], [2, None]]


def test_shapes_may_be_unknown():
    names = ("dy", "x", "ddx", "mean", "rstd", "drstd", "gamma", "ddgamma", "ddbeta")
    specs = dict.fromkeys(names)
    got = static_shapes("group_norm", specs, groups=2)
    assert got == [None] * 5


X = np.ones((2, 3, 4), np.float32)
STATISTICS = np.ones((2, 3), np.float32)
VECTOR = np.ones(4, np.float32)
VALID = {
    **dict.fromkeys(("dy", "x", "ddx"), X),
    **dict.fromkeys(("mean", "rstd", "drstd"), STATISTICS),
    **{key: [VECTOR] for key in ("gamma", "ddgamma", "ddbeta")},
    "axes": [-1],
}


def layer_norm_grad_grad(changes):
    return fusednorm.load_op_library().fusednorm_layer_norm_grad_grad(**VALID | changes)


CASES = [
    ({"dy": X[:1]}, "dy must have shape [2,3,4], got [1,3,4]"),
    ({"ddx": X[:1]}, "ddx must have shape [2,3,4], got [1,3,4]"),
    ({"mean": VECTOR}, "mean must have shape [2,3], got [4]"),
    ({"rstd": VECTOR}, "rstd must have shape [2,3], got [4]"),
    ({"drstd": VECTOR}, "drstd must have shape [2,3], got [4]"),
    ({"gamma": [VECTOR[:3]]}, "gamma must have shape [4], got [3]"),
    ({"ddgamma": [VECTOR[:3]]}, "ddgamma must have shape [4], got [3]"),
    ({"ddbeta": [VECTOR[:3]]}, "ddbeta must have shape [4], got [3]"),
    ({"gamma": []}, "ddgamma must be 0 tensors without gamma"),
    ({"ddgamma": [VECTOR] * 2}, "ddgamma must be 0 or 1 tensors"),
    ({"axes": [3]}, "axes are out of range for an input of rank 3, got [3]"),
    ({"epsilon": -1.0}, "epsilon must be a finite number >= 0, got -1.000000"),
]


@pytest.mark.parametrize(("changes", "message"), CASES)
def test_ops_check_everything(changes, message):
    with pytest.raises(tf.errors.InvalidArgumentError, match=re.escape(message)):
        layer_norm_grad_grad(changes)


@pytest.mark.parametrize("name", ["dy", "x", "ddx", "mean", "rstd", "drstd"])
def test_shape_functions_refuse_what_does_not_fit(name):
    changes = {name: np.ones((2, 5), np.float32)}
    with pytest.raises(ValueError, match=r"must have shape \[2,"):
        tf.function(lambda: layer_norm_grad_grad(changes)).get_concrete_function()


@pytest.mark.parametrize("activation", ["none", "silu"])
def test_the_gradient_of_a_gradient_is_fused_without_activation(activation):
    @tf.function
    def graph(x):
        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape() as inner:
                inner.watch(x)
                y = fusednorm.layer_norm(x, activation=activation)
            dx = inner.gradient(y, x, output_gradients=tf.sin(x))
        return outer.gradient(dx, x)

    operations = graph.get_concrete_function(tf.constant(X)).graph.get_operations()
    fused = "Fusednorm>LayerNormGradGrad" in {op.type for op in operations}
    assert fused == (activation == "none")


@pytest.mark.parametrize(
    "case",
    [
        benchmark.Case("groups", "group_norm", (2, 5, 6), {"groups": 2}),
        benchmark.Case("rows", "rms_norm", (3, 8)),
    ],
    ids=lambda case: case.name,
)
def test_the_benchmark_compares_what_is_equal(case):
    measured = benchmark.measure(case, rounds=1)
    assert len(measured) > 1
    for seconds, error in measured.values():
        assert seconds > 0
        assert error < 1e-5  # Some 100 units of float32, of the largest element.


@pytest.mark.parametrize(
    ("op", "shape", "own"),
    [
        ("layer_norm", (0, 5), {"axes": [-1]}),
        ("layer_norm", (2, 0), {"axes": [-1]}),
        ("group_norm", (3, 0, 4), {"groups": 2}),
        ("rms_norm", (2, 3, 0), {"axes": [1]}),
    ],
)
def test_empty(op, shape, own):
    x = np.zeros(shape, np.float32)
    parameters = [shape[axis] for axis in own.get("axes", [-1])]
    gamma = np.ones(parameters, np.float32)
    native = {"axes": own.get("axes", [-1]), "groups": own.get("groups", 0)}
    _, _, mean, rstd = _native.forward(op, x, gamma, **native, epsilon=EPSILON)
    arguments = dict.fromkeys(("dy", "x", "ddx"), x) | {
        **dict.fromkeys(("gamma", "ddgamma"), gamma),
        **dict.fromkeys(("rstd", "drstd"), rstd),
        **{"mean": mean, "ddbeta": None},
    }
    outputs = call(Norm(op), {**native, "epsilon": EPSILON}, arguments)
    assert [o.shape for o in outputs[:2]] == [shape, shape]
    for gradient in outputs[2:]:
        assert not gradient.numpy().any()

"""The kernels without TensorFlow: the same bits whatever the processor and threads.

What they compute is checked through TensorFlow in test_ops_values.py and, by equality
with that, here.
"""

# Messages stay on one line, so that they can be searched for.
# ruff: noqa: E501

import re

import fusednorm
import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf
from fusednorm import _native
from support import bounds, reference
from support.commands import WITHOUT_TENSORFLOW, output
from support.epilogue import activate
from support.native_norms import (
    DTYPES,
    PATHS,
    affine_arrays,
    arrays,
    assert_same_bits,
    every_path_and_affine,
)
from support.reference import Norm


def run(path, data, activation="none", **how):
    """Returns all outputs of forward and backward."""
    op, _, axes, groups = PATHS[path]
    options = {"axes": axes, "groups": groups, "epsilon": 1e-3}
    options |= {"activation": activation, **how}
    y, total, mean, rstd = _native.forward(
        op, data["x"], data["gamma"], data["beta"], data["residual"], **options
    )
    gradients = _native.backward(
        op,
        data["dy"],
        total,
        mean,
        rstd,
        data["gamma"],
        data["beta"],
        dsum=data["dy"],
        dmean=None if mean is None else np.cos(mean),
        drstd=np.sin(rstd),
        **options,
    )
    return [each for each in (y, total, mean, rstd, *gradients) if each is not None]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("path", PATHS)
def test_threads_do_not_change_a_bit(path, dtype, rng):
    data = arrays(path, dtype, rng)
    expected = run(path, data, num_threads=1)
    for num_threads in (2, 3, 7):
        assert_same_bits(run(path, data, num_threads=num_threads), expected)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("path", PATHS)
def test_instruction_sets_do_not_change_a_bit(path, dtype, rng):
    data = arrays(path, dtype, rng)
    expected = run(path, data, isa="baseline")
    for isa in _native.isas():
        assert_same_bits(run(path, data, isa=isa), expected)


@pytest.mark.parametrize("activation", reference.ACTIVATIONS)
@pytest.mark.parametrize(
    ("path", "dtype"),
    list(zip(("rows", "columns") * 2, DTYPES, strict=True)),
)
def test_nor_do_they_in_activations(path, dtype, activation, rng):
    data = arrays(path, dtype, rng)
    expected = run(path, data, activation, isa="baseline")
    for isa in _native.isas():
        assert_same_bits(run(path, data, activation, isa=isa), expected)


@every_path_and_affine
def test_nor_do_they_together_with_any_parameters(path, affine, dtype, rng):
    data, option = affine_arrays(path, affine, dtype, rng)
    expected = run(path, data, "silu", isa="baseline", **option)
    for isa in _native.isas():
        got = run(path, data, "silu", isa=isa, num_threads=3, **option)
        assert_same_bits(got, expected)


@every_path_and_affine
def test_gradients_through_every_output(path, affine, dtype, rng):
    """Through y, the sum, mean and rstd at once; above, all processors agree on them."""
    op, _, axes, groups = PATHS[path]
    data, option = affine_arrays(path, affine, dtype, rng)
    x, dy, gamma, beta, residual = data.values()
    options = {"axes": axes, "groups": groups, "epsilon": 1e-3, "activation": "silu"}
    options |= option
    _, total, mean, rstd = _native.forward(op, x, gamma, beta, residual, **options)
    # As much larger as a group has elements: each changes dx by about 1.
    size = x.size / rstd.size
    drstd = (size * rng.normal(size=rstd.shape)).astype(rstd.dtype)
    dmean = None if mean is None else np.cos(drstd) * rstd.dtype.type(size)
    gradients = {"dsum": dy, "dmean": dmean, "drstd": drstd}
    got = _native.backward(
        op, dy, total, mean, rstd, gamma, beta, **gradients, **options
    )

    norm = Norm(op, tuple(axes), groups, activation="silu", **option)
    of = reference.forward(norm, x, gamma, beta, residual)
    exact = reference.backward(norm, of, dy, **gradients)
    param_dtype = next((p.dtype for p in (gamma, beta) if p is not None), rstd.dtype)
    limits = bounds.backward(norm, of, exact, dy, dtype, param_dtype, dmean, drstd)
    ratios = [
        bounds.relative_to(limit, value, wanted)
        for limit, value, wanted in zip(
            limits, got, (exact.dx, exact.dgamma, exact.dbeta), strict=True
        )
        if value is not None
    ]
    print("error / bound:", ratios)
    assert len(ratios) == 1 + (gamma is not None) + (beta is not None)
    assert max(ratios) <= 1


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("isa", _native.isas())
def test_every_16_bit_number_is_converted_exactly(isa, dtype):
    x = np.arange(2**16, dtype=np.uint16).view(dtype)
    finite = x[np.isfinite(x.astype(np.float32))]
    y = activate(finite, isa=isa)
    np.testing.assert_array_equal(y, finite)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("isa", _native.isas())
def test_results_are_rounded_to_nearest_even(isa, dtype, rng):
    # Every magnitude, ties, the edge of overflow, infinity.
    bits = np.concatenate(
        [
            rng.integers(0, 0x7F800000, 20_000, dtype=np.uint32),
            np.arange(2**15, dtype=np.uint32) << 16 | 0x8000,  # ties of bfloat16
            np.arange(2**17, dtype=np.uint32) << 13 | 0x1000,  # ties of float16
            np.array([0, 0x477FEFFF, 0x477FF000, 0x7F800000], np.uint32),
        ]
    )
    beta = bits.view(np.float32)
    beta = beta[~np.isnan(beta)]
    y = activate(beta, dtype=dtype, isa=isa)
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(y, beta.astype(dtype))


# Exact in float32: TensorFlow's attributes keep 48 bits of an epsilon.
EPSILON = 2.0**-10


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("path", PATHS)
def test_equal_to_the_tensorflow_op(path, dtype, rng):
    op, _, axes, groups = PATHS[path]
    data = arrays(path, dtype, rng)
    if dtype == np.float32:
        data["x"].flat[::7] = 2.0**-140  # TensorFlow's threads flush subnormals
    options = {"activation": "silu", "residual": data["residual"]}
    x = tf.constant(data["x"])
    with tf.GradientTape() as tape:
        tape.watch(x)
        function = getattr(fusednorm, op)
        if op == "group_norm":
            options |= {"groups": groups}
        arguments = [data["gamma"]]
        if op != "rms_norm":
            arguments.append(data["beta"])
        y, total = function(x, *arguments, axis=axes[0], epsilon=EPSILON, **options)
    dx = tape.gradient([y, total], x, output_gradients=[data["dy"], data["dy"]])

    native = {"axes": axes, "groups": groups, "epsilon": EPSILON, "activation": "silu"}
    expected = _native.forward(
        op, data["x"], data["gamma"], data["beta"], data["residual"], **native
    )
    expected_dx = _native.backward(
        op,
        data["dy"],
        *expected[1:],
        data["gamma"],
        data["beta"],
        dsum=data["dy"],
        **native,
    )[0]
    assert_same_bits([y.numpy(), dx.numpy()], [expected[0], expected_dx])


def test_strided_arrays(rng):
    x = rng.normal(size=(6, 40)).astype(np.float32)[::2, ::-1]
    expected = _native.forward(
        "rms_norm", np.ascontiguousarray(x), axes=[-1], epsilon=1e-3
    )
    for view in (x, np.asfortranarray(x)):
        got = _native.forward("rms_norm", view, axes=[-1], epsilon=1e-3)
        assert_same_bits([got[0], got[3]], [expected[0], expected[3]])


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_argument_may_be_strided(dtype, rng):
    dense = arrays("columns", dtype, rng)
    strided = {
        name: np.asfortranarray(np.repeat(value, 2, axis=-1)[..., ::2])
        if value.ndim > 1
        else np.repeat(value, 3)[::3]
        for name, value in dense.items()
    }
    assert not any(each.flags.c_contiguous for each in strided.values())
    assert_same_bits(run("columns", strided), run("columns", dense))


@pytest.mark.parametrize("isa", _native.isas())
@pytest.mark.parametrize("dtype", DTYPES)
def test_within_the_bounds_on_every_instruction_set(isa, dtype, rng):
    norm = Norm("layer_norm", activation="gelu")
    x = rng.normal(size=(9, 77)).astype(dtype)
    y = _native.forward(
        "layer_norm", x, axes=[-1], epsilon=1e-3, activation="gelu", isa=isa
    )[0]
    of = reference.forward(norm, x)
    assert bounds.relative_to(bounds.forward(norm, of, dtype), y, of.y) <= 1


X = np.ones((4, 6), np.float32)
VECTOR = np.ones(6, np.float32)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (
            ("batch_norm", X),
            {},
            "op must be group_norm, layer_norm or rms_norm, got batch_norm",
        ),
        (
            ("layer_norm", X.astype(int)),
            {},
            "x must have dtype float16, bfloat16, float32 or float64, got int64",
        ),
        (("layer_norm", X, VECTOR[:3]), {}, "gamma must have shape (6,), got (3,)"),
        (
            ("layer_norm", X, None, VECTOR[:3]),
            {},
            "beta must have shape (6,), got (3,)",
        ),
        (
            ("layer_norm", X, VECTOR, VECTOR.astype(np.float64)),
            {},
            "beta must have dtype float32, got float64",
        ),
        (
            ("layer_norm", X, VECTOR.astype(np.float64)),
            {},
            "gamma and beta must have dtype float32 or the dtype of x, float32, got float64",
        ),
        (
            ("layer_norm", X, None, None, X[:2]),
            {},
            "residual must have shape (4, 6), got (2, 6)",
        ),
        (("rms_norm", X, None, VECTOR), {}, "beta must be None for rms_norm"),
        (
            ("layer_norm", X),
            {"axes": [2]},
            "axes are out of range for an input of rank 2, got [2]",
        ),
        (("layer_norm", X), {"axes": []}, "axes must name at least one axis, got []"),
        (
            ("layer_norm", X),
            {"axes": [1, 0]},
            "axes must be consecutive and increasing (transpose the input for any other list), got [1, 0] for an input of rank 2",
        ),
        (
            ("group_norm", X),
            {"groups": 4},
            "groups must divide the number of channels, got groups = 4 for 6 channels",
        ),
        (
            ("group_norm", X),
            {"groups": 0},
            "groups must be a positive integer, or -1 for one group per channel, got 0",
        ),
        (
            ("group_norm", X),
            {"groups": 2, "axes": [0]},
            "axis must name a channel axis, not the batch axis 0, of an input of rank 2, got axis = 0",
        ),
        (
            ("group_norm", X),
            {"groups": 2, "axes": [0, 1]},
            "axes must be the one channel axis for group_norm, got 2 axes",
        ),
        (
            ("layer_norm", X),
            {"epsilon": -1.0},
            "epsilon must be a finite number >= 0, got -1.000000",
        ),
        (
            ("layer_norm", X),
            {"activation": "mish"},
            "activation must be one of none, relu, leaky_relu, silu, gelu, gelu_tanh, tanh, sigmoid, got mish",
        ),
        (("layer_norm", X), {"num_threads": 0}, "num_threads must be positive, got 0"),
        (
            ("layer_norm", X),
            {"isa": "avx3"},
            f"isa must be one of {', '.join(_native.isas())} here, got avx3",
        ),
    ],
)
def test_bad_input(arguments, options, message):
    options = {"axes": [-1], "epsilon": 1e-3, **options}
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        _native.forward(*arguments, **options)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dy": X[:2]}, "dy must have shape (4, 6), got (2, 6)"),
        ({"mean": X[0, :1]}, "mean must have shape (4,), got (1,)"),
        (
            {"rstd": X[:, 0].astype(np.float64)},
            "rstd must have dtype float32, got float64",
        ),
        ({"mean": None}, "mean must not be None"),
        ({"dsum": X[:1]}, "dsum must have shape (4, 6), got (1, 6)"),
    ],
)
def test_bad_input_of_backward(changes, message):
    arguments = {"dy": X, "x": X, "mean": X[:, 0], "rstd": X[:, 0], **changes}
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        _native.backward("layer_norm", **arguments, axes=[-1], epsilon=1e-3)


@pytest.mark.parametrize(
    ("isa", "chosen_isa"),
    # A name that this machine does not know is no reason to fail.
    [*((isa, isa) for isa in _native.isas()), ("avx3", _native.isas()[-1])],
)
def test_environment_chooses_the_instruction_set(isa, chosen_isa):
    code = WITHOUT_TENSORFLOW + "from fusednorm import _native; print(_native.isa())"
    assert output("-c", code, FUSEDNORM_ISA=isa).split()[-1] == chosen_isa


@pytest.mark.parametrize(
    ("arguments", "changes", "message"),
    [
        (("layer_norm",), {}, "forward() is missing the argument x"),
        (
            ("layer_norm", X, None, None, None, [-1]),
            {},
            "forward() takes at most 5 positional arguments, got 6",
        ),
        (("layer_norm", X), {"x": X}, "forward() got two values for the argument x"),
        (("layer_norm", X), {"axis": -1}, "forward() got an unexpected argument axis"),
        (("layer_norm", [1.0]), {}, "x must be numpy.ndarray, got [1.0]"),
        (
            ("layer_norm", X),
            {"axes": 3},
            "axes must be collections.abc.Sequence[int], got 3",
        ),
        (("layer_norm", X), {"groups": 2.5}, "groups must be int, got 2.5"),
    ],
)
def test_arguments_are_taken_as_by_functions_of_python(arguments, changes, message):
    options = {"axes": [-1], "epsilon": 1e-3, **changes}
    with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
        _native.forward(*arguments, **options)

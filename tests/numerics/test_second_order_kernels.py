"""The fused second order: gradients of the gradients, without TensorFlow's tape."""

import math
import re

import numpy as np
import pytest
from fusednorm import _native
from support import bounds, reference
from support.native_norms import PATHS, assert_same_bits, every_path_and_affine
from support.native_second_order import second_order, second_order_arrays
from support.reference import WIDE, Norm

NORMS = [
    (Norm("layer_norm"), (3, 7)),
    (Norm("rms_norm", zero_centered=True), (3, 7)),
    (Norm("group_norm", groups=2), (2, 3, 6)),
    (Norm("group_norm", (1,), 2), (2, 4, 5)),
    (Norm("group_norm", (1,)), (2, 3, 1)),
    (Norm("layer_norm", (1,)), (2, 5, 3)),
    (Norm("rms_norm", (1,)), (2, 5, 3)),
    (Norm("layer_norm", per_sample=True), (3, 2, 7)),
    (Norm("group_norm", groups=2, per_sample=True), (2, 3, 6)),
]


@pytest.mark.parametrize(("norm", "shape"), NORMS)
def test_the_reference_is_the_derivative_of_the_first_order(norm, shape, rng):
    """Along random directions; differences of order 4 are good to 1e-13 or so."""
    parameters = reference.parameter_shape(norm, shape)
    viewed, reduced, _ = reference.view(norm, shape)
    statistics = [1 if i in reduced else size for i, size in enumerate(viewed)]
    count = math.prod(viewed[i] for i in reduced)

    def normal(size):
        return rng.normal(size=size).astype(WIDE)

    def product(x, dy, gamma, dmean, drstd):
        """Returns the first-order gradients times ddx, ddgamma and ddbeta."""
        of = reference.forward(norm, x, gamma)
        added = -drstd * of.rstd**2 * of.xhat / count
        if norm.centred:
            added = added + dmean / count
        got = reference.backward(norm, of, dy, added.reshape(shape))
        total = (got.dx * ddx).sum() + (got.dgamma * ddgamma).sum()
        return total + ((got.dbeta * ddbeta).sum() if norm.centred else 0)

    ddx, ddgamma, ddbeta = normal(shape), normal(parameters), normal(parameters)
    at = [*(normal(shape) for _ in range(2)), normal(parameters)]
    at += [normal(statistics), normal(statistics)]
    x, dy, gamma, _, drstd = at
    exact = reference.second_order(
        norm,
        reference.forward(norm, x, gamma),
        dy,
        ddx,
        ddgamma,
        ddbeta if norm.centred else None,
        drstd,
    )
    d_dmean = exact.d_dmean if norm.centred else 0
    wanted = [exact.d_x, exact.d_dy, exact.d_gamma, d_dmean, exact.d_drstd]
    for i, gradient in enumerate(wanted):
        direction = normal(at[i].shape)

        def along(step, i=i, direction=direction):
            return product(
                *(a + step * direction if j == i else a for j, a in enumerate(at))
            )

        h = WIDE(1e-5)
        slope = 8 * (along(h) - along(-h)) - (along(2 * h) - along(-2 * h))
        error = abs(slope / (12 * h) - (gradient * direction).sum())
        assert error < 1e-11 * max(1, abs(slope / (12 * h)))


def ratios(norm, arguments, got):
    """Returns each result's largest error as a share of its bound."""
    names = ("dy", "ddx", "ddgamma", "ddbeta", "drstd")
    given = [arguments[name] for name in names]
    of = reference.forward(norm, arguments["x"], arguments["gamma"])
    exact = reference.second_order(norm, of, *given)
    params = [arguments[name] for name in ("gamma", "ddbeta")]
    param_dtype = next((p.dtype for p in params if p is not None), np.float32)
    limits = bounds.second_order(
        norm, of, exact, *given, arguments["x"].dtype, param_dtype
    )
    shares = {}
    for name, value in zip(vars(exact), got, strict=True):
        if value is not None:
            wanted, limit = getattr(exact, name), getattr(limits, name)
            value = value.reshape(wanted.shape)
            shares[name] = bounds.relative_to(limit, value, wanted)
    print("error / bound:", shares)
    return shares


@every_path_and_affine
def test_values(path, affine, dtype, rng):
    norm, options, arguments = second_order_arrays(path, affine, dtype, rng)
    got = second_order(norm, options, arguments)
    shares = ratios(norm, arguments, got)
    wanted = {"d_dy", "d_x", "d_drstd"}
    wanted |= {"d_gamma"} if arguments["gamma"] is not None else set()
    wanted |= {"d_dmean"} if norm.centred else set()
    assert shares.keys() == wanted
    assert max(shares.values()) <= 1


@every_path_and_affine
def test_neither_instruction_set_nor_threads_change_a_bit(path, affine, dtype, rng):
    norm, options, arguments = second_order_arrays(path, affine, dtype, rng)

    def run(**how):
        got = second_order(norm, options, arguments, **how)
        return [each for each in got if each is not None]

    expected = run(isa="baseline")
    for isa in _native.isas():
        assert_same_bits(run(isa=isa, num_threads=3), expected)


@pytest.mark.parametrize("absent", ["ddgamma", "ddbeta", "drstd"])
@pytest.mark.parametrize("path", ["rows", "channels first", "chunks", "columns"])
def test_absent_gradients_are_zero(path, absent, rng):
    norm, options, arguments = second_order_arrays(path, "both", np.float32, rng)
    zero = {**arguments, absent: np.zeros_like(arguments[absent])}
    expected = second_order(norm, options, zero)
    got = second_order(norm, options, {**arguments, absent: None})
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_array_equal(a, b)  # 0 may have the other sign


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("path", PATHS)
def test_a_mean_far_from_zero(path, dtype, rng):
    changes = {"x": lambda x: x + 3000, "dy": lambda dy: dy + 30}
    norm, options, arguments = second_order_arrays(path, "both", dtype, rng, changes)
    got = second_order(norm, options, arguments)
    assert max(ratios(norm, arguments, got).values()) <= 1


@pytest.mark.parametrize("path", PATHS)
def test_nan_stays_in_its_group(path, rng):
    norm, options, arguments = second_order_arrays(path, "both", np.float32, rng)
    arguments["ddx"].flat[-1] = np.nan
    got = second_order(norm, options, arguments)
    viewed, reduced, _ = reference.view(norm, arguments["x"].shape)
    bad = np.isnan(arguments["ddx"]).reshape(viewed).any(reduced, keepdims=True)
    assert bad.sum() == 1
    for value in got[:2]:
        np.testing.assert_array_equal(
            np.isnan(value.reshape(viewed)), np.broadcast_to(bad, viewed)
        )


@pytest.mark.parametrize(
    ("op", "shape", "axes", "groups"),
    [
        ("layer_norm", (0, 5), [-1], 0),
        ("group_norm", (3, 0, 4), [-1], 2),
        ("rms_norm", (2, 3, 0), [1], 0),
        ("layer_norm", (2, 0), [-1], 0),
    ],
)
def test_empty(op, shape, axes, groups):
    x = np.zeros(shape, np.float32)
    gamma = np.ones([shape[axis] for axis in axes], np.float32)
    options = {"axes": axes, "groups": groups, "epsilon": 1e-3}
    _, _, mean, rstd = _native.forward(op, x, gamma, **options)
    d_dy, d_x, d_gamma, d_dmean, d_drstd = _native.second_order(
        op, x, x, mean, rstd, x, gamma, gamma, **options
    )
    assert d_dy.shape == d_x.shape == shape
    assert not d_gamma.any()
    assert d_drstd.shape == rstd.shape
    assert not d_drstd.any()
    assert op == "rms_norm" or not d_dmean.any()


def test_groups_of_one_element(rng):
    """Of these xhat is always 0: nothing but ddbeta comes through, to dy."""
    x, dy, ddx = rng.normal(size=(3, 4, 6, 1)).astype(np.float32)[:, :, :, 0]
    gamma, ddgamma, ddbeta = rng.normal(size=(3, 6)).astype(np.float32)
    options = {"axes": [-1], "groups": -1, "epsilon": 1e-3}
    _, _, mean, rstd = _native.forward("group_norm", x, gamma, **options)
    d_dy, d_x, d_gamma, d_dmean, d_drstd = _native.second_order(
        "group_norm", dy, x, mean, rstd, ddx, gamma, ddgamma, ddbeta, **options
    )
    np.testing.assert_array_equal(d_dy, np.broadcast_to(ddbeta, x.shape))
    np.testing.assert_array_equal(d_dmean, ddx)
    for zero in (d_x, d_gamma, d_drstd):
        assert not zero.any()


X = np.ones((4, 6), np.float32)
VECTOR = np.ones(6, np.float32)


@pytest.mark.parametrize(
    ("op", "changes", "message"),
    [
        ("layer_norm", {"ddx": X[:2]}, "ddx must have shape (4, 6), got (2, 6)"),
        (
            "layer_norm",
            {"gamma": VECTOR, "ddgamma": VECTOR[:3]},
            "ddgamma must have shape (6,), got (3,)",
        ),
        (
            "layer_norm",
            {"ddgamma": VECTOR},
            "ddgamma must be None without gamma",
        ),
        (
            "layer_norm",
            {"gamma": VECTOR, "ddbeta": VECTOR.astype(np.float64)},
            "ddbeta must have dtype float32, got float64",
        ),
        ("layer_norm", {"mean": None}, "mean must not be None"),
        ("rms_norm", {}, "mean must be None for rms_norm"),
        (
            "rms_norm",
            {"mean": None, "ddbeta": VECTOR},
            "ddbeta must be None for rms_norm",
        ),
        ("layer_norm", {"drstd": X[0]}, "drstd must have shape (4,), got (6,)"),
    ],
)
def test_bad_input(op, changes, message):
    arguments = {"dy": X, "x": X, "mean": X[:, 0], "rstd": X[:, 0], "ddx": X}
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        _native.second_order(op, **arguments | changes, axes=[-1], epsilon=1e-3)

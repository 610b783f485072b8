"""The activations' own rounding error, over the whole range of float32."""

import math

import numpy as np
import pytest
from fusednorm import _native
from support.epilogue import activate

HALF_ULP_OF_ONE = 2.0**-24
# Every 9973rd float32 of each sign, from 0 to the largest.
POSITIVE = np.arange(0, 0x7F800000, 9973, dtype=np.uint32).view(np.float32)
Z = np.concatenate([POSITIVE, -POSITIVE])


def sigmoid(z):
    small = np.exp(-np.abs(z))
    return np.where(z >= 0, 1, small) / (1 + small)


def gelu(z):
    return z * 0.5 * np.vectorize(math.erfc)(-z / math.sqrt(2))


def gelu_tanh(z):
    z_bounded = np.clip(z, -100, 100)  # the tail is 0 or z long before
    inner = math.sqrt(2 / math.pi) * (z_bounded + 0.044715 * z_bounded**3)
    return z * sigmoid(2 * inner)


# Bounds are the measured worst (tanh 1.30, sigmoid 2.09, silu 2.50) plus headroom for
# the points in between.
@pytest.mark.parametrize(
    ("name", "reference", "ulps"),
    [
        ("tanh", np.tanh, 1.5),
        ("sigmoid", sigmoid, 2.5),
        ("silu", lambda z: z * sigmoid(z), 3.0),
    ],
)
def test_error_in_ulps(name, reference, ulps):
    expected = reference(Z.astype(np.float64))
    error = np.abs(activate(Z, name).astype(np.float64) - expected)
    # Where float32 is still normal; below, exp(-z) overflows and the result is 0.
    normal = np.abs(expected) > 1e-30
    ulp = np.spacing(np.abs(expected).astype(np.float32)).astype(np.float64)
    assert np.max(error[normal] / ulp[normal]) <= ulps
    assert np.max(error[~normal]) <= 1e-30


# Measured worst: 1.33 and 1.39 half ulps of 1 + |z|.
@pytest.mark.parametrize(
    ("name", "reference"), [("gelu", gelu), ("gelu_tanh", gelu_tanh)]
)
def test_absolute_error_of_gelu(name, reference):
    z = Z.astype(np.float64)
    error = np.abs(activate(Z, name).astype(np.float64) - reference(z)) / (
        1 + np.abs(z)
    )
    assert np.max(error) <= 1.6 * HALF_ULP_OF_ONE


@pytest.mark.parametrize(
    "name",
    ["none", "relu", "leaky_relu", "silu", "gelu", "gelu_tanh", "tanh", "sigmoid"],
)
def test_nan_stays_nan(name):
    assert np.isnan(activate(np.array([np.nan], np.float32), name)).all()


@pytest.mark.parametrize("isa", _native.isas())
@pytest.mark.parametrize("name", ["relu", "leaky_relu"])
def test_piecewise_linear_is_exact(name, isa):
    slope = np.float32(0 if name == "relu" else 0.2)
    y = activate(Z, name, isa=isa)
    np.testing.assert_array_equal(y, np.where(Z > 0, Z, slope * Z))

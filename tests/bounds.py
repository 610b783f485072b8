"""How far results may be from the exact ones: one table, and what follows from it.

A unit u is half a unit in the last place of the type that computes: 2^-24 for float32,
2^-53 for float64. One rounding costs at most one u relative to its result. With float16
and bfloat16 data only the final rounding to the data's type comes on top.

Derivation, forward. The mean that is kept is the exact one rounded (1 u |mean|), up to
what rounding the deviations from it leaves in their sum (2 u of the standard
deviation). So xhat is off by u (|mean| rstd + 2) whatever one does afterwards. Relative
to xhat come the subtraction, rstd (its rounding, and half the relative error of a
variance summed in blocks of 64 and in float64 beyond) and the product: XHAT units.
z = xhat * gamma + beta adds one rounding each; an activation has a slope of at most
1.13 and an error of its own (tests/test_activation_accuracy.py). epsilon reaches the
op as two float32 attributes, which hold 48 bits of it: in float64 that shows.

Backward, the same with the two sums; each is off by SUMS units of the sum of the
magnitudes of its terms. A parameter's gradient is a sum over many rows whose terms are
each off by the error of xhat and by PARAMETER units.

Each constant is what the derivation gives for independent roundings, rounded up.
docs/numerics.md has the largest share of each bound that the suite has seen.
"""

from dataclasses import dataclass

import ml_dtypes
import numpy as np
import reference
from reference import WIDE

EPSILON = 2.0**-49
RSTD = 5
XHAT = 4
AFFINE = 2
ACTIVATION = 3
SLOPE = 1.13
DERIVATIVE = 4
SUMS = 6
PARAMETER = 8


@dataclass(frozen=True)
class Precision:
    """Of a data type: unit of computing, unit of storing, smallest step stored."""

    compute: float
    store: float
    smallest: float


FLOAT32 = 2.0**-24
PRECISIONS = {
    np.dtype(np.float64): Precision(2.0**-53, 0.0, 2.0**-1074),
    np.dtype(np.float32): Precision(FLOAT32, 0.0, 2.0**-149),
    np.dtype(np.float16): Precision(FLOAT32, 2.0**-11, 2.0**-25),
    np.dtype(ml_dtypes.bfloat16): Precision(FLOAT32, 2.0**-8, 2.0**-134),
}


def stored(exact, error, precision):
    """Adds the rounding to the data's type."""
    return error + precision.store * (np.abs(exact) + error) + precision.smallest


def of_mean(of, unit):
    return unit * (np.abs(of.mean) + 2 / of.rstd)


def from_epsilon(norm, of):
    """The relative error of rstd that comes from epsilon's."""
    return EPSILON / 2 * norm.epsilon * of.rstd**2


def of_rstd(norm, of, unit):
    return (RSTD * unit + from_epsilon(norm, of)) * of.rstd


def of_xhat(norm, of, unit):
    from_mean = of_mean(of, unit) * of.rstd if norm.centred else 0
    return from_mean + (XHAT * unit + from_epsilon(norm, of)) * np.abs(of.xhat)


def of_z(norm, of, unit):
    scaled = np.abs(of.xhat * of.gamma)
    offset = np.abs(of.z - of.xhat * of.gamma)
    return np.abs(of.gamma) * of_xhat(norm, of, unit) + AFFINE * unit * (
        scaled + offset
    )


def forward(norm, of, dtype):
    """Returns the bound on |y - exact|, element by element."""
    precision = PRECISIONS[np.dtype(dtype)]
    error = of_z(norm, of, precision.compute)
    if norm.activation != "none":
        error = SLOPE * error + ACTIVATION * precision.compute * (1 + np.abs(of.z))
    return stored(of.y, error.reshape(of.y.shape), precision)


def of_dz(norm, of, dy, unit):
    if norm.activation == "none":
        return np.zeros_like(of.z)
    size = np.abs(dy.astype(WIDE)).reshape(of.z.shape)
    # The derivative's own error, and its change over the error of z (second
    # derivatives are at most 1.13; that of relu and leaky_relu jumps at 0).
    change = SLOPE * of_z(norm, of, unit)
    if norm.activation in ("relu", "leaky_relu"):
        change = np.where(np.abs(of.z) <= of_z(norm, of, unit), 1.0, 0.0)
    return size * (change + DERIVATIVE * unit * (1 + np.abs(of.z)))


def backward(norm, of, gradients, dy, dtype, param_dtype=np.float32):
    """Returns the bounds on |dx|, |dgamma| and |dbeta| minus the exact ones."""
    precision = PRECISIONS[np.dtype(dtype)]
    unit = precision.compute
    shape, reduced, parameter_axes = reference.view(norm, dy.shape)
    error_dz = of_dz(norm, of, dy, unit)
    error_xhat = of_xhat(norm, of, unit)
    terms = np.abs(gradients.dz * of.gamma)
    error_terms = np.abs(of.gamma) * error_dz + unit * terms
    xhat = np.abs(of.xhat)

    def mean(values):
        return values.mean(reduced, keepdims=True)

    plain = mean(terms) if norm.centred else WIDE(0)
    error_plain = mean(error_terms) + SUMS * unit * plain
    if not norm.centred:
        error_plain = WIDE(0)
    with_xhat = mean(terms * xhat)
    error_with_xhat = mean(error_terms * xhat + terms * error_xhat)
    error_with_xhat += SUMS * unit * with_xhat
    inside = terms + plain + xhat * with_xhat
    error = of.rstd * (
        error_terms
        + error_plain
        + xhat * error_with_xhat
        + error_xhat * with_xhat
        + (XHAT * unit + from_epsilon(norm, of)) * inside
    )
    dx = stored(gradients.dx, error.reshape(dy.shape), precision)
    dx += 2 * unit * np.abs(gradients.dx)

    others = tuple(i for i in range(len(shape)) if i not in parameter_axes)
    size = np.abs(gradients.dz)
    dgamma = (error_dz * xhat + size * error_xhat + PARAMETER * unit * size * xhat).sum(
        others
    )
    dbeta = (error_dz + PARAMETER * unit * size).sum(others)
    param = PRECISIONS[np.dtype(param_dtype)]
    return (
        dx,
        stored(gradients.dgamma, dgamma.reshape(gradients.dgamma.shape), param),
        stored(gradients.dbeta, dbeta.reshape(gradients.dbeta.shape), param),
    )


def relative_to(bound, got, exact):
    """Returns the largest |got - exact| / bound; at most 1 if the bound holds."""
    error = np.abs(np.asarray(got).astype(WIDE) - exact)
    if error.size == 0:
        return 0.0
    return float(np.max(error / bound))

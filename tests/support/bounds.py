"""How far results may be from the exact ones: one table, and what follows from it.

A unit u is half a unit in the last place of the type that computes: 2^-24 for float32,
2^-53 for float64. One rounding costs at most one u relative to its result. With float16
and bfloat16 data only the final rounding to the data's type comes on top.

Derivation, forward. The mean that is kept is the exact one rounded (1 u |mean|), up to
what rounding the deviations from it, and their partial sums, leaves in their sum (2 u
of the standard deviation). One rounding leaves 0.4 u of its result at the root mean
square. But roundings do not average out: 16-bit elements lie on a coarse grid, so that
the deviations from a mean off that grid all round the same way, and so do the partial
sums of one magnitude. A sum of k deviations is about sqrt(k) standard deviations. Added
up in pairs, pairs of pairs and so on, n elements have n / k sums of k, for each power
of two: together 0.4 u (1 + sum of k^-0.5) = 1.4 u of the standard deviation for each
element, whatever n. One after the other, m elements have a sum of each length: 0.4 u
(1 + 2/3 sqrt(m)), which passes 2 u from m = 36 on and is 4.7 u at m = 256. So no chain
of float32 additions may be long: kernels add up in pairs, or in blocks, or go on in a
wider type. Float64 has no wider type for what is added up: blocks are joined by their
distances from an element of the group, itself some deviations away (8 u). So xhat is
off by u (|mean| rstd + 2) whatever one does afterwards. Relative to xhat come the
subtraction, rstd (its rounding, and half the relative error of a variance summed in
blocks of 64 and in float64 beyond) and the product: XHAT units. z = xhat * gamma + beta
adds one rounding each; an activation has a slope of at most 1.13 and an error of its
own (tests/numerics/test_activation_accuracy.py). epsilon reaches the op as two float32
attributes, which hold 48 bits of it: in float64 that shows.

Backward, the same with the two sums; each is off by SUMS units of the sum of the
magnitudes of its terms. A parameter's gradient is a sum over many rows whose terms are
each off by the error of xhat and by PARAMETER units.

Second order: Rounded goes through the formula of reference.second_order and adds up
the magnitudes of all terms. Every operation passes on the errors of what it takes and
adds a unit of its result, every mean SUMS of them.

Each constant is what the derivation gives for independent roundings, rounded up.
docs/numerics.md has the largest share of each bound that the suite has seen.
"""

from dataclasses import dataclass

import ml_dtypes
import numpy as np

from support import reference

EPSILON = 2.0**-49
RSTD = 5
XHAT = 4
AFFINE = 2
ACTIVATION = 3
SLOPE = 1.13
DERIVATIVE = 4
SUMS = 6
PARAMETER = 8
STATISTICS = 16


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
    """Returns the bound on |mean - exact|; `of` may have arrays or tensors."""
    deviations = 2 if unit == FLOAT32 else 8
    return unit * (abs(of.mean) + deviations / of.rstd)


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
    size = np.abs(dy.astype(of.z.dtype)).reshape(of.z.shape)
    # The derivative's own error, and its change over the error of z (second
    # derivatives are at most 1.13; that of relu and leaky_relu jumps at 0).
    change = SLOPE * of_z(norm, of, unit)
    if norm.activation in ("relu", "leaky_relu"):
        change = np.where(np.abs(of.z) <= of_z(norm, of, unit), 1.0, 0.0)
    return size * (change + DERIVATIVE * unit * (1 + np.abs(of.z)))


def backward(
    norm, of, gradients, dy, dtype, param_dtype=np.float32, dmean=None, drstd=None
):
    """Returns the bounds on |dx|, |dgamma| and |dbeta| minus the exact ones.

    What dmean and drstd add to dx is off by a share of the error of xhat and by
    STATISTICS units: rstd squared is off by twice its 5, the rest is rounding.
    """
    precision = PRECISIONS[np.dtype(dtype)]
    unit = precision.compute
    shape, reduced, parameter_axes = reference.view(norm, dy.shape)
    error_dz = of_dz(norm, of, dy, unit)
    error_xhat = of_xhat(norm, of, unit)
    terms = np.abs(gradients.dz * of.gamma)
    error_terms = np.abs(of.gamma) * error_dz + unit * terms
    xhat = np.abs(of.xhat)

    def mean(values):
        # Of all positions, but by the number of those that the statistics are of, and
        # for those.
        return of.weights * values.sum(reduced, keepdims=True)

    plain = mean(terms) if norm.centred else 0.0
    error_plain = mean(error_terms) + SUMS * unit * plain
    if not norm.centred:
        error_plain = 0.0
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
    from_mean, slope = reference.through_statistics(of, dmean, drstd)
    error = error + np.abs(slope) * error_xhat
    error += STATISTICS * unit * (np.abs(from_mean) + np.abs(slope * of.xhat))
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


@dataclass(frozen=True)
class Rounded:
    """The magnitudes of an expression's terms, added up, and how far it may be off."""

    unit: float
    size: np.ndarray
    error: np.ndarray | float = 0.0

    def __add__(self, other):
        """Also the difference: magnitudes do not cancel."""
        size = self.size + other.size
        return Rounded(self.unit, size, self.error + other.error + self.unit * size)

    def __mul__(self, other):
        size = self.size * other.size
        error = self.error * other.size + self.size * other.error
        return Rounded(self.unit, size, error + self.unit * size)

    def mean(self, reduced):
        size = self.size.mean(reduced, keepdims=True)
        error = np.broadcast_to(self.error, self.size.shape)
        error = error.mean(reduced, keepdims=True) + SUMS * self.unit * size
        return Rounded(self.unit, size, error)


def second_order(
    norm, of, exact, dy, ddx, ddgamma, ddbeta, drstd, dtype, param_dtype=np.float32
):
    """Returns the bounds on what `exact`, of reference.second_order, has."""
    precision = PRECISIONS[np.dtype(dtype)]
    unit = precision.compute
    shape, reduced, parameter_axes = reference.view(norm, dy.shape)
    broadcast = [n if i in parameter_axes else 1 for i, n in enumerate(shape)]
    none = Rounded(unit, np.zeros((), of.z.dtype))

    def given(values, like):
        if values is None:
            return none
        return Rounded(unit, np.abs(values.astype(of.z.dtype)).reshape(like))

    def mean(term):
        return term.mean(reduced)

    def centre(term):
        return mean(term) if norm.centred else none

    dy, u = given(dy, shape), given(ddx, shape)
    v, w = given(ddgamma, broadcast), given(ddbeta, broadcast)
    gamma = np.abs(of.gamma)
    gamma = Rounded(unit, gamma, unit * gamma)  # 1 + gamma may round
    xhat = Rounded(unit, np.abs(of.xhat), of_xhat(norm, of, unit))
    rstd = Rounded(unit, of.rstd, of_rstd(norm, of, unit))
    count = Rounded(unit, 1 / of.z.dtype.type(np.prod([shape[i] for i in reduced])))
    slope = given(drstd, of.rstd.shape) * rstd * count

    a = dy * gamma
    u_xhat, a_xhat = mean(u * xhat), mean(a * xhat)
    p = rstd * (u + centre(u) + xhat * u_xhat)
    of_u, of_a = rstd * (a_xhat + slope), rstd * u_xhat
    r = mean(u * a) + centre(u) * centre(a) + u_xhat * (a_xhat + slope + slope)
    plain = none
    if norm.centred:
        plain = mean(v * dy) + of_u * mean(u) + of_a * mean(a)
    with_xhat = mean(v * dy * xhat) + of_u * u_xhat + of_a * a_xhat + rstd * r
    d_x = rstd * (dy * (v + of_a * gamma) + of_u * u + plain + xhat * with_xhat)
    d_dy = gamma * p + v * xhat + w
    d_drstd = rstd * rstd * u_xhat
    term = dy * p
    others = tuple(i for i in range(len(shape)) if i not in parameter_axes)
    d_gamma = (term.error + PARAMETER * unit * term.size).sum(others)

    def limit(values, error):
        error = np.broadcast_to(error, shape).reshape(values.shape)
        return stored(values, error, precision)

    statistic = PRECISIONS[np.dtype(np.float32 if unit == FLOAT32 else np.float64)]
    return reference.SecondOrder(
        limit(exact.d_dy, d_dy.error),
        limit(exact.d_x, d_x.error),
        stored(
            exact.d_gamma,
            d_gamma.reshape(exact.d_gamma.shape),
            PRECISIONS[np.dtype(param_dtype)],
        ),
        stored(exact.d_dmean, mean(u).error, statistic),
        stored(exact.d_drstd, d_drstd.error, statistic),
    )


def relative_to(bound, got, exact):
    """Returns the largest |got - exact| / bound; at most 1 if the bound holds."""
    error = np.abs(np.asarray(got).astype(np.asarray(exact).dtype) - exact)
    if error.size == 0:
        return 0.0
    return float(np.max(error / bound))

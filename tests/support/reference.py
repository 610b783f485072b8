"""What every norm must compute, in a few obvious lines of NumPy.

Everything is computed in a wider type than the data's: in float64, or in `WIDE` if the
data is float64. Arrays of any dtype go in; what the op stores in the data's dtype on
the way (the sum of a residual) is rounded to it here as well.
"""

import math
from dataclasses import dataclass

import numpy as np

WIDE = np.longdouble  # several times as slow as float64


def wider(dtype):
    """Returns the type in which data of this type are judged."""
    return np.float64 if np.dtype(dtype).itemsize < 8 else WIDE


SQRT_2_OVER_PI = math.sqrt(2 / math.pi)
vectorized_erf = np.vectorize(math.erf, otypes=[np.float64])


def sigmoid(z):
    small = np.exp(-np.abs(z))
    return np.where(z >= 0, 1, small) / (1 + small)


def normal_cdf(z):
    return (1 + vectorized_erf(z / math.sqrt(2)).astype(z.dtype)) / 2


def gelu_tanh_parts(z):
    t = np.tanh(SQRT_2_OVER_PI * (z + 0.044715 * z**3))
    return t, SQRT_2_OVER_PI * (1 + 3 * 0.044715 * z**2)


def gelu_tanh(z):
    return z * (1 + gelu_tanh_parts(z)[0]) / 2


def gelu_tanh_derivative(z):
    t, inner = gelu_tanh_parts(z)
    return (1 + t) / 2 + z * (1 - t**2) * inner / 2


# name -> (function, derivative)
ACTIVATIONS = {
    "none": (lambda z: z, np.ones_like),
    "relu": (lambda z: np.maximum(z, 0), lambda z: np.where(z > 0, 1, 0)),
    "leaky_relu": (
        lambda z: np.where(z > 0, z, z * 0.2),
        lambda z: np.where(z > 0, 1.0, 0.2),
    ),
    "silu": (
        lambda z: z * sigmoid(z),
        lambda z: sigmoid(z) * (1 + z * (1 - sigmoid(z))),
    ),
    "gelu": (
        lambda z: z * normal_cdf(z),
        lambda z: normal_cdf(z) + z * np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi),
    ),
    "gelu_tanh": (gelu_tanh, gelu_tanh_derivative),
    "tanh": (np.tanh, lambda z: 1 - np.tanh(z) ** 2),
    "sigmoid": (sigmoid, lambda z: sigmoid(z) * (1 - sigmoid(z))),
}


@dataclass
class Norm:
    """Which norm: as the functional API says it."""

    op: str  # group_norm, layer_norm or rms_norm
    axes: tuple[int, ...] = (-1,)  # the channel axis of group_norm
    groups: int = -1
    epsilon: float = 1e-3
    activation: str = "none"
    zero_centered: bool = False
    per_sample: bool = False  # gamma and beta differ from sample to sample
    per_position: bool = False  # gamma and beta have the shape of x

    @property
    def centred(self):
        return self.op != "rms_norm"


def group_norm(groups, axis=-1, **options):
    return Norm("group_norm", (axis,), groups, **options)


def layer_norm(*axes, **options):
    return Norm("layer_norm", axes or (-1,), **options)


def rms_norm(*axes, **options):
    return Norm("rms_norm", axes or (-1,), **options)


@dataclass
class Forward:
    """Outputs, and what the bounds are made of. Statistics keep their axes."""

    y: np.ndarray
    sum: np.ndarray
    mean: np.ndarray
    rstd: np.ndarray
    xhat: np.ndarray
    z: np.ndarray
    gamma: np.ndarray
    weights: np.ndarray  # of elements in the statistics of their group: 1 / count or 0


@dataclass
class Backward:
    """Gradients, and what the bounds are made of."""

    dx: np.ndarray
    dgamma: np.ndarray
    dbeta: np.ndarray
    dz: np.ndarray


@dataclass
class SecondOrder:
    """Gradients of the gradients. Those of statistics keep their axes."""

    d_dy: np.ndarray
    d_x: np.ndarray  # also through mean and rstd
    d_gamma: np.ndarray
    d_dmean: np.ndarray
    d_drstd: np.ndarray


def view(norm, shape):
    """Returns the shape to normalize in, its reduced axes and its parameter axes."""
    axes = sorted_axes(norm, len(shape))
    samples = (0,) if norm.per_sample else ()
    if norm.op != "group_norm":
        parameter_axes = range(len(shape)) if norm.per_position else (*samples, *axes)
        return shape, tuple(axes), tuple(parameter_axes)
    channel = axes[0]
    groups = shape[channel] if norm.groups == -1 else norm.groups
    split = (groups, shape[channel] // groups if groups else 0)
    viewed = shape[:channel] + split + shape[channel + 1 :]
    reduced = tuple(i for i in range(1, len(viewed)) if i != channel)
    if norm.per_position:
        return viewed, reduced, tuple(range(len(viewed)))
    return viewed, reduced, (*samples, channel, channel + 1)


def weights_of(norm, shape, mask, dtype):
    """Returns what each element counts in a mean of its group, in the viewed shape."""
    viewed, reduced, _ = view(norm, shape)
    counted = np.ones(shape, dtype)
    if mask is not None:
        counted *= np.expand_dims(mask, sorted_axes(norm, len(shape))[0])
    counted = counted.reshape(viewed)
    return counted / np.maximum(1, counted.sum(reduced, keepdims=True))


def forward(norm, x, gamma=None, beta=None, residual=None, mask=None):
    """Returns the outputs for `x`, in its shape.

    `mask`, of the shape of `x` without the channel axis, says of which positions the
    statistics are; those of none are mean 0 and variance 0.
    """
    total = x if residual is None else (x + residual).astype(x.dtype)
    shape, reduced, parameter_axes = view(norm, x.shape)
    dtype = wider(x.dtype)
    s = total.astype(dtype).reshape(shape)
    broadcast = [shape[i] if i in parameter_axes else 1 for i in range(len(shape))]
    g = np.ones(broadcast, dtype)  # without gamma, zero-centered or not
    if gamma is not None:
        g = gamma.astype(dtype).reshape(broadcast) + (1 if norm.zero_centered else 0)
    b = np.zeros(broadcast, dtype) if beta is None else beta.astype(dtype)

    weights = weights_of(norm, x.shape, mask, dtype)
    # Not by multiplication alone: what is masked may be infinite or not a number.
    counted = np.where(weights > 0, s, 0)
    mean = (weights * counted).sum(reduced, keepdims=True)
    if not norm.centred:
        mean = np.zeros_like(mean)
    variance = (weights * (counted - mean) ** 2).sum(reduced, keepdims=True)
    rstd = 1 / np.sqrt(variance + norm.epsilon)
    xhat = (s - mean) * rstd
    z = xhat * g + b.reshape(broadcast)
    y = ACTIVATIONS[norm.activation][0](z)
    return Forward(y.reshape(x.shape), total, mean, rstd, xhat, z, g, weights)


def backward(norm, of, dy, dsum=0.0, dmean=None, drstd=None):
    """Returns the gradients at the result `of` of `forward`.

    `dmean` and `drstd`, in the shape of the statistics, reach them past y.
    """
    shape, reduced, parameter_axes = view(norm, dy.shape)
    dz = dy.astype(of.z.dtype).reshape(shape) * ACTIVATIONS[norm.activation][1](of.z)
    dxhat = dz * of.gamma
    # All positions are normalized, but their sums reach those that the statistics are
    # of.
    plain = dxhat.sum(reduced, keepdims=True) if norm.centred else 0
    with_xhat = (dxhat * of.xhat).sum(reduced, keepdims=True)
    dx = of.rstd * (dxhat - of.weights * (plain + of.xhat * with_xhat))
    from_mean, slope = through_statistics(of, dmean, drstd)
    dx = dx + from_mean + slope * of.xhat
    others = tuple(i for i in range(len(shape)) if i not in parameter_axes)
    of_parameters = parameter_shape(norm, dy.shape)
    return Backward(
        dx.reshape(dy.shape) + np.asarray(dsum).astype(dx.dtype),
        (dz * of.xhat).sum(others).reshape(of_parameters),
        dz.sum(others).reshape(of_parameters),
        dz,
    )


def given(values, dtype, shape):
    """Returns values in the type and shape to compute with, or 0 for None."""
    return 0.0 if values is None else values.astype(dtype).reshape(shape)


def through_statistics(of, dmean, drstd):
    """Returns what they add to dx: by itself, and times xhat."""
    dmean, drstd = (given(d, of.rstd.dtype, of.rstd.shape) for d in (dmean, drstd))
    return of.weights * dmean, -of.weights * drstd * of.rstd**2


def second_order(norm, of, dy, ddx, ddgamma=None, ddbeta=None, drstd=None):
    """Returns the gradients of `backward`, given those of its results.

    Without activation. `of` is the result of `forward`; `drstd`, in the shape of the
    statistics, is what had reached rstd.
    """
    shape, reduced, parameter_axes = view(norm, dy.shape)
    broadcast = [n if i in parameter_axes else 1 for i, n in enumerate(shape)]
    count = math.prod(shape[i] for i in reduced)

    def mean(values):
        return values.mean(reduced, keepdims=True)

    def centre(values):
        return mean(values) if norm.centred else 0

    xhat, rstd = of.xhat, of.rstd
    dtype = xhat.dtype
    dy, u = (given(values, dtype, shape) for values in (dy, ddx))
    v, w = (given(values, dtype, broadcast) for values in (ddgamma, ddbeta))
    drstd = given(drstd, dtype, rstd.shape)
    a = dy * of.gamma
    p = rstd * (u - centre(u) - xhat * mean(u * xhat))
    # q is what reaches xhat, r what reaches rstd past that.
    q = -rstd * (u * mean(a * xhat) + a * mean(u * xhat))
    q = q - drstd * rstd**2 * u / count + v * dy
    r = mean(u * a) - centre(u) * centre(a) - mean(u * xhat) * mean(a * xhat)
    r = r - 2 * drstd * rstd * mean(u * xhat) / count
    d_x = rstd * (q - centre(q) - xhat * mean(q * xhat)) - r * rstd**2 * xhat
    others = tuple(i for i in range(len(shape)) if i not in parameter_axes)
    return SecondOrder(
        (of.gamma * p + v * xhat + w).reshape(ddx.shape),
        d_x.reshape(ddx.shape),
        (dy * p).sum(others).reshape(parameter_shape(norm, ddx.shape)),
        mean(u),
        -(rstd**2) * mean(u * xhat),
    )


def sorted_axes(norm, rank):
    return sorted(axis % rank for axis in norm.axes)


def parameter_shape(norm, shape):
    """Returns the shape of gamma and beta for an x of this shape."""
    if norm.per_position:
        return tuple(shape)
    axes = sorted_axes(norm, len(shape))
    return tuple(shape[axis] for axis in ([0, *axes] if norm.per_sample else axes))

"""reference.py and bounds.py in PyTorch's float64, for tensors too large for NumPy.

The formulas and the constants of the bounds are those of the two modules beside; they
are derived and explained there. Works on any device.
"""

import math
from types import SimpleNamespace

import ml_dtypes
import numpy as np
import torch
from torch.nn import functional

from support import bounds, reference

WIDE = torch.float64
NUMPY = {
    torch.float64: np.dtype(np.float64),
    torch.float32: np.dtype(np.float32),
    torch.float16: np.dtype(np.float16),
    torch.bfloat16: np.dtype(ml_dtypes.bfloat16),
}
ACTIVATIONS = {
    "none": lambda z: z,
    "relu": functional.relu,
    "leaky_relu": lambda z: functional.leaky_relu(z, 0.2),
    "silu": functional.silu,
    "gelu": functional.gelu,
    "gelu_tanh": lambda z: functional.gelu(z, approximate="tanh"),
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
}


def precision(dtype):
    return bounds.PRECISIONS[NUMPY[dtype]]


def to_numpy(tensor):
    """Returns an array of the same type; bfloat16 goes through float32."""
    if tensor is None:
        return None
    tensor = tensor.detach().cpu()
    if tensor.dtype == torch.bfloat16:
        return tensor.float().numpy().astype(ml_dtypes.bfloat16)
    return tensor.numpy()


def derivative(activation, z):
    """Returns activation'(z); 0 below and at the corner of relu, as the kernels do."""
    with torch.enable_grad():
        leaf = z.detach().requires_grad_()
        return torch.autograd.grad(ACTIVATIONS[activation](leaf).sum(), leaf)[0]


def weights_of(norm, shape, mask):
    """Returns what each element counts in a mean of its group: 1 / count or 0."""
    viewed, reduced, _ = reference.view(norm, shape)
    if mask is None:
        return 1 / max(1, math.prod(viewed[i] for i in reduced))
    counted = mask.unsqueeze(reference.sorted_axes(norm, len(shape))[0])
    counted = counted.expand(shape).reshape(viewed).to(WIDE)
    return counted / counted.sum(reduced, keepdim=True).clamp(min=1)


def forward(norm, x, gamma=None, beta=None, residual=None, mask=None):
    """Returns the outputs for `x` in float64; statistics keep their axes."""
    total = x if residual is None else x + residual
    shape, reduced, parameter_axes = reference.view(norm, tuple(x.shape))
    s = total.to(WIDE).reshape(shape)
    broadcast = [shape[i] if i in parameter_axes else 1 for i in range(len(shape))]
    g = torch.ones(broadcast, dtype=WIDE, device=x.device)
    if gamma is not None:
        g = gamma.to(WIDE).reshape(broadcast) + (1 if norm.zero_centered else 0)
    weights = weights_of(norm, tuple(x.shape), mask)

    def mean_of(values):
        if mask is None:
            return values.mean(reduced, keepdim=True)
        # Not by multiplication alone: what is masked may not be a number.
        counted = torch.where(weights > 0, values, 0)
        return (weights * counted).sum(reduced, keepdim=True)

    mean = mean_of(s)
    if not norm.centred:
        mean = torch.zeros_like(mean)
    centred = s - mean
    rstd = (mean_of(centred.square()) + norm.epsilon).rsqrt()
    xhat = centred.mul_(rstd)
    z = xhat * g
    if beta is not None:
        z += beta.to(WIDE).reshape(broadcast)
    y = ACTIVATIONS[norm.activation](z).reshape(x.shape)
    return SimpleNamespace(
        y=y, sum=total, mean=mean, rstd=rstd, xhat=xhat, z=z, gamma=g, weights=weights
    )


def backward(norm, of, dy, dsum=None, dmean=None, drstd=None):
    """Returns the gradients at the result `of` of `forward`."""
    shape, reduced, parameter_axes = reference.view(norm, tuple(dy.shape))
    dz = dy.to(WIDE).reshape(shape)
    if norm.activation != "none":
        dz = dz * derivative(norm.activation, of.z)
    dxhat = dz * of.gamma
    with_xhat = of.weights * (dxhat * of.xhat).sum(reduced, keepdim=True)
    plain = of.weights * dxhat.sum(reduced, keepdim=True) if norm.centred else 0
    dx = of.rstd * (dxhat - plain - of.xhat * with_xhat)
    if dmean is not None:
        dx += of.weights * dmean.to(WIDE).reshape(of.mean.shape)
    if drstd is not None:
        scale = of.weights * drstd.to(WIDE).reshape(of.rstd.shape) * of.rstd.square()
        dx -= scale * of.xhat
    dx = dx.reshape(dy.shape)
    if dsum is not None:
        dx += dsum.to(WIDE)
    others = [i for i in range(len(shape)) if i not in parameter_axes]
    parameters = reference.parameter_shape(norm, dy.shape)

    def over_others(values):
        total = values.sum(others) if others else values
        return total.reshape(parameters)

    return SimpleNamespace(
        dx=dx, dgamma=over_others(dz * of.xhat), dbeta=over_others(dz), dz=dz
    )


def stored(exact, error, kind):
    return error + kind.store * (exact.abs() + error) + kind.smallest


def of_xhat(norm, of, unit):
    from_mean = bounds.of_mean(of, unit) * of.rstd if norm.centred else 0
    return from_mean + bounds.XHAT * unit * of.xhat.abs()


def of_z(norm, of, unit):
    scaled = (of.xhat * of.gamma).abs()
    offset = (of.z - of.xhat * of.gamma).abs()
    affine = bounds.AFFINE * unit * (scaled + offset)
    return of.gamma.abs() * of_xhat(norm, of, unit) + affine


def forward_bound(norm, of, dtype):
    """Returns the bound on |y - exact|, element by element."""
    kind = precision(dtype)
    error = of_z(norm, of, kind.compute)
    if norm.activation != "none":
        error = bounds.SLOPE * error
        error += bounds.ACTIVATION * kind.compute * (1 + of.z.abs())
    return stored(of.y, error.reshape(of.y.shape), kind)


def of_dz(norm, of, dy, unit):
    if norm.activation == "none":
        return torch.zeros_like(of.z)
    from_z = of_z(norm, of, unit)
    change = bounds.SLOPE * from_z
    if norm.activation in ("relu", "leaky_relu"):
        change = (of.z.abs() <= from_z).to(WIDE)
    size = dy.to(WIDE).abs().reshape(of.z.shape)
    return size * (change + bounds.DERIVATIVE * unit * (1 + of.z.abs()))


def backward_bound(
    norm, of, gradients, dy, dtype, param_dtype=torch.float32, dmean=None, drstd=None
):
    """Returns the bounds on |dx|, |dgamma| and |dbeta| minus the exact ones.

    The gradients of the statistics join the two means over the group.
    """
    kind = precision(dtype)
    unit = kind.compute
    shape, reduced, parameter_axes = reference.view(norm, tuple(dy.shape))
    error_dz = of_dz(norm, of, dy, unit)
    error_xhat = of_xhat(norm, of, unit)
    xhat = of.xhat.abs()
    terms = (gradients.dz * of.gamma).abs()
    error_terms = of.gamma.abs() * error_dz + unit * terms

    def mean(values):
        return of.weights * values.sum(reduced, keepdim=True)

    plain = error_plain = torch.zeros_like(of.rstd)
    with_xhat = mean(terms * xhat)
    error_with_xhat = mean(error_terms * xhat + terms * error_xhat)
    if drstd is not None:
        size = drstd.to(WIDE).abs().reshape(of.rstd.shape)
        with_xhat += of.weights * size * of.rstd
    if norm.centred:
        plain = mean(terms)
        error_plain = mean(error_terms)
        if dmean is not None:
            size = dmean.to(WIDE).abs().reshape(of.rstd.shape)
            plain += of.weights * size / of.rstd
        error_plain += bounds.SUMS * unit * plain
    error_with_xhat += bounds.SUMS * unit * with_xhat
    inside = terms + plain + xhat * with_xhat
    error = of.rstd * (
        error_terms
        + error_plain
        + xhat * error_with_xhat
        + error_xhat * with_xhat
        + bounds.XHAT * unit * inside
    )
    dx = stored(gradients.dx, error.reshape(dy.shape), kind)
    dx += 2 * unit * gradients.dx.abs()

    others = [i for i in range(len(shape)) if i not in parameter_axes]
    magnitude = gradients.dz.abs()

    def over_others(values):
        total = values.sum(others) if others else values
        return total.reshape(gradients.dgamma.shape)

    dgamma = error_dz * xhat + magnitude * error_xhat
    dgamma = over_others(dgamma + bounds.PARAMETER * unit * magnitude * xhat)
    dbeta = over_others(error_dz + bounds.PARAMETER * unit * magnitude)
    param = precision(param_dtype)
    return (
        dx,
        stored(gradients.dgamma, dgamma, param),
        stored(gradients.dbeta, dbeta, param),
    )


def relative_to(bound, got, exact):
    """Returns the largest |got - exact| / bound; NaN where a result is NaN."""
    if got.numel() == 0:
        return 0.0
    return float(((got.to(WIDE).reshape(exact.shape) - exact).abs() / bound).max())

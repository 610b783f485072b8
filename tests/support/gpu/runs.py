"""Inputs for the CUDA kernels, runs of both passes, and their errors."""

from types import SimpleNamespace

import numpy as np
import torch

from support import bounds, reference
from support.gpu import on_torch, torch_reference


def random(shape, dtype, generator, scale=1.0, offset=0.0):
    """Returns normal numbers: made in float32, then rounded."""
    values = torch.randn(shape, device=generator.device, generator=generator)
    return values.mul_(scale).add_(offset).to(dtype)


def misaligned(tensor):
    """Returns an equal dense tensor that starts one element past an allocation."""
    room = torch.empty(tensor.numel() + 1, dtype=tensor.dtype, device=tensor.device)
    view = room[1:].view(tensor.shape)
    return view.copy_(tensor)


def problem_data(
    norm,
    shape,
    dtype,
    generator,
    *,
    gamma=True,
    beta=True,
    residual=False,
    mask=False,
    statistics_gradients=False,
    param_dtype=None,
):
    """Returns the inputs of forward and backward; those not asked for are None."""
    param_dtype = param_dtype or on_torch.compute_dtype(dtype)
    parameters = reference.parameter_shape(norm, shape)
    statistics = on_torch.statistics_shape(norm, shape)
    groups = int(np.prod(statistics))
    size = int(np.prod(shape)) // max(1, groups)

    def data(offset=0.0):
        return random(shape, dtype, generator, offset=offset)

    def of_statistics():
        # As large as what dy contributes: that is divided by the group's size.
        kind = on_torch.compute_dtype(dtype)
        return random(statistics, kind, generator, scale=max(1.0, size**0.5))

    def of_positions():
        # Some of each sample's, but of the last one none.
        axis = norm.axes[0] % len(shape)
        of_mask = shape[:axis] + shape[axis + 1 :]
        drawn = torch.rand(of_mask, device=generator.device, generator=generator)
        drawn[-1] = 1
        return drawn < 0.6

    return SimpleNamespace(
        x=data(0.5),
        dy=data(),
        gamma=random(parameters, param_dtype, generator, 0.3, 1) if gamma else None,
        beta=random(parameters, param_dtype, generator)
        if beta and norm.centred
        else None,
        residual=data() if residual else None,
        mask=of_positions() if mask else None,
        dsum=data() if residual else None,
        dmean=of_statistics() if statistics_gradients and norm.centred else None,
        drstd=of_statistics() if statistics_gradients else None,
    )


def run(norm, data, stream=None):
    """Returns the outputs of forward and of backward."""
    out = on_torch.forward(
        norm,
        data.x,
        data.gamma,
        data.beta,
        data.residual,
        mask=data.mask,
        stream=stream,
    )
    gradients = on_torch.backward(
        norm,
        data.dy,
        data.x if data.residual is None else out.sum,
        out.mean,
        out.rstd,
        data.gamma,
        data.beta,
        dsum=data.dsum,
        dmean=data.dmean,
        drstd=data.drstd,
        mask=data.mask,
        stream=stream,
    )
    return SimpleNamespace(**vars(out), **vars(gradients))


def tensors(of):
    """Returns the names and tensors that are there."""
    return {name: value for name, value in vars(of).items() if value is not None}


def shares_of_bounds(norm, data, got):
    """Returns the largest |error| / bound of every output."""
    dtype = data.x.dtype
    # float64 needs a reference that is wider than what is judged.
    if dtype == torch.float64:
        return _against_numpy(norm, data, got)
    of = torch_reference.forward(
        norm, data.x, data.gamma, data.beta, data.residual, data.mask
    )
    gradients = torch_reference.backward(
        norm, of, data.dy, data.dsum, data.dmean, data.drstd
    )
    unit = torch_reference.precision(dtype).compute
    relative = torch_reference.relative_to
    bound_y = torch_reference.forward_bound(norm, of, dtype)
    shares = {
        "y": relative(bound_y, got.y, of.y),
        "rstd": relative(bounds.RSTD * unit * of.rstd, got.rstd, of.rstd),
    }
    if norm.centred:
        shares["mean"] = relative(bounds.of_mean(of, unit), got.mean, of.mean)
    parameter = data.gamma if data.gamma is not None else data.beta
    limits = torch_reference.backward_bound(
        norm,
        of,
        gradients,
        data.dy,
        dtype,
        torch.float32 if parameter is None else parameter.dtype,
        data.dmean,
        data.drstd,
    )
    for name, bound in zip(("dx", "dgamma", "dbeta"), limits, strict=True):
        if getattr(got, name) is not None:
            exact = getattr(gradients, name)
            shares[name] = relative(bound, getattr(got, name), exact)
    return shares


def _against_numpy(norm, data, got):
    assert data.dmean is None, "reference.py has no gradients of the statistics"
    assert data.drstd is None, "reference.py has no gradients of the statistics"
    x, gamma, beta, residual, mask, dy = (
        torch_reference.to_numpy(each)
        for each in (data.x, data.gamma, data.beta, data.residual, data.mask, data.dy)
    )
    of = reference.forward(norm, x, gamma, beta, residual, mask)
    dsum = 0.0 if data.dsum is None else torch_reference.to_numpy(data.dsum)
    gradients = reference.backward(norm, of, dy, dsum)
    limits = bounds.backward(norm, of, gradients, dy, x.dtype, np.float64)
    unit = bounds.PRECISIONS[x.dtype].compute
    pairs = {
        "y": (bounds.forward(norm, of, x.dtype), of.y),
        "rstd": (bounds.of_rstd(norm, of, unit), of.rstd),
        "mean": (bounds.of_mean(of, unit), of.mean),
        "dx": (limits[0], gradients.dx),
        "dgamma": (limits[1], gradients.dgamma),
        "dbeta": (limits[2], gradients.dbeta),
    }
    shares = {}
    for name, (bound, exact) in pairs.items():
        if getattr(got, name) is not None:
            value = torch_reference.to_numpy(getattr(got, name))
            shares[name] = bounds.relative_to(bound, value.reshape(exact.shape), exact)
    return shares

"""fusednorm's CUDA kernels on PyTorch tensors, which travel through DLPack.

The kernels write into tensors that the caller gives, so that nothing but the kernels
is timed, captured or checked. Everything runs on PyTorch's current stream unless a
stream is given.
"""

from types import SimpleNamespace

import torch
from fusednorm import _native

from support import reference


def compute_dtype(dtype):
    """Returns the type of mean, rstd and, unless chosen otherwise, of parameters."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def statistics_shape(norm, shape):
    axes = reference.sorted_axes(norm, len(shape))
    if norm.op == "group_norm":
        return (shape[0], shape[axes[0]] if norm.groups == -1 else norm.groups)
    return tuple(size for axis, size in enumerate(shape) if axis not in axes)


def _options(norm, stream):
    if stream is None:
        stream = torch.cuda.current_stream()
    return {
        "axes": list(norm.axes),
        "groups": norm.groups if norm.op == "group_norm" else 0,
        "epsilon": norm.epsilon,
        "activation": norm.activation,
        "zero_centered": norm.zero_centered,
        "per_sample": norm.per_sample,
        "per_position": norm.per_position,
        "stream": stream.cuda_stream,
    }


def _filled_like(tensor):
    if tensor is None or not tensor.is_floating_point():
        return tensor
    return torch.full_like(tensor, torch.nan, memory_format=torch.contiguous_format)


def new_forward(norm, x, residual=None):
    """Returns tensors for the outputs of `forward`, filled with NaN."""
    shape = statistics_shape(norm, x.shape)

    def statistics():
        kind = compute_dtype(x.dtype)
        return torch.full(shape, torch.nan, dtype=kind, device=x.device)

    return SimpleNamespace(
        y=_filled_like(x),
        sum=None if residual is None else _filled_like(x),
        mean=statistics() if norm.centred else None,
        rstd=statistics(),
    )


def new_backward(x, gamma=None, beta=None):
    """Returns tensors for the outputs of `backward`, filled with NaN."""
    return SimpleNamespace(
        dx=_filled_like(x), dgamma=_filled_like(gamma), dbeta=_filled_like(beta)
    )


def new_second_order(data, mean, rstd):
    """Returns tensors for the outputs of `second_order`, filled with NaN."""
    return SimpleNamespace(
        d_dy=_filled_like(data.x),
        d_x=_filled_like(data.x),
        d_gamma=_filled_like(data.gamma),
        d_dmean=_filled_like(mean),
        d_drstd=_filled_like(rstd),
    )


def forward(
    norm, x, gamma=None, beta=None, residual=None, *, mask=None, out=None, stream=None
):
    """Enqueues the forward pass and returns its outputs: y, sum, mean, rstd."""
    out = out or new_forward(norm, x, residual)
    _native.cuda.forward(
        norm.op,
        x,
        gamma,
        beta,
        residual,
        mask=mask,
        out=(out.y, out.sum, out.mean, out.rstd),
        **_options(norm, stream),
    )
    return out


def backward(
    norm,
    dy,
    x,
    mean,
    rstd,
    gamma=None,
    beta=None,
    *,
    dsum=None,
    dmean=None,
    drstd=None,
    mask=None,
    params=True,
    out=None,
    stream=None,
):
    """Enqueues the backward pass and returns its outputs: dx, dgamma, dbeta."""
    out = out or (new_backward(x, gamma, beta) if params else new_backward(x))
    _native.cuda.backward(
        norm.op,
        dy,
        x,
        mean,
        rstd,
        gamma,
        beta,
        dsum,
        dmean,
        drstd,
        mask=mask,
        params=params,
        out=(out.dx, out.dgamma, out.dbeta),
        **_options(norm, stream),
    )
    return out


def second_order(norm, data, mean, rstd, *, out=None, stream=None):
    """Enqueues the second order and returns its outputs, d_dy to d_drstd.

    `data` has dy, x, ddx, gamma, ddgamma, ddbeta and drstd.
    """
    out = out or new_second_order(data, mean, rstd)
    options = _options(norm, stream)
    del options["activation"], options["per_position"]
    _native.cuda.second_order(
        norm.op,
        data.dy,
        data.x,
        mean,
        rstd,
        data.ddx,
        data.gamma,
        data.ddgamma,
        data.ddbeta,
        data.drstd,
        out=(out.d_dy, out.d_x, out.d_gamma, out.d_dmean, out.d_drstd),
        **options,
    )
    return out


def plan(norm, shape, dtype, *, backward, device=None, **options):
    """Returns the plan of a problem on a device: the current one, or as _native has it.

    The options are has_gamma, has_beta, has_mask, residual, aligned and params.
    """
    if device is None:
        device = _native.cuda.devices()[torch.cuda.current_device()]
    has = {"has_gamma": True, "has_beta": norm.centred}
    return _native.plan(
        norm.op,
        list(shape),
        str(dtype).removeprefix("torch."),
        axes=list(norm.axes),
        groups=norm.groups if norm.op == "group_norm" else 0,
        epsilon=norm.epsilon,
        activation=norm.activation,
        zero_centered=norm.zero_centered,
        per_sample=norm.per_sample,
        per_position=norm.per_position,
        device=device,
        direction="backward" if backward else "forward",
        **(has | options),
    )


def way(found):
    """Returns what tells a plan's way through the kernels from others.

    These are the kernels, and of which instances they are.
    """
    geometry = found["geometry"]
    return (
        found["scheme"],
        tuple((launch["kernel"], launch["cluster"]) for launch in found["launches"]),
        geometry.get("width", 1) > 1,
        *(geometry.get(name) for name in ("general", "vectors", "block")),
    )

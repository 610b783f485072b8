"""Who else computes these norms on PyTorch tensors, as their users call them.

A peer is a function of (x, gamma, beta, residual) that returns y, or (y, sum) with a
residual; gradients come from PyTorch's autograd. A peer that is not installed, or that
has no function for a problem, is listed as missing with the reason.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fusednorm.bench.shapes import Shape

Function = Callable[..., Any]
# The others get parameters of the data's type, as their users have them.
WANTS_FLOAT32_PARAMETERS = frozenset({"quack"})


def activate(name: str, y: Any) -> Any:
    """Applies the activation as PyTorch's users do."""
    from torch.nn import functional

    if name == "none":
        return y
    if name == "leaky_relu":
        return functional.leaky_relu(y, 0.2)
    if name == "gelu_tanh":
        return functional.gelu(y, approximate="tanh")
    return getattr(functional, name)(y)


def channels_to(x: Any, axis: int, to: int) -> Any:
    """Returns a view of x with its channels elsewhere: no copy."""
    return x.movedim(axis, to)


def eager(norm: Shape, rank: int) -> Function:
    """Returns the norm in PyTorch's own functions.

    Channels-last tensors are what PyTorch calls memory_format=channels_last: the
    channel axis second, the memory as it is.
    """
    from torch.nn import functional

    axes = sorted(axis % rank for axis in norm.axes)

    def group_norm(x, gamma, beta, residual):
        total = x if residual is None else x + residual
        seen = channels_to(total, axes[0], 1)
        if norm.groups == -1:
            y = functional.instance_norm(
                seen, weight=gamma, bias=beta, use_input_stats=True, eps=norm.epsilon
            )
        else:
            y = functional.group_norm(seen, norm.groups, gamma, beta, norm.epsilon)
        y = channels_to(activate(norm.activation, y), 1, axes[0])
        return y if residual is None else (y, total)

    def axes_norm(x, gamma, beta, residual):
        total = x if residual is None else x + residual
        seen = total.movedim(axes, list(range(rank - len(axes), rank)))
        if norm.op == "rms_norm":
            y = functional.rms_norm(seen, gamma.shape, gamma, norm.epsilon)
        else:
            y = functional.layer_norm(seen, gamma.shape, gamma, beta, norm.epsilon)
        y = activate(norm.activation, y)
        y = y.movedim(list(range(rank - len(axes), rank)), axes)
        return y if residual is None else (y, total)

    return group_norm if norm.op == "group_norm" else axes_norm


def compiled(norm: Shape, rank: int) -> Function:
    """Returns the same through torch.compile, for the shapes it is called with."""
    import torch

    torch._dynamo.reset()
    # Backward is called again and again on one forward: keep its buffers.
    settings = torch._functorch.config
    if hasattr(settings, "donated_buffer"):
        settings.donated_buffer = False
    return torch.compile(eager(norm, rank), dynamic=False)


def liger(norm: Shape, rank: int) -> Function | str:
    """Returns Liger's function, or why it has none."""
    axes = sorted(axis % rank for axis in norm.axes)
    if norm.op != "group_norm" and axes != [rank - 1]:
        return "only the last axis"
    if norm.op == "group_norm" and axes != [1]:
        return "channels first only"
    if norm.op == "layer_norm":
        function = importlib.import_module("liger_kernel.ops.layer_norm")

        def layer_norm(x, gamma, beta, residual):
            total = x if residual is None else x + residual
            y = function.LigerLayerNormFunction.apply(total, gamma, beta, norm.epsilon)
            y = activate(norm.activation, y)
            return y if residual is None else (y, total)

        return layer_norm
    if norm.op == "rms_norm":
        plain = importlib.import_module("liger_kernel.ops.rms_norm")
        fused = importlib.import_module("liger_kernel.ops.fused_add_rms_norm")
        offset = 1.0 if norm.zero_centered else 0.0
        # Not in place: that would overwrite dy, which is used again here.
        how = (norm.epsilon, offset, "llama", False)

        def rms_norm(x, gamma, beta, residual):
            if residual is None:
                y = plain.LigerRMSNormFunction.apply(x, gamma, *how)
                return activate(norm.activation, y)
            y, total = fused.LigerFusedAddRMSNormFunction.apply(
                x, residual, gamma, *how
            )
            return activate(norm.activation, y), total

        return rms_norm
    module = importlib.import_module("liger_kernel.ops.group_norm")

    def group_norm(x, gamma, beta, residual):
        channels = x.shape[1]
        groups = channels if norm.groups == -1 else norm.groups
        # Its backward is wrong beyond three dimensions.
        y = module.LigerGroupNormFunction.apply(
            x.flatten(2), gamma, beta, channels, groups, norm.epsilon
        )
        return activate(norm.activation, y.reshape(x.shape))

    return group_norm


def quack(norm: Shape, rank: int) -> Function | str:
    """Returns quack's function, or why it has none."""
    axes = sorted(axis % rank for axis in norm.axes)
    if norm.op == "group_norm" or axes != [rank - 1]:
        return "only the last axis"
    if norm.op == "rms_norm":
        rmsnorm = importlib.import_module("quack.rmsnorm").rmsnorm

        def rms_norm(x, gamma, beta, residual):
            if residual is None:
                y = rmsnorm(x, gamma, eps=norm.epsilon)
                return activate(norm.activation, y)
            y, total = rmsnorm(
                x, gamma, residual=residual, eps=norm.epsilon, prenorm=True
            )
            return activate(norm.activation, y), total

        return rms_norm
    module = importlib.import_module("quack.rmsnorm")
    if hasattr(module, "layernorm_fwd"):
        forward = module.layernorm_fwd

        def with_bias(x, gamma, beta, residual):
            flat = x.reshape(-1, x.shape[-1])
            y = forward(flat, gamma, beta, norm.epsilon)
            return activate(norm.activation, y.reshape(x.shape))

        return with_bias
    layernorm = importlib.import_module("quack.layernorm").layernorm

    def without_bias(x, gamma, beta, residual):
        flat = x.reshape(-1, x.shape[-1])
        y = layernorm(flat, gamma, norm.epsilon)
        return activate(norm.activation, y.reshape(x.shape))

    return without_bias

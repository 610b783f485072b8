"""PyTorch as its users call it; on a GPU also compiled, Liger and quack."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from fusednorm.bench import torch_functions
from fusednorm.bench.competitors.base import AbsentError, Competitor, Outputs
from fusednorm.bench.data import Data, to_numpy, to_torch


class Tensors:
    """The sets of a case as PyTorch tensors; on the CPU in the arrays' memory."""

    def __init__(self, data: Data, device: str) -> None:
        import torch

        self.data = data
        self.dtype = getattr(torch, data.case.dtype)
        self.device = device
        self.sets = [
            tuple(map(self._tensor, (each.x, each.residual, each.dy, each.dsum)))
            for each in data.sets
        ]
        self.wide = tuple(map(self._tensor, (data.gamma, data.beta)))
        # As a model has them that was converted to the data's type.
        self.gamma, self.beta = (
            None if each is None else each.to(self.dtype) for each in self.wide
        )

    def _tensor(self, array: Any) -> Any:
        return None if array is None else to_torch(array, self.device)


def _outputs(results: Any) -> Outputs:
    (y, *total), (dx, dgamma, dbeta) = results
    found = (y, total[0] if total else None, dx, dgamma, dbeta)
    return Outputs(*(None if each is None else each.detach() for each in found))


def _arrays(results: Any) -> Outputs:
    """Returns outputs on the CPU as NumPy arrays."""
    found = vars(_outputs(results)).values()
    return Outputs(*(None if each is None else to_numpy(each) for each in found))


def eager(tensors: Tensors) -> Competitor:
    """Returns the CPU's norms as single ATen ops, the backward pass as well.

    Autograd would call the same ops, and its own time would count against PyTorch.
    """
    shape = tensors.data.case.shape
    if shape.op == "rms_norm" or shape.residual:
        return by_autograd("torch", tensors, torch_functions.eager)
    return _by_ops(tensors)


def _by_ops(tensors: Tensors) -> Competitor:
    import torch

    aten = torch.ops.aten
    case = tensors.data.case
    shape = case.shape
    rank = len(case.dims)
    (axis,) = (each % rank for each in shape.axes)
    gamma, beta = tensors.gamma, tensors.beta
    # Views, no copies: channels last becomes memory_format=torch.channels_last.
    to = 1 if shape.op == "group_norm" else rank - 1
    seen = [(x.movedim(axis, to), dy.movedim(axis, to)) for x, _, dy, _ in tensors.sets]
    mask = [True, True, True]
    if shape.op == "group_norm":
        batch, channels = case.dims[0], case.dims[axis]
        groups = channels if shape.groups == -1 else shape.groups
        sizes = (batch, channels, math.prod(case.dims) // (batch * channels), groups)

        def norm(x: Any) -> Any:
            return aten.native_group_norm(x, gamma, beta, *sizes, shape.epsilon)

        def gradients(dy: Any, x: Any, mean: Any, rstd: Any) -> Any:
            return aten.native_group_norm_backward(
                dy, x, mean, rstd, gamma, *sizes, mask
            )
    else:
        length = list(gamma.shape)

        def norm(x: Any) -> Any:
            return aten.native_layer_norm(x, length, gamma, beta, shape.epsilon)

        def gradients(dy: Any, x: Any, mean: Any, rstd: Any) -> Any:
            return aten.native_layer_norm_backward(
                dy, x, length, mean, rstd, gamma, beta, mask
            )

    slope = _SLOPES[shape.activation]

    def run(x: Any) -> Any:
        z, mean, rstd = norm(x)
        return torch_functions.activate(shape.activation, z), z, mean, rstd

    def forward(i: int) -> Any:
        return run(seen[i][0])[0].movedim(to, axis)

    def backward_of(i: int, results: Any) -> Any:
        x, dy = seen[i]
        _, z, mean, rstd = results
        dx, dgamma, dbeta = gradients(slope(dy, z), x, mean, rstd)
        return dx.movedim(to, axis), dgamma, dbeta

    def both(i: int) -> Any:
        results = run(seen[i][0])
        return (results[0].movedim(to, axis),), backward_of(i, results)

    kept: list[Any] = [None] * len(seen)

    def backward(i: int) -> Any:
        if kept[i] is None:
            kept[i] = run(seen[i][0])
        return backward_of(i, kept[i])

    made = Competitor(
        "torch", _no_grad(forward), _no_grad(both), _no_grad(backward), _arrays
    )
    made.notes.append("backward by ATen ops, without autograd")
    return made


def _slope_of_relu(dy: Any, z: Any) -> Any:
    import torch

    return torch.ops.aten.threshold_backward(dy, z, 0)


def _slope_of_leaky_relu(dy: Any, z: Any) -> Any:
    import torch

    return torch.ops.aten.leaky_relu_backward(dy, z, 0.2, False)


def _slope_of_silu(dy: Any, z: Any) -> Any:
    import torch

    return torch.ops.aten.silu_backward(dy, z)


_SLOPES = {
    "none": lambda dy, z: dy,
    "relu": _slope_of_relu,
    "leaky_relu": _slope_of_leaky_relu,
    "silu": _slope_of_silu,
}


def _no_grad(call: Callable[[int], Any]) -> Callable[[int], Any]:
    import torch

    def without(i: int) -> Any:
        with torch.no_grad():
            return call(i)

    return without


def instance_norm(tensors: Tensors) -> Competitor:
    """Returns F.instance_norm, where `torch` is GroupNorm with one channel a group."""
    if tensors.data.case.shape.family != "instance_norm":
        raise AbsentError("for instance_norm only")
    return by_autograd("torch-instance-norm", tensors, torch_functions.eager)


def by_autograd(
    name: str, tensors: Tensors, make: Callable[..., Any], *, wide: bool = False
) -> Competitor:
    """Returns a function of torch_functions.py, with autograd for the gradients.

    Args:
        name: Who.
        tensors: On which tensors.
        make: From the shape and the rank to the function, or to why there is none.
        wide: Whether the parameters are float32 whatever the data.

    Raises:
        AbsentError: there is no function.
    """
    import torch

    case = tensors.data.case
    function = make(case.shape, len(case.dims))
    if isinstance(function, str):
        raise AbsentError(function)
    chosen = tensors.wide if wide else (tensors.gamma, tensors.beta)
    gamma, beta = (None if each is None else each.detach().clone() for each in chosen)
    leaves = [
        None if each is None else each.detach().clone().requires_grad_()
        for each in chosen
    ]

    def forward(i: int) -> Any:
        x, residual, *_ = tensors.sets[i]
        with torch.no_grad():
            return function(x, gamma, beta, residual)

    def recorded(i: int) -> Any:
        x, residual, dy, dsum = tensors.sets[i]
        x = x.detach().requires_grad_()
        inputs = [x, *(each for each in leaves if each is not None)]
        gradients = [dy]
        if residual is not None:
            residual = residual.detach().requires_grad_()
            inputs.append(residual)
            gradients.append(dsum)
        results = function(x, *leaves, residual)
        results = results if isinstance(results, tuple) else (results,)
        return results, inputs, gradients

    def named(found: Any) -> Any:
        dx, dgamma = found[:2]
        return dx, dgamma, found[2] if leaves[1] is not None else None

    def both(i: int) -> Any:
        results, inputs, gradients = recorded(i)
        return results, named(torch.autograd.grad(results, inputs, gradients))

    kept: list[Any] = [None] * len(tensors.sets)

    def backward(i: int) -> Any:
        if kept[i] is None:
            kept[i] = recorded(i)
        return named(torch.autograd.grad(*kept[i], retain_graph=True))

    on_device = tensors.data.device is not None
    made = Competitor(
        name, forward, both, backward, _outputs if on_device else _arrays, on_device
    )
    made.notes.append("backward by autograd")
    return made

"""Our CUDA kernels on PyTorch's tensors, which travel through DLPack.

They write into tensors that are allocated beforehand, so that nothing but kernels is
timed or captured.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from fusednorm import _native
from fusednorm.bench.cases import Case
from fusednorm.bench.competitors.base import KERNEL, Competitor, Outputs
from fusednorm.bench.competitors.pytorch import Tensors


def options_of(case: Case) -> dict[str, Any]:
    """Returns what the kernels and their plan take of a case beside the tensors."""
    shape = case.shape
    return {
        "axes": list(shape.axes),
        "groups": shape.groups if shape.op == "group_norm" else 0,
        "epsilon": shape.epsilon,
        "activation": shape.activation,
    }


def plan(case: Case, device: str | dict[str, Any], direction: str) -> dict[str, Any]:
    """Returns the plan of a case on a device, as `_native.plan` has it."""
    return _native.plan(
        case.shape.op,
        list(case.dims),
        case.dtype,
        has_gamma=True,
        has_beta=case.shape.centred,
        residual=case.shape.residual,
        device=device,
        direction=direction,
        **options_of(case),
    )


def _handed_over(tensor: Any) -> Any:
    """Hands a tensor over once, so that a call need not ask it again."""
    return None if tensor is None else _native.cuda.Tensor(tensor)


class _Set:
    """A set's tensors and room for its results, as PyTorch's and as handed over."""

    def __init__(self, tensors: Tensors, i: int) -> None:
        import torch

        x, residual, dy, dsum = tensors.sets[i]
        gamma, beta = tensors.wide
        shape = tensors.data.case.shape
        rank = x.ndim
        axes = sorted(axis % rank for axis in shape.axes)
        sizes = [size for axis, size in enumerate(x.shape) if axis not in axes]
        if shape.op == "group_norm":
            channels = x.shape[axes[0]]
            sizes = [x.shape[0], channels if shape.groups == -1 else shape.groups]

        def statistics() -> Any:
            kind = torch.float64 if x.dtype == torch.float64 else torch.float32
            return torch.empty(sizes, dtype=kind, device=x.device)

        def like(tensor: Any) -> Any:
            return None if tensor is None else torch.empty_like(tensor)

        self.out = SimpleNamespace(
            y=like(x),
            sum=like(residual),
            mean=statistics() if shape.centred else None,
            rstd=statistics(),
        )
        self.gradients = SimpleNamespace(
            dx=like(x), dgamma=like(gamma), dbeta=like(beta)
        )
        given = (x, residual, dy, dsum)
        self.x, self.residual, self.dy, self.dsum = map(_handed_over, given)
        self.outs = [_handed_over(each) for each in vars(self.out).values()]
        self.gradient_outs = [
            _handed_over(each) for each in vars(self.gradients).values()
        ]


def kernel(tensors: Tensors) -> Competitor:
    """Returns the CUDA kernels, launched on PyTorch's current stream."""
    import torch

    op = tensors.data.case.shape.op
    gamma, beta = map(_handed_over, tensors.wide)
    options = options_of(tensors.data.case)
    options["stream"] = torch.cuda.current_stream().cuda_stream
    sets = [_Set(tensors, i) for i in range(len(tensors.sets))]

    def forward(i: int) -> Any:
        each = sets[i]
        _native.cuda.forward(
            op, each.x, gamma, beta, each.residual, out=each.outs, **options
        )
        return each.out

    def gradients(i: int) -> Any:
        each = sets[i]
        _, total, mean, rstd = each.outs
        _native.cuda.backward(
            op, each.dy, each.x if total is None else total, mean, rstd, gamma, beta,
            dsum=each.dsum, out=each.gradient_outs, **options,
        )  # fmt: skip
        return each.gradients

    def both(i: int) -> Any:
        return forward(i), gradients(i)

    started: set[int] = set()

    def backward(i: int) -> Any:
        if i not in started:
            forward(i)
            started.add(i)
        return gradients(i)

    def outputs(results: Any) -> Outputs:
        out, found = results
        return Outputs(out.y, out.sum, found.dx, found.dgamma, found.dbeta)

    return Competitor(KERNEL, forward, both, backward, outputs, launches=True)

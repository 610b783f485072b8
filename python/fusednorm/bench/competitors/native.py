"""Our kernels as they are: `fusednorm._native`, C++ called from Python."""

from __future__ import annotations

from typing import Any

from fusednorm import _native
from fusednorm.bench.competitors.base import KERNEL, Competitor, Outputs
from fusednorm.bench.data import Data


def kernel(data: Data, threads: int, isa: str = "auto") -> Competitor:
    """Returns the CPU kernels on NumPy arrays."""
    shape = data.case.shape
    options = {
        "axes": list(shape.axes),
        "groups": shape.groups if shape.op == "group_norm" else 0,
        "epsilon": shape.epsilon,
        "activation": shape.activation,
        "num_threads": threads,
        "isa": isa,
    }

    def forward(i: int) -> Any:
        each = data.sets[i]
        return _native.forward(
            shape.op, each.x, data.gamma, data.beta, each.residual, **options
        )

    def gradients(i: int, results: Any) -> Any:
        each = data.sets[i]
        _, total, mean, rstd = results
        total = each.x if total is None else total
        return _native.backward(
            shape.op, each.dy, total, mean, rstd, data.gamma, data.beta,
            dsum=each.dsum, **options,
        )  # fmt: skip

    def both(i: int) -> Any:
        results = forward(i)
        return results, gradients(i, results)

    kept: list[Any] = [None] * len(data.sets)

    def backward(i: int) -> Any:
        if kept[i] is None:
            results = forward(i)
            # Without y, which the backward pass does not need.
            kept[i] = (None, *results[1:])
        return gradients(i, kept[i])

    def outputs(results: Any) -> Outputs:
        (y, total, *_), (dx, dgamma, dbeta) = results
        return Outputs(y, total, dx, dgamma, dbeta)

    return Competitor(KERNEL, forward, both, backward, outputs)

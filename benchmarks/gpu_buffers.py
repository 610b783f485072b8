"""The tensors of a case, several sets of them, and the calls that work on a set."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import gpu_copy
import gpu_paths  # noqa: F401
import gpu_problems
import gpu_runs
import gpu_timing
import on_torch
import torch
from fusednorm import _native
from fusednorm.bench import timing, torch_functions
from gpu_problems import Case

Call = Callable[[int], Any]
# Tensors of float64 that the reference and its bounds hold at once.
_WIDE_TENSORS = 24


def verify(problem: gpu_problems.Problem, dtype: str, device: str) -> dict[str, float]:
    """Returns the largest error of every output as a multiple of its bound.

    Raises:
        MemoryError: the reference would not fit.
    """
    kind = getattr(torch, dtype)
    if device == "cuda":
        free, _ = torch.cuda.mem_get_info()
        if free < _WIDE_TENSORS * 8 * math.prod(problem.shape):
            raise MemoryError("no device memory for the float64 reference")
    generator = torch.Generator(device=device).manual_seed(20)
    data = gpu_runs.problem_data(
        problem.norm, problem.shape, kind, generator, residual=problem.residual
    )
    got = gpu_runs.run(problem.norm, data)
    return gpu_runs.shares_of_bounds(problem.norm, data, got)


class Buffers:
    """As many sets of a case's tensors as exceed twice the L2 cache."""

    def __init__(self, case: Case, l2_bytes: int, device: str):
        self.case = case
        self.dtype = getattr(torch, case.dtype)
        self.count = timing.number_of_sets(case.least_bytes, l2_bytes)
        self.calls = gpu_timing.number_of_calls(self.count, case.least_bytes)
        problem = case.problem
        generator = torch.Generator(device=device).manual_seed(7)
        data = gpu_runs.problem_data(
            problem.norm,
            problem.shape,
            self.dtype,
            generator,
            residual=problem.residual,
        )
        self.gamma, self.beta = data.gamma, data.beta
        names = ["x", "residual"] + (["dy", "dsum"] if case.backward else [])
        self.sets = [self._copies(data, names, i) for i in range(self.count)]

    @staticmethod
    def _copies(data: SimpleNamespace, names: list[str], i: int) -> SimpleNamespace:
        found = {name: getattr(data, name) for name in names}
        if i > 0:
            found = {
                name: None if tensor is None else tensor.clone()
                for name, tensor in found.items()
            }
        return SimpleNamespace(**found)

    def ours(self) -> Call:
        """Returns the call of our kernel, into outputs that are allocated now."""
        return self._our_backward() if self.case.backward else self._our_forward()

    def _our_forward(self) -> Call:
        norm = self.case.problem.norm
        gamma, beta = as_native(self.gamma), as_native(self.beta)
        prepared = [
            (
                (as_native(each.x), gamma, beta, as_native(each.residual)),
                outputs(on_torch.new_forward(norm, each.x, each.residual)),
            )
            for each in self.sets
        ]

        def call(i: int) -> None:
            arguments, out = prepared[i]
            on_torch.forward(norm, *arguments, out=out)

        return call

    def _our_backward(self) -> Call:
        norm = self.case.problem.norm
        gamma, beta = as_native(self.gamma), as_native(self.beta)
        prepared = []
        for each in self.sets:
            done = on_torch.forward(norm, each.x, self.gamma, self.beta, each.residual)
            total = each.x if each.residual is None else done.sum
            arguments = [as_native(t) for t in (each.dy, total, done.mean, done.rstd)]
            gradients = on_torch.new_backward(each.x, self.gamma, self.beta)
            prepared.append((arguments, as_native(each.dsum), outputs(gradients)))

        def call(i: int) -> None:
            arguments, dsum, out = prepared[i]
            on_torch.backward(norm, *arguments, gamma, beta, dsum=dsum, out=out)

        return call

    def peer(self, name: str, stream: Any) -> Call | str:
        """Returns a peer's call, or why it has none."""
        case = self.case
        norm = case.problem.norm
        function = torch_functions.function_of(
            name, norm, len(case.problem.shape), backward=case.backward
        )
        if isinstance(function, str):
            return function
        wanted = self.dtype
        if name in torch_functions.WANTS_FLOAT32_PARAMETERS:
            wanted = torch.float32
        gamma, beta = (
            None if each is None else each.to(wanted)
            for each in (self.gamma, self.beta)
        )
        if not case.backward:

            def call(i: int) -> Any:
                each = self.sets[i]
                with torch.no_grad():
                    return function(each.x, gamma, beta, each.residual)

            return call
        prepared = []
        leaves = [each.requires_grad_() for each in (gamma, beta) if each is not None]
        # Autograd runs the backward pass on the stream of the forward pass.
        with gpu_timing.on(stream):
            for each in self.sets:
                x = each.x.detach().requires_grad_()
                residual = each.residual
                inputs, gradients = [x, *leaves], [each.dy]
                if residual is not None:
                    residual = residual.detach().requires_grad_()
                    inputs.append(residual)
                    gradients.append(each.dsum)
                results = function(x, gamma, beta, residual)
                results = results if isinstance(results, tuple) else (results,)
                prepared.append((results, inputs, gradients))

        def backward(i: int) -> Any:
            return torch.autograd.grad(*prepared[i], retain_graph=True)

        return backward

    def copying(self, copy: gpu_copy.Copy) -> Call:
        """Returns a copy that moves as many bytes, read plus written."""
        pairs = gpu_copy.pairs_of(self.case.least_bytes, self.count, self.gamma.device)
        return gpu_copy.copying(copy, pairs)


def as_native(tensor: Any) -> Any:
    """Hands a tensor over once, so that a call need not ask it again."""
    return None if tensor is None else _native.cuda.Tensor(tensor)


def outputs(tensors: SimpleNamespace) -> SimpleNamespace:
    """Hands all outputs over."""
    return SimpleNamespace(
        **{name: as_native(tensor) for name, tensor in vars(tensors).items()}
    )

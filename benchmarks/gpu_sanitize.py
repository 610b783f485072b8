"""A short list of problems to run under compute-sanitizer.

    PYTORCH_NO_CUDA_MEMORY_CACHING=1 compute-sanitizer --tool memcheck \
        python benchmarks/gpu_sanitize.py

The data is made on the CPU, so that ours are the only kernels to be watched, and every
tensor is an allocation of its own (the variable), so that reading past its end shows.
Every way through the kernels that the plan takes on this device is run once on its
smallest problem, within the time given.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import gpu_paths  # noqa: F401
import gpu_requirements


def ways(dtype: Any) -> Iterator[tuple[Any, tuple[int, ...]]]:
    """Yields problems so that each kernel of the plan is run, small ones first."""
    from gpu_cases import CASES
    from on_torch import plan

    seen = set()
    problems = sorted(CASES.values(), key=lambda case: math.prod(case[1]))
    for norm, shape in problems:
        new = set()
        for backward in (False, True):
            found = plan(norm, shape, dtype, backward=backward)
            kernels = [(each["kernel"], each["cluster"]) for each in found["launches"]]
            new.add((found["variant"], found["width"] > 1, *kernels))
        if new - seen:
            seen |= new
            yield norm, shape


def run(norm: Any, shape: tuple[int, ...], dtype: Any, offset: int) -> None:
    """Runs all passes on tensors that start `offset` elements into their memory."""
    import gpu_runs
    import on_torch
    import torch

    generator = torch.Generator().manual_seed(1)
    made = gpu_runs.problem_data(norm, shape, dtype, generator, residual=True)

    def on_device(tensor: Any) -> Any:
        if tensor is None:
            return None
        flat = torch.cat([tensor.flatten()[:offset], tensor.flatten()])
        return flat.cuda()[offset:].view(tensor.shape)

    def empty(tensors: SimpleNamespace) -> SimpleNamespace:
        return SimpleNamespace(
            **{name: on_device(tensor) for name, tensor in vars(tensors).items()}
        )

    data = empty(made)
    out = empty(on_torch.new_forward(norm, made.x, made.residual))
    gradients = empty(on_torch.new_backward(made.x, made.gamma, made.beta))
    on_torch.forward(norm, data.x, data.gamma, data.beta, data.residual, out=out)
    on_torch.backward(
        norm,
        data.dy,
        out.sum,
        out.mean,
        out.rstd,
        data.gamma,
        data.beta,
        dsum=data.dsum,
        out=gradients,
    )
    # Any numbers will do for the gradients of the gradients.
    given = SimpleNamespace(
        dy=data.dy,
        x=data.x,
        ddx=data.dsum,
        gamma=data.gamma,
        ddgamma=data.gamma,
        ddbeta=data.beta,
        drstd=out.rstd,
    )
    second = empty(
        SimpleNamespace(
            d_dy=torch.zeros_like(made.x),
            d_x=torch.zeros_like(made.x),
            d_gamma=torch.zeros_like(made.gamma),
            d_dmean=None if out.mean is None else torch.zeros(out.mean.shape),
            d_drstd=torch.zeros(out.rstd.shape),
        )
    )
    on_torch.second_order(norm, given, out.mean, out.rstd, out=second)
    torch.cuda.synchronize()
    for name, tensor in {**vars(out), **vars(gradients), **vars(second)}.items():
        if tensor is not None and not torch.isfinite(tensor.cpu().float()).all():
            raise AssertionError(f"{name} of {norm} {shape} is not finite")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the list and prints what it ran."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument(
        "--largest", type=int, default=1_000_000, help="elements: tools are slow"
    )
    options = parser.parse_args(arguments)
    if reason := gpu_requirements.missing():
        print(reason, file=sys.stderr)
        return 2
    import torch

    end = time.monotonic() + options.seconds
    done = left = 0
    for dtype, offset in ((torch.bfloat16, 0), (torch.float32, 0), (torch.float16, 1)):
        for norm, shape in ways(dtype):
            if math.prod(shape) > options.largest or time.monotonic() > end:
                left += 1
                continue
            run(norm, shape, dtype, offset)
            done += 1
    print(f"{done} problems run, {left} left out (too large, or no time)")
    return 0 if done else 1


if __name__ == "__main__":
    sys.exit(main())

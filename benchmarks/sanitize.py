"""A short list of problems to run under compute-sanitizer.

    python benchmarks/sanitize.py --tool memcheck
    python benchmarks/sanitize.py --tool initcheck

The data is made on the CPU, so that ours are the only kernels to be watched, and every
tensor is an allocation of its own, so that reading past its end shows. Workspace and
outputs are NaN before each call, so that what is read and was never written shows in
the results; initcheck gets them as they are allocated, since it finds such reads
itself. Every way through the kernels that the plan takes on this device is run once on
its smallest problem, within the time given.
"""

from __future__ import annotations

import argparse
import math
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))

from support.gpu import requirements

TOOLS = ("memcheck", "racecheck", "synccheck", "initcheck")
POISON = "FUSEDNORM_POISON"  # see csrc/python/device_memory.h


def under(tool: str, seconds: float, largest: int) -> int:
    """Runs this program under a tool of compute-sanitizer; returns its exit code."""
    environment = {
        **os.environ,
        "PYTORCH_NO_CUDA_MEMORY_CACHING": "1",
        POISON: "0" if tool == "initcheck" else "1",
    }
    command = ["compute-sanitizer", "--tool", tool]
    command += ["--error-exitcode", "86", "--print-limit", "20"]
    command += [sys.executable, __file__]
    command += ["--seconds", str(seconds), "--largest", str(largest)]
    return subprocess.run(command, env=environment, check=False).returncode


def ways(dtype: Any) -> Iterator[tuple[Any, tuple[int, ...]]]:
    """Yields problems so that each kernel of the plan is run, small ones first."""
    from support.gpu.cases import CASES
    from support.gpu.on_torch import plan, way

    seen = set()
    problems = sorted(CASES.values(), key=lambda case: math.prod(case[1]))
    for norm, shape in problems:
        new = {
            way(plan(norm, shape, dtype, backward=backward))
            for backward in (False, True)
        }
        if new - seen:
            seen |= new
            yield norm, shape


def of_second_order(data: SimpleNamespace, out: SimpleNamespace) -> SimpleNamespace:
    """Returns what the second order takes, from the inputs and outputs of forward.

    Any numbers will do for the gradients of the gradients, but not for x: mean and rstd
    are of the sum with the residual. Of anything else xhat may be as large as rstd, and
    d_dy has its square.
    """
    return SimpleNamespace(
        dy=data.dy,
        x=out.sum,
        ddx=data.dsum,
        gamma=data.gamma,
        ddgamma=data.gamma,
        ddbeta=data.beta,
        drstd=out.rstd,
    )


def run(norm: Any, shape: tuple[int, ...], dtype: Any, offset: int) -> None:
    """Runs all passes on tensors that start `offset` elements into their memory."""
    import torch
    from support.gpu import on_torch, runs

    generator = torch.Generator().manual_seed(1)
    made = runs.problem_data(norm, shape, dtype, generator, residual=True)

    def on_device(tensor: Any) -> Any:
        if tensor is None:
            return None
        flat = torch.cat([tensor.flatten()[:offset], tensor.flatten()])
        return flat.cuda()[offset:].view(tensor.shape)

    def all_on_device(tensors: SimpleNamespace) -> SimpleNamespace:
        return SimpleNamespace(
            **{name: on_device(tensor) for name, tensor in vars(tensors).items()}
        )

    def unwritten(tensor: Any) -> Any:
        if tensor is None or os.environ[POISON] == "1":
            return on_device(tensor)
        size = tensor.numel() + offset
        flat = torch.empty(size, dtype=tensor.dtype, device="cuda")
        return flat[offset:].view(tensor.shape)

    def outputs(tensors: SimpleNamespace) -> SimpleNamespace:
        return SimpleNamespace(
            **{name: unwritten(tensor) for name, tensor in vars(tensors).items()}
        )

    data = all_on_device(made)
    out = outputs(on_torch.new_forward(norm, made.x, made.residual))
    gradients = outputs(on_torch.new_backward(made.x, made.gamma, made.beta))
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
    statistics = on_torch.new_forward(norm, made.x)
    second = outputs(on_torch.new_second_order(made, statistics.mean, statistics.rstd))
    on_torch.second_order(
        norm, of_second_order(data, out), out.mean, out.rstd, out=second
    )
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
    parser.add_argument("--tool", choices=TOOLS, help="run under compute-sanitizer")
    options = parser.parse_args(arguments)
    if reason := requirements.missing():
        print(reason, file=sys.stderr)
        return 2
    if options.tool:
        return under(options.tool, options.seconds, options.largest)
    import torch

    # Before the first call of the kernels, which reads it.
    os.environ.setdefault(POISON, "1")
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

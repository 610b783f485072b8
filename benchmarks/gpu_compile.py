"""Compiles torch.compile's kernels of many cases in parallel processes, beforehand.

torch.compile needs seconds a case and works on one case at a time. What it has compiled
goes into a cache on disk, in which the process that measures finds it. The measuring
begins when all processes have ended, so that nothing else runs on the GPU.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gpu_problems
from fusednorm.bench.records import one_line

MOST_PROCESSES = 8
_DONE = "compiled"


def environment(folder: Path) -> dict[str, str]:
    """Returns the variables with which torch.compile keeps its results in a folder."""
    return {
        "TORCHINDUCTOR_CACHE_DIR": str(folder.resolve()),
        "TORCHINDUCTOR_FX_GRAPH_CACHE": "1",
        "TORCHINDUCTOR_AUTOGRAD_CACHE": "1",
    }


def commands(
    names: Sequence[str] | None,
    dtypes: Sequence[str],
    passes: Sequence[str],
    processes: int,
) -> list[list[str]]:
    """Returns the command of each process."""
    options = ["--dtypes", ",".join(dtypes), "--passes", ",".join(passes)]
    if names is not None:
        options += ["--shapes", ",".join(names)]
    program = [sys.executable, str(Path(__file__).resolve())]
    return [
        [*program, *options, "--part", str(part), "--of", str(processes)]
        for part in range(processes)
    ]


def run_all(programs: Sequence[Sequence[str]], seconds: float) -> dict[str, Any]:
    """Runs programs side by side and ends those that are not done after `seconds`.

    Returns how many cases they compiled, how many programs were ended, and the seconds.
    """
    begin = time.perf_counter()
    # torch.compile has workers of its own: one for each process is enough here.
    variables = {**os.environ, "TORCHINDUCTOR_COMPILE_THREADS": "1"}
    running = [
        subprocess.Popen(each, stdout=subprocess.PIPE, text=True, env=variables)
        for each in programs
    ]
    compiled = ended = 0
    try:
        for each in running:
            try:
                left = max(0.0, begin + seconds - time.perf_counter())
                output, _ = each.communicate(timeout=left)
            except subprocess.TimeoutExpired:
                each.kill()
                ended += 1
                output, _ = each.communicate()
            compiled += output.splitlines().count(_DONE)
    finally:
        for each in running:
            each.kill()
    return {
        "compiled": compiled,
        "processes": len(running),
        "ended": ended,
        "seconds": time.perf_counter() - begin,
    }


def compile_case(case: gpu_problems.Case) -> None:
    """Calls the compiled peer once, as the benchmark will."""
    import gpu_buffers
    import torch

    # No cache to exceed: one set of tensors is enough.
    buffers = gpu_buffers.Buffers(case, 0, "cuda")
    stream = torch.cuda.Stream()
    call = buffers.peer("compile", stream)
    if not isinstance(call, str):
        with torch.cuda.stream(stream):
            call(0)
    torch.cuda.synchronize()
    torch.cuda.empty_cache()


def main(arguments: Sequence[str] | None = None) -> int:
    """Compiles one part of the cases."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shapes", type=gpu_problems.comma)
    parser.add_argument("--dtypes", type=gpu_problems.comma, required=True)
    parser.add_argument("--passes", type=gpu_problems.comma, required=True)
    parser.add_argument("--part", type=int, default=0)
    parser.add_argument("--of", type=int, default=1)
    options = parser.parse_args(arguments)
    cases = gpu_problems.all_cases(options.shapes, options.dtypes, options.passes)
    for case in cases[options.part :: options.of]:
        try:
            compile_case(case)
            print(_DONE, flush=True)
        except Exception as error:  # The benchmark will say so for this case.
            print(*case.label.values(), one_line(error), file=sys.stderr, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

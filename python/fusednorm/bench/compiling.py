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
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fusednorm.bench import cases
from fusednorm.bench.records import one_line

MOST_PROCESSES = 8
MOST_SECONDS = 150.0
PEER = "torch-compile"
_DONE = "compiled"
# torch.compile has workers of its own: one for each process is enough here.
_ONE_WORKER = {"TORCHINDUCTOR_COMPILE_THREADS": "1"}


def keep_results() -> None:
    """Lets torch.compile keep its results where all processes find them.

    To be called before PyTorch is imported.
    """
    folder = Path(tempfile.gettempdir(), f"fusednorm-torch-compile-{os.getuid()}")
    os.environ |= {
        "TORCHINDUCTOR_CACHE_DIR": str(folder),
        "TORCHINDUCTOR_FX_GRAPH_CACHE": "1",
        "TORCHINDUCTOR_AUTOGRAD_CACHE": "1",
    }


def commands(
    suite: str, chosen: Sequence[cases.Case], processes: int
) -> list[list[str]]:
    """Returns the command of each process; they share the cases of a suite out."""
    program = [sys.executable, "-m", __name__, "--suite", suite]
    program += ["--shapes", ",".join(dict.fromkeys(each.shape.name for each in chosen))]
    program += ["--dtypes", ",".join(dict.fromkeys(each.dtype for each in chosen))]
    return [
        [*program, "--part", str(part), "--of", str(processes)]
        for part in range(processes)
    ]


def beforehand(suite: str, chosen: Sequence[cases.Case]) -> dict[str, Any]:
    """Compiles what the cases need; returns what the report says of that."""
    count = min(MOST_PROCESSES, os.cpu_count() or 1, len(chosen))
    return run_all(commands(suite, chosen, count), MOST_SECONDS)


def run_all(programs: Sequence[Sequence[str]], seconds: float) -> dict[str, Any]:
    """Runs programs side by side and ends those that are not done after `seconds`.

    Returns how many cases they compiled, how many programs were ended, and the seconds.
    """
    begin = time.perf_counter()
    running = [
        subprocess.Popen(
            each, stdout=subprocess.PIPE, text=True, env=os.environ | _ONE_WORKER
        )
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


def compile_case(case: cases.Case) -> None:
    """Calls the compiled peer once in each pass, as the benchmark will."""
    import torch

    from fusednorm.bench import torch_functions
    from fusednorm.bench.competitors import pytorch
    from fusednorm.bench.data import Data

    # No cache to exceed: one set of tensors is enough.
    tensors = pytorch.Tensors(Data(case, 0, device="cuda"), "cuda")
    made = pytorch.by_autograd(PEER, tensors, torch_functions.compiled)
    made.forward(0)
    made.both(0)
    torch.cuda.synchronize()
    torch.cuda.empty_cache()


def main(arguments: Sequence[str] | None = None) -> int:
    """Compiles one part of the cases."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("--suite", "--shapes", "--dtypes"):
        parser.add_argument(name, required=True)
    parser.add_argument("--part", type=int, default=0)
    parser.add_argument("--of", type=int, default=1)
    options = parser.parse_args(arguments)
    chosen = cases.cases_of(
        cases.SUITES[options.suite],
        names=options.shapes.split(","),
        dtypes=options.dtypes.split(","),
        scale=False,
    )
    for case in chosen[options.part :: options.of]:
        try:
            compile_case(case)
            print(_DONE, flush=True)
        except Exception as error:  # The benchmark will say so for this case.
            print(case, one_line(error), file=sys.stderr, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

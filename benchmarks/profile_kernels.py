r"""Runs our kernels of one case between the profiler's marks.

    ncu --profile-from-start off --set full \
        python benchmarks/profile_kernels.py vit-b bfloat16 forward
    python benchmarks/profile_kernels.py --slowest 3 --of build/gpu/kernels.json

The second prints the cases with the smallest share of a copy's speed in a report.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))

from fusednorm.bench import cases, records
from support.gpu import requirements


def slowest(report: dict[str, Any], count: int) -> list[dict[str, Any]]:
    """Returns the cases with the smallest share of a copy's speed, smallest first."""
    timed = [each for each in report["cases"] if records.our_kernel(each)]
    timed.sort(key=lambda each: records.our_kernel(each)["share_of_copy"])
    return timed[:count]


def profile(shape: str, dtype: str, direction: str) -> None:
    """Runs the kernels on each of two sets of tensors."""
    import torch
    from fusednorm.bench.competitors import cuda, pytorch
    from fusednorm.bench.data import Data

    (case,) = cases.cases_of(
        cases.SUITES["kernels"], names=[shape], dtypes=[dtype], scale=False
    )
    # As if half of it were the cache, so that there are two sets.
    data = Data(case, case.tensor_bytes // 2, device="cuda")
    ours = cuda.kernel(pytorch.Tensors(data, "cuda"))
    call = ours.forward if direction == cases.FORWARD else ours.backward
    sets = range(len(data.sets))
    for i in sets:
        call(i)
    torch.cuda.synchronize()
    torch.cuda.profiler.start()
    for i in sets:
        call(i)
    torch.cuda.synchronize()
    torch.cuda.profiler.stop()


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one case, or names those that are worth it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("case", nargs="*", help="shape, dtype and pass")
    parser.add_argument("--slowest", type=int, metavar="N")
    parser.add_argument("--of", type=Path, metavar="JSON")
    options = parser.parse_args(arguments)
    if options.slowest is not None and options.of is not None:
        for each in slowest(records.read(options.of), options.slowest):
            print(*records.key(each))
        return 0
    if reason := requirements.missing():
        print(reason, file=sys.stderr)
        return 2
    if len(options.case) != 3:
        parser.error(f"a case is a shape, a dtype and a pass, got {options.case}")
    profile(*options.case)
    return 0


if __name__ == "__main__":
    sys.exit(main())

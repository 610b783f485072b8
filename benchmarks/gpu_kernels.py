"""Times the CUDA kernels on the canonical shapes, beside a copy and their peers.

    python benchmarks/gpu_kernels.py --json build/gpu/kernels.json
    python benchmarks/gpu_kernels.py --quick

Needs a CUDA device, PyTorch and fusednorm built with CUDA; TensorFlow is not needed.
docs/benchmarking.md says what the numbers mean. Interrupted or out of time, it keeps
what it has measured; large shapes are the first to be cut.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gpu_compile
import gpu_copy
import gpu_environment
import gpu_measure
import gpu_paths
import gpu_problems
import gpu_report
from fusednorm.bench import records, torch_functions
from gpu_problems import Case, comma
from gpu_schedule import Schedule

INTERRUPTED = 130
COMPILE = "compile"
PEERS = tuple(name for name in torch_functions.PEERS if name != COMPILE)
# For the measuring. Python, PyTorch and CUDA take time to start: what is left of 4
# minutes, and with --quick of 90 seconds, is for that and for the last case.
BUDGET_SECONDS = 215.0
QUICK_BUDGET_SECONDS = 65.0
QUICK_ROUNDS = 5
# What --compile adds to a budget that is not given: for the parallel processes, and for
# loading what they have compiled.
COMPILE_SECONDS = 120.0
LOAD_SECONDS = 60.0


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Returns the options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--json", type=Path, default=Path("build/gpu/kernels.json"), metavar="PATH"
    )
    parser.add_argument(
        "--budget",
        type=float,
        metavar="SECONDS",
        help=f"for everything; default: {BUDGET_SECONDS:.0f}, with --quick "
        f"{QUICK_BUDGET_SECONDS:.0f}, and {COMPILE_SECONDS + LOAD_SECONDS:.0f} more "
        "with --compile",
    )
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--shapes", type=comma, help="names, comma separated")
    parser.add_argument("--dtypes", type=comma, help="default: all")
    parser.add_argument("--passes", type=comma, default=list(gpu_problems.PASSES))
    parser.add_argument(
        "--peers", type=comma, default=list(PEERS), help="none: --peers ''"
    )
    parser.add_argument("--commit", help="where the tree is a copy without git")
    parser.add_argument(
        "--quick",
        action="store_true",
        help=f"{len(gpu_problems.QUICK_SHAPES)} shapes in "
        f"{' and '.join(gpu_problems.QUICK_DTYPES)}, {QUICK_ROUNDS} rounds",
    )
    parser.add_argument(
        "--compile",
        action="store_true",
        help="torch.compile is a peer too; compiled in parallel processes beforehand",
    )
    parser.add_argument(
        "--profile",
        nargs=3,
        metavar=("SHAPE", "DTYPE", "PASS"),
        help="run our kernels of one case, for ncu --profile-from-start off",
    )
    parser.add_argument("--list", action="store_true", help="print the cases")
    options = parser.parse_args(arguments)
    if options.quick:
        options.rounds = min(options.rounds, QUICK_ROUNDS)
        options.shapes = options.shapes or list(gpu_problems.QUICK_SHAPES)
        options.dtypes = options.dtypes or list(gpu_problems.QUICK_DTYPES)
    options.dtypes = options.dtypes or list(gpu_problems.DTYPES)
    for name, known in (
        ("dtypes", gpu_problems.DTYPES),
        ("passes", gpu_problems.PASSES),
        ("peers", PEERS),
    ):
        unknown = [each for each in getattr(options, name) if each not in known]
        if unknown:
            parser.error(f"--{name} must be of {', '.join(known)}, got {unknown}")
    if options.budget is None:
        options.budget = QUICK_BUDGET_SECONDS if options.quick else BUDGET_SECONDS
        if options.compile:
            options.budget += COMPILE_SECONDS + LOAD_SECONDS
    if options.compile:
        options.peers.append(COMPILE)
    return options


def compile_beforehand(options: argparse.Namespace) -> dict[str, Any]:
    """Fills the cache of torch.compile in parallel; returns what the report says."""
    count = min(gpu_compile.MOST_PROCESSES, os.cpu_count() or 1)
    programs = gpu_compile.commands(
        options.shapes, options.dtypes, options.passes, count
    )
    # Half of a short budget: the other half is for measuring.
    seconds = min(COMPILE_SECONDS, options.budget / 2)
    return gpu_compile.run_all(programs, seconds)


def run(options: argparse.Namespace, machine: Any, environment: dict[str, Any]) -> Any:
    """Measures all cases and returns the report and the exit code."""
    cases = gpu_problems.all_cases(options.shapes, options.dtypes, options.passes)
    schedule = Schedule(options.budget)
    versions = torch_functions.versions()
    compiled = compile_beforehand(options) if options.compile else None
    yardstick = gpu_copy.measure(machine)
    report: dict[str, Any] = {
        "schema": gpu_report.SCHEMA,
        "kind": "kernels",
        "environment": environment,
        "settings": {
            "rounds": options.rounds,
            "budget_seconds": options.budget,
            "method": "CUDA graph of a call sequence between two events; median over "
            "rounds in which all competitors take turns; 'calls': back-to-back calls "
            "from Python",
            "buffers": "sets larger than twice L2 in turn",
            "yardstick": "the faster of memcpy from device to device and a copy kernel "
            "with accesses of 16 bytes, in the same run; bytes read plus written",
        },
        "copy": yardstick.record,
        "peers": {name: versions[name] for name in options.peers},
        "cases": [],
        "cut": [],
        "failed": [],
    }
    installed = [
        name for name in options.peers if not versions[name].startswith("missing")
    ]
    if compiled is not None:
        report["settings"]["compiled_beforehand"] = compiled
    errors: dict[Any, Any] = {}
    code = 0
    number = 0
    try:
        for number, case in enumerate(cases):
            if not schedule.fits(case):
                why = f"no time within {options.budget:.0f} s"
                report["cut"].append({**case.label, "why": why})
                continue
            peers = list(installed)
            compiles = COMPILE in peers
            if compiles and not schedule.may_compile(case, cases[number + 1 :]):
                peers.remove(COMPILE)
            begin = time.perf_counter()
            compiling = 0.0
            try:
                verification = gpu_measure.verified(case, machine, errors)
                entry, compiling = gpu_measure.measure_case(
                    case, machine, peers, yardstick
                )
                if compiles and COMPILE not in peers:
                    entry["absent"][COMPILE] = "no time"
                report["cases"].append({**entry, **verification})
                worst = gpu_report.worst_error(report["cases"][-1])
                if worst is not None and not worst <= 1:
                    code = 1
            except Exception as error:
                traceback.print_exc()
                why = records.one_line(error)
                report["failed"].append({**case.label, "why": why})
                code = 1
            machine.release()
            schedule.took(case, time.perf_counter() - begin, compiling)
            gpu_report.write(options.json, report)
            print(_progress(number, cases, report), file=sys.stderr, flush=True)
    except KeyboardInterrupt:
        print("interrupted: keeping what was measured", file=sys.stderr)
        rest = cases[number:]
        report["cut"] += [{**case.label, "why": "interrupted"} for case in rest]
        code = INTERRUPTED
    if not report["cases"]:
        code = code or 1
    report["settings"]["seconds"] = schedule.elapsed()
    gpu_report.write(options.json, report)
    return report, code


def _progress(number: int, cases: Sequence[Case], report: dict[str, Any]) -> str:
    label = " ".join(cases[number].label.values())
    text = f"[{number + 1}/{len(cases)}] {label}"
    done = report["cases"]
    if done and all(
        done[-1][key] == value for key, value in cases[number].label.items()
    ):
        ours = done[-1]["results"][gpu_report.OURS]
        text += f": {ours['median_us']:.1f} us, {ours['share_of_copy']:.1%} of a copy"
    return text


def profile(shape: str, dtype: str, direction: str) -> int:
    """Runs our kernels once on each of two sets between the profiler's marks."""
    import gpu_buffers
    import torch

    (case,) = gpu_problems.all_cases([shape], [dtype], [direction])
    buffers = gpu_buffers.Buffers(case, case.least_bytes, "cuda")
    call = buffers.ours()
    call(0)
    torch.cuda.synchronize()
    torch.cuda.profiler.start()
    for i in range(buffers.count):
        call(i)
    torch.cuda.synchronize()
    torch.cuda.profiler.stop()
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark and prints its table."""
    options = parse(arguments)
    if options.list:
        for case in gpu_problems.all_cases(
            options.shapes, options.dtypes, options.passes
        ):
            print(*case.label.values(), f"{case.least_bytes / 1e6:.1f} MB")
        return 0
    if options.compile:
        # Before PyTorch is imported, which reads them.
        folder = gpu_paths.ROOT / "build/gpu/torch-compile"
        os.environ.update(gpu_compile.environment(folder))
    import gpu_requirements

    if reason := gpu_requirements.missing():
        print(reason, file=sys.stderr)
        return 2
    # `timeout` sends this: keep what was measured, as with Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if options.profile:
        return profile(*options.profile)
    environment = gpu_environment.collect(options.commit)
    report, code = run(options, gpu_measure.Machine(options.rounds), environment)
    report["environment"]["nvidia_smi_after"] = gpu_environment.query_gpu()
    gpu_report.write(options.json, report)
    text = gpu_report.text(report)
    options.json.with_suffix(".txt").write_text(text + "\n")
    print(text)
    print(f"written to {options.json}")
    return code


if __name__ == "__main__":
    sys.exit(main())

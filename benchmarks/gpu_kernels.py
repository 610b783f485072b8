"""Times the CUDA kernels on the canonical shapes, beside a copy and their peers.

    python benchmarks/gpu_kernels.py --json benchmarks/results/h100/kernels.json

Needs a CUDA device, PyTorch and fusednorm built with CUDA; TensorFlow is not needed.
docs/benchmarking.md says what the numbers mean. Interrupted or out of time, it keeps
what it has measured; large shapes are the first to be cut.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gpu_environment
import gpu_problems
import gpu_report
from fusednorm.bench import records, timing, torch_functions, traffic
from gpu_problems import Case

COPY_BYTES = 2**30
INTERRUPTED = 130


@dataclass
class Schedule:
    """Decides what there is time for.

    A case is measured with everything but torch.compile first of all; what is left of
    the time is for compiling, in the order of the cases.

    Attributes:
        budget: Seconds for everything.
        scale: How much longer cases take than estimated, as seen so far.
        compiling: Seconds that torch.compile took for one case, as seen so far.
    """

    budget: float
    begin: float = field(default_factory=time.perf_counter)
    scale: float = 1.0
    compiling: dict[str, float] = field(
        default_factory=lambda: {"forward": 6.0, "backward": 10.0}
    )
    # As if this many seconds had gone as estimated: the first case also starts CUDA.
    _estimated: float = 10.0
    _taken: float = 10.0

    @staticmethod
    def estimate(case: Case) -> float:
        """Returns seconds: set-up, and what grows with the tensors."""
        return 0.3 + case.least_bytes / 2e9

    def elapsed(self) -> float:
        """Returns seconds since the start."""
        return time.perf_counter() - self.begin

    def fits(self, case: Case) -> bool:
        """Returns whether there is time for the case."""
        return self.elapsed() + self.scale * self.estimate(case) <= self.budget

    def may_compile(self, case: Case, rest: Sequence[Case]) -> bool:
        """Returns whether compiling leaves time for this case and the rest."""
        needed = self.scale * sum(map(self.estimate, [case, *rest]))
        return self.elapsed() + needed + self.compiling[case.direction] <= self.budget

    def took(self, case: Case, seconds: float, compiling: float) -> None:
        """Learns from a case that is done; `compiling` is part of `seconds`."""
        if compiling:
            kept = self.compiling[case.direction]
            self.compiling[case.direction] = (kept + compiling) / 2
        self._estimated += self.estimate(case)
        self._taken += seconds - compiling
        self.scale = min(3.0, max(0.2, self._taken / self._estimated))


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Returns the options."""

    def comma(text: str) -> list[str]:
        return [each for each in text.split(",") if each]

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--json", type=Path, default=Path("build/gpu/kernels.json"), metavar="PATH"
    )
    parser.add_argument("--budget", type=float, default=240.0, metavar="SECONDS")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--shapes", type=comma, help="names, comma separated")
    parser.add_argument("--dtypes", type=comma, default=list(gpu_problems.DTYPES))
    parser.add_argument("--passes", type=comma, default=list(gpu_problems.PASSES))
    parser.add_argument(
        "--peers",
        type=comma,
        default=list(torch_functions.PEERS),
        help="none: --peers ''",
    )
    parser.add_argument("--commit", help="where the tree is a copy without git")
    parser.add_argument(
        "--quick", action="store_true", help="bfloat16, 5 rounds, no torch.compile"
    )
    parser.add_argument(
        "--profile",
        nargs=3,
        metavar=("SHAPE", "DTYPE", "PASS"),
        help="run our kernels of one case, for ncu --profile-from-start off",
    )
    parser.add_argument("--list", action="store_true", help="print the cases")
    options = parser.parse_args(arguments)
    for name, known in (
        ("dtypes", gpu_problems.DTYPES),
        ("passes", gpu_problems.PASSES),
        ("peers", torch_functions.PEERS),
    ):
        unknown = [each for each in getattr(options, name) if each not in known]
        if unknown:
            parser.error(f"--{name} must be of {', '.join(known)}, got {unknown}")
    if options.quick:
        options.rounds = min(options.rounds, 5)
        options.dtypes = ["bfloat16"]
        options.peers = [each for each in options.peers if each != "compile"]
    return options


class Machine:
    """The device and how things are timed on it."""

    def __init__(self, rounds: int):
        import gpu_timing
        import torch

        self.device = "cuda"
        self.rounds = rounds
        self.timing = gpu_timing
        self.stream = torch.cuda.Stream()
        properties = torch.cuda.get_device_properties(torch.cuda.current_device())
        self.l2_bytes = gpu_environment.l2_bytes(properties)

    def prepare(self, name: str, call: Any, sets: int, calls: int) -> Any:
        """Returns a competitor."""
        return self.timing.prepare(name, call, sets, calls, self.stream)

    def measure(self, competitors: Sequence[Any], rounds: int, seconds: float) -> Any:
        """Returns the times of each competitor."""
        return self.timing.measure(
            competitors, self.stream, rounds=rounds, seconds=seconds
        )

    def synchronize(self) -> None:
        """Waits for everything."""
        import torch

        torch.cuda.synchronize()

    def release(self) -> None:
        """Gives unused memory back."""
        import torch

        torch.cuda.empty_cache()


def measure_copy(machine: Any) -> dict[str, Any]:
    """Returns the speed of a device-to-device copy past the caches: the yardstick."""
    import gpu_buffers

    pairs = gpu_buffers.copy_pairs(COPY_BYTES, 2, machine.device)
    call = gpu_buffers.copying(pairs)
    calls = machine.prepare("copy in a graph", call, 2, 4)
    launched = machine.timing.as_calls("copy by calls", call, 2, 4)
    times = machine.measure([calls, launched], max(20, machine.rounds), 5.0)
    found = {
        name: COPY_BYTES / (timing.summary(each)["median_us"] * 1e-6)
        for name, each in times.items()
    }
    machine.release()
    # The faster one: our share must not profit from a slow yardstick.
    return {"bytes_per_second": max(found.values()), "bytes": COPY_BYTES, **found}


def measure_case(
    case: Case, machine: Any, peers: Sequence[str], bandwidth: float
) -> tuple[dict[str, Any], float]:
    """Returns the case's entry of the report, and the seconds spent on compiling."""
    import gpu_buffers
    import on_torch

    buffers = gpu_buffers.Buffers(case, machine.l2_bytes, machine.device)
    ours = buffers.ours()
    machine.synchronize()
    sets, calls = buffers.count, buffers.calls
    competitors = [
        machine.prepare(gpu_report.OURS, ours, sets, calls),
        machine.prepare(gpu_report.COPY, buffers.copy(), sets, calls),
    ]
    if competitors[0].method == "graph":
        by_calls = f"{gpu_report.OURS} calls"
        competitors.append(machine.timing.as_calls(by_calls, ours, sets, calls))
    absent = {}
    compiling = 0.0
    for name in peers:
        begin = time.perf_counter()
        try:
            call = buffers.peer(name, machine.stream)
            if isinstance(call, str):
                absent[name] = call
            else:
                competitors.append(machine.prepare(name, call, sets, calls))
        except Exception as error:  # A peer that fails is a result, not the end.
            absent[name] = f"failed: {records.one_line(error)}"
        if name == "compile":
            compiling = time.perf_counter() - begin
    times = machine.measure(competitors, machine.rounds, 1.5)
    results = {}
    for each in competitors:
        result = timing.summary(times[each.name])
        seconds = result["median_us"] * 1e-6
        least = case.least_bytes
        result["gigabytes_per_second"] = traffic.gigabytes_per_second(least, seconds)
        result["share_of_copy"] = traffic.share_of_copy(least, seconds, bandwidth)
        result["method"] = each.method
        if each.note:
            result["note"] = each.note
        results[each.name] = result
    problem = case.problem
    plan = on_torch.plan(
        problem.norm,
        problem.shape,
        case.dtype,
        backward=case.backward,
        residual=problem.residual,
    )
    entry = {
        **case.label,
        "dims": list(problem.shape),
        "op": problem.norm.op,
        "activation": problem.norm.activation,
        "residual": problem.residual,
        "least_bytes": case.least_bytes,
        "sets": sets,
        "calls": calls,
        "plan": plan,
        "results": results,
        "absent": absent,
    }
    return entry, compiling


def verified(case: Case, machine: Any, known: dict[Any, Any]) -> dict[str, Any]:
    """Returns the errors of both passes; they are computed once a problem and dtype."""
    import gpu_buffers

    key = (case.problem.name, case.dtype)
    if key not in known:
        try:
            errors = gpu_buffers.verify(case.problem, case.dtype, machine.device)
            known[key] = {"errors": errors}
        except MemoryError as error:
            known[key] = {"errors": None, "not_verified": str(error)}
        machine.release()
    return known[key]


def run(options: argparse.Namespace, machine: Any, environment: dict[str, Any]) -> Any:
    """Measures all cases and returns the report and the exit code."""
    cases = gpu_problems.all_cases(options.shapes, options.dtypes, options.passes)
    schedule = Schedule(options.budget)
    versions = torch_functions.versions()
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
            "yardstick": "device-to-device copy, bytes read plus written",
        },
        "copy": measure_copy(machine),
        "peers": {name: versions[name] for name in options.peers},
        "cases": [],
        "cut": [],
        "failed": [],
    }
    installed = [
        name for name in options.peers if not versions[name].startswith("missing")
    ]
    bandwidth = report["copy"]["bytes_per_second"]
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
            compiles = "compile" in peers
            if compiles and not schedule.may_compile(case, cases[number + 1 :]):
                peers.remove("compile")
            begin = time.perf_counter()
            compiling = 0.0
            try:
                verification = verified(case, machine, errors)
                entry, compiling = measure_case(case, machine, peers, bandwidth)
                if compiles and "compile" not in peers:
                    entry["absent"]["compile"] = "no time"
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
    import gpu_requirements

    if reason := gpu_requirements.missing():
        print(reason, file=sys.stderr)
        return 2
    # `timeout` sends this: keep what was measured, as with Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if options.profile:
        return profile(*options.profile)
    environment = gpu_environment.collect(options.commit)
    report, code = run(options, Machine(options.rounds), environment)
    report["environment"]["nvidia_smi_after"] = gpu_environment.query_gpu()
    gpu_report.write(options.json, report)
    table = gpu_report.table(report)
    options.json.with_suffix(".txt").write_text(table + "\n")
    print(table)
    print(f"written to {options.json}")
    return code


if __name__ == "__main__":
    sys.exit(main())

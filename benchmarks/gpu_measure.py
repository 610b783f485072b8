"""Measures one case on the GPU: our kernels, a copy and the peers, in turn."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import gpu_environment
import gpu_report
from fusednorm.bench import records, timing, traffic
from gpu_copy import Yardstick
from gpu_problems import Case


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


def measure_case(
    case: Case, machine: Any, peers: Sequence[str], yardstick: Yardstick
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
        machine.prepare(gpu_report.COPY, buffers.copying(yardstick.copy), sets, calls),
    ]
    if competitors[0].method == "graph":
        by_calls = f"{gpu_report.OURS} calls"
        competitors.append(machine.timing.as_calls(by_calls, ours, sets, calls))
    absent = {}
    bandwidth = yardstick.bytes_per_second
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

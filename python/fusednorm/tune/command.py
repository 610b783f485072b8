"""`fusednorm tune`: what its options mean, and what it prints."""

from __future__ import annotations

import argparse
import datetime
import sys
from collections.abc import Sequence
from pathlib import Path

from fusednorm import __version__, _compat, _native, explain
from fusednorm.bench.records import aligned
from fusednorm.tune import problems, run, table
from fusednorm.tune.gpu import Gpu

INTERRUPTED = 130


def main(options: argparse.Namespace) -> int:
    """Runs the command.

    Args:
        options: As `fusednorm.cli` parses them.

    Returns:
        The exit code: 1 if a plan computes something else than the first one.

    Raises:
        ValueError: Options do not fit, or the file is none of tuned plans.
        RuntimeError: There is no GPU, or nothing to call its kernels with.
    """
    if options.device is not None and not options.list:
        raise ValueError(
            "--device is for --list: plans are timed on the GPU that is here. "
            f"Received: {options.device}"
        )
    if options.list:
        listed = run.cases(_problems(options), _device(options), options.directions)
        print(_listed(listed))
        return 0
    least_gain = run.LEAST_GAIN if options.least_gain is None else options.least_gain
    machine = Gpu(options.rounds)
    path = options.output or _path_in_use()
    lines = table.read(path)
    cases = run.cases(_problems(options), machine.device, options.directions)
    results: list[run.Result] = []
    code = 0
    try:
        for result in run.measure(cases, machine):
            results.append(result)
            print(_progress(result, len(results), len(cases)), file=sys.stderr)
    except KeyboardInterrupt:
        print("interrupted: keeping what was measured", file=sys.stderr)
        code = INTERRUPTED
    print(run.table(results, least_gain))
    for result in results:
        for number in result.wrong:
            plan = result.case.plans[number]["description"]
            print(f"wrong, and never used: {result.case}: {plan}", file=sys.stderr)
            code = code or 1
    lines = _changed(lines, results, least_gain)
    if options.dry_run:
        print(f"{path} stays as it is")
    else:
        table.write(path, lines)
        print(f"{path} has {len(lines)} tuned plans")
    return code


def _problems(options: argparse.Namespace) -> list[problems.Problem]:
    if (options.shape is None) != (options.op is None):
        raise ValueError("--op and --shape must be given together")
    if options.model is not None:
        if options.op is not None:
            raise ValueError("--model must be given without --op and --shape")
        return problems.of_model(options.model, options.batch, fuse=options.fuse)
    if options.op is None:
        dtypes = problems.DTYPES if options.dtype is None else (options.dtype,)
        return problems.canonical(dtypes)
    names = (
        *("op", "shape", "axes", "groups", "activation", "gamma", "beta", "residual"),
        *("mask", "parameters_of", "zero_centered", "param_dtype", "aligned"),
    )
    given = {name: getattr(options, name) for name in names}
    return [problems.one(**given, dtype=options.dtype or problems.DTYPES[0])]


def _device(options: argparse.Namespace) -> dict:
    """Returns the device that cases are listed for: given, present, or well known."""
    if options.device is None and _native.cuda_devices():
        return _native.cuda.first_device()
    known = _native.known_devices()
    name = options.device or explain.FALLBACK_DEVICE
    if name not in known:
        raise ValueError(
            f"--device must be one of {', '.join(known)}. Received: {name}"
        )
    return known[name]


def _path_in_use() -> Path:
    path = _native.tuned_table()["path"]
    if path is None:
        raise ValueError(
            "--output must be given where the environment has an empty FUSEDNORM_TUNED "
            "or no HOME"
        )
    return Path(path)


def _listed(cases: Sequence[run.Case]) -> str:
    rows = [("problem", "pass", "plans", "by the rule")]
    rows += [
        (
            each.problem.name,
            each.direction,
            str(len(each.plans)),
            each.plans[0]["scheme"],
        )
        for each in cases
    ]
    return aligned(rows, left=(0, 1, 3))


def _progress(result: run.Result, number: int, total: int) -> str:
    rule, best = (result.measured[i].median * 1e6 for i in (0, result.fastest))
    return (
        f"[{number}/{total}] {result.case}: {len(result.measured)} plans, {rule:.1f} "
        f"us by the rule, {best:.1f} us the fastest"
    )


def _changed(
    lines: dict[str, str], results: Sequence[run.Result], least_gain: float
) -> dict[str, str]:
    """Returns the lines of a file with what was measured in their place.

    Where the rule's plan is the fastest now, there is no line any more.
    """
    lines = dict(lines)
    commit = getattr(_compat.build_info(), "COMMIT", None)
    now = datetime.datetime.now(datetime.timezone.utc)
    measured = f"fusednorm {__version__}{f' at {commit}' if commit else ''}, {now:%F}"
    for each in results:
        lines.pop(each.case.key, None)
        if each.is_tuned(least_gain):
            lines[each.case.key] = table.line(
                each.case.key,
                each.case.plans[each.fastest]["description"],
                seconds=each.measured[each.fastest].median,
                rule_seconds=each.measured[0].median,
                measured=measured,
            )
    return lines

"""The command `fusednorm bench`: its options, its progress, and what it writes."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

from fusednorm.bench import cases, environment, records, shapes, table
from fusednorm.bench.competitors import base

TEXT = "time the norms beside a copy and beside Keras, PyTorch and others"
DEFAULT_JSON = Path("fusednorm-bench.json")


def _names(text: str) -> list[str]:
    return [each for each in text.split(",") if each]


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError
    return value


# What argparse calls them in its messages.
_names.__name__ = "comma-separated names"
_positive.__name__ = "positive integer"


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Adds the command to the command line."""
    parser = commands.add_parser(
        "bench",
        help=TEXT,
        description=(
            f"{TEXT.capitalize()}. Verifies all outputs first. Ctrl-C keeps what was "
            "measured."
        ),
    )
    parser.add_argument("--device", default="cpu", choices=("cpu", "gpu"))
    parser.add_argument(
        "--suite",
        default="quick",
        choices=tuple(cases.SUITES),
        help="quick (default, two minutes), canonical (shapes of models, and how cost "
        "grows with size), atex (NVIDIA ATEX's list)",
    )
    parser.add_argument(
        "--dtype",
        dest="dtypes",
        type=_names,
        help=f"of {', '.join(cases.DTYPES)}, comma separated; default: the suite's",
    )
    parser.add_argument(
        "--op",
        dest="families",
        type=_names,
        help=f"of {', '.join(shapes.FAMILIES)}, comma separated; default: all",
    )
    parser.add_argument(
        "--shapes", type=_names, help="names, comma separated; --list shows them"
    )
    parser.add_argument(
        "--peers",
        type=_names,
        help=f"of {', '.join(base.GPU_PEERS)}, comma separated; default: all that the "
        "device has; none: --peers=",
    )
    parser.add_argument(
        "--threads", type=_positive, help="for everybody on the CPU; default: all"
    )
    parser.add_argument(
        "--json",
        type=Path,
        metavar="PATH",
        default=DEFAULT_JSON,
        help=f"where the measurements go; default: {DEFAULT_JSON}",
    )
    parser.add_argument(
        "--plot",
        type=Path,
        metavar="DIR",
        help="draw plots and a page there; needs matplotlib",
    )
    parser.add_argument(
        "--from",
        dest="source",
        type=Path,
        metavar="JSON",
        help="measure nothing: print, and with --plot draw, what this file has",
    )
    parser.add_argument("--commit", help="where the code is a copy without git")
    parser.add_argument("--list", action="store_true", help="print the cases, and stop")


class Progress:
    """A bar on a terminal, a line for each case elsewhere."""

    def __init__(self) -> None:
        self._begin = time.perf_counter()
        self._live = sys.stderr.isatty()

    def __call__(self, done: int, total: int, label: str) -> None:
        """Shows that `done` of `total` cases are done, and what comes now."""
        seconds = time.perf_counter() - self._begin
        clock = f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
        if not self._live:
            print(f"[{done}/{total}] {clock} {label}", file=sys.stderr, flush=True)
            return
        width = 24
        full = width * done // max(1, total)
        line = f"[{'#' * full}{'.' * (width - full)}] {done}/{total} {clock} {label}"
        line = line[: shutil.get_terminal_size().columns - 1]
        print(f"\r\033[K{line}", file=sys.stderr, end="", flush=True)

    def close(self) -> None:
        """Leaves the line of the bar."""
        if self._live:
            print(file=sys.stderr)


def _check(name: str, given: list[str] | None, known: Any) -> None:
    """Refuses names that nobody knows.

    Raises:
        ValueError: one of them is not known.
    """
    if unknown := [each for each in given or () if each not in known]:
        raise ValueError(
            f"--{name} must be of {', '.join(known)}, got {', '.join(unknown)}"
        )


def _machine(options: argparse.Namespace) -> Any:
    # TensorFlow and PyTorch read these when they are imported.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from fusednorm.bench import machines

    if options.device == "gpu":
        return machines.Gpu()
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    return machines.Cpu(options.threads or environment.threads_available())


def main(options: argparse.Namespace) -> int:
    """Runs the command.

    Returns:
        The exit code: 1 if a case failed or an output of ours was wrong, 130 after
        Ctrl-C.

    Raises:
        ValueError: an option does not fit.
        RuntimeError: there is no such device.
        ImportError: what an option needs is not installed.
    """
    if options.source is not None:
        report = records.read(options.source)
        return _show(report, options, code=0)
    known_peers = base.GPU_PEERS if options.device == "gpu" else base.CPU_PEERS
    _check("dtype", options.dtypes, cases.DTYPES)
    _check("op", options.families, shapes.FAMILIES)
    _check("peers", options.peers, known_peers)
    suite = cases.SUITES[options.suite]
    chosen = cases.cases_of(
        suite,
        dtypes=options.dtypes,
        families=options.families,
        names=options.shapes,
        scale=options.device == "cpu",
    )
    if options.list:
        for case in chosen:
            size = "x".join(map(str, case.dims))
            print(
                f"{case.shape.name:24} {case.dtype:9} {size}{' (scaled)' * case.scaled}"
            )
        return 0
    if options.plot is not None:
        from fusednorm.bench import plots

        plots.require_matplotlib()
    machine = _machine(options)
    from fusednorm.bench.competitors import registry
    from fusednorm.bench.run import Run

    progress = Progress()
    names = known_peers if options.peers is None else options.peers
    run = Run(
        suite,
        chosen,
        machine,
        registry.versions(names),
        suite_name=options.suite,
        json=options.json,
        progress=progress,
        commit=options.commit,
    )
    # `timeout` sends this: keep what was measured, as with Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    run.execute()
    progress.close()
    print(f"written to {options.json}", file=sys.stderr)
    return _show(run.report, options, code=run.code)


def _show(report: dict[str, Any], options: argparse.Namespace, *, code: int) -> int:
    print(table.render(report))
    if options.plot is not None:
        from fusednorm.bench import page

        for path in page.draw(report, options.plot):
            print(path, file=sys.stderr)
    return code

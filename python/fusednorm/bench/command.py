"""The command `fusednorm bench`: its options, and what it reads and writes."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from fusednorm.bench import (
    cases,
    compare,
    compiling,
    environment,
    models,
    networks,
    records,
    shapes,
    table,
)
from fusednorm.bench.competitors import base
from fusednorm.bench.progress import Progress

TEXT = "time norms and models beside a copy and beside Keras, PyTorch and others"
# Where results go unless the user says otherwise: a folder for each machine.
RESULTS = Path("fusednorm-bench")
MODELS = "models"
SUITES = (*cases.SUITES, MODELS)
MODEL_ROUNDS = 7
SUITE_HELP = """quick (default, two minutes); canonical (the shapes of models, and how
cost grows with size: kernels and layers); kernels (the same shapes, called from Python,
without TensorFlow); layers (the same in TensorFlow); launch (what a call costs, from 1
KiB to 1 MiB); models (training steps); atex (NVIDIA ATEX's list)"""


def _names(text: str) -> list[str]:
    return [each for each in text.split(",") if each]


def _positive(text: str) -> float:
    value = float(text)
    if not value > 0:
        raise ValueError
    return value


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError
    return value


# What argparse calls them in its messages.
_names.__name__ = "comma-separated names"
_positive.__name__ = "positive number"
_count.__name__ = "positive integer"


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
    parser.add_argument("--suite", default="quick", choices=SUITES, help=SUITE_HELP)
    parser.add_argument(
        "--dtype",
        dest="dtypes",
        type=_names,
        help=f"of {', '.join(cases.DTYPES)}, of models {', '.join(models.TOLERANCES)}; "
        "comma separated; default: the suite's",
    )
    parser.add_argument(
        "--op",
        dest="families",
        type=_names,
        help=f"of {', '.join(shapes.FAMILIES)}, comma separated; default: all",
    )
    parser.add_argument(
        "--shapes",
        type=_names,
        help="names of shapes or models, comma separated; --list shows them",
    )
    parser.add_argument(
        "--modes",
        type=_names,
        default=list(models.MODES),
        help="of models: graph,xla",
    )
    parser.add_argument(
        "--peers",
        type=_names,
        help=f"of {', '.join(base.GPU_PEERS)}, comma separated; default: all that the "
        "device has but torch-compile; none: --peers=",
    )
    parser.add_argument(
        "--compile",
        action="store_true",
        help="on a GPU torch-compile is a peer too, compiled beforehand in parallel",
    )
    parser.add_argument(
        "--threads", type=_count, help="for everybody on the CPU; default: all"
    )
    parser.add_argument(
        "--minutes", type=_positive, help="what does not fit is cut; default: no limit"
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="folder of this machine's results, where the measurements, their table, "
        f"plots and a page of all go; default: {RESULTS}/<machine>",
    )
    parser.add_argument(
        "--name", help="of the files of this run in that folder; default: the suite"
    )
    parser.add_argument(
        "--compare",
        type=Path,
        metavar="OLD.json",
        help="print what changed against an earlier file, beside the noise",
    )
    parser.add_argument(
        "--from",
        dest="source",
        type=Path,
        metavar="PATH",
        help="measure nothing: print what a file has, or a folder, whose page is drawn "
        "anew",
    )
    parser.add_argument("--commit", help="where the code is a copy without git")
    parser.add_argument("--note", help="what the report is to say of the machine")
    parser.add_argument("--list", action="store_true", help="print the cases, and stop")


def _check(name: str, given: Iterable[str] | None, known: Sequence[str]) -> None:
    """Refuses names that nobody knows.

    Raises:
        ValueError: one of them is not known.
    """
    if unknown := [each for each in given or () if each not in known]:
        raise ValueError(
            f"--{name} must be of {', '.join(known)}, got {', '.join(unknown)}"
        )


def _chosen_models(options: argparse.Namespace) -> list[tuple[str, str]]:
    """Returns model and policy of everything that is asked for."""
    _check("dtype", options.dtypes, tuple(models.TOLERANCES))
    _check("shapes", options.shapes, tuple(networks.NETWORKS))
    _check("modes", options.modes, models.MODES)
    return [
        (name, policy)
        for policy in options.dtypes or models.TOLERANCES
        for name in options.shapes or networks.NETWORKS
    ]


def _chosen_cases(options: argparse.Namespace) -> list[cases.Case]:
    _check("dtype", options.dtypes, cases.DTYPES)
    _check("op", options.families, shapes.FAMILIES)
    return cases.cases_of(
        cases.SUITES[options.suite],
        dtypes=options.dtypes,
        families=options.families,
        names=options.shapes,
        scale=options.device == "cpu",
    )


def _peers(options: argparse.Namespace) -> list[str]:
    """Returns the peers that are asked for and that the suite has a place for."""
    known = base.GPU_PEERS if options.device == "gpu" else base.CPU_PEERS
    _check("peers", options.peers, known)
    wanted = [each for each in known if each != compiling.PEER]
    if options.peers is not None:
        wanted = list(options.peers)
    if options.compile and compiling.PEER not in wanted:
        _check("compile", [compiling.PEER], known)
        wanted.append(compiling.PEER)
    if options.suite == MODELS:
        return []
    suite = cases.SUITES[options.suite]
    return [
        each
        for each in wanted
        if (suite.layers if each in base.LAYER_PEERS else suite.kernels)
    ]


def _list(options: argparse.Namespace) -> None:
    """Prints what would be measured."""
    gpu = options.device == "gpu"
    if options.suite == MODELS:
        for name, policy in _chosen_models(options):
            size = networks.NETWORKS[name].size(gpu=gpu)
            text = ", ".join(f"{key} {value}" for key, value in size.items())
            print(f"{name:12} {policy:15} {text}")
        return
    for case in _chosen_cases(options):
        size = "x".join(map(str, case.dims))
        print(f"{case.shape.name:24} {case.dtype:9} {size}{' (scaled)' * case.scaled}")


def _machine(options: argparse.Namespace) -> Any:
    # TensorFlow and PyTorch read these when they are imported.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if options.compile:
        compiling.keep_results()
    from fusednorm.bench import machines

    if options.device == "gpu":
        needed = options.suite == MODELS or cases.SUITES[options.suite].layers
        return machines.Gpu(tensorflow=needed)
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    return machines.Cpu(options.threads or environment.threads_available())


def _jobs(
    options: argparse.Namespace, machine: Any, peers: dict[str, str]
) -> tuple[list[Any], dict[str, Any]]:
    """Returns what is to be measured, and what the report says of how."""
    if options.suite == MODELS:
        jobs = [
            models.ModelJob(name, policy, options.modes, MODEL_ROUNDS, machine)
            for name, policy in _chosen_models(options)
        ]
        settings = {"rounds": MODEL_ROUNDS, "tolerances": models.TOLERANCES}
        return jobs, settings
    from fusednorm.bench.measure import CaseJob
    from fusednorm.bench.verify import BOUNDS

    suite = cases.SUITES[options.suite]
    chosen = _chosen_cases(options)
    settings = {
        "rounds": suite.rounds,
        "seconds_per_case": suite.seconds,
        "most_elements": suite.most_elements,
        "latency": suite.latency,
        "bounds": BOUNDS,
    }
    if compiling.PEER in peers and suite.kernels and machine.data_device:
        print("torch.compile compiles ...", file=sys.stderr)
        settings["compiled_beforehand"] = compiling.beforehand(options.suite, chosen)
    return [CaseJob(case, suite, machine, peers) for case in chosen], settings


def _out(options: argparse.Namespace, machine: Any) -> Path:
    if options.out is not None:
        return options.out
    from fusednorm.bench.machines import folder_name

    threads = None if machine.is_gpu else machine.threads
    return RESULTS / folder_name(machine.environment()["device"], threads)


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
    peers = _peers(options)
    if options.list:
        _list(options)
        return 0
    # Read before anything is written, which may be the same file.
    old = None if options.compare is None else records.read(options.compare)
    if options.source is not None:
        return _show_again(options, old)
    if options.suite == MODELS:
        _chosen_models(options)
    else:
        _chosen_cases(options)
    machine = _machine(options)
    from fusednorm.bench.competitors import registry
    from fusednorm.bench.run import Run

    versions = registry.versions(peers)
    jobs, settings = _jobs(options, machine, versions)
    folder = _out(options, machine)
    path = folder / f"{options.name or options.suite}.json"
    progress = Progress()
    run = Run(
        jobs,
        machine,
        versions,
        settings={"suite": options.suite, "note": options.note, **settings},
        json=path,
        progress=progress,
        budget=options.minutes and 60 * options.minutes,
        commit=options.commit,
    )
    # `timeout` sends this: keep what was measured, as with Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    run.execute()
    progress.close()
    print(f"written to {path}", file=sys.stderr)
    print(table.render(run.report))
    _draw(folder)
    if old is not None:
        print(f"\n{compare.render(old, run.report)}")
    return run.code


def _draw(folder: Path) -> None:
    """Draws the page of a folder, and says where it is."""
    from fusednorm.bench import page

    print(page.draw(folder), file=sys.stderr)


def _show_again(options: argparse.Namespace, old: dict[str, Any] | None) -> int:
    """Prints reports that are there, and draws the page of a folder."""
    source = options.source
    paths = sorted(source.glob("*.json")) if source.is_dir() else [source]
    for path in paths:
        report = records.read(path)
        print(f"{path}\n\n{table.render(report)}\n")
        if old is not None:
            print(f"{compare.render(old, report)}\n")
    if source.is_dir():
        _draw(source)
    return 0

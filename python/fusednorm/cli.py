"""The command line: `fusednorm info`, `explain`, `doctor`, `bench` and `tune`."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from fusednorm import __version__, doctor, explain, info
from fusednorm.bench import command as bench, records


def _integer(text: str) -> int:
    value = int(text)
    if not -(2**63) <= value < 2**63:
        raise ValueError
    return value


def _integers(text: str) -> list[int]:
    return [_integer(part) for part in text.split(",")]


# What argparse calls them in its messages.
_integer.__name__ = "integer"
_integers.__name__ = "comma-separated integers"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fusednorm",
        description="Fused normalization layers for TensorFlow and Keras 3.",
    )
    parser.add_argument(
        "--version", action="version", version=f"fusednorm {__version__}"
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    text = "show versions, devices, instruction sets and where the libraries are"
    show = commands.add_parser(
        "info",
        help=text,
        description=(
            f"{text.capitalize()}. Works also without TensorFlow, with one that does "
            "not fit, and without a GPU: put its output into bug reports."
        ),
    )
    show.add_argument(
        "--json", action="store_true", help="print one JSON object instead of text"
    )
    _add_explain(commands)
    _add_doctor(commands)
    bench.add_parser(commands)
    _add_tune(commands)
    return parser


def _add_norm(parser: argparse.ArgumentParser, *, required: bool) -> None:
    """Adds the options of a norm, which are the arguments of `explain.problem`."""
    parser.add_argument("--op", required=required, choices=explain.OPS)
    parser.add_argument(
        "--shape", required=required, type=_integers, help="of x: 2,64,64,320"
    )
    parser.add_argument("--dtype", default="bfloat16", choices=explain.DTYPES)
    parser.add_argument(
        "--axis",
        dest="axes",
        default=[-1],
        type=_integers,
        help="default: -1; several, for layer_norm and rms_norm, as --axis=-2,-1",
    )
    parser.add_argument("--groups", type=_integer, help="of group_norm")
    parser.add_argument("--activation", default="none")
    parser.add_argument("--residual", action="store_true")
    parser.add_argument(
        "--mask", action="store_true", help="statistics of some positions only"
    )
    parser.add_argument(
        "--parameters-of",
        default="all",
        choices=explain.PARAMETERS_OF,
        help="gamma and beta for all samples, for each, or for each position",
    )
    parser.add_argument("--zero-centered", action="store_true")
    parser.add_argument("--no-gamma", dest="gamma", action="store_false")
    parser.add_argument("--no-beta", dest="beta", action="store_false")
    parser.add_argument(
        "--param-dtype",
        default="auto",
        choices=("auto", *explain.DTYPES),
        help="of gamma and beta; auto: float32, with float64 data float64",
    )
    parser.add_argument(
        "--misaligned",
        dest="aligned",
        action="store_false",
        help="the tensors do not start at multiples of 16 bytes",
    )


def _add_explain(commands: argparse._SubParsersAction) -> None:
    text = "show how a norm would run on a GPU"
    plan = commands.add_parser(
        "explain",
        help=text,
        description=f"{text.capitalize()}: kernels, blocks, traffic. Needs no GPU.",
    )
    _add_norm(plan, required=True)
    plan.add_argument(
        "--device",
        dest="devices",
        action="append",
        default=[],
        help="h100, a100, ...; several make a table; default: the GPU here, else h100",
    )
    plan.add_argument("--json", action="store_true", help="print JSON instead of text")


def _add_doctor(commands: argparse._SubParsersAction) -> None:
    text = "check that this installation is right on this machine"
    check = commands.add_parser(
        "doctor",
        help=text,
        description=(
            f"{text.capitalize()}: errors against float64, determinism, XLA, bytes "
            "kept for the backward pass. Less than a minute; ends with exit code 1 if "
            "anything is off."
        ),
    )
    check.add_argument(
        "--json", type=Path, metavar="PATH", help="where the report goes as JSON too"
    )


def _add_tune(commands: argparse._SubParsersAction) -> None:
    text = "time all plans of norms on this GPU, and use the fastest from now on"
    tune = commands.add_parser(
        "tune",
        help=text,
        description=(
            f"{text.capitalize()}: those of the canonical shapes, of one norm (--op "
            "and --shape), or of the norms of a saved model. Each plan's results are "
            "compared with the first one's. Needs a GPU and PyTorch. Ctrl-C keeps what "
            "was measured. What is written is read when the next process makes its "
            "first plan; an empty FUSEDNORM_TUNED in the environment switches that off."
        ),
    )
    _add_norm(tune, required=False)
    tune.set_defaults(dtype=None)
    tune.add_argument(
        "--model", type=Path, metavar="PATH", help="a saved Keras model, for its norms"
    )
    tune.add_argument(
        "--batch", type=_integer, default=8, help="of the model's inputs; default: 8"
    )
    tune.add_argument(
        "--fuse", action="store_true", help="convert the model's norms with fuse=True"
    )
    tune.add_argument(
        "--direction",
        dest="directions",
        action="append",
        choices=("forward", "backward"),
        help="default: both",
    )
    tune.add_argument(
        "--rounds", type=_integer, default=15, help="of each plan; default: 15"
    )
    tune.add_argument(
        "--least-gain",
        type=float,
        metavar="RATIO",
        help="plans whose gain is less are not used; default: 1.02",
    )
    tune.add_argument(
        "--output",
        type=Path,
        metavar="PATH",
        help="the file to add to; default: that of FUSEDNORM_TUNED, or tuned.tsv in "
        "the cache folder",
    )
    tune.add_argument(
        "--dry-run", action="store_true", help="measure, and write nothing"
    )
    tune.add_argument(
        "--list", action="store_true", help="print what would be timed; needs no GPU"
    )
    tune.add_argument("--device", help="of --list: h100, a100, ...")


def _tune(options: argparse.Namespace) -> int:
    from fusednorm.tune import command

    options.directions = options.directions or ["forward", "backward"]
    if options.model is not None:
        # TensorFlow reads it when it is imported.
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with _exit_codes("tune"):
        return command.main(options)


def _explain(options: argparse.Namespace) -> list[dict]:
    arguments = dict(vars(options))
    del arguments["command"], arguments["json"]
    with _exit_codes("explain"):
        return explain.collect(**arguments)


def _doctor(options: argparse.Namespace) -> int:
    from fusednorm._doctor import report

    # TensorFlow reads it when it is imported.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    found = doctor(progress=lambda name: print(f"{name} ...", file=sys.stderr))
    print(report.render(found))
    if options.json is not None:
        try:
            records.write(options.json, found)
        except OSError as error:
            raise SystemExit(f"fusednorm doctor: {error}") from error
    return 0 if found["ok"] else 1


def _bench(options: argparse.Namespace) -> int:
    with _exit_codes("bench"):
        return bench.main(options)


@contextlib.contextmanager
def _exit_codes(command: str) -> Iterator[None]:
    """Ends a command as argparse does on what it finds wrong itself."""
    try:
        yield
    except (ValueError, OSError) as error:
        print(f"fusednorm {command}: error: {error}", file=sys.stderr)
        raise SystemExit(2) from error
    except (RuntimeError, ImportError) as error:
        raise SystemExit(f"fusednorm {command}: {error}") from error


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Args:
        arguments: What follows the program's name; those of the process if `None`.

    Returns:
        The exit code.
    """
    options = _parser().parse_args(arguments)
    if options.command == "bench":
        return _bench(options)
    if options.command == "tune":
        return _tune(options)
    if options.command == "doctor":
        return _doctor(options)
    if options.command == "explain":
        report, render = _explain(options), explain.render
    else:
        report, render = info.collect(), info.render
    print(json.dumps(report, indent=2) if options.json else render(report))
    return 0

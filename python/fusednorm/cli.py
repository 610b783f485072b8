"""The command line: `fusednorm info`, or `python -m fusednorm info`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence

from fusednorm import __version__, info


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
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Args:
        arguments: What follows the program's name; those of the process if `None`.

    Returns:
        The exit code.
    """
    options = _parser().parse_args(arguments)
    report = info.collect()
    print(json.dumps(report, indent=2) if options.json else info.render(report))
    return 0

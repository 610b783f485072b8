"""Small C++ programs that print what the headers of the kernels compute."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = ROOT / "tests" / "cuda"
COMPILER = os.environ.get("CXX", "g++")


def compiled(name, folder):
    """Compiles tests/cuda/NAME.cc.

    Returns a function that runs it with arguments and returns the integers of each line
    that it prints. Skips where there is no compiler.
    """
    if shutil.which(COMPILER) is None:
        pytest.skip(f"no compiler {COMPILER}: install g++ or set CXX")
    program = folder / name
    includes = [f"-I{ROOT}", f"-I{ROOT / 'csrc'}"]
    subprocess.run(
        [
            COMPILER,
            "-std=c++17",
            "-O1",
            *includes,
            PROGRAMS / f"{name}.cc",
            "-o",
            program,
        ],
        check=True,
    )

    def run(*arguments):
        printed = subprocess.run(
            [program, *arguments], check=True, capture_output=True, text=True
        ).stdout
        return [tuple(map(int, line.split())) for line in printed.splitlines()]

    return run

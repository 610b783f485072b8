"""The emulator, built once for all tests of this folder."""

import os
import shutil
from pathlib import Path

import pytest
from support.emulation import compiling, emulator


def started(patterns):
    """Yields an emulator of a library, which is built if it has to be."""
    if shutil.which(compiling.COMPILER) is None:
        pytest.skip(f"no compiler {compiling.COMPILER}: install g++ or set CXX")
    # mutate.py hands over libraries that it has built.
    given = os.environ.get("FUSEDNORM_EMULATION_LIBRARY")
    made = Path(given) if given else compiling.library(patterns)
    process = emulator.Emulator(made)
    yield process
    process.close()


@pytest.fixture(scope="session")
def emulated():
    """Runs the kernels of cuda/."""
    yield from started(compiling.KERNELS)


@pytest.fixture(scope="session")
def toys():
    """Runs the kernels of toys.cc."""
    yield from started(compiling.TOYS)

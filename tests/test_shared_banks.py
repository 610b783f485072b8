"""The table that joins a block's threads reaches each bank of shared memory once.

Counted on the CPU for all layouts of threads. A float64 is two words, read and written
by half warps, for which the same holds.
"""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
COMPILER = os.environ.get("CXX", "g++")


@pytest.fixture(scope="module")
def conflicts(tmp_path_factory):
    """Returns a function: the counts of the table, or of one without padding."""
    if shutil.which(COMPILER) is None:
        pytest.skip(f"no compiler {COMPILER}")
    program = tmp_path_factory.mktemp("banks") / "shared_banks"
    source = ROOT / "tests" / "shared_banks.cc"
    includes = [f"-I{ROOT}", f"-I{ROOT / 'csrc'}"]
    subprocess.run(
        [COMPILER, "-std=c++17", "-O1", *includes, source, "-o", program], check=True
    )

    def count(*arguments):
        printed = subprocess.run(
            [program, *arguments], check=True, capture_output=True, text=True
        ).stdout
        return [tuple(map(int, line.split())) for line in printed.splitlines()]

    return count


def test_no_layout_has_conflicts(conflicts):
    found = conflicts()
    assert len(found) == 4 * (64 + 128 + 256 + 512)
    assert [layout for layout in found if max(layout[3:]) > 1] == []


def test_a_table_without_padding_has_conflicts(conflicts):
    """The count itself: writes of 8 numbers a thread, side by side, meet in a bank."""
    found = conflicts("plain")
    assert (256, 8, 32, 8, 1) in found

"""The table that joins a block's threads reaches each bank of shared memory once.

Counted on the CPU for all layouts of threads. A float64 is two words, read and written
by half warps, for which the same holds.
"""

import pytest
from support import header_programs


@pytest.fixture(scope="module")
def conflicts(tmp_path_factory):
    """Returns a function: the counts of the table, or of one without padding."""
    return header_programs.compiled("shared_banks", tmp_path_factory.mktemp("banks"))


def test_no_layout_has_conflicts(conflicts):
    found = conflicts()
    assert len(found) == 4 * (64 + 128 + 256 + 512)
    assert [layout for layout in found if max(layout[3:]) > 1] == []


def test_a_table_without_padding_has_conflicts(conflicts):
    """The count itself: writes of 8 numbers a thread, side by side, meet in a bank."""
    found = conflicts("plain")
    assert (256, 8, 32, 8, 1) in found

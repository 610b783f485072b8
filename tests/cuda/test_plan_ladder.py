"""Which instance of the `rows` kernels a row gets: the ladder that was measured.

An entry is threads that share a row x accesses of 16 bytes that each of them makes: the
fastest that was measured on an H200 and, where the plan chooses otherwise, its choice.
"""

import pytest
from fusednorm import _native

BFLOAT16, ACCESS = 2, 16  # bytes
NORMS = {
    "layer_norm": {"has_beta": True},
    "rms_norm": {"residual": True},
}

# (data, columns): (forward, backward).
LADDER = {
    ("bfloat16", 96): ("32x1 4x3", "32x1 4x3"),
    ("bfloat16", 256): ("32x1", "32x1"),
    ("bfloat16", 768): ("32x3", "128x1 96x1"),
    ("bfloat16", 1600): ("128x2", "128x2"),
    ("bfloat16", 4096): ("128x4", "256x2"),
    ("bfloat16", 8192): ("512x2 256x4", "256x4"),
    ("bfloat16", 12288): ("256x6", "512x3"),
    ("float32", 768): ("128x2 96x2", "128x2 96x2"),
    ("float32", 1600): ("128x4", "256x2 224x2"),
    ("float32", 4096): ("512x2 256x4", "512x2"),
    ("float32", 12288): ("512x6", "512x6"),
}


def instance(op, dtype, columns, direction):
    """Returns the threads and accesses of the first candidate, as `LADDER` has them."""
    found = _native.candidates(
        op,
        [8192, columns],
        dtype,
        axes=[-1],
        has_gamma=True,
        device="h200",
        direction=direction,
        **NORMS[op],
    )[0]
    geometry = found["geometry"]
    assert found["scheme"] == "rows"
    assert not geometry["general"]
    return geometry["team"], geometry["vectors"]


@pytest.mark.parametrize("op", NORMS)
@pytest.mark.parametrize("direction", ["forward", "backward"])
@pytest.mark.parametrize(("dtype", "columns"), LADDER)
def test_rows_get_the_instance_that_was_fastest(dtype, columns, direction, op):
    *_, chosen = LADDER[dtype, columns][direction == "backward"].split()
    assert "{}x{}".format(*instance(op, dtype, columns, direction)) == chosen


@pytest.mark.parametrize("op", NORMS)
@pytest.mark.parametrize("direction", ["forward", "backward"])
@pytest.mark.parametrize("columns", [16, 96])
def test_short_rows_leave_no_lane_without_an_access(columns, direction, op):
    threads, accesses = instance(op, "bfloat16", columns, direction)
    assert threads * accesses * ACCESS == columns * BFLOAT16
    assert threads < 32

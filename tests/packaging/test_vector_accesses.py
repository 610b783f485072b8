"""The PTX of kernels for 16-byte accesses has them, to and from global memory."""

import re
import subprocess
from pathlib import Path

import pytest
from fusednorm import _build_info

ROOT = Path(__file__).resolve().parents[2]

# A kernel's mangled name: its own name, the data type, the width of an access.
NAME = re.compile(r"_ZN9fusednorm4cuda\d+\w+?I(?:NS0_\d+\w+?E|f|d)Li(\d+)E")
LOAD = re.compile(r"\bld\.global(\.\w+)*\.v4\.\w?32")
STORE = re.compile(r"\bst\.global(\.\w+)*\.v4\.\w?32")
# Kernels that leave sums, not a tensor, behind. RunsBackward and TileBackward do so
# where they are not resident, SecondOrderRuns does as the first of two.
SUMS = re.compile(
    r"SplitRowsSums|SecondOrder(Row|Tile)Sums"
    r"|(RunsBackward|TileBackward|SecondOrderRuns)\w*Lb0E"
)


@pytest.mark.skipif(
    _build_info.CUDA_VERSION is None, reason="BUILD WITHOUT CUDA: no kernels to look at"
)
@pytest.mark.parametrize(
    "source", ["forward_bfloat16", "backward_half", "second_order_half"]
)
def test_vector_accesses(source, tmp_path, nvcc):
    output = tmp_path / "kernels.ptx"
    subprocess.run(
        [
            *(nvcc, "-std=c++17", "-O3", "-ptx", "-arch=compute_90", "-o", output),
            *(f"-I{ROOT / 'csrc'}", f"-I{ROOT}"),
            ROOT / f"cuda/instances/{source}.cu",
        ],
        check=True,
    )
    entries = re.split(r"(?=\.visible \.entry |\.weak \.entry )", output.read_text())
    seen = {1: 0, 8: 0}
    for entry in entries[1:]:
        name = re.search(r"entry (\w+)", entry)[1]
        match = NAME.match(name)
        if match is None:
            assert "SumParams" in name or "CountMask" in name
            continue
        width = int(match[1])
        seen[width] += 1
        if width == 1:
            assert not STORE.search(entry), name
            continue
        assert LOAD.search(entry), name
        assert SUMS.search(name) or STORE.search(entry), name
    assert all(seen.values()), seen

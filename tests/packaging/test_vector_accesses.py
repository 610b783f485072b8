"""The PTX of kernels for 16-byte accesses has them, to and from global memory."""

import re
import subprocess
from pathlib import Path

import pytest
from fusednorm import _build_info

ROOT = Path(__file__).resolve().parents[2]

# A mangled name: the kernel, perhaps in a namespace of its scheme, the data type, and
# what else its template takes.
NAME = re.compile(
    r"_ZN9fusednorm4cuda(?:\d+[a-z_]+)?\d+(\w+?)I(?:NS0_\d+\w+?E|f|d)(\w*?)EEv"
)
# The width of an access, which the second order has as an argument. Others have it from
# their features.
WIDTH = re.compile(r"Li(\d+)E")
FEATURES = re.compile(
    r"NS0_(?:5PlainILb[01]ELb[01]E|7GeneralILb([01])E|(?:14Stream|12Tile)FeaturesILb[01]ELb([01])E)E"
)
LOAD = re.compile(r"\bld\.global(\.[\w:]+)*\.v4\.\w?32")
STORE = re.compile(r"\bst\.global(\.\w+)*\.v4\.\w?32")
# Kernels that leave sums, not a tensor, behind; those of the second order do as the
# first of two.
SUMS = re.compile(r"LongRowSums|SecondOrder(Rows|Runs|Tiles)\w*Lb0E")
SINGLE = {"ColumnSums", "CountMask"}  # of all types, element by element
FULL = 8  # elements of 2 bytes


def width_of(arguments):
    """Returns the elements of an access of a kernel of 2-byte data."""
    features = FEATURES.search(arguments)
    if features is None:
        return int(WIDTH.match(arguments)[1])
    return 1 if "0" in features.groups() else FULL


@pytest.mark.skipif(
    _build_info.CUDA_VERSION is None, reason="BUILD WITHOUT CUDA: no kernels to look at"
)
@pytest.mark.parametrize(
    ("scheme", "args", "data"),
    [
        ("rows", "ForwardArgs", "Bfloat16"),
        ("rows", "BackwardArgs", "Half"),
        ("columns", "BackwardArgs", "Bfloat16"),
        ("tile", "ForwardArgs", "Half"),
        ("tile", "BackwardArgs", "Bfloat16"),
        ("stream", "ForwardArgs", "Bfloat16"),
        ("stream", "BackwardArgs", "Half"),
        ("second_order", "SecondOrderArgs", "Half"),
    ],
)
def test_vector_accesses(scheme, args, data, tmp_path, nvcc):
    output = tmp_path / "kernels.ptx"
    subprocess.run(
        [
            *(nvcc, "-std=c++17", "-O3", "-ptx", "-arch=compute_90", "-o", output),
            *(f"-DFUSEDNORM_SCHEME={scheme}", f"-DFUSEDNORM_ARGS={args}"),
            *(f"-DFUSEDNORM_DATA={data}", f"-I{ROOT / 'csrc'}", f"-I{ROOT}"),
            ROOT / "cuda" / "instance.cu",
        ],
        check=True,
    )
    entries = re.split(r"(?=\.visible \.entry |\.weak \.entry )", output.read_text())
    seen = {1: 0, FULL: 0}
    for entry in entries[1:]:
        name = re.search(r"entry (\w+)", entry)[1]
        kernel, arguments = NAME.match(name).groups()
        if kernel in SINGLE:
            continue
        width = width_of(arguments)
        seen[width] += 1
        if width == 1:
            assert not STORE.search(entry), name
            continue
        assert LOAD.search(entry), name
        assert SUMS.search(name) or STORE.search(entry), name
    assert seen[FULL]
    assert seen[1] or scheme == "columns"  # of which all accesses are wide

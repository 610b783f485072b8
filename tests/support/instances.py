"""The table of instances in cuda/instances.h, for tests of what it promises."""

import re
from dataclasses import dataclass
from pathlib import Path

TABLE = Path(__file__).parents[2] / "cuda" / "instances.h"


@dataclass(frozen=True)
class Instance:
    """As `RowsInstance`."""

    element_bytes: int
    general: bool
    wide: bool
    vectors: int
    block: bool
    threads: int
    blocks: int


def rows_instances(which):
    """Returns the lines of the table of a pass, "forward" or "backward"."""
    name = f"kRows{which.capitalize()}[]"
    text = TABLE.read_text().split(name)[1].split("};")[0]
    return [
        Instance(
            int(size),
            general == "true",
            wide == "true",
            int(vectors),
            block == "true",
            int(threads),
            int(blocks),
        )
        for size, general, wide, vectors, block, threads, blocks in re.findall(
            r"\{(\d+), (\w+), (\w+), (\d+), (\w+), (\d+), (\d+)\}", text
        )
    ]

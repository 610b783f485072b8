"""What each kernel of `tile` with 16-byte accesses may cost.

The budgets are in `cuda/kernels/tile/budgets.json`, which says what they count.
"""

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

from support.machine_code.limits import (
    MOST_OF_SKETCH,
    Limit,
    resident_fault,
    threads_limit,
)
from support.machine_code.machine_code import Kernel
from support.machine_code.occupancy import resident_threads
from support.machine_code.vector_loops import longest_way

BUDGETS = Path(__file__).parents[3] / "cuda" / "kernels" / "tile" / "budgets.json"
KERNELS = r"\bTile(Forward|Backward)<"
HEADER = (
    *("pass", "bytes", "columns", "vectors", "way: sketch", "limit", "ours"),
    *("silu: sketch", "limit", "ours", "registers", "resident of 256", "at least"),
    *("resident of 512", "at least"),
)
WORDS = ("pass", "columns")

BLOCKS = (256, 512)  # kTileThreads at most


@dataclasses.dataclass(frozen=True)
class Instance:
    """What tells one kernel from another, except types of equal size."""

    direction: str
    element_bytes: int
    columns: bool
    vectors: int

    def __str__(self) -> str:
        """Describes the instance in words."""
        layout = "columns" if self.columns else "interleaved groups"
        return (
            f"{self.direction}, {self.element_bytes} bytes, {layout}, "
            f"{self.vectors} vectors"
        )

    @property
    def wide_loads(self) -> int:
        """How many 16-byte loads a thread needs: of x, and of dy."""
        return self.vectors * (1 if self.direction == "forward" else 2)


@dataclasses.dataclass(frozen=True)
class Budget:
    """A line of the table of budgets; `threads` of blocks of each size."""

    instance: Instance
    way: Limit
    silu: Limit
    threads: dict[int, int]
    goal_threads: int


def load_budgets() -> list[Budget]:
    """Returns the budgets in the order of the table."""
    table = json.loads(BUDGETS.read_text())
    goals = table["goals"]

    def limit(vectors: int, numbers: list[float | None]) -> Limit:
        sketch, of_a_vector, own = numbers
        goal = goals["outside"] + int(MOST_OF_SKETCH * vectors * of_a_vector)
        return Limit(sketch, goal, own)

    lines = [dict(zip(table["columns"], row, strict=True)) for row in table["rows"]]
    return [
        Budget(
            Instance(
                line["pass"], line["element_bytes"], line["columns"], line["vectors"]
            ),
            limit(line["vectors"], line["way"]),
            limit(line["vectors"], line["silu"]),
            dict(zip(BLOCKS, line["threads"], strict=True)),
            goals["threads"],
        )
        for line in lines
    ]


def instance_of(kernel: Kernel) -> Instance | None:
    """Returns the instance that a kernel is; None if its accesses are of one element.

    Raises:
        ValueError: The kernel has other features than TileFeatures<columns, wide>.
    """
    _, vectors, features = kernel.arguments
    match = re.fullmatch(
        r"TileFeatures<(true|false), (true|false)>", features.split("::")[-1]
    )
    if match is None:
        raise ValueError(f"{kernel.name} must have TileFeatures<columns, wide>.")
    if match[2] == "false":
        return None
    direction = kernel.template.removeprefix("Tile").lower()
    return Instance(direction, kernel.element_bytes, match[1] == "true", int(vectors))


def ways_of(kernel: Kernel) -> tuple[int | None, int | None]:
    """Returns the longest ways through a kernel: without exponentials, and with."""
    return longest_way(kernel, False), longest_way(kernel, True)


def faults(kernel: Kernel, budget: Budget) -> list[str]:
    """Returns a sentence for each limit that a kernel exceeds."""
    found = []
    for kind, way, limit in zip(
        (" without exponentials", ""),
        ways_of(kernel),
        (budget.way, budget.silu),
        strict=True,
    ):
        if way is None:
            found.append(f"no way{kind} that has no call")
        elif way > limit.most:
            found.append(
                f"{way} instructions on the longest way{kind}, at most {limit.most:g}"
            )
    whole, instance = kernel.whole, budget.instance
    if whole.local:
        found.append(f"{whole.local} accesses of local memory, at most 0")
    for what, number, least in (
        ("loads", whole.wide_loads, instance.wide_loads),
        ("stores", whole.wide_stores, instance.vectors),
    ):
        if number < least:
            found.append(f"{number} {what} of 16 bytes, at least {least}")
    for block, least in budget.threads.items():
        resident = resident_threads(kernel.registers, block)
        found += resident_fault(resident, least, block, kernel.registers)
    return found


def rows_of_table(budget: Budget, kernels: list[Kernel]) -> list[list[Any]]:
    """Returns a budget's rows of the table; ours is the costliest of the kernels."""
    instance = budget.instance
    row: list[Any] = [instance.direction, instance.element_bytes]
    row += ["yes" if instance.columns else "no", instance.vectors]
    ways = zip(*(ways_of(kernel) for kernel in kernels), strict=True)
    for limit, of_kernels in zip(
        (budget.way, budget.silu), list(ways) or [(), ()], strict=True
    ):
        sketch = "-" if limit.sketch is None else limit.sketch
        ours = "-" if None in of_kernels else max(of_kernels, default="-")
        row += [sketch, limit, ours]
    registers = max((kernel.registers for kernel in kernels), default=None)
    row.append(registers or "-")
    for block, least in budget.threads.items():
        row.append(resident_threads(registers, block) if registers else "-")
        row.append(threads_limit(budget.goal_threads, least))
    return [row]

"""What each specialised kernel of `rows` may cost.

The budgets are in `cuda/kernels/rows/budgets.json`, which says where they come from.
"""

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

from support.machine_code.limits import MOST_OF_SKETCH
from support.machine_code.machine_code import Kernel
from support.machine_code.occupancy import resident_threads

BUDGETS = Path(__file__).parents[3] / "cuda" / "kernels" / "rows" / "budgets.json"
KERNELS = r"\bRows(Forward|Backward)<"

HEADER = (
    *("pass", "bytes", "vectors", "team", "centred", "residual", "sketch", "limit"),
    *("ours", "registers", "threads resident", "at least"),
)
WORDS = ("pass", "team", "centred", "residual")


@dataclasses.dataclass(frozen=True)
class Instance:
    """What tells one specialised kernel from another, except types of equal size."""

    direction: str
    element_bytes: int
    vectors: int
    team: str
    centred: bool
    residual: bool

    def __str__(self) -> str:
        """Describes the instance in words."""
        return (
            f"{self.direction}, {self.element_bytes} bytes, {self.vectors} vectors, "
            f"{self.team}, {'centred' if self.centred else 'not centred'}, "
            f"{'residual' if self.residual else 'no residual'}"
        )

    @property
    def rows_at_once(self) -> int:
        """How many rows a thread holds: of one short one it takes two."""
        short = self.vectors == 1 and self.team == "lanes"
        return 2 if self.direction == "forward" and short else 1

    @property
    def wide_stores(self) -> int:
        """How many 16-byte stores the rows of a thread need: y, and x plus residual."""
        tensors = 2 if self.direction == "forward" and self.residual else 1
        return self.vectors * self.rows_at_once * tensors

    @property
    def statistics(self) -> int:
        """How many numbers a thread's rows have in `mean` and `rstd`."""
        return self.rows_at_once * (2 if self.centred else 1)

    @property
    def narrow_loads(self) -> int:
        """How many loads of less than 16 bytes the row loop may have."""
        if self.direction == "backward":
            # mean and rstd, and the gradients that reach them.
            return 2 * self.statistics
        # The row's first element, around which a block's threads take their sums.
        return (1 + self.residual) * (self.centred and self.team == "block")

    @property
    def narrow_stores(self) -> int:
        """How many stores of less than 16 bytes the row loop may have."""
        return self.statistics if self.direction == "forward" else 0


@dataclasses.dataclass(frozen=True)
class Budget:
    """A line of the table of budgets."""

    instance: Instance
    sketch: int
    source: str
    threads: int
    blocks: tuple[int, ...]
    limit: int | None

    @property
    def instructions(self) -> int:
        """The most instructions of the row loop."""
        return self.limit or int(MOST_OF_SKETCH * self.sketch)


def load_table() -> dict[str, Any]:
    """Returns what stands in the file of the budgets."""
    return json.loads(BUDGETS.read_text())


def load_budgets() -> list[Budget]:
    """Returns the budgets in the order of the table."""
    table = load_table()
    lines = [dict(zip(table["columns"], row, strict=True)) for row in table["rows"]]
    return [
        Budget(
            Instance(
                line["pass"],
                line["element_bytes"],
                line["vectors"],
                line["team"],
                line["centred"],
                line["residual"],
            ),
            line["sketch"],
            line["from"],
            line["threads"],
            tuple(line["blocks"]),
            line["limit"],
        )
        for line in lines
    ]


def instance_of(kernel: Kernel) -> Instance | None:
    """Returns the instance that a kernel is, or None of the general kernels.

    Raises:
        ValueError: The kernel has neither the features `Plain` nor `General`.
    """
    _, vectors, whole_block, features = kernel.arguments
    features = features.split("::")[-1]
    if features.startswith("General"):
        return None
    match = re.fullmatch(r"Plain<(true|false), (true|false)>", features)
    if match is None:
        raise ValueError(
            f"{kernel.name} must have the features Plain<centred, residual> or General."
        )
    return Instance(
        kernel.template.removeprefix("Rows").lower(),
        kernel.element_bytes,
        int(vectors),
        "block" if whole_block == "true" else "lanes",
        match[1] == "true",
        match[2] == "true",
    )


def fewest_resident(kernel: Kernel, budget: Budget) -> int:
    """Returns the threads that are resident with the least favourable size of block."""
    return min(resident_threads(kernel.registers, block) for block in budget.blocks)


def faults(kernel: Kernel, budget: Budget) -> list[str]:
    """Returns a sentence for each limit that a kernel exceeds."""
    loop, instance = kernel.row_loop, budget.instance
    resident = fewest_resident(kernel, budget)
    at_most = {
        "instructions in the row loop": (loop.instructions, budget.instructions),
        "loads of less than 16 bytes": (loop.narrow_loads, instance.narrow_loads),
        "stores of less than 16 bytes": (loop.narrow_stores, instance.narrow_stores),
        "accesses of local memory": (kernel.whole.local, 0),
        "divisions by run-time integers in the row loop": (loop.divisions, 0),
    }
    found = [
        f"{number} {what}, at most {limit}"
        for what, (number, limit) in at_most.items()
        if number > limit
    ]
    if loop.wide_stores < instance.wide_stores:
        # Also of a row loop that is none: a loop over vectors, not unrolled.
        found.append(
            f"{loop.wide_stores} stores of 16 bytes in the row loop, "
            f"at least {instance.wide_stores}"
        )
    if resident < budget.threads:
        found.append(
            f"{resident} threads resident ({kernel.registers} registers), "
            f"at least {budget.threads}"
        )
    return found


def rows_of_table(budget: Budget, kernels: list[Kernel]) -> list[list[Any]]:
    """Returns a budget's rows of the table; ours is the costliest of the kernels."""
    instance = budget.instance
    source = "" if budget.source == "measured" else f" ({budget.source})"
    return [
        [
            instance.direction,
            instance.element_bytes,
            instance.vectors,
            instance.team,
            "yes" if instance.centred else "no",
            "yes" if instance.residual else "no",
            f"{budget.sketch}{source}",
            budget.instructions,
            max((each.row_loop.instructions for each in kernels), default="-"),
            max((each.registers for each in kernels), default="-"),
            min((fewest_resident(each, budget) for each in kernels), default="-"),
            budget.threads,
        ]
    ]

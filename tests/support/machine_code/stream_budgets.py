"""What each plain kernel of `stream` may cost.

The budgets are in `cuda/kernels/stream/budgets.json`, which says what they count.
"""

import dataclasses
import functools
import json
import re
from pathlib import Path
from typing import Any

from support.machine_code.limits import Limit, loop_limit, resident_fault, threads_limit
from support.machine_code.machine_code import Kernel
from support.machine_code.occupancy import resident_threads
from support.machine_code.vector_loops import (
    VectorLoop,
    behind_calls,
    longest_way,
    vector_loops,
)

BUDGETS = Path(__file__).parents[3] / "cuda" / "kernels" / "stream" / "budgets.json"
KERNELS = r"\bStream(Lines|Runs)(Forward|Backward)<"
HEADER = (
    *("pass", "layout", "bytes", "vectors", "item", "none: sketch", "limit", "ours"),
    *("silu: sketch", "limit", "ours", "way: sketch", "limit", "ours"),
    *("registers", "threads resident", "at least"),
)
WORDS = ("pass", "layout", "item")

BLOCK = 256  # kStreamThreads
ACTIVATIONS = 4  # that a plain kernel knows: none, relu, leaky_relu, silu
ITEMS = ("sums", "apply")
# Instructions that take the result of a call, which no way leads through. More would be
# work that no limit sees.
BEHIND_A_CALL = 4


@dataclasses.dataclass(frozen=True)
class Instance:
    """What tells one plain kernel from another, except types of equal size."""

    direction: str
    layout: str
    element_bytes: int

    def __str__(self) -> str:
        """Describes the instance in words."""
        return f"{self.direction}, {self.layout}, {self.element_bytes} bytes"

    @property
    def tensors(self) -> int:
        """How many tensors the kernel reads: x, and dy."""
        return 1 if self.direction == "forward" else 2

    def loops(self, item: str) -> int:
        """How many vector loops a kind of item has: one for each activation."""
        return 1 if (self.direction, item) == ("forward", "sums") else ACTIVATIONS

    def narrow_loads(self, item: str) -> int:
        """How many loads of less than 16 bytes a vector loop may have."""
        if self.layout == "lines" or item == "sums":
            return 0
        # gamma and beta of the next run, which are of its data type or float32, ...
        affine = 2 * (2 if self.element_bytes == 2 else 1)
        # ... and mean and rstd.
        return affine if self.direction == "forward" else affine + 2


@dataclasses.dataclass(frozen=True)
class ItemBudget:
    """What an item of one kind may cost; loops in instructions for each vector."""

    none: Limit
    silu: Limit | None
    way: Limit


@dataclasses.dataclass(frozen=True)
class Budget:
    """A line of the table of budgets."""

    instance: Instance
    vectors: int
    threads: int
    goal_threads: int
    items: dict[str, ItemBudget]


def load_budgets() -> list[Budget]:
    """Returns the budgets in the order of the table."""
    table = json.loads(BUDGETS.read_text())
    goals = table["goals"]

    def item_of(numbers: dict[str, list[float | None]]) -> ItemBudget:
        sketch, own = numbers["way"]
        silu = numbers.get("silu")
        return ItemBudget(
            loop_limit(*numbers["none"]),
            loop_limit(*silu) if silu else None,
            Limit(sketch, goals["way"], own),
        )

    lines = [dict(zip(table["columns"], row, strict=True)) for row in table["rows"]]
    return [
        Budget(
            Instance(line["pass"], line["layout"], line["element_bytes"]),
            line["vectors"],
            line["threads"],
            goals["threads"],
            {item: item_of(line[item]) for item in ITEMS},
        )
        for line in lines
    ]


def instance_of(kernel: Kernel) -> Instance | None:
    """Returns the instance that a kernel is, or None of the general kernels.

    Raises:
        ValueError: The kernel has other features than StreamFeatures<general, wide>.
    """
    features = kernel.arguments[-1].split("::")[-1]
    match = re.fullmatch(r"StreamFeatures<(true|false), (true|false)>", features)
    if match is None:
        raise ValueError(f"{kernel.name} must have StreamFeatures<general, wide>.")
    if match.groups() != ("false", "true"):
        return None
    layout, direction = re.fullmatch(
        r"Stream(Lines|Runs)(Forward|Backward)", kernel.template
    ).groups()
    return Instance(direction.lower(), layout.lower(), kernel.element_bytes)


def loops_of(kernel: Kernel, item: str) -> list[VectorLoop]:
    """Returns the vector loops of a kind of item: those of apply store."""
    return [
        loop
        for loop in vector_loops(kernel)
        if (loop.counts.wide_stores > 0) == (item == "apply")
    ]


def each_vector(loop: VectorLoop, budget: Budget) -> float:
    """Returns the instructions of a loop for each vector of x."""
    return round(loop.counts.instructions / budget.vectors, 1)


def way_of(loops: list[VectorLoop]) -> int | None:
    """Returns the longest way through any of some loops; None if one has none."""
    ways = [loop.way for loop in loops]
    return None if None in ways else max(ways)


def loop_faults(loop: VectorLoop, item: str, budget: Budget) -> list[str]:
    """Returns a sentence for each thing that a vector loop must not have, or must."""
    counts, instance = loop.counts, budget.instance
    at_most = {
        "loads of less than 16 bytes": (
            counts.narrow_loads,
            instance.narrow_loads(item),
        ),
        "stores of less than 16 bytes": (counts.narrow_stores, 0),
        "divisions by run-time integers": (counts.divisions, 0),
    }
    at_least = {
        "loads of 16 bytes": (counts.wide_loads, budget.vectors * instance.tensors),
        "stores of 16 bytes": (
            counts.wide_stores,
            budget.vectors if item == "apply" else 0,
        ),
    }
    where = f"in a vector loop of {item}"
    return [
        f"{number} {what} {where}, at most {limit}"
        for what, (number, limit) in at_most.items()
        if number > limit
    ] + [
        f"{number} {what} {where}, at least {limit}"
        for what, (number, limit) in at_least.items()
        if number < limit
    ]


def item_faults(loops: list[VectorLoop], item: str, budget: Budget) -> list[str]:
    """Returns a sentence for each limit that the items of a kind exceed."""
    least = budget.instance.loops(item)
    if len(loops) < least:
        return [f"{len(loops)} vector loops of {item}, at least {least}"]
    limits = budget.items[item]
    numbers = sorted(each_vector(loop, budget) for loop in loops)
    found = [
        f"{number:g} instructions for each vector in the {which} loop of {item}, "
        f"at most {limit.most:g}"
        for which, number, limit in (
            ("lightest", numbers[0], limits.none),
            ("heaviest", numbers[-1], limits.silu or limits.none),
        )
        if number > limit.most
    ]
    way = way_of(loops)
    if way is None:
        found.append(f"no way without a call through a vector loop of {item}")
    elif way > limits.way.most:
        found.append(
            f"{way} instructions on the longest way of {item}, "
            f"at most {limits.way.most:g}"
        )
    for loop in loops:
        found += loop_faults(loop, item, budget)
    return found


def faults(kernel: Kernel, budget: Budget) -> list[str]:
    """Returns a sentence for each limit that a kernel exceeds."""
    found = []
    for item in ITEMS:
        found += item_faults(loops_of(kernel, item), item, budget)
    if kernel.whole.local:
        found.append(f"{kernel.whole.local} accesses of local memory, at most 0")
    way = longest_way(kernel, exponentials=True)
    most = max(budget.items[item].way.most for item in ITEMS)
    if way is not None and way > most:
        found.append(f"{way} instructions on the longest way of all, at most {most:g}")
    behind = behind_calls(kernel)
    if behind > BEHIND_A_CALL * kernel.whole.calls:
        found.append(
            f"{behind} instructions behind {kernel.whole.calls} calls, "
            f"at most {BEHIND_A_CALL} for each"
        )
    resident = resident_threads(kernel.registers, BLOCK)
    return found + resident_fault(resident, budget.threads, BLOCK, kernel.registers)


def rows_of_table(budget: Budget, kernels: list[Kernel]) -> list[list[Any]]:
    """Returns a budget's rows of the table; ours is the costliest of the kernels."""
    instance = budget.instance
    rows = []
    for item, limits in budget.items.items():
        loops = [loops_of(kernel, item) for kernel in kernels]
        numbers = [sorted(each_vector(each, budget) for each in some) for some in loops]
        numbers = [each for each in numbers if each]
        lightest = max((each[0] for each in numbers), default="-")
        heaviest = max((each[-1] for each in numbers), default="-")
        ways = [way_of(some) for some in loops if some]
        resident = functools.partial(resident_threads, block=BLOCK)
        silu = limits.silu
        rows.append(
            [
                *(instance.direction, instance.layout, instance.element_bytes),
                *(budget.vectors, item, limits.none.sketch, limits.none, lightest),
                *((silu.sketch, silu, heaviest) if silu else ("-", "-", "-")),
                *(limits.way.sketch, limits.way),
                "-" if None in ways else max(ways, default="-"),
                max((each.registers for each in kernels), default="-"),
                min((resident(each.registers) for each in kernels), default="-"),
                threads_limit(budget.goal_threads, budget.threads),
            ]
        )
    return rows

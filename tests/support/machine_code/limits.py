"""A limit of a budget, beside its goal and what the sketch takes."""

import dataclasses

# A loop may have so many instructions for each of the sketch's.
MOST_OF_SKETCH = 1.25


@dataclasses.dataclass(frozen=True)
class Limit:
    """The most that a kernel may take: the goal, or a number of its own above it.

    A number of its own says that the goal is missed: it is what the kernel takes today,
    so that it takes no more tomorrow.
    """

    sketch: float | None
    goal: float
    own: float | None

    @property
    def most(self) -> float:
        """The limit."""
        return self.goal if self.own is None else self.own

    def __str__(self) -> str:
        """Says the limit, and the goal where it is missed."""
        missed = "" if self.own is None else f" (goal {self.goal:g})"
        return f"{self.most:g}{missed}"


def loop_limit(sketch: float, own: float | None) -> Limit:
    """Returns the limit of a loop, in instructions for each vector."""
    return Limit(sketch, round(MOST_OF_SKETCH * sketch, 1), own)


def threads_limit(goal: int, least: int) -> str:
    """Says how many threads must be resident, and the goal where it is missed."""
    return str(least) if least >= goal else f"{least} (goal {goal})"


def resident_fault(resident: int, least: int, block: int, registers: int) -> list[str]:
    """Returns a sentence if fewer threads are resident than there should be."""
    if resident >= least:
        return []
    return [
        f"{resident} threads resident in blocks of {block} ({registers} registers), "
        f"at least {least}"
    ]

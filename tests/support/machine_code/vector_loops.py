"""The loops of a kernel over 16-byte accesses, and what it executes outside of them.

A vector loop is an innermost one of those with 16-byte accesses of global memory.

Outside of them the ways through the kernel count: from its start to its end, or to
where an outermost loop around vector loops turns back, with one turn at most of each
loop on the way and without the instructions of vector loops. The longest way is more
than any block executes in one turn: which branches exclude each other, the code does
not say. A way never leads through a routine that is called: these hold the rare cases
of divisions and the activations that are not inlined. What only ways with a call reach
has no way, which is a fault.

To look for loops takes a while, so what was found in a kernel is kept.
"""

import dataclasses
import functools

from support.machine_code.machine_code import Counts, Kernel, count, is_wide


@dataclasses.dataclass(frozen=True)
class VectorLoop:
    """A vector loop: what it holds, and the longest way that leads through it."""

    counts: Counts
    way: int | None


def with_name(kernel: Kernel, start: str) -> set[int]:
    """Returns where a kernel has instructions whose names start so."""
    return {
        index
        for index, each in enumerate(kernel.flow.code)
        if each.name.startswith(start)
    }


@functools.cache
def vector_bodies(kernel: Kernel) -> list[frozenset[int]]:
    """Returns the instructions of each vector loop, in the order of their addresses."""
    wide = {index for index, each in enumerate(kernel.flow.code) if is_wide(each)}
    bodies = [
        loop.body
        for loop in kernel.nest.loops
        if loop.body & wide and not any(each.body & wide for each in loop.within)
    ]
    return sorted(bodies, key=min)


@functools.cache
def vector_loops(kernel: Kernel) -> list[VectorLoop]:
    """Returns the vector loops in the order of their addresses."""
    code, nest, bodies = kernel.flow.code, kernel.nest, vector_bodies(kernel)
    inside = set().union(*bodies)
    calls = with_name(kernel, "CALL")
    found = []
    for body in bodies:
        part = sorted(kernel.flow.with_called(set(body)))
        rest = sorted(set(range(len(code))) - set(part))
        counts = count([code[i] for i in part], [code[i] for i in rest])
        found.append(
            VectorLoop(counts, nest.longest_way(body, free=inside, closed=calls))
        )
    return found


def behind_calls(kernel: Kernel) -> int:
    """Returns how many instructions are reached only from what is called."""
    calls = with_name(kernel, "CALL")
    return len(kernel.nest.reached(set()) - kernel.nest.reached(calls) - calls)


def longest_way(kernel: Kernel, exponentials: bool) -> int | None:
    """Returns the longest way through a kernel, without its vector loops.

    Args:
        kernel: The kernel.
        exponentials: Whether the way may take any, as that through SiLU does.
    """
    closed = with_name(kernel, "CALL")
    if not exponentials:
        closed |= with_name(kernel, "MUFU.EX2")
    inside = set().union(*vector_bodies(kernel))
    return kernel.nest.longest_way(
        range(len(kernel.flow.code)), free=inside, closed=closed
    )

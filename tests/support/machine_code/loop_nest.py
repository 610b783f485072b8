"""The loops of a function, one within another, and the longest way through it.

A loop is a part of the code in which each instruction is reached from each other one;
its heads are where it is entered from outside. What still is a loop without the jumps
back to the heads is a loop within it.
"""

import dataclasses
from collections.abc import Iterable, Iterator

from support.machine_code.control_flow import Flow

Edges = dict[int, list[int]]


@dataclasses.dataclass(frozen=True)
class Loop:
    """A loop: positions of its instructions, and those where it is entered."""

    body: frozenset[int]
    heads: frozenset[int]
    within: tuple["Loop", ...]

    def all(self) -> Iterator["Loop"]:
        """Returns the loop itself and all that are within it."""
        yield self
        for each in self.within:
            yield from each.all()


def postorder(edges: Edges) -> list[int]:
    """Returns the positions: without loops, each comes after what it leads to."""
    order: list[int] = []
    seen: set[int] = set()
    for root in sorted(edges):
        waiting = [] if root in seen else [(root, iter(edges[root]))]
        seen.add(root)
        while waiting:
            index, successors = waiting[-1]
            following = next((each for each in successors if each not in seen), None)
            if following is None:
                order.append(index)
                waiting.pop()
            else:
                seen.add(following)
                waiting.append((following, iter(edges[following])))
    return order


def turned_round(edges: Edges) -> Edges:
    """Returns the edges in the other direction."""
    found: Edges = {index: [] for index in edges}
    for index, successors in edges.items():
        for each in successors:
            found[each].append(index)
    return found


def components(edges: Edges) -> list[frozenset[int]]:
    """Returns the parts in which each position is reached from each other one."""
    before = turned_round(edges)
    left = set(edges)
    found = []
    for root in reversed(postorder(edges)):  # Kosaraju's algorithm
        if root not in left:
            continue
        left.discard(root)
        body, waiting = {root}, [root]
        while waiting:
            for each in before[waiting.pop()]:
                if each in left:
                    left.discard(each)
                    body.add(each)
                    waiting.append(each)
        if len(body) > 1 or root in edges[root]:
            found.append(frozenset(body))
    return sorted(found, key=min)


class Nest:
    """The loops of a function, and the ways through it without their jumps back."""

    def __init__(self, flow: Flow) -> None:
        self.code = flow.code
        reached = {0} | flow.reached(0, flow.after)
        self._edges: Edges = {index: flow.after[index] for index in sorted(reached)}
        self._before = turned_round(self._edges)
        self.outermost = self._loops(self._edges)
        self.loops = [loop for each in self.outermost for loop in each.all()]
        jumps_back = {
            (index, head)
            for loop in self.loops
            for head in loop.heads
            for index in self._before[head]
            if index in loop.body
        }
        self._forward: Edges = {
            index: [each for each in successors if (index, each) not in jumps_back]
            for index, successors in self._edges.items()
        }
        self._order = postorder(self._forward)

    def _ends(self, free: set[int]) -> set[int]:
        """Returns where ways end: with the kernel, or with a turn of a loop.

        That is an outermost loop with others in it whose instructions are free.
        """
        exits = {index for index in self._edges if self.code[index].name == "EXIT"}
        turns = {
            index
            for loop in self.outermost
            if loop.body & free and loop.body - free
            for head in loop.heads
            for index in self._before[head]
            if index in loop.body
        }
        return exits | turns

    def _loops(self, edges: Edges) -> tuple[Loop, ...]:
        """Returns the outermost loops of a part of the code."""
        found = []
        for body in components(edges):
            heads = frozenset(
                index
                for index in body
                if index == 0 or any(each not in body for each in self._before[index])
            )
            inner = body - heads
            within = {
                index: [each for each in edges[index] if each in inner]
                for index in body
            }
            found.append(Loop(body, heads, self._loops(within)))
        return tuple(found)

    def reached(self, closed: set[int]) -> set[int]:
        """Returns what is reached from the start without some instructions."""
        found, waiting = {0} - closed, [0]
        while waiting:
            following = set(self._edges[waiting.pop()]) - found - closed
            found |= following
            waiting.extend(following)
        return found

    def longest_way(
        self, through: Iterable[int], free: set[int], closed: set[int]
    ) -> int | None:
        """Returns the most instructions of a way through one of some positions.

        A way leads from the start to the end of the kernel, or to that of a turn of an
        outermost loop around free instructions. It makes one turn at most of each loop.

        Args:
            through: The positions.
            free: Instructions that do not count.
            closed: Instructions that the way must not meet.

        Returns:
            None where there is no such way.
        """
        ends = self._ends(free)
        order = [each for each in self._order if each not in closed]
        to_end: dict[int, int] = {}
        for index in order:
            lengths = [to_end[each] for each in self._forward[index] if each in to_end]
            if lengths or index in ends:
                to_end[index] = max(lengths, default=0) + (index not in free)
        from_start: dict[int, int] = {0: 0} if 0 not in closed else {}
        for index in reversed(order):
            if index not in from_start:
                continue
            length = from_start[index] + (index not in free)
            for each in self._forward[index]:
                if each not in closed:
                    from_start[each] = max(from_start.get(each, 0), length)
        return max(
            (
                from_start[each] + to_end[each]
                for each in through
                if each in from_start and each in to_end
            ),
            default=None,
        )

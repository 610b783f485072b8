"""The instructions of kernels as `cuobjdump` prints them, and how they follow.

A loop of NVIDIA's compilers ends in a branch back, but what runs rarely may stand
behind that, or behind the whole function, and jump back into the loop. A loop is
therefore all that lies on a way from an instruction back to itself, wherever it stands.

A switch may become a jump through a table (BRX). Its targets do not stand in the
instruction; the compiler lists them among the function's attributes.
"""

import dataclasses
import re

INSTRUCTION = re.compile(
    r"\s*/\*(?P<address>[0-9a-f]{4,})\*/\s+(?P<guard>@!?U?P\w+\s+)?"
    r"(?P<name>[A-Z][\w.]*)\s*(?P<operands>[^;]*?)\s*;"
)
TARGET = re.compile(r"\b0x([0-9a-f]+)$")
INFO = re.compile(r"^\.nv\.info\.(\S+)$")
TABLE_BRANCH = re.compile(r"\s*Offset of Indirect Branch: 0x([0-9a-f]+)\b")
TABLE_TARGETS = re.compile(r"\s*Targets: ((?:0x[0-9a-f]+\s*)+)$")


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One instruction; `name` with its suffixes, as `LDG.E.128`."""

    address: int
    guarded: bool
    name: str
    operands: str
    table: tuple[int, ...] = ()  # where a jump through a table may go

    @property
    def target(self) -> int | None:
        """Where a branch or a call goes, if the instruction says so."""
        match = TARGET.search(self.operands)
        return int(match[1], 16) if match else None


def parse_instructions(dumped: str) -> dict[str, list[Instruction]]:
    """Returns the instructions of each function, by its mangled name."""
    functions: dict[str, list[Instruction]] = {}
    code: list[Instruction] = []
    for line in dumped.splitlines():
        if match := re.match(r"\s*Function : (\S+)", line):
            # A kernel that several sources instantiate stands there for each of them.
            code = functions[match[1]] = []
        elif match := INSTRUCTION.match(line):
            code.append(
                Instruction(
                    int(match["address"], 16),
                    match["guard"] is not None,
                    match["name"],
                    match["operands"],
                )
            )
    return functions


def parse_tables(dumped: str) -> dict[str, dict[int, tuple[int, ...]]]:
    """Returns, by mangled name, where the jumps through tables at some addresses go."""
    tables: dict[str, dict[int, tuple[int, ...]]] = {}
    function, address = "", 0
    for line in dumped.splitlines():
        if match := INFO.match(line):
            function = match[1]
        elif match := TABLE_BRANCH.match(line):
            address = int(match[1], 16)
        elif match := TABLE_TARGETS.match(line):
            targets = tuple(int(each, 16) for each in match[1].split())
            tables.setdefault(function, {})[address] = targets
    return tables


def with_tables(
    code: list[Instruction], tables: dict[int, tuple[int, ...]]
) -> list[Instruction]:
    """Returns the instructions with the targets of those that jump through a table."""
    return [
        dataclasses.replace(each, table=tables.get(each.address, ())) for each in code
    ]


class Flow:
    """The graph of a function's branches, between positions in its code."""

    def __init__(self, code: list[Instruction]) -> None:
        self.code = code
        self._position = {each.address: index for index, each in enumerate(code)}
        self.after = [self._successors(index) for index in range(len(code))]
        self.before: list[list[int]] = [[] for _ in code]
        for index, successors in enumerate(self.after):
            for each in successors:
                self.before[each].append(index)

    def _successors(self, index: int) -> list[int]:
        """Returns where execution goes on, but for parted lanes and called routines."""
        instruction = self.code[index]
        kind = instruction.name.split(".")[0]
        following = [index + 1] if index + 1 < len(self.code) else []
        if kind in ("EXIT", "RET", "KILL"):
            return following if instruction.guarded else []
        if kind == "BRX":
            if not instruction.table:
                raise ValueError(
                    f"BRX at {instruction.address:#x}: its targets are not known."
                )
            cases = [self._position[each] for each in instruction.table]
            return [*(following if instruction.guarded else []), *cases]
        if kind not in ("BRA", "JMP") or ".DIV" in instruction.name:
            return following
        target = self._position.get(instruction.target)
        # A branch is taken if there is no condition, neither before nor among operands.
        always = not instruction.guarded and "," not in instruction.operands
        return [
            *(following if not always else []),
            *([target] if target is not None else []),
        ]

    def reached(self, start: int, edges: list[list[int]]) -> set[int]:
        """Returns what is reached from a position over one edge or more."""
        found: set[int] = set()
        waiting = [start]
        while waiting:
            for each in edges[waiting.pop()]:
                if each not in found:
                    found.add(each)
                    waiting.append(each)
        return found

    def loop_of(self, index: int) -> set[int]:
        """Returns the outermost loop that holds an instruction; empty if none does."""
        loop = self.reached(index, self.after) & self.reached(index, self.before)
        return loop if index in loop else set()

    def with_called(self, part: set[int]) -> set[int]:
        """Returns a part of the function together with the routines that it calls."""
        found = set(part)
        waiting = list(part)
        while waiting:
            instruction = self.code[waiting.pop()]
            if not instruction.name.startswith("CALL"):
                continue
            start = self._position.get(instruction.target)
            if start is not None and start not in found:
                routine = {start} | self.reached(start, self.after)
                waiting.extend(routine - found)
                found |= routine
        return found

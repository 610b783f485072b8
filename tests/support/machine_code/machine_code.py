"""What the kernels of a library cost, read from their machine code: no GPU needed.

    python -m support.machine_code.machine_code LIBRARY [--kernel REGEX] [--arch sm_90]

with tests/ in PYTHONPATH prints a line for each kernel of a library, program or cubin:
registers, instructions in all, and what its row loop holds. `cuobjdump` and `nvdisasm`
come with the extra `test`, as packages of PyPI, or with the CUDA toolkit; `c++filt`
with the C++ compiler.

The row loop is the loop with most of the kernel's 16-byte accesses of global memory,
together with everything in it; what the compiler puts behind the loop and what jumps
back from there is part of it. Two kinds of code count differently:

- What runs in place of a shuffle or a barrier when the lanes of a warp have parted
  (the target of `BRA.DIV`) does not count: lanes that take a row together never part.
- A routine that the loop calls counts once.

A kernel without such a loop takes one row and counts as a whole.
"""

import argparse
import dataclasses
import functools
import importlib.metadata
import os
import re
import shutil
import subprocess
from pathlib import Path

from support.machine_code.control_flow import (
    Flow,
    Instruction,
    parse_instructions,
    parse_tables,
    with_tables,
)
from support.machine_code.loop_nest import Nest

WIDE = r"\S*\.(128|256)"
KINDS = {
    "wide_loads": re.compile(rf"(LD|LDG|LDGSTS)(?=\.){WIDE}(\.|$)"),
    "wide_stores": re.compile(rf"(ST|STG)(?=\.){WIDE}(\.|$)"),
    "narrow_loads": re.compile(rf"(LD|LDG|LDGSTS)(?!{WIDE})(\.|$)"),
    # Reductions in memory are stores too, and never of 16 bytes.
    "narrow_stores": re.compile(
        rf"(ST|STG)(?!{WIDE})(\.|$)|(RED|REDG|ATOM|ATOMG)(\.|$)"
    ),
    "local": re.compile(r"(LDL|STL)(\.|$)"),
    "shared": re.compile(r"(LDS|STS|LDSM|STSM|ATOMS)(\.|$)"),
    "shuffles": re.compile(r"SHFL(\.|$)"),
    "barriers": re.compile(r"(BAR|UCGABAR_\w+|SYNCS)(\.|$)"),
    "calls": re.compile(r"CALL(\.|$)"),
}
FROM_INTEGER = re.compile(r"I2F(\.|$)")
TO_INTEGER = re.compile(r"F2I(\.|$)")
RECIPROCAL = re.compile(r"MUFU\.RCP$")
ELEMENT_BYTES = {"float": 4, "Half": 2, "Bfloat16": 2, "double": 8}
HIGH_PRODUCT = re.compile(r"IMAD\.HI(\.|$)")


class MachineCodeError(RuntimeError):
    """The machine code cannot be read; the message says what is missing."""


@dataclasses.dataclass(frozen=True)
class Counts:
    """How many instructions of each kind a piece of code has."""

    instructions: int
    wide_loads: int
    wide_stores: int
    narrow_loads: int
    narrow_stores: int
    local: int
    shared: int
    shuffles: int
    barriers: int
    calls: int
    divisions: int


@dataclasses.dataclass(frozen=True)
class Kernel:
    """One kernel, with what it holds as a whole and in its row loop."""

    name: str
    registers: int
    whole: Counts
    row_loop: Counts
    has_loop: bool
    flow: Flow = dataclasses.field(repr=False)

    @property
    def template(self) -> str:
        """The name without namespaces and arguments, as `RowsForward`."""
        return self.name.split("<")[0].split("::")[-1]

    @property
    def arguments(self) -> list[str]:
        """The arguments of the template, as they stand in the name."""
        return split_arguments(self.name.partition("<")[2].rpartition(">")[0])

    @property
    def element_bytes(self) -> int:
        """The bytes of the data type, which is the template's first argument."""
        return ELEMENT_BYTES[self.arguments[0].split("::")[-1]]

    @functools.cached_property
    def nest(self) -> Nest:
        """The kernel's loops, one within another."""
        return Nest(self.flow)


def split_arguments(text: str) -> list[str]:
    """Splits `A, B<C, D>` at the commas that are not inside of brackets."""
    arguments, depth, start = [], 0, 0
    for position, letter in enumerate(text):
        depth += (letter == "<") - (letter == ">")
        if letter == "," and depth == 0:
            arguments.append(text[start:position])
            start = position + 1
    arguments.append(text[start:])
    return [each.strip() for each in arguments if each.strip()]


def find_tool(name: str) -> Path:
    """Returns where `cuobjdump` or `nvdisasm` is: in PyPI's package or on the PATH."""
    package = f"nvidia-cuda-{name}"
    try:
        files = importlib.metadata.files(package) or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name == name:
            return Path(file.locate())
    on_path = shutil.which(name)
    if on_path is None:
        raise MachineCodeError(
            f"Reading machine code needs {name}: pip install {package}, or put the bin "
            "folder of the CUDA toolkit on the PATH."
        )
    return Path(on_path)


def run(*command: str | Path, text: str | None = None) -> str:
    """Returns what a command prints; it finds `nvdisasm`, which `cuobjdump` calls."""
    path = os.pathsep.join([str(find_tool("nvdisasm").parent), os.environ["PATH"]])
    try:
        result = subprocess.run(
            command,
            input=text,
            capture_output=True,
            text=True,
            env={**os.environ, "PATH": path},
        )
    except FileNotFoundError as error:
        raise MachineCodeError(f"Reading machine code needs {command[0]}.") from error
    if result.returncode:
        raise MachineCodeError(f"{command[0]} failed: {result.stderr.strip()}")
    return result.stdout


def dump(library: Path, what: str, arch: str) -> str:
    """Returns what `cuobjdump` prints of a library; cubins have one architecture."""
    chosen = () if library.suffix == ".cubin" else ("--gpu-architecture", arch)
    return run(find_tool("cuobjdump"), what, *chosen, library)


def demangle(names: list[str]) -> list[str]:
    """Returns the names as they stand in the source, without `void` and arguments."""
    lines = run("c++filt", text="\n".join(names)).splitlines()
    # The last brackets hold the arguments; others may stand in those of the template.
    last_brackets = r"\((?:[^()]|\([^()]*\))*\)$"
    return [
        re.sub(rf"^void |{last_brackets}", "", re.sub(r"> (?=>)", ">", line))
        for line in lines
    ]


def parse_registers(dumped: str) -> dict[str, int]:
    """Returns the registers of each function, by its mangled name."""
    found = re.findall(r"Function (\S+):\s+REG:(\d+)", dumped)
    return {name: int(registers) for name, registers in found}


def is_wide(instruction: Instruction) -> bool:
    """Returns whether the instruction accesses 16 bytes of global memory or more."""
    return any(
        KINDS[kind].match(instruction.name) for kind in ("wide_loads", "wide_stores")
    )


def find_row_loop(flow: Flow) -> set[int]:
    """Returns the loop with most of the 16-byte accesses; empty if none has any."""
    accesses = {index for index, each in enumerate(flow.code) if is_wide(each)}
    largest: set[int] = set()
    left = set(accesses)
    while left:
        index = left.pop()
        loop = flow.loop_of(index)
        left -= loop
        if len(loop & accesses) > len(largest & accesses):
            largest = loop
    return largest


def count_divisions(part: list[Instruction], rest: list[Instruction]) -> int:
    """Returns how many integers a piece of code divides by run-time numbers.

    There is no instruction for it. The compiler converts the divisor to float (I2F),
    takes its reciprocal (MUFU.RCP), converts that back (F2I) and corrects the quotient;
    for 16 and 64 bits a routine does so. Float arithmetic alone never has all three.
    Where the divisor stays the same in the loop, the three stand before it (`rest`),
    and the loop keeps the high half of a product with the reciprocal (IMAD.HI) for each
    division. A division by a constant takes one too, but with a constant as factor.
    """

    def count(pattern: re.Pattern, code: list[Instruction]) -> int:
        return sum(bool(pattern.match(each.name)) for each in code)

    def reciprocals(code: list[Instruction]) -> int:
        return min(count(each, code) for each in (FROM_INTEGER, RECIPROCAL, TO_INTEGER))

    inside = reciprocals(part)
    if inside or not reciprocals(rest):
        return inside
    return sum(
        bool(HIGH_PRODUCT.match(each.name)) and ", 0x" not in each.operands
        for each in part
    )


def count(part: list[Instruction], rest: list[Instruction]) -> Counts:
    """Counts a piece of code; `rest` is the other code of the same kernel."""
    return Counts(
        instructions=len(part),
        divisions=count_divisions(part, rest),
        **{
            kind: sum(bool(pattern.match(each.name)) for each in part)
            for kind, pattern in KINDS.items()
        },
    )


def measure(name: str, registers: int, code: list[Instruction]) -> Kernel:
    """Returns what a kernel of that code costs."""
    # Behind the last instruction come a branch to itself and padding.
    code = [each for each in code if each.name != "NOP" and each.target != each.address]
    flow = Flow(code)
    reachable = flow.with_called({0} | flow.reached(0, flow.after))
    loop = flow.with_called(find_row_loop(flow))
    row_loop = sorted(loop or reachable)
    rest = sorted(reachable - set(row_loop))
    return Kernel(
        name,
        registers,
        whole=count(code, []),
        row_loop=count([code[i] for i in row_loop], [code[i] for i in rest]),
        has_loop=bool(loop),
        flow=flow,
    )


def read(library: Path, pattern: str = "", arch: str = "sm_90") -> list[Kernel]:
    """Returns the kernels of a library whose names match a pattern, by name."""
    functions = parse_instructions(dump(library, "--dump-sass", arch))
    if not functions:
        raise MachineCodeError(f"{library} has no machine code for {arch}.")
    registers = parse_registers(dump(library, "--dump-resource-usage", arch))
    tables = parse_tables(dump(library, "--dump-elf", arch))
    names = demangle(list(functions))
    kernels = [
        measure(name, registers[mangled], with_tables(code, tables.get(mangled, {})))
        for name, (mangled, code) in zip(names, functions.items(), strict=True)
        if re.search(pattern, name) and mangled in registers
    ]
    return sorted(kernels, key=lambda kernel: kernel.name)


def table(kernels: list[Kernel]) -> str:
    """Returns a line for each kernel: of the row loop, where no other part is named."""
    fields = [field.name for field in dataclasses.fields(Counts)]
    rows = [["registers", "in all", "loop", *fields, "kernel"]]
    for kernel in kernels:
        counts = dataclasses.astuple(kernel.row_loop)
        loop = "yes" if kernel.has_loop else "no"
        start = [kernel.registers, kernel.whole.instructions, loop]
        rows.append([str(each) for each in (*start, *counts, kernel.name)])
    *widths, _ = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for *cells, name in rows:
        padded = [cell.rjust(width) for cell, width in zip(cells, widths, strict=True)]
        lines.append("  ".join([*padded, name]))
    return "\n".join(lines)


def main() -> None:
    """Prints the table of a library's kernels."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("library", type=Path)
    parser.add_argument("--kernel", default="", help="regular expression of names")
    parser.add_argument("--arch", default="sm_90")
    options = parser.parse_args()
    try:
        print(table(read(options.library, options.kernel, options.arch)))
    except MachineCodeError as error:
        parser.exit(1, f"{error}\n")


if __name__ == "__main__":
    main()

"""What the kernels of a library take, for each architecture, as cuobjdump reports it.

    PYTHONPATH=tests python -m support.machine_code.kernel_resources LIBRARY

prints the table of docs/cuda.md: a row for each kernel template, with the most
registers that any of its instances takes.
"""

import collections
import dataclasses
import re
import sys
from pathlib import Path

from support.machine_code.machine_code import demangle, find_tool, run

ARCH = re.compile(r"arch = sm_(\d+)")
FUNCTION = re.compile(r" Function (\S+):")
USAGE = re.compile(r"  REG:(\d+) STACK:(\d+) SHARED:(\d+)")


@dataclasses.dataclass(frozen=True)
class Resources:
    """What a kernel takes on an architecture.

    Attributes:
        kernel: Its name, without our namespaces.
        arch: The architecture, "90".
        registers: Of each thread.
        stack: Bytes of each thread's stack frame, where spilled registers go too.
        shared: Bytes of static shared memory of each block.
    """

    kernel: str
    arch: str
    registers: int
    stack: int
    shared: int


def parse(text: str) -> list[Resources]:
    """Returns what cuobjdump reports, by name and architecture."""
    names, usages, arch = [], [], ""
    for line in text.splitlines():
        if match := ARCH.match(line):
            arch = match[1]
        elif match := FUNCTION.match(line):
            names.append(match[1])
        elif match := USAGE.match(line):
            usages.append((arch, *map(int, match.groups())))
    kernels = [
        Resources(re.sub("fusednorm::cuda::(second_order::)?", "", name), *usage)
        for name, usage in zip(demangle(names), usages, strict=True)
    ]
    return sorted(kernels, key=lambda each: (each.kernel, int(each.arch)))


def read(library: Path) -> list[Resources]:
    """Returns what the kernels of a library take."""
    return parse(run(find_tool("cuobjdump"), "--dump-resource-usage", library))


def table(kernels: list[Resources]) -> str:
    """Returns a row for each kernel template: the most that any instance takes."""
    archs = sorted({each.arch for each in kernels}, key=int)
    most = collections.defaultdict(int)
    instances = collections.defaultdict(set)
    for each in kernels:
        template = each.kernel.split("<")[0].split("::")[-1]
        instances[template].add(each.kernel)
        most[template, each.arch] = max(most[template, each.arch], each.registers)
    rows = [
        ["kernel", "instances", *(f"sm_{arch}" for arch in archs)],
        ["---"] + ["---:"] * (1 + len(archs)),
        *(
            [template, len(names), *(most[template, arch] for arch in archs)]
            for template, names in instances.items()
        ),
    ]
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in rows)


if __name__ == "__main__":
    print(table(read(Path(sys.argv[1]))))

"""Compiler launcher for nvcc: keeps what ptxas says of each kernel, next to the object.

`ptxas_report.py nvcc ... -o OBJECT` runs the command with `-Xptxas=-v`, writes the
report to OBJECT.ptxas.json and passes everything else on to standard error.
`ptxas_report.py --collect OUT OBJECT...` joins the reports of objects into one file and
prints how many kernels there are; `ptxas_report.py --table FILE` prints that file as a
Markdown table, as in docs/cuda.md.
"""

import collections
import json
import re
import subprocess
import sys
from pathlib import Path

COMPILING = re.compile(
    r"ptxas info\s+: Compiling entry function '(\S+)' for 'sm_(\w+)'"
)
FUNCTION = re.compile(r"ptxas info\s+: Function properties for (\S+)")
STACK = re.compile(
    r"\s+(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads"
)
USED = re.compile(r"ptxas info\s+: Used (\d+) registers")
SHARED = re.compile(r"(\d+) bytes smem")
NOISE = re.compile(r"ptxas info\s+: |\s+\d+ bytes (stack|gmem)|^$")


def parse(text: str) -> tuple[list[dict], list[str]]:
    """Returns the kernels of a report, and the lines that are not part of it."""
    kernels, others = [], []
    kernel = None
    function = None
    for line in text.splitlines():
        if match := COMPILING.search(line):
            kernel = {"kernel": match[1], "arch": match[2]}
            kernel |= {"stack": 0, "spill_stores": 0, "spill_loads": 0}
            kernels.append(kernel)
        elif match := FUNCTION.search(line):
            function = match[1]
        elif (match := STACK.match(line)) and kernel is not None:
            # Also of the functions that a kernel calls: their spills are its own.
            kernel["spill_stores"] += int(match[2])
            kernel["spill_loads"] += int(match[3])
            if function == kernel["kernel"]:
                kernel["stack"] = int(match[1])
        elif (match := USED.search(line)) and kernel is not None:
            kernel["registers"] = int(match[1])
            shared = SHARED.search(line)
            kernel["shared"] = int(shared[1]) if shared else 0
        elif not NOISE.match(line):
            others.append(line)
    return kernels, others


def demangle(names: list[str]) -> list[str]:
    """Returns readable names, or the same ones where there is no c++filt."""
    try:
        result = subprocess.run(
            ["c++filt"],
            input="\n".join(names),
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return names
    return [
        re.sub(r"^void |fusednorm::cuda::(second_order::)?|\([^()]*\)$", "", name)
        for name in result.stdout.splitlines()
    ]


def describe_count(kernels: list[dict]) -> str:
    """Returns a sentence with the number of kernels for each architecture."""
    counts = collections.Counter(kernel["arch"] for kernel in kernels)
    listed = ", ".join(f"{counts[arch]} for {arch}" for arch in sorted(counts, key=int))
    return f"fusednorm: CUDA kernels: {listed}"


def report_of(target: Path) -> Path:
    """Returns where the report of an object is."""
    return target.with_name(target.name + ".ptxas.json")


def collect(output: Path, objects: list[Path]) -> str:
    """Writes the kernels of all objects to one JSON file and returns their number."""
    kernels = [
        kernel for path in objects for kernel in json.loads(report_of(path).read_text())
    ]
    for kernel, name in zip(
        kernels, demangle([kernel["kernel"] for kernel in kernels]), strict=True
    ):
        kernel["kernel"] = name
    kernels.sort(key=lambda kernel: (kernel["kernel"], int(kernel["arch"])))
    lines = ",\n".join(json.dumps(kernel) for kernel in kernels)
    output.write_text(f"[\n{lines}\n]\n")
    return describe_count(kernels)


def table(report: Path) -> str:
    """Returns a row per kernel template: the most that any of its instances takes."""
    kernels = json.loads(report.read_text())
    archs = sorted({kernel["arch"] for kernel in kernels}, key=int)
    templates: dict[str, list[dict]] = {}
    for kernel in kernels:
        name = kernel["kernel"].split("<")[0].split("::")[-1]
        templates.setdefault(name, []).append(kernel)
    rows = [
        ["kernel", "instances", *(f"sm_{arch}" for arch in archs)],
        ["---"] + ["---:"] * (1 + len(archs)),
    ]
    for name, instances in templates.items():
        registers = [
            max(each["registers"] for each in instances if each["arch"] == arch)
            for arch in archs
        ]
        rows.append([name, len({each["kernel"] for each in instances}), *registers])
    spilled = sum(each["spill_stores"] + each["spill_loads"] for each in kernels)
    lines = [f"| {' | '.join(map(str, row))} |" for row in rows]
    return "\n".join(
        [
            *lines,
            "",
            f"{len(kernels)} kernels in all: {spilled} bytes spilled, at most "
            f"{max(each['stack'] for each in kernels)} bytes of stack frame and "
            f"{max(each['shared'] for each in kernels)} bytes of static shared memory.",
        ]
    )


def main() -> int:
    """Runs the compiler, or collects, or prints what was collected."""
    if sys.argv[1] == "--collect":
        print(collect(Path(sys.argv[2]), [Path(name) for name in sys.argv[3:]]))
        return 0
    if sys.argv[1] == "--table":
        print(table(Path(sys.argv[2])))
        return 0
    command = sys.argv[1:]
    compiles = "-o" in command and ("-c" in command or "-x" in command)
    if compiles:
        command.append("-Xptxas=-v")
    result = subprocess.run(command, stderr=subprocess.PIPE, text=True)
    kernels, others = parse(result.stderr)
    if others:
        print("\n".join(others), file=sys.stderr)
    if compiles and result.returncode == 0:
        report_of(Path(command[command.index("-o") + 1])).write_text(
            json.dumps(kernels)
        )
    return result.returncode


if __name__ == "__main__":
    sys.exit(main())

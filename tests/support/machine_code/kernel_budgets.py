"""What each specialised kernel may cost, and whether it keeps to that.

    python -m support.machine_code.kernel_budgets LIBRARY... [--scheme stream]

with tests/ in PYTHONPATH prints the budgets beside what the kernels of built libraries
or cubins take, as a Markdown table for each scheme, and below it every budget that is
not kept. The budgets of a scheme are in `cuda/kernels/SCHEME/budgets.json`, which says
what they count.
"""

import argparse
import collections
import types
from pathlib import Path
from typing import Any

from support.machine_code import rows_budgets, stream_budgets, tile_budgets
from support.machine_code.machine_code import Kernel, MachineCodeError, read

# Each has: KERNELS, a pattern of names; load_budgets(), each with its `instance`;
# instance_of(kernel), None for a kernel without a budget; faults(kernel, budget); and
# HEADER, WORDS and rows_of_table(budget, kernels) of the table.
SCHEMES = {"rows": rows_budgets, "tile": tile_budgets, "stream": stream_budgets}


def all_faults(
    scheme: types.ModuleType, kernels: list[Kernel], budgets: list[Any]
) -> list[str]:
    """Returns what is wrong with the kernels or with the table, a sentence each."""
    found = []
    lines = {budget.instance: budget for budget in budgets}
    unused = dict(lines)
    for kernel in kernels:
        instance = scheme.instance_of(kernel)
        if instance is None:
            of_kernel = (
                [f"{kernel.whole.local} accesses of local memory"]
                if kernel.whole.local
                else []
            )
        elif instance in lines:
            unused.pop(instance, None)
            of_kernel = scheme.faults(kernel, lines[instance])
        else:
            of_kernel = [f"no budget ({instance})"]
        found += [f"{kernel.name}: {each}" for each in of_kernel]
    repeated = collections.Counter(budget.instance for budget in budgets)
    found += [
        f"two budgets for {each}" for each, times in repeated.items() if times > 1
    ]
    return [*found, *(f"no kernel for the budget of {each}" for each in unused)]


def table(scheme: types.ModuleType, kernels: list[Kernel], budgets: list[Any]) -> str:
    """Returns the budgets as a Markdown table."""
    ours: dict[Any, list[Kernel]] = {}
    for kernel in kernels:
        ours.setdefault(scheme.instance_of(kernel), []).append(kernel)
    rows = [
        list(scheme.HEADER),
        ["---" if each in scheme.WORDS else "---:" for each in scheme.HEADER],
    ]
    for budget in budgets:
        rows += scheme.rows_of_table(budget, ours.get(budget.instance, []))
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in rows)


def main() -> None:
    """Prints the tables and what exceeds them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("libraries", type=Path, nargs="+")
    parser.add_argument("--scheme", choices=SCHEMES, help="one instead of all")
    options = parser.parse_args()
    for name in [options.scheme] if options.scheme else SCHEMES:
        scheme = SCHEMES[name]
        try:
            kernels = [
                kernel
                for library in options.libraries
                for kernel in read(library, scheme.KERNELS)
            ]
        except MachineCodeError as error:
            parser.exit(1, f"{error}\n")
        budgets = scheme.load_budgets()
        print(f"{name}:\n", table(scheme, kernels, budgets), "", sep="\n")
        found = all_faults(scheme, kernels, budgets)
        print(f"{len(found)} faults", *found, "", sep="\n")


if __name__ == "__main__":
    main()

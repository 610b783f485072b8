"""Kernels for tests, from instructions as they are printed."""

from support.machine_code import machine_code
from support.machine_code.control_flow import parse_instructions, with_tables


def kernel_of(text, tables=None):
    """Returns the kernel of instructions written one a line, at addresses 0, 10, ...

    Args:
        text: The instructions.
        tables: Where the jumps through tables at some addresses go.
    """
    lines = [
        f"        /*{16 * i:04x}*/                   {line.strip()} ;"
        for i, line in enumerate(text.strip().splitlines())
    ]
    (code,) = parse_instructions("\n".join(["\t\tFunction : kernel", *lines])).values()
    return machine_code.measure("kernel", 32, with_tables(code, tables or {}))

"""The least that a pass has to move, and what share of a copy's speed a time is."""

from __future__ import annotations


def tensors_moved(*, backward: bool, residual: bool) -> int:
    """Returns how many tensors of x's size are read or written at least once.

    Forward: x, y; with a residual x, r, y, sum. Backward: x, dy, dx; with a residual
    also dsum. Parameters and statistics are left out.
    """
    if residual:
        return 4
    return 3 if backward else 2


def least_bytes(elements: int, itemsize: int, *, backward: bool, residual: bool) -> int:
    """Returns the bytes of all tensors that a pass must read or write."""
    return elements * itemsize * tensors_moved(backward=backward, residual=residual)


def gigabytes_per_second(count: int, seconds: float) -> float:
    """Returns the speed in 10^9 bytes a second."""
    return count / seconds / 1e9


def share_of_copy(count: int, seconds: float, copy_bandwidth: float) -> float:
    """Returns the time a copy would take for `count` bytes, as a share of `seconds`.

    Args:
        count: Bytes, those read plus those written.
        seconds: What the pass took.
        copy_bandwidth: Bytes a second of a copy, read plus written.
    """
    return count / copy_bandwidth / seconds

"""A copy kernel in Triton. Importing this needs Triton, which comes with PyTorch."""

from __future__ import annotations

from typing import Any

import triton
import triton.language as tl

NAME = f"Triton {triton.__version__}"
# Elements of 4 bytes that a block of 256 threads copies: four accesses of 16 bytes a
# thread are in flight.
BLOCK = 4096
WARPS = 8


@triton.jit
def copy_kernel(source: Any, destination: Any, size: int, block: tl.constexpr) -> None:
    """Copies `size` elements of 4 bytes.

    Accesses have 16 bytes because Triton sees pointers and a size that are multiples
    of 16, and neighbouring offsets in a thread.
    """
    offsets = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
    inside = offsets < size
    tl.store(destination + offsets, tl.load(source + offsets, inside), inside)


def copy(source: Any, destination: Any) -> None:
    """Enqueues the copy of a tensor of 4-byte elements on the current stream."""
    size = source.numel()
    grid = (triton.cdiv(size, BLOCK),)
    copy_kernel[grid](source, destination, size, block=BLOCK, num_warps=WARPS)

"""Every way that the plan takes on this device computes the right numbers."""

import itertools
import math

import pytest
from support.gpu import requirements

if reason := requirements.missing():
    pytest.skip(reason, allow_module_level=True)

import torch
from support.gpu.cases import CASES, group_norm, layer_norm, rms_norm
from support.gpu.checks import check, needs_memory
from support.gpu.on_torch import plan, way
from support.gpu.runs import problem_data

pytestmark = pytest.mark.gpu

LENGTHS = [3, 16, 24, 100, 129, 512, 1000, 2048, 4099, 8192, 20_000, 32_768]
LENGTHS += [50_001, 65_536, 131_072, 262_145, 524_288, 1_048_576]
ROWS = [1, 2, 40, 3000]
MOST_ELEMENTS = 3_000_000


def sweep():
    """Yields problems around every threshold that a plan could have."""
    yield from CASES.values()
    for length, rows in itertools.product(LENGTHS, ROWS):
        if length * rows > MOST_ELEMENTS:
            continue
        yield layer_norm(), (rows, length)
        yield rms_norm(), (rows, length)
        if length >= 24:
            yield layer_norm(1), (rows, length // 8, 8)
            yield layer_norm(1), (rows, 3, length // 3)
        for width, groups in itertools.product((8, 10, 64, 320, 640), (1, 2, -1)):
            if width * length * rows <= MOST_ELEMENTS:
                yield group_norm(groups), (rows, length, width)
                yield group_norm(groups, 1), (rows, width, length)


def signature(norm, shape, dtype, backward):
    """Returns what distinguishes one way through the kernels from another."""
    found = plan(norm, shape, dtype, backward=backward)
    several = ("team", "slices", "lane_blocks", "parts", "pieces")
    return (
        "backward" if backward else "forward",
        *way(found),
        found["stream"],
        *(found["geometry"].get(name, 1) > 1 for name in several),
    )


def representatives(dtype):
    """Returns the smallest problem of the sweep for each signature."""
    smallest = {}
    for norm, shape in sweep():
        for backward in (False, True):
            key = signature(norm, shape, dtype, backward)
            size = math.prod(shape)
            if key not in smallest or size < smallest[key][0]:
                smallest[key] = (size, norm, shape)
    return smallest


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_every_plan_of_a_sweep(dtype, generator):
    needs_memory(2 * 2**30)
    found = representatives(dtype)
    failures = []
    done = set()
    for key, (_, norm, shape) in sorted(found.items(), key=lambda each: each[1][0]):
        if (repr(norm), shape) in done:
            continue
        done.add((repr(norm), shape))
        try:
            check(norm, problem_data(norm, shape, dtype, generator, residual=True))
        except AssertionError as error:
            failures.append(f"{key} {norm} {shape}: {error}")
    assert not failures, "\n".join(failures)
    schemes = sorted({(key[0], key[1]) for key in found})
    print(f"{dtype}: {len(found)} plans on {len(done)} problems: {schemes}")
    assert len(schemes) >= 8, schemes

"""Kernels keep to their budgets, and each budget of rows has a kernel."""

import dataclasses
import re
from pathlib import Path

import fusednorm
import pytest
from fusednorm import _build_info
from support.machine_code import kernel_budgets, rows_budgets
from support.machine_code.limits import MOST_OF_SKETCH
from support.machine_code.machine_code import read
from support.machine_code.occupancy import resident_threads

GENERAL = ("Plain<true, false>", "General")
CUDA = Path(fusednorm.__file__).parent / "libfusednorm_cuda.so"
needs_cuda = pytest.mark.skipif(
    _build_info.CUDA_VERSION is None, reason="BUILD WITHOUT CUDA: no kernels to look at"
)


@pytest.fixture(scope="module")
def kernels():
    """All that have budgets: the library takes long to read."""
    return read(
        CUDA, "|".join(each.KERNELS for each in kernel_budgets.SCHEMES.values())
    )


@needs_cuda
@pytest.mark.skipif(
    "90" not in _build_info.CUDA_ARCHITECTURES, reason="BUILD WITHOUT sm_90"
)
@pytest.mark.parametrize(
    "scheme", kernel_budgets.SCHEMES.values(), ids=kernel_budgets.SCHEMES
)
def test_kernels_keep_to_their_budgets(scheme, kernels):
    kernels = [each for each in kernels if re.search(scheme.KERNELS, each.name)]
    assert kernels
    budgets = scheme.load_budgets()
    print(kernel_budgets.table(scheme, kernels, budgets))
    found = kernel_budgets.all_faults(scheme, kernels, budgets)
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("registers", "block", "threads"),
    [
        (32, 256, 2048),
        (33, 256, 1536),  # 40 are allocated
        (64, 512, 1024),
        (64, 128, 1024),
        (65, 512, 512),  # 72: 28 warps, of which blocks of 16 take 16
        (72, 128, 896),
        (80, 256, 768),
        (85, 128, 640),
        (128, 512, 512),
        (16, 32, 1024),  # 32 blocks
        (255, 512, 0),
    ],
)
def test_resident_threads(registers, block, threads):
    # For 76 kernels of 45 to 162 registers the formula agreed with what
    # cudaOccupancyMaxActiveBlocksPerMultiprocessor said on an H200.
    assert resident_threads(registers, block) == threads


def test_budgets_are_complete_and_differ():
    budgets = rows_budgets.load_budgets()
    assert len({each.instance for each in budgets}) == len(budgets)
    for budget in budgets:
        assert budget.source in ("measured", "compiled", "derived"), budget
        assert budget.instructions > budget.sketch > 0, budget
        assert budget.blocks, budget
        # A limit of its own never lies far from that of the others.
        assert budget.limit is None or (
            MOST_OF_SKETCH < budget.limit / budget.sketch < 1.45
        ), budget


def budget_for(kernel, sketch):
    """Returns a budget of a kernel's instance."""
    instance = rows_budgets.instance_of(kernel)
    return rows_budgets.Budget(instance, sketch, "measured", 1024, (128,), None)


@needs_cuda
def test_names_give_instances(samples, good_kernel):
    instance = rows_budgets.instance_of(good_kernel)
    assert instance == rows_budgets.Instance("forward", 2, 2, "lanes", True, False)
    general = samples[good_kernel.name.replace(*GENERAL)]
    assert rows_budgets.instance_of(general) is None


@needs_cuda
def test_good_kernel_keeps_to_its_budget(good_kernel):
    budget = budget_for(good_kernel, good_kernel.row_loop.instructions)
    assert kernel_budgets.all_faults(rows_budgets, [good_kernel], [budget]) == []


@needs_cuda
@pytest.mark.parametrize(
    ("sample", "fault"),
    [
        ("ScalarLoads", "loads of less than 16 bytes"),
        ("ScalarStores", "stores of less than 16 bytes"),
        ("LocalArray", "accesses of local memory"),
        ("Division<int, true>", "divisions by run-time integers"),
        ("OneShot", "stores of 16 bytes in the row loop"),
        ("SharedSum", "instructions in the row loop"),
    ],
)
def test_budget_finds_the_fault(samples, good_kernel, sample, fault):
    kernel = dataclasses.replace(samples[sample], name=good_kernel.name)
    found = rows_budgets.faults(kernel, budget_for(good_kernel, sketch=8))
    assert any(fault in each for each in found), found


@needs_cuda
def test_budget_finds_too_many_registers(good_kernel):
    kernel = dataclasses.replace(good_kernel, registers=65)
    (found,) = rows_budgets.faults(kernel, budget_for(good_kernel, sketch=1000))
    assert "896 threads resident (65 registers), at least 1024" in found


@needs_cuda
def test_table_and_kernels_match_one_to_one(samples, good_kernel):
    budget = budget_for(good_kernel, sketch=1000)
    (found,) = kernel_budgets.all_faults(rows_budgets, [good_kernel], [])
    assert "no budget" in found
    (found,) = kernel_budgets.all_faults(rows_budgets, [], [budget])
    assert "no kernel" in found
    (found,) = kernel_budgets.all_faults(rows_budgets, [good_kernel], [budget, budget])
    assert "two budgets" in found
    local = samples["LocalArray"]
    general = dataclasses.replace(local, name=good_kernel.name.replace(*GENERAL))
    (found,) = kernel_budgets.all_faults(rows_budgets, [good_kernel, general], [budget])
    assert "local memory" in found
    unknown = dataclasses.replace(
        good_kernel, name=good_kernel.name.replace("Plain", "Other")
    )
    with pytest.raises(ValueError, match="Plain<centred, residual> or General"):
        kernel_budgets.all_faults(rows_budgets, [unknown], [budget])


@needs_cuda
def test_table_for_the_documentation(good_kernel):
    budget = budget_for(good_kernel, sketch=1000)
    row = kernel_budgets.table(rows_budgets, [good_kernel], [budget]).splitlines()[-1]
    loop, registers = good_kernel.row_loop.instructions, good_kernel.registers
    assert row.startswith("| forward | 2 | 2 | lanes | yes | no | 1000 | 1250 | ")
    assert f"| {loop} | {registers} | " in row
    assert row.endswith("| 1024 |")

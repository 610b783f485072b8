"""The reader of machine code finds what it is for, in kernels made to have it."""

import pytest
from fusednorm import _build_info
from support.machine_code import machine_code
from support.machine_code.written_kernels import kernel_of

needs_cuda = pytest.mark.skipif(
    _build_info.CUDA_VERSION is None,
    reason="BUILD WITHOUT CUDA: no compiler for samples",
)


@needs_cuda
def test_good_kernel(good_kernel):
    good, loop = good_kernel, good_kernel.row_loop
    assert good.has_loop
    assert (loop.wide_loads, loop.wide_stores, loop.shuffles) == (2, 2, 5)
    assert loop.instructions < good.whole.instructions < loop.instructions + 40
    other = ("narrow_loads", "narrow_stores", "local", "shared", "barriers", "calls")
    assert not any(getattr(loop, kind) for kind in (*other, "divisions"))
    assert 16 <= good.registers <= 64


@needs_cuda
def test_one_shot_kernel_counts_as_a_whole(samples):
    kernel = samples["OneShot"]
    assert not kernel.has_loop
    assert kernel.row_loop.instructions == kernel.whole.instructions
    assert (kernel.row_loop.wide_loads, kernel.row_loop.wide_stores) == (1, 1)


@needs_cuda
def test_scalar_accesses(samples):
    loop = samples["ScalarLoads"].row_loop
    assert loop.narrow_loads == 3 * loop.wide_stores > 0
    loop = samples["ScalarStores"].row_loop
    assert loop.narrow_stores == 3 * loop.wide_loads > 0


@needs_cuda
def test_local_memory(samples):
    assert samples["LocalArray"].row_loop.local > 0
    assert samples["LocalArray"].whole.local > samples["LocalArray"].row_loop.local


@needs_cuda
def test_shared_memory_and_barriers(samples):
    loop = samples["SharedSum"].row_loop
    assert (loop.shared, loop.barriers) == (2, 2)


@needs_cuda
@pytest.mark.parametrize(
    "arguments",
    [
        "int, true",
        "int, false",
        "unsigned int, true",
        "unsigned short, true",
        "long long, true",
    ],
)
def test_divisions_by_run_time_integers(samples, arguments):
    assert samples[f"Division<{arguments}>"].row_loop.divisions > 0


@needs_cuda
def test_other_divisions(samples):
    assert samples["OtherDivisions"].row_loop.divisions == 0


def test_code_behind_the_loop_counts_where_it_jumps_back():
    kernel = kernel_of(
        """S2R R0, SR_TID.X
        LDG.E.128 R4, desc[UR6][R2.64]
        @P0 BRA 0x60
        STG.E.128 desc[UR6][R2.64], R4
        @!P1 BRA 0x10
        EXIT
        LDG.E R8, desc[UR6][R2.64]
        BRA 0x30
        BRA 0x80
        NOP"""
    )
    assert kernel.row_loop.instructions == 6
    assert kernel.row_loop.narrow_loads == 1
    assert kernel.whole.instructions == 8


def test_replacement_of_a_shuffle_for_parted_lanes_does_not_count():
    kernel = kernel_of(
        """LDG.E.128 R4, desc[UR6][R2.64]
        BRA.DIV UR4, 0x60
        SHFL.BFLY PT, R8, R4, 0x10, 0x1f
        STG.E.128 desc[UR6][R2.64], R4
        @!P1 BRA 0x0
        EXIT
        WARPSYNC.COLLECTIVE R9, 0x80
        SHFL.BFLY P3, R8, R4, R11, R10
        ENDCOLLECTIVE
        BRA 0x30"""
    )
    assert kernel.row_loop.instructions == 5
    assert kernel.row_loop.shuffles == 1


def test_loop_inside_of_the_row_loop_belongs_to_it():
    kernel = kernel_of(
        """LDG.E.128 R4, desc[UR6][R2.64]
        FADD R0, R0, R4
        @P0 BRA 0x0
        STG.E.128 desc[UR6][R2.64], R4
        @P1 BRA 0x0
        STG.E.128 desc[UR6][R2.64], R4
        EXIT"""
    )
    assert kernel.row_loop.instructions == 5
    assert kernel.row_loop.wide_stores == 1


def test_called_routine_counts_once():
    kernel = kernel_of(
        """LDG.E.128 R4, desc[UR6][R2.64]
        CALL.REL.NOINC 0x60
        CALL.REL.NOINC 0x60
        STG.E.128 desc[UR6][R2.64], R4
        @!P1 BRA 0x0
        EXIT
        MUFU.RCP64H R8, R9
        RET.REL.NODEC R4 0x0"""
    )
    assert kernel.row_loop.calls == 2
    assert kernel.row_loop.instructions == 7


def test_conditions_among_the_operands_of_a_branch():
    kernel = kernel_of(
        """LDG.E.128 R4, desc[UR6][R2.64]
        BRA.U !UP0, 0x30
        STG.E.64 desc[UR6][R2.64], R4
        BRA.U UP1, 0x0
        EXIT"""
    )
    assert kernel.row_loop.instructions == 4
    assert kernel.row_loop.narrow_stores == 1


def test_missing_tool_says_what_to_install(monkeypatch):
    def missing(_):
        raise machine_code.importlib.metadata.PackageNotFoundError

    monkeypatch.setattr(machine_code.importlib.metadata, "files", missing)
    monkeypatch.setattr(machine_code.shutil, "which", lambda _: None)
    with pytest.raises(
        machine_code.MachineCodeError, match="pip install nvidia-cuda-cuobjdump"
    ):
        machine_code.find_tool("cuobjdump")

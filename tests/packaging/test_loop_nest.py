"""Loops within loops are found, and the longest way through what is left of them."""

import pytest
from support.machine_code.control_flow import parse_tables
from support.machine_code.vector_loops import longest_way, vector_loops
from support.machine_code.written_kernels import kernel_of

# A loop over items, with a loop over vectors and one over something else.
ITEMS = """S2R R0, SR_TID.X
    @P0 EXIT
    @P1 BRA 0x80
    LDG.E.128 R4, desc[UR6][R2.64]
    FADD R0, R0, R4
    @P2 BRA 0x30
    FADD R0, R0, R0
    BRA 0x10
    SHFL.BFLY PT, R8, R4, 0x10, 0x1f
    @P2 BRA 0x80
    FADD R0, R0, R1
    FADD R0, R0, R2
    BRA 0x10"""


def heads(loops):
    """Returns the addresses of loops' heads, in their order."""
    return [sorted(16 * head for head in loop.heads) for loop in loops]


def test_loops_within_a_loop():
    nest = kernel_of(ITEMS).nest
    (items,) = nest.outermost
    assert heads([items]) == [[0x10]]
    assert heads(items.within) == [[0x30], [0x80]]
    assert [len(loop.body) for loop in nest.loops] == [12, 3, 2]


def test_a_loop_that_is_entered_at_two_places():
    nest = kernel_of(
        """@P0 BRA 0x20
        FADD R0, R0, R1
        FADD R0, R0, R2
        @P1 BRA 0x10
        EXIT"""
    ).nest
    assert heads(nest.loops) == [[0x10, 0x20]]


def test_vector_loop_and_the_way_through_it():
    kernel = kernel_of(ITEMS)
    (loop,) = vector_loops(kernel)
    assert (loop.counts.instructions, loop.counts.wide_loads) == (3, 1)
    # S2R, EXIT, BRA, then the vectors, which do not count, FADD and BRA.
    assert loop.way == 5


def test_longest_way_takes_one_turn_of_each_loop():
    # Through the other loop: S2R, EXIT, BRA, SHFL, BRA, FADD, FADD, BRA.
    assert longest_way(kernel_of(ITEMS), exponentials=True) == 8


def test_only_the_innermost_loop_over_vectors_is_one():
    kernel = kernel_of(
        """LDG.E.128 R8, desc[UR6][R2.64]
        LDG.E.128 R4, desc[UR6][R2.64]
        @P1 BRA 0x10
        @P0 BRA 0x0
        EXIT"""
    )
    (loop,) = vector_loops(kernel)
    assert loop.counts.instructions == 2
    assert loop.way == 3  # the load before, the outer loop's branch and EXIT


@pytest.mark.parametrize(
    ("exponentials", "way"),
    [(True, 5), (False, 3)],
)
def test_way_without_exponentials(exponentials, way):
    kernel = kernel_of(
        """S2R R0, SR_TID.X
        @P0 BRA 0x40
        MUFU.EX2 R0, R0
        FADD R0, R0, R1
        EXIT"""
    )
    assert longest_way(kernel, exponentials) == way


def test_no_way_leads_through_a_call():
    kernel = kernel_of(
        """@P0 BRA 0x20
        CALL.REL.NOINC 0x50
        FADD R0, R0, R1
        FADD R0, R0, R1
        EXIT
        FADD R0, R0, R1
        RET.REL.NODEC R4 0x0"""
    )
    assert longest_way(kernel, exponentials=True) == 4
    kernel = kernel_of(
        """CALL.REL.NOINC 0x20
        EXIT
        RET.REL.NODEC R4 0x0"""
    )
    assert longest_way(kernel, exponentials=True) is None


def test_no_way_ends_in_a_loop_before_a_call():
    kernel = kernel_of(
        """FADD R0, R0, R1
        @P0 BRA 0x0
        CALL.REL.NOINC 0x40
        EXIT
        RET.REL.NODEC R4 0x0"""
    )
    assert longest_way(kernel, exponentials=True) is None


def test_jump_through_a_table():
    text = """BRX R2 -0x10
        EXIT
        FADD R0, R0, R1
        EXIT
        LDG.E.128 R4, desc[UR6][R2.64]
        @P0 BRA 0x40
        EXIT"""
    assert vector_loops(kernel_of(text, {0: (0x20, 0x40)}))
    assert longest_way(kernel_of(text, {0: (0x10, 0x20)}), exponentials=True) == 3


def test_tables_of_a_dump():
    dumped = """
.nv.info._Z5firstv
\t<0x1>
\tAttribute:\tEIATTR_INDIRECT_BRANCH_TARGETS
\tFormat:\tEIFMT_SVAL
\tValue:\t
\t\tOffset of Indirect Branch: 0x1830\t Number of targets: 3
\t\tTargets: 0x3250 0x1840 0x6f20

\t\tOffset of Indirect Branch: 0x20\t Number of targets: 1
\t\tTargets: 0x30

.nv.info._Z6secondv
\t\tOffset of Indirect Branch: 0x10\t Number of targets: 2
\t\tTargets: 0x20 0x40
"""
    assert parse_tables(dumped) == {
        "_Z5firstv": {0x1830: (0x3250, 0x1840, 0x6F20), 0x20: (0x30,)},
        "_Z6secondv": {0x10: (0x20, 0x40)},
    }


def test_a_jump_whose_table_is_missing_is_refused():
    with pytest.raises(ValueError, match="BRX at 0x0: its targets are not known"):
        kernel_of("BRX R2 -0x10\nEXIT")

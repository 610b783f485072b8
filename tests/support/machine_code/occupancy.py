"""How many threads a multiprocessor of sm_90 has registers for."""

# A multiprocessor of sm_90, as CUDA's occupancy calculator has it. Each of its four
# parts gives its warps registers in units of 256, 8 for each thread.
MOST_THREADS = 2048
MOST_BLOCKS = 32
PARTS = 4
REGISTERS_OF_A_PART = 16384
REGISTER_UNIT = 256


def resident_threads(registers: int, block: int) -> int:
    """Returns how many threads a multiprocessor has the registers for."""
    of_a_warp = -(-registers * 32 // REGISTER_UNIT) * REGISTER_UNIT
    warps = REGISTERS_OF_A_PART // of_a_warp * PARTS
    blocks = min(warps // (block // 32), MOST_THREADS // block, MOST_BLOCKS)
    return blocks * block

"""The emulation finds what is wrong with kernels, and nothing with right ones."""

import pytest
from emulator import EmulationError

ORDERS = [0, 1, 7, 12345]

WRONG = {
    "NoBarrier": "wrote since the last barrier|nobody wrote",
    "NoBarrierInWarp": "wrote since the last barrier|nobody wrote",
    "WriteAfterRead": "(read|wrote) since the last barrier",
    "WriteAfterWrite": "wrote since the last barrier",
    "Uninitialised": "that nobody wrote",
    "OutOfShared": "of 256 bytes of shared memory",
    "BeforeShared": "of 256 bytes of shared memory",
    "OddShared": "not a multiple of 8",
    "OutOfGlobal": "heap-buffer-overflow",
    "MisalignedLoad": "not a multiple of 16",
    "MisalignedStore": "not a multiple of 16",
    "EndsBeforeBarrier": "has ended while others of its block wait",
    "OtherBarrier": "wait at another barrier",
    "PartialShuffle": "has ended while others of its warp shuffle",
    "ShuffleAgainstBarrier": "while others of its warp shuffle",
    "OtherMask": "another mask",
    "ClusterNoSync": "of another block that nobody wrote|barrier of the",
    "ClusterBlockSync": "of another block that nobody wrote|barrier of the",
    "ClusterEndsEarly": "may still read|has ended",
    "ClusterFirstReads": "may still read|has ended",
    "ClusterLastReads": "may still read|has ended",
    "ClusterOverwrites": "since the last barrier of the cluster",
    "ClusterUninitialised": "of another block that nobody wrote",
    "ClusterBeyond": "of a cluster of 2",
    "ClusterBlockEnds": "for blocks that have ended",
    "NoBlocks": "0 blocks",
    "OddThreads": "blocks of 48 threads",
    "ManyThreads": "blocks of 1056 threads",
    "PartOfCluster": "3 blocks in clusters of 2",
}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(
    ("kernel", "number"), [("BlockSum", 64 * 63 / 2), ("ClusterSum", 1 + 2 + 3 + 4)]
)
def test_right_kernels_run(toys, kernel, number, order):
    assert toys.ask("toy", kernel, order) == number


@pytest.mark.parametrize("order", ORDERS[:3])
@pytest.mark.parametrize("kernel", WRONG)
def test_wrong_kernels_are_found(toys, kernel, order):
    with pytest.raises(EmulationError, match=WRONG[kernel]) as error:
        toys.ask("toy", kernel, order)
    if kernel != "OutOfGlobal":  # which AddressSanitizer finds
        assert f"emulation: kernel {kernel}" in str(error.value)


def test_half_a_word_that_nobody_wrote_is_nan(toys):
    assert toys.ask("toy", "OtherHalf", 0) == 0xFFFF


def test_the_message_names_block_and_thread(toys):
    with pytest.raises(EmulationError, match="block 0, thread 40:"):
        toys.ask("toy", "EndsBeforeBarrier", 0)


def test_the_order_of_blocks_shows_in_what_depends_on_it(toys):
    assert toys.ask("toy", "BlocksRace", 0) != toys.ask("toy", "BlocksRace", 1)

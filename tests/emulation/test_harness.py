"""The emulation finds what is wrong with kernels, and nothing with right ones."""

import numpy as np
import pytest
from support.emulation.emulator import EmulationError

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
    "EndsAtBarrier": "has ended while others of its block wait",
    "ShufflesAtBarrier": "while others of its warp shuffle",
    "NoRelease": "no chain of barriers, releases and acquires",
    "NoAcquire": "no chain of barriers, releases and acquires",
    "NoBarrierBeforeRelease": "no chain of barriers, releases and acquires",
    "NoBarrierAfterAcquire": "no chain of barriers, releases and acquires",
    "PublishAfterRelease": "no chain of barriers|has fetched already",
    "NoWait": "no chain of barriers|has fetched already",
    "LoadsWithoutRelease": "no chain of barriers, releases and acquires",
    "LoadsAsConstant": "loads as a constant",
    "FetchesOfNeighbour": "(published|fetched) since the last barrier",
    "BlocksPublishOne": "of the same launch has published",
    "ThreadsPublishOne": "published since the last barrier",
    "PublishesAgain": "has fetched already",
    "OtherThreadReleases": "thread 32: is not thread 0",
    "OtherThreadAcquires": "thread 32: is not thread 0",
    "Traps": "thread 9: calls Trap",
    "NotUniform": "another value than lane 0",
    "WaitingCluster": "blocks of clusters do not wait",
    "BacksOff": "calls BackOff in a launch that does not say",
    "Acquires": "calls LoadAcquire in a launch that does not say",
    "Releases": "calls AddRelease in a launch that does not say",
    "LastAddsUpAlone": "calls AddAcquireRelease in a launch that does not say",
    "TakesTicket": "calls TakeTicket in a launch that does not say",
}


def sum_of(places):
    """Returns what FetchAll of toys.cc adds up, in its order."""
    total = np.float32(0)
    for place in places:
        total += np.float32(1) / np.float32(3 + place)
    return float(total)


# What blocks that wait for others leave, and the fewest of them at a time.
WAITING = {
    "LastAddsUp": (sum_of(range(0, 7 * 64, 64)), 1),
    "Tickets": (40, 1),
    "Queue": (sum_of(range(0, 8 * 64, 64)), 1),
    "GridBarrier": (sum_of(range(0, 4 * 64, 64)), 4),
    "FirstTellsFirst": (sum_of(range(0, 7 * 64, 64)), 1),
    "LastLoads": (sum_of([0, 64]), 1),
    "Chain": (sum_of([0, 64]), 3),
    "SharedIntegers": (-5 + 3, 1),
}
STUCK = {
    "NeverAnnounced": "nobody can go on: so do all 2 blocks that have started",
    "GridBarrier": "nobody can go on.* and 2 cannot start",
    "PollsOnly": "calls LoadAcquire of one address .*BackOff|nobody can go on",
    "FetchesOnly": "calls Fetch of one address .*BackOff",
}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(
    ("kernel", "number"), [("BlockSum", 64 * 63 / 2), ("ClusterSum", 1 + 2 + 3 + 4)]
)
def test_right_kernels_run(toys, kernel, number, order):
    assert toys.ask("toy", kernel, order) == number


@pytest.mark.parametrize(
    ("kernel", "order"),
    [(k, order) for i, k in enumerate(WRONG) for order in (0, ORDERS[1 + i % 3])],
)
def test_wrong_kernels_are_found(toys, kernel, order):
    with pytest.raises(EmulationError, match=WRONG[kernel]) as error:
        toys.ask("toy", kernel, order)
    if kernel != "OutOfGlobal":  # which AddressSanitizer finds
        assert f"emulation: kernel {kernel}" in str(error.value)


@pytest.mark.parametrize(
    ("kernel", "resident"),
    # Some blocks need one another at the same time.
    [
        (kernel, resident)
        for kernel, (_, fewest) in WAITING.items()
        for resident in (1, 2, 4, 9)
        if resident >= fewest
    ],
)
def test_blocks_wait_for_others(toys, kernel, resident):
    number, _ = WAITING[kernel]
    for order in (*range(30), 12345):
        assert toys.ask("toy", kernel, order, resident) == number


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("kernel", STUCK)
def test_a_wait_without_end_is_reported(toys, kernel, order):
    with pytest.raises(EmulationError, match=STUCK[kernel]) as error:
        toys.ask("toy", kernel, order, 2)
    assert f"emulation: kernel {kernel}, block " in str(error.value)


def test_two_blocks_that_both_come_last_are_found_in_some_order(toys):
    def run_all():
        for order in range(100):
            toys.ask("toy", "TwoComeLast", order)

    with pytest.raises(EmulationError, match="of the same launch has published"):
        run_all()


def test_blocks_that_wait_end_one_after_the_other_if_need_be(toys):
    """Block 1 of a chain waits for what block 0 left before it ended."""
    assert toys.ask("toy", "Chain", 0, 1) == WAITING["Chain"][0]


def test_no_resident_blocks_is_an_error(toys):
    with pytest.raises(EmulationError, match="no block may start"):
        toys.ask("toy", "LastAddsUp", 0, 0)


def test_half_a_word_that_nobody_wrote_is_nan(toys):
    assert toys.ask("toy", "OtherHalf", 0) == 0xFFFF


def test_the_message_names_block_and_thread(toys):
    with pytest.raises(EmulationError, match="block 0, thread 40:"):
        toys.ask("toy", "EndsBeforeBarrier", 0)


def test_the_order_of_blocks_shows_in_what_depends_on_it(toys):
    assert toys.ask("toy", "BlocksRace", 0) != toys.ask("toy", "BlocksRace", 1)

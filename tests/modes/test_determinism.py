"""The same bits from every run, thread count, instruction set, and mode of TensorFlow.

The kernels alone are in test_native.py; here layers train, in processes of which each
prints digests of all it computed.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from fusednorm import _native
from support import commands, forks
from support.graph_norms import IN_PLACE, data

PROGRAM = Path(__file__).parents[1] / "support" / "training_digests.py"

THREADS = (1, 2, 4)
ISAS = _native.isas()


def digests(output, threads, isa, *flags):
    # Without the variable of the whole suite, which would win over --threads.
    environment = {"FUSEDNORM_ISA": isa, "TF_NUM_INTRAOP_THREADS": None}
    printed = output(PROGRAM, f"--threads={threads}", *flags, **environment)
    return json.loads(printed.splitlines()[-1])


def test_training_is_the_same_to_the_bit():
    # With three instruction sets, each meets a thread count of its own. The last two
    # runs differ in nothing but what processes differ in by chance, and forks do not:
    # addresses in memory and hashes.
    ways = [(count, ISAS[index % len(ISAS)]) for index, count in enumerate(THREADS)]
    runs = [digests(forks.output, *way) for way in ways[:-1]]
    for output in (forks.output, commands.output):
        runs.append(digests(output, *ways[-1], "--op-determinism"))
    assert [run["isa"] for run in runs] == [isa for _, isa in (*ways, ways[-1])]
    first = runs[0]["digests"]
    for run in runs:
        assert run["digests"] == first
    for name, digest in first.items():
        assert digest == first[name.replace("graph", "eager")], name
    assert len(set(first.values())) == len(first) // 2

    # A whole model, as far as TensorFlow's own ops are deterministic.
    assert runs[-1]["fit"] == runs[-2]["fit"] is not None


@pytest.mark.parametrize("path", IN_PLACE)
def test_runs_in_one_process_are_the_same_to_the_bit(path, rng):
    call, shape = IN_PLACE[path]
    x, dy = data(rng, *shape), data(rng, *shape)
    results = set()
    for _ in range(30):
        # A tensor of its own each time, wherever in memory that may be.
        inputs = tf.constant(x)
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            y = call(inputs)
        dx = tape.gradient(y, inputs, output_gradients=tf.constant(dy))
        results.add(y.numpy().tobytes() + dx.numpy().tobytes())
    assert len(results) == 1


@pytest.mark.parametrize("offset", [1, 3, 5, 15])
def test_alignment_does_not_change_a_bit(offset, rng):
    x = data(rng, 40, 48)
    gamma, beta = data(rng, 48), data(rng, 48)
    shifted = np.empty(x.size + offset, np.float32)[offset:].reshape(x.shape)
    shifted[:] = x
    options = {"axes": [-1], "epsilon": 1e-3}
    expected = _native.forward("layer_norm", x, gamma, beta, **options)
    got = _native.forward("layer_norm", shifted, gamma, beta, **options)
    for one, other in zip(got, expected, strict=True):
        assert (one is None) == (other is None)
        assert one is None or one.tobytes() == other.tobytes()

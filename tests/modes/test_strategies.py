"""Models over several devices and processes: tf.distribute.

Devices and clusters are set up before TensorFlow does anything else, so all of this
runs in processes of its own.
"""

import os
import sys
from pathlib import Path

import pytest
from support import commands, forks

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))
from local_cluster import WorkerError, run_workers

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "train_distributed.py"


def output(*arguments, python=forks.python):
    """Runs a program that must succeed, and returns what it printed."""
    ended = python(*arguments, timeout=300, TF_CONFIG=None)
    print(ended.stdout, ended.stderr)
    assert ended.returncode == 0
    return ended.stdout


def test_two_devices():
    assert " passed" in output(
        "-m", "pytest", "-p", "no:xdist", ROOT / "tests/support/two_devices.py"
    )


def test_parameter_server():
    printed = output(ROOT / "tests/support/parameter_server.py")
    assert printed.splitlines()[-1] == (
        "2 servers; weights on /job:ps/replica:0/task:0/device:CPU:0 "
        "/job:ps/replica:0/task:0/device:CPU:0"
    )


# The example imports TensorFlow in the workers that it starts, and not before.
@pytest.mark.parametrize(
    ("strategy", "python"),
    [("mirrored", forks.python), ("multiworker", commands.python)],
    ids=["mirrored", "multiworker"],
)
def test_example(strategy, python):
    # Enough steps for a wrong gradient to show in the losses.
    printed = output(EXAMPLE, "--strategy", strategy, "--steps=4", python=python)
    assert f"{strategy}, 2 replicas" in printed


# ---------------------------------------------------------------- the cluster's end

WORKER = """
import json, os, sys, time
index = json.loads(os.environ["TF_CONFIG"])["task"]["index"]
print(f"this is {index}", file=sys.stderr, flush=True)
"""


def workers(code, timeout=60):
    run_workers([sys.executable, "-c", WORKER + code], 2, timeout)


def test_workers_have_one_cluster_and_their_own_index(tmp_path):
    workers(
        f"open(os.path.join({str(tmp_path)!r}, str(index)), 'w')"
        ".write(os.environ['TF_CONFIG'])"
    )
    configs = [(tmp_path / name).read_text() for name in ("0", "1")]
    first, second = (each.split('"task"')[0] for each in configs)
    assert first == second
    assert first.count("127.0.0.1:") == 2


@pytest.mark.parametrize("index", [0, 1])
def test_a_worker_that_dies_ends_the_others(index, tmp_path):
    path = tmp_path / "pid"
    with pytest.raises(
        WorkerError,
        match=f"worker {index} of 2 ended with exit code 3:\nthis is {index}",
    ):
        workers(
            f"path = {str(path)!r}\n"
            f"if index != {index}:\n"
            "    open(path + 'new', 'w').write(str(os.getpid()))\n"
            "    os.rename(path + 'new', path)\n"
            "    time.sleep(600)\n"
            "while not os.path.exists(path): time.sleep(0.01)\n"
            "sys.exit(3)"
        )
    with pytest.raises(ProcessLookupError):
        os.kill(int(path.read_text()), 0)


def test_workers_that_do_not_end_are_ended():
    with pytest.raises(WorkerError, match=r"workers \[1\] of 2 did not end within 3 s"):
        workers("time.sleep(600 * index)", timeout=3)

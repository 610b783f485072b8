"""Models over several devices and processes: tf.distribute."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def run(*arguments, **environment):
    """Runs Python, and returns its result and what it said."""
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )


def test_two_devices():
    # Logical devices must be there before TensorFlow does anything: another process.
    ended = run("-m", "pytest", "-p", "no:xdist", ROOT / "tests" / "two_devices.py")
    print(ended.stdout)
    assert ended.returncode == 0

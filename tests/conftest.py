"""What all folders of tests need."""

import gc
import os
import sys
import zlib
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # Read when TensorFlow is imported.
# No table of tuned plans of this machine's user.
os.environ["FUSEDNORM_TUNED"] = ""
sys.path.insert(0, str(Path(__file__).parent))

import numpy as np
import pytest

# So that their assertions too say what was compared.
pytest.register_assert_rewrite("support")

# Modules with tests of half a minute and more. They come first, so that no process is
# left with one of them when the others have nothing to do any more.
LONG = ("test_legacy_keras", "test_tutorial", "test_strategies", "test_determinism")


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.path.stem not in LONG)


def pytest_collection_finish():
    # TensorFlow, Keras and ten thousand tests stay until the end: the garbage collector
    # need not look through them again and again.
    gc.collect()
    gc.freeze()


@pytest.fixture
def rng(request):
    """A generator of its own for every test, the same in every run.

    A test keeps its numbers when its file moves to another folder.
    """
    test = request.node.nodeid.partition("::")[2]
    name = f"tests/{request.path.name}::{test}"
    return np.random.default_rng(zlib.crc32(name.encode()))

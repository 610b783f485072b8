"""Paths and settings of the GPU tests."""

import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# NaN where nothing was written yet; see csrc/python/device_memory.h.
os.environ.setdefault("FUSEDNORM_POISON", "1")
sys.path.insert(0, str(ROOT / "benchmarks"))


@pytest.fixture(autouse=True)
def _returned_memory():
    """Gives the memory of a test back, so that large ones do not add up."""
    yield
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.synchronize()
        torch.cuda.empty_cache()


@pytest.fixture
def generator():
    """The same numbers in every run and in every order of the tests."""
    import torch

    return torch.Generator(device="cuda").manual_seed(20)

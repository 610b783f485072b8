"""Holds every output of the CUDA kernels against its bound."""

import pytest
import torch

from support.gpu.runs import run, shares_of_bounds, tensors


def assert_same_bits(got, expected):
    assert tensors(got).keys() == tensors(expected).keys()
    for name, value in tensors(got).items():
        bits = value.contiguous().view(torch.uint8)
        assert torch.equal(bits, getattr(expected, name).view(torch.uint8)), name


def check(norm, data, got=None):
    """Fails unless every output is within its bound."""
    got = got or run(norm, data)
    if got.sum is not None:
        assert torch.equal(got.sum, data.x + data.residual)
    shares = shares_of_bounds(norm, data, got)
    # A NaN is larger than no bound, hence `not ... <= 1`.
    outside = {name: share for name, share in shares.items() if not share <= 1}
    assert not outside, f"errors as multiples of their bounds: {outside}"


def needs_memory(count):
    """Skips the test that calls it where fewer bytes of device memory are free."""
    free, _ = torch.cuda.mem_get_info()
    if free < count:
        pytest.skip(f"needs {count / 2**30:.0f} GiB of device memory")

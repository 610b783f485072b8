"""The mean of emulated kernels where roundings add up: see tests/support/bounds.py."""

import numpy as np
import pytest
from support import bounds, reference
from support.emulation.emulated_norms import (
    CLUSTERS,
    DTYPES,
    H200,
    SMALL,
    Device,
    Options,
    draw,
    forward,
)
from support.emulation.kernel_cases import group, layer, name_of

# One multiprocessor of it: threads take many rows of a tile, which no cluster shares.
ALONE = Device(
    multiprocessors=1,
    shared_bytes_per_multiprocessor=H200.shared_bytes_per_multiprocessor,
    shared_bytes_per_block=H200.shared_bytes_per_block,
)


def share_of_bound(emulated, norm, x, device, options, rng):
    """Returns the largest error of the mean as a multiple of its bound."""
    data = draw(norm, x.shape, x.dtype, options, rng)
    data["x"] = x
    _, got = forward(emulated, norm, data, device, options)
    of = reference.forward(norm, x, residual=data["residual"])
    bound = bounds.of_mean(of, bounds.PRECISIONS[x.dtype].compute)
    return bounds.relative_to(bound, got["mean"].reshape(of.mean.shape), of.mean)


# Each runs in float32 and, in turn, in another type.
LONG_GROUPS = [
    (layer(1), (6, 1024, 8), H200),
    (layer(1), (1, 8192, 8), H200),
    (layer(1), (1, 12000, 8), ALONE),
    (layer(1), (2, 8192, 16), SMALL),
    (layer(), (50, 1024), SMALL),
    (layer(), (9, 4099), SMALL),
    (layer(), (4, 20000), SMALL),
    (group(2), (2, 3000, 16), CLUSTERS),
    (group(2, 1), (2, 4, 2000), SMALL),
]


@pytest.mark.parametrize("shift", [0, 0.5])
@pytest.mark.parametrize(
    ("norm", "shape", "device", "dtype"),
    [
        (*case, dtype)
        for i, case in enumerate(LONG_GROUPS)
        for dtype in (DTYPES[0], DTYPES[1 + i % 3])
    ],
    ids=name_of,
)
def test_long_groups_lose_no_more_than_short_ones(
    emulated, norm, shape, device, dtype, shift, rng
):
    x = (rng.normal(size=shape) + shift).astype(dtype)
    for options in (Options(), Options(residual=True)):
        assert share_of_bound(emulated, norm, x, device, options, rng) <= 1


@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
def test_rows_whose_partial_sums_are_large(emulated, dtype, rng):
    """Half of each row is above the mean, and half is below it.

    A small element takes the mean off the grid of the others. Of random rows of 16, one
    in a million is as bad.
    """
    x = rng.uniform(1, 2, (2000, 16)).astype(dtype)
    x[:, 8:] *= -1
    x[:, 7] = rng.uniform(-1e-3, 1e-3, 2000)
    assert share_of_bound(emulated, layer(), x, SMALL, Options(), rng) <= 1


def test_split_tiles_of_single_elements(emulated):
    """A recurrence that rounds the mean each row was off by 1.6 of the bound."""
    options = Options(offset=1)
    worst = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        x = rng.normal(0.5, 1, (3, 2000, 24)).astype(np.float16)
        share = share_of_bound(emulated, layer(1), x, SMALL, options, rng)
        worst = max(worst, share)
    assert worst <= 1

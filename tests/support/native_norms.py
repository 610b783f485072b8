"""Problems for the CPU kernels, one for each path through the partition."""

import ml_dtypes
import numpy as np
import pytest

from support import reference
from support.reference import Norm

DTYPES = [np.float32, np.float64, np.float16, ml_dtypes.bfloat16]

# Every path through the partition: (op, shape, axes, groups).
PATHS = {
    "rows": ("layer_norm", (70, 40), [-1], 0),
    "short rows": ("layer_norm", (700, 7), [-1], 0),
    "rows of samples": ("layer_norm", (4, 20, 40), [-1], 0),
    "rms rows": ("rms_norm", (70, 40), [-1], 0),
    "interleaved, folded": ("group_norm", (3, 90, 10), [-1], 5),
    "interleaved, several blocks of lanes": ("group_norm", (2, 20, 1100), [-1], 50),
    "interleaved with inner positions": ("group_norm", (2, 30, 6, 5), [2], 3),
    "chunks": ("group_norm", (2, 9, 200), [-1], 2),
    "channels first": ("group_norm", (2, 8, 77), [1], 2),
    "columns": ("layer_norm", (3, 30, 50), [1], 0),
    "many columns": ("layer_norm", (2, 9, 1300), [1], 0),
    "sliced rows": ("layer_norm", (2, 70_001), [-1], 0),
    "sliced group, channels first": ("group_norm", (1, 2, 50_001), [1], 1),
    "sliced chunks": ("group_norm", (1, 700, 100), [-1], 1),
    "sliced lanes": ("group_norm", (1, 20_000, 6), [-1], 3),
    "sliced columns": ("layer_norm", (1, 1700, 40), [1], 0),
}


def arrays(path, dtype, rng, **options):
    op, shape, axes, _ = PATHS[path]
    wide = np.float64 if dtype == np.float64 else np.float32
    parameters = reference.parameter_shape(Norm(op, tuple(axes), **options), shape)
    return {
        "x": (rng.normal(size=shape) + 0.5).astype(dtype),
        "dy": rng.normal(size=shape).astype(dtype),
        "gamma": rng.uniform(0.5, 2, parameters).astype(wide),
        "beta": None if op == "rms_norm" else rng.normal(size=parameters).astype(wide),
        "residual": rng.normal(size=shape).astype(dtype),
    }


def assert_same_bits(got, expected):
    for a, b in zip(got, expected, strict=True):
        assert a.dtype == b.dtype
        assert a.tobytes() == b.tobytes()


# What is done to gamma and beta: (which are kept, in the data's dtype, options).
AFFINE = {
    "both": ({"gamma", "beta"}, False, {}),
    "none": (set(), False, {}),
    "scale": ({"gamma"}, False, {}),
    "shift": ({"beta"}, False, {}),
    "in the data's dtype": ({"gamma", "beta"}, True, {}),
    "zero-centered": ({"gamma", "beta"}, False, {"zero_centered": True}),
    "per sample": ({"gamma", "beta"}, False, {"per_sample": True}),
}


def _types(affine, index):
    """Returns the types of an affine: where all are taken, two of them in turn."""
    if affine in ("both", "per sample"):
        return DTYPES[0], DTYPES[1 + index % 3]
    if affine == "in the data's dtype":
        return (DTYPES[2 + index % 2],)
    return (DTYPES[0],)


every_path_and_affine = pytest.mark.parametrize(
    ("path", "affine", "dtype"),
    [
        (path, affine, dtype)
        for i, path in enumerate(PATHS)
        for affine in AFFINE
        for dtype in _types(affine, i)
    ],
)


def affine_arrays(path, affine, dtype, rng):
    """Returns the arrays, and the option that goes with them."""
    kept, narrow, options = AFFINE[affine]
    data = arrays(path, dtype, rng, **options)
    for name in ("gamma", "beta"):
        if name not in kept:
            data[name] = None
        elif narrow and data[name] is not None:
            data[name] = data[name].astype(dtype)
    return data, options

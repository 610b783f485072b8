"""Feeds any number to the end of the kernels: scale, activation and rounding."""

import numpy as np
from fusednorm import _native


def activate(z, activation="none", dtype=None, isa="auto"):
    """Returns activation(z), rounded to `dtype`.

    A group of one element has xhat = 0 exactly, so the op returns activation(beta).
    """
    return _native.forward(
        "group_norm",
        np.zeros((1, z.size), dtype or z.dtype),
        None,
        z,
        axes=[-1],
        groups=-1,
        epsilon=1e-3,
        activation=activation,
        isa=isa,
    )[0][0]

"""Norms by name, for graphs and for buffers that are written in place."""

import fusednorm
import numpy as np


def data(rng, *shape):
    return rng.normal(size=shape).astype(np.float32)


# name -> (function, a shape)
NORMS = {
    "group": (lambda x: fusednorm.group_norm(x, groups=2), (3, 5, 8)),
    "instance": (lambda x: fusednorm.instance_norm(x, axis=1), (3, 5, 8)),
    "layer": (lambda x: fusednorm.layer_norm(x), (3, 5, 8)),
    "layer, middle": (lambda x: fusednorm.layer_norm(x, axis=1), (3, 5, 8)),
    "rms": (lambda x: fusednorm.rms_norm(x, axis=[-2, -1]), (3, 5, 8)),
}

# One shape for each way of walking memory; the large ones are cut into slices, of
# which one may write where another still reads.
IN_PLACE = {
    "rows": (lambda x: fusednorm.layer_norm(x), (70, 40)),
    "short rows": (lambda x: fusednorm.rms_norm(x), (700, 7)),
    "interleaved": (lambda x: fusednorm.group_norm(x, groups=5), (3, 90, 10)),
    "chunks": (lambda x: fusednorm.group_norm(x, groups=2), (2, 9, 200)),
    "columns": (lambda x: fusednorm.layer_norm(x, axis=1), (3, 30, 50)),
    "sliced rows": (lambda x: fusednorm.layer_norm(x), (2, 150_001)),
    "sliced chunks": (lambda x: fusednorm.group_norm(x, groups=1), (1, 1500, 100)),
    "sliced lanes": (lambda x: fusednorm.group_norm(x, groups=3), (1, 40_000, 6)),
    "sliced columns": (lambda x: fusednorm.layer_norm(x, axis=1), (1, 3000, 60)),
}

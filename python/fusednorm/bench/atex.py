"""NVIDIA ATEX's own list of shapes, and the times it publishes for them.

From the README of `nv_norms` in github.com/NVIDIA/atex: milliseconds of one training
step (forward and backward) in mixed_float16 on an H100, of its own kernels and of what
TensorFlow had (LayerNormalization of `tf.keras`, InstanceNormalization of TensorFlow
Addons).
"""

from __future__ import annotations

from fusednorm.bench.shapes import Shape

# rows, row length -> (TensorFlow, ATEX)
_ROWS = {
    (10, 10_000_000): (16.91, 2.36),
    (100, 1_000_000): (4.28, 1.78),
    (1_000, 100_000): (4.22, 1.95),
    (10_000, 10_000): (5.26, 5.84),
    (100_000, 1_000): (7.89, 4.73),
    (1_000_000, 100): (20.04, 6.26),
    (10_000_000, 10): (160.06, 10.61),
    (4, 400_001): (3.10, 0.74),
    (4, 10_000_001): (23.51, 1.15),
}
# batch, edge of the cube, channels -> (TensorFlow, ATEX) channels last, then first
_CUBES = {
    (2, 6, 32): ((6.20, 0.70), (6.17, 0.69)),
    (2, 128, 32): ((14.86, 6.05), (14.14, 3.85)),
    (2, 128, 64): ((28.65, 8.69), (26.81, 7.57)),
    (4, 128, 32): ((28.65, 8.70), (26.81, 6.16)),
    (4, 64, 64): ((7.81, 4.63), (7.14, 2.17)),
    (8, 64, 32): ((7.73, 4.66), (7.14, 2.17)),
    (8, 64, 64): ((14.86, 5.98), (13.86, 3.51)),
    (8, 64, 128): ((28.65, 8.63), (26.70, 6.38)),
    (4, 32, 256): ((6.27, 3.57), (6.19, 0.91)),
    (8, 32, 256): ((7.87, 4.25), (7.13, 1.71)),
}


def _rows(rows: int, length: int) -> Shape:
    return Shape(f"atex-ln-{rows}x{length}", "layer_norm", (rows, length))


def _cube(batch: int, edge: int, channels: int, *, first: bool) -> Shape:
    middle = (edge,) * 3
    shape = (batch, channels, *middle) if first else (batch, *middle, channels)
    name = "atex-in-" + "x".join(map(str, shape)) + ("-cf" if first else "")
    return Shape(name, "group_norm", shape, (1 if first else -1,), -1)


ATEX = (
    *(_rows(*key) for key in _ROWS),
    *(_cube(*key, first=False) for key in _CUBES),
    *(_cube(*key, first=True) for key in _CUBES),
)
# name -> {"tensorflow": ms, "atex": ms}
PUBLISHED_H100 = {
    shape.name: dict(zip(("tensorflow", "atex"), times, strict=True))
    for shape, times in zip(
        ATEX,
        (
            *_ROWS.values(),
            *(last for last, _ in _CUBES.values()),
            *(first for _, first in _CUBES.values()),
        ),
        strict=True,
    )
}

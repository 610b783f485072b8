"""Problems that reach every CUDA kernel of the second order."""

from support.emulation.kernel_cases import (
    group,
    layer,
    rms,
)

# Around the boundaries of accesses, teams, blocks, slices, tiles and slabs. As in
# kernel_cases.py, all run in float32, and each in one other type at least.
TYPED_CASES = [
    (layer(), (7, 1), "float16 bfloat16 float64"),
    (layer(), (37, 8), "float16 bfloat16 float64"),
    (layer(), (9, 65), "float16"),
    (layer(), (5, 256), "bfloat16"),
    (layer(), (3, 600), "float64"),
    (layer(), (40, 768), "float16"),
    (layer(), (4, 2051), "bfloat16"),
    (layer(), (3, 4104), "float64"),
    (layer(), (2, 9000), "float16"),
    (layer(), (1, 40008), "bfloat16"),
    (rms(), (5, 100), "float16 bfloat16 float64"),
    (rms(zero_centered=True), (2, 9001), "float64"),
    (group(5), (600, 10), "float64"),
    (group(3), (2, 7803), "float16"),
    (group(4), (2, 50, 40), "bfloat16"),
    (group(3), (2, 100, 2, 6), "float64"),
    (group(2), (1, 3000, 16), "float16"),
    (group(2), (1, 30, 2080), "bfloat16"),
    (group(1), (2, 30, 1500), "float64"),
    (group(3), (1, 90, 399), "float16 bfloat16"),
    (group(-1), (2, 300, 24), "float64"),
    (group(2), (40, 6, 24), "float16"),
    (group(2, 1), (3, 8, 49), "float64"),
    (group(2, 1), (3, 8, 64), "float16 bfloat16"),
    (group(3, 1), (2, 6, 1030), "float16 bfloat16"),
    (group(-1, 1), (70, 3, 5), "bfloat16"),
    (group(-1, 1), (2, 2, 2000), "float64"),
    (group(2, 1), (1, 4, 9000), "float64"),
    (group(2, 2), (3, 5, 4, 6), "float16 bfloat16"),
    (group(2, 2), (1, 50, 4, 9), "float16 bfloat16 float64"),
    (layer(1), (3, 26, 260), "float16"),
    (layer(1), (2, 500, 33), "bfloat16"),
    (layer(1), (1, 3000, 40), "float64"),
    (layer(1), (5, 3, 7), "float64"),
    (rms(1), (2, 50, 33), "float16 bfloat16 float64"),
]

CASES = [(norm, shape) for norm, shape, _ in TYPED_CASES]

"""Small problems that reach every way through the kernels."""

from support.reference import group_norm, layer_norm, rms_norm

# name -> (norm, shape)
CASES = {
    "rows of 7": (layer_norm(), (700, 7)),
    "rows of 16": (layer_norm(), (1000, 16)),
    "rows of 96": (layer_norm(), (300, 96)),
    "rows of 768": (layer_norm(), (65, 768)),
    "rows of 1600": (layer_norm(), (33, 1600)),
    "rows of 12288": (layer_norm(), (9, 12288)),
    "rows of 40001": (layer_norm(), (5, 40_001)),
    "rows of 131072": (layer_norm(), (3, 131_072)),
    "rows of 600000": (layer_norm(), (2, 600_000)),
    "one row": (layer_norm(), (1, 1_000_003)),
    "several axes": (layer_norm(-2, -1), (40, 6, 50)),
    "rms rows": (rms_norm(), (70, 4096)),
    "rms heads": (rms_norm(), (30, 7, 256)),
    "rms rows of 30000": (rms_norm(), (4, 30_000)),
    "columns": (layer_norm(1), (3, 30, 50)),
    "many columns": (layer_norm(1), (2, 9, 1300)),
    "long columns": (layer_norm(1), (2, 20_001, 24)),
    "tutorial, axis 1": (layer_norm(1), (32, 26, 26, 10)),
    "tutorial": (group_norm(5), (32, 26, 26, 10)),
    "channels last, 10 a group": (group_norm(32), (2, 16, 16, 320)),
    "channels last, 64 a group": (group_norm(32), (2, 7, 7, 2048)),
    "channels last, 4 a group": (group_norm(32), (2, 48, 48, 128)),
    "channels last, odd": (group_norm(3), (3, 35, 33)),
    "channels last, one group": (group_norm(1), (2, 400, 100)),
    "channels last, one sample, long": (group_norm(2), (1, 60_001, 12)),
    "instances, channels last": (group_norm(-1), (2, 33, 31, 24)),
    "instances, channels last, long": (group_norm(-1), (1, 300, 301, 8)),
    "instances, 3-D": (group_norm(-1), (2, 12, 12, 12, 32)),
    "channels first": (group_norm(4, 1), (2, 32, 24, 24)),
    "channels first, odd": (group_norm(2, 1), (3, 6, 77)),
    "channels first, long": (group_norm(2, 1), (1, 4, 60_001)),
    "instances, channels first": (group_norm(-1, 1), (3, 24, 33, 31)),
    "instances, channels first, long": (group_norm(-1, 1), (1, 3, 400_003)),
    "channels in the middle": (group_norm(3, 2), (2, 30, 6, 5)),
    "one channel a group and one position": (group_norm(-1), (5, 1, 9)),
}

# With gamma and beta of each sample, which has several rows or tiles.
SAMPLES = {
    "rows of 24": (layer_norm(), (30, 90, 24)),
    "rows of 1600": (layer_norm(), (3, 40, 1600)),
    "rms rows of 16384": (rms_norm(), (3, 30, 16_384)),
    "rows of 131072": (layer_norm(), (2, 2, 131_072)),
    "many samples": (layer_norm(), (5000, 2, 40)),
    "channels last, odd": (group_norm(3), (3, 35, 33)),
    "channels last, long": (group_norm(2), (2, 60_001, 12)),
    "columns": (layer_norm(2), (3, 4, 30, 50)),
    "long columns": (layer_norm(2), (2, 2, 20_001, 24)),
}

# Beyond 65,535 groups, which is the limit of two of the three grid dimensions.
MANY_GROUPS = {
    "rows": (layer_norm(), (200_001, 3)),
    "rms rows": (rms_norm(), (70_001, 40)),
    "samples, channels last": (group_norm(2), (70_000, 3, 4)),
    "instances, channels last": (group_norm(-1), (2, 5, 70_000)),
    "instances, channels first": (group_norm(-1, 1), (3, 70_000, 5)),
    "samples, channels first": (group_norm(2, 1), (70_000, 4, 3)),
    "columns": (layer_norm(1), (3, 4, 70_001)),
    "samples of columns": (layer_norm(1), (70_001, 5, 2)),
}

# At and around the sizes of vectors, lanes, warps, blocks and of what fits on chip.
ODD_SIZES = sorted(
    {*range(1, 34)}
    | {
        edge + step
        for edge in (64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536)
        for step in (-1, 0, 1, 2, 8)
    }
)

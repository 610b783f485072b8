"""Problems that reach every CUDA kernel, and what tells the kernels apart."""

import numpy as np

from support.emulation.emulated_norms import (
    CLUSTERS,
    DTYPES,
    SMALL,
)
from support.instances import rows_instances
from support.reference import (
    Norm,
    group_norm as group,
    layer_norm as layer,
    rms_norm as rms,
)

# Around the boundaries of vectors, warps, blocks, clusters, slices, tiles and slabs.
# Lengths are in elements; what each means depends on the type, so that each case
# reaches other kernels for other types. All run in float32, and each in one other type
# at least: in those which together reach all kernels that all cases would reach.
TYPED_CASES = [
    (layer(), (7, 1), "float16 float64"),
    (layer(), (5, 10), "float16"),
    (layer(), (37, 8), "float16 float64"),
    (layer(), (7, 64), "bfloat16"),
    (layer(), (9, 65), "float16 bfloat16 float64"),
    (layer(), (9, 128), "bfloat16"),
    (layer(), (5, 256), "float64"),
    (layer(), (3, 511), "bfloat16 float64"),
    (layer(), (3, 512), "float16 bfloat16"),
    (layer(), (3, 600), "float16 bfloat16 float64"),
    (layer(), (9, 1024), "float16 bfloat16"),
    (layer(), (3, 2048), "float16 bfloat16"),
    (layer(), (4, 2051), "float16 float64"),
    (layer(), (4, 4096), "float16"),
    (layer(), (3, 4104), "float16 bfloat16"),
    (layer(), (3, 8192), "float16 bfloat16"),
    (layer(), (3, 9000), "float16 bfloat16"),
    (layer(), (8, 9001), "bfloat16"),
    (layer(), (2, 16384), "float16 bfloat16"),
    (layer(), (8, 20000), "float64"),
    (layer(), (1, 40008), "float16"),
    (rms(), (5, 100), "float16 bfloat16 float64"),
    (rms(), (2, 1023), "float16 bfloat16 float64"),
    (rms(), (2, 20001), "float16 bfloat16 float64"),
    (rms(zero_centered=True), (1, 30000), "float16 bfloat16 float64"),
    (group(5), (6, 35), "bfloat16"),
    (group(7), (5, 56), "float16"),
    (group(4), (2, 50, 40), "float16 bfloat16 float64"),
    (group(3), (2, 100, 2, 6), "float64"),
    (group(2), (3, 7, 2), "float16"),
    (group(2), (1, 3000, 16), "bfloat16"),
    (group(2), (1, 300, 2080), "float16 bfloat16"),
    (group(1), (2, 30, 1500), "float64"),
    (group(3), (1, 90, 399), "float64"),
    (group(1), (1, 40, 2050), "float16 bfloat16 float64"),
    (group(-1), (2, 300, 24), "float16 bfloat16 float64"),
    (group(-1), (1, 6000, 8), "float16"),
    (group(2, 1), (3, 8, 49), "float64"),
    (group(2, 1), (3, 8, 64), "float16 bfloat16"),
    (group(2, 1), (2, 70, 12), "float16 bfloat16 float64"),
    (group(3, 1), (2, 6, 1030), "bfloat16"),
    (group(-1, 1), (3, 8, 64), "bfloat16"),
    (group(-1, 1), (2, 3, 5), "bfloat16"),
    (group(-1, 1), (2, 2, 2000), "float16 bfloat16"),
    (group(2, 1), (1, 4, 20000), "float16 bfloat16 float64"),
    (group(1, 1), (1, 3, 7001), "float16 bfloat16 float64"),
    (group(-1, 1), (1, 2, 30001), "float16 bfloat16 float64"),
    (group(1, 1), (1, 2, 33000), "float16 bfloat16 float64"),
    (group(2, 2), (3, 5, 4, 6), "float64"),
    (group(2, 2), (1, 50, 4, 9), "float16 bfloat16 float64"),
    (layer(1), (3, 26, 260), "float16"),
    (layer(1), (2, 500, 33), "bfloat16"),
    (layer(1), (1, 3000, 40), "float64"),
    (layer(1), (5, 3, 7), "float64"),
    (rms(1), (2, 50, 33), "float16 bfloat16 float64"),
    (rms(1), (1, 2000, 17), "float16"),
]

CASES = [(norm, shape) for norm, shape, _ in TYPED_CASES]


def with_types(typed):
    """Returns each case in float32 and in each of its other types."""
    return [
        (norm, shape, dtype)
        for norm, shape, others in typed
        for dtype in DTYPES
        if dtype == np.float32 or dtype.__name__ in others.split()
    ]


def name_of(value):
    if isinstance(value, Norm):
        return f"{value.op}{value.axes[0]}g{value.groups}"
    if isinstance(value, tuple):
        return "x".join(map(str, value))
    return getattr(value, "__name__", None)


def instance_of(made):
    """Returns the line of cuda/instances.h that a plan of `rows` takes, else None."""
    if made["scheme"] != "rows":
        return None
    geometry = made["geometry"]
    return (
        geometry["general"] == 1,
        geometry["width"] > 1,
        geometry["vectors"],
        geometry["block"] == 1,
    )


def kernel_of(made):
    """Returns the scheme of a plan and which of its instances it takes."""
    geometry, name = made["geometry"], made["scheme"]
    if name == "rows":
        return name, *instance_of(made)
    if name == "stream":
        by = "runs" if geometry["by_runs"] else "lines"
        return name, by, geometry["general"] == 1, geometry["width"] > 1
    if name == "tile":
        return name, geometry["vectors"]
    return name, geometry["general"] == 1, geometry["width"] > 1


def compiled_rows(dtype, which):
    """Returns the lines of the table in cuda/instances.h, as `instance_of` has them."""
    return {
        (line.general, line.wide, line.vectors, line.block)
        for line in rows_instances(which)
        if line.element_bytes == np.dtype(dtype).itemsize
    }


def missed(ways_of, typed, dtype):
    """Returns the ways that only cases reach which do not run in a type.

    `ways_of`: returns those of a norm and a shape. Each with the cases that reach it:
    add the type to one of them.
    """
    run, others = set(), {}
    for norm, shape, types in typed:
        if np.dtype(dtype).name in ["float32", *types.split()]:
            run |= ways_of(norm, shape)
        else:
            for way in ways_of(norm, shape):
                others.setdefault(way, []).append((norm, shape))
    return {way: cases for way, cases in others.items() if way not in run}


# One of each scheme, small.
SCHEMES = [
    (layer(), (5, 72), SMALL),
    # More rows than teams, some of which have none: their number is a multiple of G.
    (group(5), (600, 10), SMALL),
    (layer(), (3, 2304), SMALL),
    (layer(), (3, 9000), CLUSTERS),
    (layer(), (1, 30000), SMALL),
    (group(2, 1), (2, 6, 72), SMALL),
    (group(2, 1), (1, 4, 12000), SMALL),
    (group(3), (2, 20, 24), SMALL),
    (group(2), (2, 150, 24), CLUSTERS),
    (group(2), (1, 3000, 16), SMALL),
    (layer(1), (2, 30, 40), SMALL),
    (layer(1), (1, 2000, 24), SMALL),
]

# Rows of as many accesses as the instances take at most, and one more; few rows, and
# more than a block has teams.
ROWS = [(5, 8), (70, 16), (37, 64), (37, 96), (9, 256), (5, 264), (5, 512), (5, 768)]
ROWS += [(5, 1024), (3, 1600), (3, 2048), (3, 4104), (3, 8192), (2, 12288)]


def same_bits(got, expected):
    for name, array in expected.items():
        if array is not None:
            assert got[name].tobytes() == array.tobytes(), name

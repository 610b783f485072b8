"""Values and gradients of the functional API against the reference.

Every case checks y, the sum, the statistics, dx, dgamma and dbeta, all against the
bounds of bounds.py.
"""

import dataclasses
import itertools

import ml_dtypes
import numpy as np
import pytest
from support.op_cases import (
    ACTIVATIONS,
    AXES_VIEWS,
    DTYPES,
    GROUP_VIEWS,
    LARGE_SAMPLES,
    PER_SAMPLE,
    WALKS,
    check,
    with_options,
    with_types,
)
from support.reference import Norm


@pytest.mark.parametrize(("shape", "axis", "groups", "dtype"), with_types(GROUP_VIEWS))
def test_group_norm(shape, axis, groups, dtype, rng):
    check(Norm("group_norm", (axis,), groups), shape, rng, dtype)


@pytest.mark.parametrize(("shape", "axis", "groups", "dtype"), with_types(GROUP_VIEWS))
def test_instance_norm(shape, axis, groups, dtype, rng):
    check(Norm("group_norm", (axis,)), shape, rng, dtype)


@pytest.mark.parametrize(("shape", "axes", "dtype"), with_types(AXES_VIEWS))
def test_layer_norm(shape, axes, dtype, rng):
    check(Norm("layer_norm", axes), shape, rng, dtype)


@pytest.mark.parametrize(("shape", "axes", "dtype"), with_types(AXES_VIEWS))
def test_rms_norm(shape, axes, dtype, rng):
    check(Norm("rms_norm", axes, epsilon=1e-6), shape, rng, dtype)


@pytest.mark.parametrize(
    ("walk", "activation", "dtype"),
    # Of walk, activation and type, any two are together in some case.
    [
        (walk, activation, DTYPES[(i + j) % len(DTYPES)])
        for (i, walk), (j, activation) in itertools.product(
            enumerate(WALKS), enumerate(ACTIVATIONS)
        )
    ],
)
def test_activations(walk, activation, dtype, rng):
    norm, shape = with_options(walk, activation=activation)
    check(norm, shape, rng, dtype)


@pytest.mark.parametrize("affine", ["none", "scale", "shift"])
@pytest.mark.parametrize("walk", WALKS)
def test_affine_modes(walk, affine, rng):
    norm, shape = with_options(walk, activation="silu")
    check(norm, shape, rng, affine=affine)


@pytest.mark.parametrize(("walk", "dtype"), with_types((walk,) for walk in WALKS))
def test_residual(walk, dtype, rng):
    norm, shape = with_options(walk, activation="gelu")
    check(norm, shape, rng, dtype, residual=True)


def test_residual_over_transposed_axes(rng):
    check(Norm("layer_norm", (1, 3)), (2, 3, 4, 5), rng, residual=True)


@pytest.mark.parametrize(
    ("norm", "shape", "dtype"), with_types([*PER_SAMPLE, LARGE_SAMPLES])
)
def test_parameters_of_each_sample(norm, shape, dtype, rng):
    norm = dataclasses.replace(norm, activation="silu")
    check(norm, shape, rng, dtype, residual=True)


@pytest.mark.parametrize(
    ("norm", "shape", "affine"),
    [(*case, ("scale", "shift")[i % 2]) for i, case in enumerate(PER_SAMPLE)],
)
def test_one_parameter_of_each_sample(norm, shape, affine, rng):
    norm = dataclasses.replace(norm, zero_centered=True)
    check(norm, shape, rng, affine=affine, param_dtype=np.float32)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("walk", WALKS)
def test_parameters_in_the_dtype_of_the_data(walk, dtype, rng):
    norm, shape = with_options(walk)
    check(norm, shape, rng, dtype, param_dtype=dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("walk", ["rms_rows", "rms_columns"])
def test_zero_centered(walk, dtype, rng):
    norm, shape = with_options(walk, zero_centered=True)
    check(norm, shape, rng, dtype)


@pytest.mark.parametrize("epsilon", [1e-12, 1e-5, 0.1, 10.0])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_epsilon(epsilon, dtype, rng):
    # float64 tells whether epsilon went through float32: 0.1 is off by 1e-9 there.
    check(Norm("layer_norm", epsilon=epsilon), (4, 50), rng, dtype)


SIZES = [1, 2, 3, 7, 8, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 255, 511, 512, 513]


@pytest.mark.parametrize("size", [*SIZES, 1023, 1024, 1025, 2049])
def test_rows_around_vector_sizes(size, rng):
    check(Norm("layer_norm"), (3, size), rng)


@pytest.mark.parametrize("size", SIZES)
def test_columns_around_vector_sizes(size, rng):
    check(Norm("layer_norm", (1,)), (2, 5, size), rng)


@pytest.mark.parametrize("size", SIZES)
def test_channels_around_vector_sizes(size, rng):
    check(Norm("group_norm", (-1,)), (2, 5, size), rng)


@pytest.mark.parametrize("rows", [1, 63, 64, 65, 129, 1000])
@pytest.mark.parametrize("walk", ["interleaved", "rows", "short_rows", "columns"])
def test_counts_around_a_block_of_rows(walk, rows, rng):
    norm, shape = WALKS[walk]
    where = {"interleaved": 1, "rows": 0, "short_rows": 0, "columns": 1}[walk]
    check(norm, (*shape[:where], rows, *shape[where + 1 :]), rng)


LARGE = {
    "long_rows": (Norm("layer_norm"), (2, 300_000)),
    "one_group_channels_last": (Norm("group_norm", (-1,), 1), (1, 200, 200, 10)),
    "one_group_of_chunks": (Norm("group_norm", (-1,), 1), (1, 60, 60, 100)),
    "few_channels_first": (Norm("group_norm", (1,), 2), (1, 4, 300, 301)),
    # One cut falls on the last position of a channel.
    "short_runs_cut_in_slices": (Norm("group_norm", (1,), 1), (1, 7000, 19)),
    "few_interleaved": (Norm("group_norm", (-1,), 8), (1, 250, 250, 16)),
    "few_columns": (Norm("layer_norm", (1,)), (1, 9000, 70)),
    "rms_long_rows": (Norm("rms_norm"), (3, 200_001)),
    "many_rows": (Norm("layer_norm"), (30_000, 17)),
    # 64 blocks of 64 and 128 rows: as many as are summed before the total in float64.
    "whole_blocks_of_rows": (Norm("layer_norm"), (4096, 17)),
    "two_blocks_of_rows": (Norm("layer_norm"), (8192, 70)),
    "many_short_rows": (Norm("rms_norm"), (60_000, 7)),
    "many_instances": (Norm("group_norm", (1,)), (64, 64, 9, 9)),
    "wide_columns": (Norm("layer_norm", (1,)), (2, 3, 60_000)),
    "many_channels": (Norm("group_norm", (-1,), 50), (2, 20, 5000)),
}


@pytest.mark.parametrize(
    ("activation", "dtype"), [("none", np.float32), ("silu", ml_dtypes.bfloat16)]
)
@pytest.mark.parametrize("name", LARGE)
def test_large(name, activation, dtype, rng):
    norm, shape = LARGE[name]
    norm = Norm(**{**vars(norm), "activation": activation})
    check(norm, shape, rng, dtype, residual=activation != "none")


@pytest.mark.parametrize("name", ["long_rows", "few_columns", "few_interleaved"])
def test_large_in_float64(name, rng):
    """Sums that go into no wider type."""
    check(*LARGE[name], rng, np.float64)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_worst_ratio_is_not_far_below_the_bound(dtype, rng):
    """The bounds are tight: something in this sample comes near them."""
    worst = {}
    for norm, shape in [*WALKS.values(), LARGE["many_rows"]]:
        for key, ratio in check(norm, shape, rng, dtype, offset=5.0).items():
            worst[key] = max(ratio, worst.get(key, 0))
    print("worst error / bound:", worst)
    assert worst["y"] > 0.2
    assert worst["dx"] > 0.05

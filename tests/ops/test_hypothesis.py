"""Random shapes, axes, types and options against the reference."""

import ml_dtypes
import numpy as np
from hypothesis import given, settings, strategies as st
from support.op_cases import check
from support.reference import ACTIVATIONS, Norm

DTYPES = [np.float32, np.float64, np.float16, ml_dtypes.bfloat16]

options = {
    "dtype": st.sampled_from(DTYPES),
    "affine": st.sampled_from(["none", "scale", "shift", "both"]),
    "residual": st.booleans(),
    "scale": st.sampled_from([0.01, 1.0, 100.0]),
    "offset": st.sampled_from([0.0, 1.0, -30.0]),
}
# The same examples in every run, so that CI fails for changes only.
examples = settings(max_examples=150, deadline=None, derandomize=True)


@st.composite
def group_norms(draw):
    rank = draw(st.integers(2, 6))
    shape = draw(st.lists(st.integers(1, 7), min_size=rank, max_size=rank))
    axis = draw(st.integers(1, rank - 1))
    groups = draw(st.integers(1, 6))
    shape[axis] = groups * draw(st.integers(1, 40 if rank < 4 else 6))
    return shape, Norm(
        "group_norm",
        (axis - draw(st.sampled_from([0, rank])),),
        draw(st.sampled_from([groups, -1])),
        activation=draw(st.sampled_from(list(ACTIVATIONS))),
    )


@st.composite
def axes_norms(draw):
    rank = draw(st.integers(1, 5))
    largest = {1: 600, 2: 80, 3: 20}.get(rank, 7)
    shape = draw(st.lists(st.integers(1, largest), min_size=rank, max_size=rank))
    axes = draw(st.permutations(range(rank)))[: draw(st.integers(1, rank))]
    signs = [draw(st.sampled_from([0, rank])) for _ in axes]
    op = draw(st.sampled_from(["layer_norm", "rms_norm"]))
    return shape, Norm(
        op,
        tuple(axis - sign for axis, sign in zip(axes, signs, strict=True)),
        activation=draw(st.sampled_from(list(ACTIVATIONS))),
        zero_centered=op == "rms_norm" and draw(st.booleans()),
    )


@examples
@given(case=group_norms(), seed=st.integers(0, 2**32 - 1), **options)
def test_any_group_norm(case, seed, **options):
    shape, norm = case
    check(norm, tuple(shape), np.random.default_rng(seed), **options)


@examples
@given(case=axes_norms(), seed=st.integers(0, 2**32 - 1), **options)
def test_any_layer_or_rms_norm(case, seed, **options):
    shape, norm = case
    check(norm, tuple(shape), np.random.default_rng(seed), **options)

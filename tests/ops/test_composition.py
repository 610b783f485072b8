"""The composition of TensorFlow ops: the values, gradients and messages of the ops.

The functional API runs on it here, so that the checks of test_ops_values.py serve.
"""

import fusednorm
import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf
from fusednorm import _composition
from support.composed_norms import CASES, inputs_of
from support.op_cases import (
    ACTIVATIONS,
    AXES_VIEWS,
    DTYPES,
    GROUP_VIEWS,
    PER_SAMPLE,
    WALKS,
    check,
    with_options,
)
from support.reference import Norm


@pytest.fixture
def on_composition():
    with fusednorm.portable():
        yield


@pytest.mark.usefixtures("on_composition")
class TestAgainstReference:
    """Held to the bounds of the ops, gradients included."""

    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize(("shape", "axis", "groups"), GROUP_VIEWS)
    def test_group_norm(self, shape, axis, groups, dtype, rng):
        check(Norm("group_norm", (axis,), groups), shape, rng, dtype)

    @pytest.mark.parametrize(("shape", "axis", "groups"), GROUP_VIEWS)
    def test_instance_norm(self, shape, axis, groups, rng):
        check(Norm("group_norm", (axis,)), shape, rng)

    @pytest.mark.parametrize(("shape", "axes"), AXES_VIEWS)
    @pytest.mark.parametrize("op", ["layer_norm", "rms_norm"])
    def test_axes(self, op, shape, axes, rng):
        check(Norm(op, axes), shape, rng)

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    @pytest.mark.parametrize("activation", ACTIVATIONS)
    @pytest.mark.parametrize("walk", ["channels_first", "rows", "rms_columns"])
    def test_activations(self, walk, activation, dtype, rng):
        norm, shape = with_options(walk, activation=activation)
        check(norm, shape, rng, dtype)

    @pytest.mark.parametrize("affine", ["none", "scale", "shift"])
    @pytest.mark.parametrize("walk", WALKS)
    def test_affine_modes(self, walk, affine, rng):
        check(*WALKS[walk], rng, affine=affine)

    @pytest.mark.parametrize(("norm", "shape"), PER_SAMPLE)
    def test_parameters_of_each_sample(self, norm, shape, rng):
        check(norm, shape, rng)

    # Not in float16: autodiff rounds the two parts of dx before it adds them.
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    @pytest.mark.parametrize("walk", WALKS)
    def test_residual(self, walk, dtype, rng):
        check(*WALKS[walk], rng, dtype, residual=True)

    @pytest.mark.parametrize("walk", WALKS)
    def test_parameters_in_the_dtype_of_the_data(self, walk, rng):
        check(*WALKS[walk], rng, np.float16, param_dtype=np.float16)

    @pytest.mark.parametrize("walk", ["rms_rows", "rms_columns"])
    def test_zero_centered(self, walk, rng):
        norm, shape = with_options(walk, zero_centered=True)
        check(norm, shape, rng, np.float64)

    @pytest.mark.parametrize("epsilon", [1e-12, 0.1, 10.0])
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_epsilon(self, epsilon, dtype, rng):
        check(Norm("layer_norm", epsilon=epsilon), (4, 50), rng, dtype)

    @pytest.mark.parametrize("offset", [1e2, 1e4, 1e6])
    def test_a_mean_far_from_zero(self, offset, rng):
        check(Norm("layer_norm"), (4, 300), rng, offset=offset)


# name -> (the functional API's call, a shape)
NORMS = {
    "group": (lambda x, **k: fusednorm.group_norm(x, groups=2, **k), (3, 5, 8)),
    "first": (lambda x, **k: fusednorm.group_norm(x, groups=4, axis=1, **k), (2, 8, 3)),
    "middle": (
        lambda x, **k: fusednorm.instance_norm(x, axis=2, **k),
        (2, 3, 4, 5),
    ),
    "layer": (lambda x, **k: fusednorm.layer_norm(x, **k), (3, 5, 8)),
    "columns": (lambda x, **k: fusednorm.layer_norm(x, axis=1, **k), (3, 5, 8)),
    "rms": (lambda x, **k: fusednorm.rms_norm(x, axis=[-3, -2], **k), (3, 5, 8)),
}
every_norm = pytest.mark.parametrize("norm", NORMS)


@pytest.mark.parametrize("value", [0.0, -3.7, 1e4, 1e18, 1e30, 3e-39])
@pytest.mark.parametrize("epsilon", [0.0, 1e-3])
@pytest.mark.parametrize("norm", [name for name in NORMS if name != "rms"])
def test_a_constant_group_is_beta(norm, epsilon, value):
    call, shape = NORMS[norm]
    x = tf.fill(shape, np.float32(value))
    with fusednorm.portable(), tf.GradientTape() as tape:
        tape.watch(x)
        y = call(x, epsilon=epsilon)
    np.testing.assert_array_equal(y, np.zeros(shape))
    assert np.isfinite(tape.gradient(y, x, output_gradients=tf.ones(shape))).all()


def test_zeros_without_epsilon_are_zeros_for_rms():
    with fusednorm.portable():
        y, rstd = fusednorm.rms_norm(tf.zeros((2, 3)), epsilon=0.0, return_stats=True)
    np.testing.assert_array_equal(y, np.zeros((2, 3)))
    np.testing.assert_array_equal(rstd, np.zeros(2))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@every_norm
def test_what_is_not_a_number_stays_in_its_group(norm, value, rng):
    call, shape = NORMS[norm]
    x = rng.normal(size=shape).astype(np.float32)
    x[(0,) * len(shape)] = value
    expected = call(x)
    with fusednorm.portable():
        np.testing.assert_array_equal(np.isfinite(call(x)), np.isfinite(expected))


@pytest.mark.parametrize("empty", [0, 1, 2])
@every_norm
def test_empty_tensors_equal_the_op(norm, empty):
    call, shape = NORMS[norm]
    shape = [0 if axis == empty else size for axis, size in enumerate(shape)]
    expected = call(tf.zeros(shape), return_stats=True)
    with fusednorm.portable():
        got = call(tf.zeros(shape), return_stats=True)
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("case", "known"),
    [
        (case, known)
        for case in CASES
        for known in ("nothing", "rank", "all but the batch")
        # Axes that are apart need a rank.
        if (case, known) != ("layer, apart", "nothing")
    ],
)
@pytest.mark.parametrize("batch", [0, 2])
def test_unknown_shapes(case, batch, known, rng):
    x, gamma, beta, _ = inputs_of(case, rng, np.float32)
    if CASES[case][3][0] != 0:  # Else the batch is normalized, and gamma has its size.
        x = x[:batch]
    shape = {
        "nothing": None,
        "rank": [None] * x.shape.rank,
        "all but the batch": [None, *x.shape[1:]],
    }[known]
    parameter = tf.TensorSpec(None if known == "nothing" else gamma.shape)

    def call(x, gamma, beta):
        return CASES[case][0](x, gamma, beta, return_stats=True)

    signature = [tf.TensorSpec(shape), parameter, parameter]
    with fusednorm.portable():
        got = tf.function(call, input_signature=signature)(x, gamma, beta)
    expected = call(x, gamma, beta)
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=2e-6)


@pytest.mark.parametrize("norm", ["group_norm", "layer_norm"])
def test_parameters_that_do_not_fit_are_refused(norm):
    options = {"groups": 1} if norm == "group_norm" else {}
    signature = [tf.TensorSpec(None), tf.TensorSpec(None)]

    @tf.function(input_signature=signature)
    def call(x, gamma):
        return getattr(fusednorm, norm)(x, gamma, **options)

    error = pytest.raises(tf.errors.InvalidArgumentError, match="requested shape has 8")
    with fusednorm.portable(), error:
        call(tf.ones((2, 8)), tf.ones(1))


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_the_generated_wrappers_and_their_rounding(dtype, rng):
    """The sum is rounded to the data's type; y is then off by one rounding at most."""
    x, residual = tf.unstack(rng.normal(size=(2, 2, 4)).astype(dtype))
    for function, options in [
        ("group_norm", {"groups": 2}),
        ("layer_norm", {"axes": [1]}),
        ("rms_norm", {"axes": [1]}),
    ]:
        lists = {"gamma": [], "residual": [residual]}
        if function != "rms_norm":
            lists["beta"] = []
        if function == "group_norm":
            lists["mask"] = []
        name = f"fusednorm_{function}"
        got = getattr(_composition.norms, name)(x=x, **lists, **options)
        op = getattr(fusednorm.load_op_library(), name)(x=x, **lists, **options)
        np.testing.assert_array_equal(got[1][0], op[1][0])
        unit = float(ml_dtypes.finfo(dtype).eps)
        for a, b in zip(tf.nest.flatten(got), tf.nest.flatten(tuple(op)), strict=True):
            assert (a.dtype, a.shape) == (b.dtype, b.shape)
            a, b = (each.numpy().astype(np.float32) for each in (a, b))
            np.testing.assert_allclose(a, b, rtol=unit, atol=1e-6)

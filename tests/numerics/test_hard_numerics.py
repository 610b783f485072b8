"""Inputs on which other implementations go wrong, and properties of the functions."""

import fusednorm
import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf
from support import bounds, reference
from support.reference import WIDE, Norm

DTYPES = [np.float32, np.float64, np.float16, ml_dtypes.bfloat16]

# Every walk of the kernels over [N, C, ...] data: op, shape, a function of (x, gamma,
# beta) and the shape of gamma.
FORMS = {
    "rows": ((6, 96), [96], lambda x, g, b, **k: fusednorm.layer_norm(x, g, b, **k)),
    "short_rows": (
        (6, 10),
        [10],
        lambda x, g, b, **k: fusednorm.layer_norm(x, g, b, **k),
    ),
    "columns": (
        (3, 20, 9),
        [20],
        lambda x, g, b, **k: fusednorm.layer_norm(x, g, b, axis=1, **k),
    ),
    "interleaved": (
        (3, 8, 8, 12),
        [12],
        lambda x, g, b, **k: fusednorm.group_norm(x, g, b, groups=4, **k),
    ),
    "channels_first": (
        (3, 12, 8, 8),
        [12],
        lambda x, g, b, **k: fusednorm.group_norm(x, g, b, groups=4, axis=1, **k),
    ),
    "one_large_group": (
        (1, 200, 300, 4),
        [4],
        lambda x, g, b, **k: fusednorm.group_norm(x, g, b, groups=1, **k),
    ),
    "instances": (
        (3, 9, 9, 20),
        [20],
        lambda x, g, b, **k: fusednorm.instance_norm(x, g, b, **k),
    ),
}


def parameters(shape, rng, dtype=np.float32):
    gamma = rng.uniform(0.5, 2, shape).astype(dtype)
    return gamma, rng.normal(size=shape).astype(dtype)


def spread(form, parameter, shape):
    """Returns a parameter in the shape of x."""
    axis = 1 if form in ("columns", "channels_first") else -1
    broadcast = [1] * len(shape)
    broadcast[axis] = -1
    return np.broadcast_to(parameter.reshape(broadcast), shape)


@pytest.mark.parametrize("activation", [None, "silu"])
@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        *[(np.float32, v) for v in (0.0, 1e-3, -7.3, 1e4, 1e8, 3e18)],
        *[(np.float64, v) for v in (1e-3, 1e4, 1e8, 1.1e16)],
        *[(np.float16, v) for v in (6e-8, 0.1, 65504.0)],
        *[(ml_dtypes.bfloat16, v) for v in (1e-3, 1e8)],
    ],
)
@pytest.mark.parametrize("form", FORMS)
def test_constant_groups_give_exactly_beta(form, dtype, value, activation, rng):
    shape, parameter_shape, call = FORMS[form]
    wide = np.float64 if dtype == np.float64 else np.float32
    gamma, beta = parameters(parameter_shape, rng, wide)
    y = call(np.full(shape, value).astype(dtype), gamma, beta, activation=activation)
    of_beta = call(np.zeros(shape, dtype), gamma, beta, activation=activation)
    np.testing.assert_array_equal(y.numpy(), of_beta.numpy())
    if activation is None:
        np.testing.assert_array_equal(
            y.numpy(), spread(form, beta, shape).astype(dtype)
        )


@pytest.mark.parametrize("epsilon", [0.0, 1e-3])
@pytest.mark.parametrize("dtype", DTYPES)
def test_groups_of_one_element_give_beta_and_no_gradient(dtype, epsilon, rng):
    wide = np.float64 if dtype == np.float64 else np.float32
    gamma, beta = map(tf.constant, parameters([5], rng, wide))
    x = tf.constant(rng.normal(size=(4, 5)).astype(dtype))
    with tf.GradientTape() as tape:
        tape.watch([x, gamma, beta])
        y = fusednorm.instance_norm(x, gamma, beta, epsilon=epsilon)
        loss = tf.reduce_sum(y)
    dx, dgamma, dbeta = tape.gradient(loss, [x, gamma, beta])
    np.testing.assert_array_equal(y, np.broadcast_to(tf.cast(beta, dtype), (4, 5)))
    np.testing.assert_array_equal(dx, np.zeros((4, 5), dtype))
    np.testing.assert_array_equal(dgamma, np.zeros(5))
    np.testing.assert_array_equal(dbeta, np.full(5, 4.0))


def forward_norm(form):
    return {
        "rows": Norm("layer_norm"),
        "short_rows": Norm("layer_norm"),
        "columns": Norm("layer_norm", (1,)),
        "interleaved": Norm("group_norm", (-1,), 4),
        "channels_first": Norm("group_norm", (1,), 4),
        "one_large_group": Norm("group_norm", (-1,), 1),
        "instances": Norm("group_norm", (-1,)),
    }[form]


def check_forward(form, x, gamma, beta):
    norm = forward_norm(form)
    y, mean, rstd = FORMS[form][2](x, gamma, beta, return_stats=True)
    of = reference.forward(norm, x, gamma, beta)
    unit = bounds.PRECISIONS[x.dtype].compute
    ratios = {
        "y": bounds.relative_to(bounds.forward(norm, of, x.dtype), y, of.y),
        "mean": bounds.relative_to(
            bounds.of_mean(of, unit).ravel(), np.ravel(mean), of.mean.ravel()
        ),
        # Also where the mean has no digit left for the deviations.
        "rstd": bounds.relative_to(
            bounds.of_rstd(norm, of, unit).ravel(), np.ravel(rstd), of.rstd.ravel()
        ),
    }
    print("error / bound:", ratios)
    assert max(ratios.values()) <= 1, ratios
    return y


@pytest.mark.parametrize("mean", [1e3, -1e6])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("form", FORMS)
def test_mean_far_above_the_standard_deviation(form, dtype, mean, rng):
    shape, parameter_shape, _ = FORMS[form]
    gamma, beta = parameters(parameter_shape, rng, dtype)
    # At 1e6 float32 has steps of 1/16: the reference sees the same rounded x.
    check_forward(form, (rng.normal(size=shape) + mean).astype(dtype), gamma, beta)


@pytest.mark.parametrize("form", FORMS)
def test_outlier_in_first_place(form, rng):
    # The kernels measure deviations from a group's first element.
    shape, parameter_shape, _ = FORMS[form]
    x = rng.normal(size=shape).astype(np.float32)
    x.flat[0] = 1e6
    check_forward(form, x, *parameters(parameter_shape, rng))


@pytest.mark.parametrize("form", FORMS)
def test_float16_with_standard_deviation_1000(form, rng):
    # The variance does not fit float16.
    shape, parameter_shape, _ = FORMS[form]
    x = (rng.normal(size=shape) * 1000).astype(np.float16)
    y = check_forward(form, x, *parameters(parameter_shape, rng))
    assert np.std(y.numpy().astype(np.float32)) > 0.5


@pytest.mark.parametrize("form", FORMS)
def test_subnormal_data(form, rng):
    shape, parameter_shape, _ = FORMS[form]
    gamma, beta = parameters(parameter_shape, rng)
    for dtype, tiny in [(np.float32, 2.0**-140), (np.float16, 2.0**-20)]:
        check_forward(form, (rng.normal(size=shape) * tiny).astype(dtype), gamma, beta)


def test_subnormal_float16_data_are_not_flushed(rng):
    # With epsilon = 0 even they have standard deviation 1.
    x = (rng.integers(1, 100, (4, 64)) * 2.0**-24).astype(np.float16)
    y = fusednorm.layer_norm(x, epsilon=0.0).numpy().astype(np.float64)
    exact = reference.forward(Norm("layer_norm", epsilon=0.0), x).y
    # Half a float16 ulp of at most 4, and float32 rounding.
    assert np.max(np.abs(y - exact)) < 2.0**-9


@pytest.mark.parametrize("rows", [1, 4000])
def test_subnormal_float32_data_are_not_flushed(rows, rng):
    # Mean 0 and epsilon 1 leave x as it is. Many rows go to TensorFlow's threads, which
    # flush subnormals.
    half = (rng.integers(1, 2**20, (rows, 32)) * 2.0**-149).astype(np.float32)
    x = np.concatenate([half, -half], axis=1)
    np.testing.assert_array_equal(fusednorm.layer_norm(x, epsilon=1.0), x)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("form", [name for name in FORMS if name != "one_large_group"])
def test_nan_and_inf_stay_in_their_group(form, dtype, bad, rng):
    shape, parameter_shape, call = FORMS[form]
    wide = np.float64 if dtype == np.float64 else np.float32
    gamma, beta = parameters(parameter_shape, rng, wide)
    clean = rng.normal(size=shape).astype(dtype)
    dirty = clean.copy()
    dirty[1].flat[0] = bad

    def run(data):
        x = tf.constant(data)
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = call(x, gamma, beta)
        return y.numpy(), tape.gradient(y, x, output_gradients=tf.cos(x)).numpy()

    index = np.arange(clean.size).reshape(shape)
    norm = forward_norm(form)
    viewed, reduced, _ = reference.view(norm, shape)
    hit = (index == index[1].flat[0]).reshape(viewed).any(reduced, keepdims=True)
    hit = np.broadcast_to(hit, viewed).reshape(shape)
    assert 0 < hit.sum() < hit.size
    y, dx = run(dirty)
    clean_y, clean_dx = run(clean)
    assert np.isnan(y[hit].astype(np.float64)).all()
    assert np.isnan(dx[hit].astype(np.float64)).all()
    np.testing.assert_array_equal(y[~hit], clean_y[~hit])
    np.testing.assert_array_equal(dx[~hit], clean_dx[~hit])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("shape", "call"),
    [
        ((0, 5, 6), lambda x, g: fusednorm.group_norm(x, g, groups=3)),
        ((4, 0, 6), lambda x, g: fusednorm.group_norm(x, g, groups=3)),
        ((4, 6, 0), lambda x, g: fusednorm.group_norm(x, g, groups=2, axis=1)),
        ((4, 5, 0), lambda x, g: fusednorm.instance_norm(x, g)),
        ((4, 5, 0), lambda x, g: fusednorm.layer_norm(x, g)),
        ((0, 5, 6), lambda x, g: fusednorm.layer_norm(x, g)),
        ((0, 6), lambda x, g: fusednorm.rms_norm(x, g)),
        ((3, 6, 0), lambda x, g: fusednorm.rms_norm(x, g, axis=1)),
    ],
)
def test_empty_tensors(shape, call, dtype):
    wide = np.float64 if dtype == np.float64 else np.float32
    x = tf.zeros(shape, dtype)
    channels = 0 if shape[-1] == 0 and shape[1] != 6 else 6
    gamma = tf.ones([channels], wide)
    with tf.GradientTape() as tape:
        tape.watch([x, gamma])
        y = call(x, gamma)
    dx, dgamma = tape.gradient(y, [x, gamma])
    assert y.shape == dx.shape == x.shape
    np.testing.assert_array_equal(dgamma, np.zeros(channels))


@pytest.mark.parametrize("form", FORMS)
def test_shift_and_scale_of_x_do_not_matter(form, rng):
    shape, _, call = FORMS[form]
    x = rng.integers(-8, 8, shape).astype(np.float32)
    y = call(x, None, None, epsilon=0.0)
    # Exact in float32, so only the statistics may round differently: a few units of
    # |xhat| <= 8 standard deviations, plus one of mean / std = 100.
    moved = call(x * 4 + 400, None, None, epsilon=0.0)
    np.testing.assert_allclose(moved, y, rtol=0, atol=200 * 2.0**-24)


@pytest.mark.parametrize("form", FORMS)
def test_backward_is_linear_in_dy(form, rng):
    shape, parameter_shape, call = FORMS[form]
    gamma, beta = parameters(parameter_shape, rng)
    x = tf.constant(rng.normal(size=shape).astype(np.float32))
    dy = rng.normal(size=shape).astype(np.float32)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        y = call(x, gamma, beta)
    once = tape.gradient(y, x, output_gradients=tf.constant(dy)).numpy()
    # Powers of two scale every intermediate exactly.
    scaled = tape.gradient(y, x, output_gradients=tf.constant(dy * -8)).numpy()
    np.testing.assert_array_equal(scaled, once * -8)


@pytest.mark.parametrize("form", FORMS)
def test_dx_has_mean_zero_and_is_orthogonal_to_xhat(form, rng):
    shape, parameter_shape, call = FORMS[form]
    gamma, beta = parameters(parameter_shape, rng)
    data = rng.normal(size=shape).astype(np.float32)
    dy = rng.normal(size=shape).astype(np.float32)
    x = tf.constant(data)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = call(x, gamma, beta, epsilon=0.0)
    dx = tape.gradient(y, x, output_gradients=tf.constant(dy)).numpy().astype(WIDE)
    norm = forward_norm(form)
    norm.epsilon = 0.0
    of = reference.forward(norm, data, gamma, beta)
    viewed, reduced, _ = reference.view(norm, shape)
    dx = dx.reshape(viewed)
    size = np.abs(dx).mean(reduced)
    # Each dx is off by some ten units of its terms; so at most is their mean.
    assert np.all(np.abs(dx.mean(reduced)) <= 32 * 2.0**-24 * size)
    assert np.all(np.abs((dx * of.xhat).mean(reduced)) <= 32 * 2.0**-24 * size)


def test_groups_are_independent_of_their_order(rng):
    x = rng.normal(size=(4, 9, 9, 24)).astype(np.float32)
    order = rng.permutation(8)
    channels = (order[:, None] * 3 + np.arange(3)).ravel()
    y = fusednorm.group_norm(x, groups=8).numpy()
    permuted = fusednorm.group_norm(x[..., channels], groups=8).numpy()
    np.testing.assert_array_equal(permuted, y[..., channels])


def test_large_float32_data_overflow_as_documented():
    # |x - mean|^2 passes the largest float32 near 1.8e19: rstd is 0, y is beta.
    x = np.array([[-1e20, 1e20]], np.float32)
    np.testing.assert_array_equal(fusednorm.layer_norm(x), np.zeros((1, 2)))

"""The arithmetic of all norms: statistics, normalization, scale and offset."""

from __future__ import annotations

import tensorflow as tf

from fusednorm._activations import apply_activation
from fusednorm._composition.views import Sizes, Tensors

# float32 numbers below this are subnormal, and TensorFlow's threads take them for zero.
_SMALLEST = 2.0**-126


def normalize(
    x: tf.Tensor,
    *,
    reduced: list[int],
    parameter_shape: Sizes | tf.Tensor,
    gamma: Tensors,
    beta: Tensors,
    mask: Tensors = (),
    centred: bool = True,
    epsilon: float = 1e-3,
    epsilon_low: float = 0.0,
    activation: str = "none",
    zero_centered: bool = False,
    S: tf.DType = tf.float32,  # noqa: N803 (the op's name for it)
) -> tuple[tf.Tensor, ...]:
    """Normalizes over the axes `reduced`; returns y, the mean if centred, and rstd.

    `mask` broadcasts against the data.
    """
    deviation = tf.cast(x, S)
    if mask:
        counted = tf.broadcast_to(mask[0], tf.shape(x))
        count = tf.reduce_sum(tf.cast(counted, S), reduced, keepdims=True)
        zero = tf.zeros([], S)

        def mean_of(values: tf.Tensor) -> tf.Tensor:
            # Not a product with the mask: masked numbers may be infinite or NaN.
            total = tf.reduce_sum(tf.where(counted, values, zero), reduced, True)
            return total / tf.maximum(count, 1)

        def least_of(values: tf.Tensor) -> tf.Tensor:
            values = tf.where(counted, values, values.dtype.max)
            return tf.where(count > 0, tf.reduce_min(values, reduced, True), zero)

    else:

        def mean_of(values: tf.Tensor) -> tf.Tensor:
            return tf.reduce_mean(values, reduced, keepdims=True)

        def least_of(values: tf.Tensor) -> tf.Tensor:
            return tf.reduce_min(values, reduced, keepdims=True)

    statistics = []
    if centred:
        # `near` is close to the mean, and is the mean itself if the group is constant.
        # The mean of the deviations from it then has little rounding error. `near` has
        # no gradient, because the mean does not depend on it.
        least = least_of(deviation)
        near = tf.stop_gradient(least + mean_of(deviation - least))
        deviation -= near
        correction = mean_of(deviation)
        statistics.append(near + correction)
        deviation -= correction
    rstd = inverse_sqrt(mean_of(tf.square(deviation)), float(epsilon) + epsilon_low)
    statistics.append(rstd)

    z = deviation * rstd
    for value in gamma:
        scale = _parameter(value, parameter_shape, S)
        z *= 1 + scale if zero_centered else scale
    for value in beta:
        z += _parameter(value, parameter_shape, S)
    y = tf.cast(apply_activation(activation, z), x.dtype)
    return (y, *(tf.squeeze(each, reduced) for each in statistics))


def inverse_sqrt(variance: tf.Tensor, epsilon: float) -> tf.Tensor:
    """Returns 1 / sqrt(variance + epsilon), but 0 for 1 / 0: y is then beta."""
    squared = variance + tf.constant(epsilon, variance.dtype)
    if epsilon >= _SMALLEST:
        return tf.math.rsqrt(squared)
    # Two selections, because the gradient of the branch not taken must be finite too.
    is_zero = tf.equal(squared, 0)
    rstd = tf.math.rsqrt(tf.where(is_zero, tf.ones_like(squared), squared))
    return tf.where(is_zero, tf.zeros_like(squared), rstd)


def _parameter(
    value: tf.Tensor, shape: Sizes | tf.Tensor, dtype: tf.DType
) -> tf.Tensor:
    """Returns gamma or beta in `dtype`, to broadcast against the data."""
    value = tf.cast(value, dtype)
    known = isinstance(shape, list) and all(isinstance(size, int) for size in shape)
    if known and value.shape == tf.TensorShape(shape):
        return value
    # All sizes are given, so a parameter of another size is an error here.
    return tf.reshape(value, shape)

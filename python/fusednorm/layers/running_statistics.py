"""Running statistics: their update by a batch, and the norm that uses them."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from fusednorm import _checks, _composition
from fusednorm._activations import activation_name, apply_activation


def of_batch(
    x: tf.Tensor,
    mean: tf.Tensor,
    rstd: tf.Tensor,
    epsilon: float,
    mask: tf.Tensor | None,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Returns the mean over the samples of their means and unbiased variances.

    Args:
        x: What was normalized.
        mean: The mean of each sample and channel, `[N, C]`.
        rstd: The reciprocal standard deviation, of the same shape.
        epsilon: What has been added to the variance in `rstd`. It is subtracted again,
            which leaves an error of some roundings of `epsilon`: too small to be seen
            where `epsilon` is added to the variance once more.
        mask: The positions of each sample that count, as the op takes it; a sample
            without any does not count.

    Returns:
        The mean, the variance, and how many samples count.
    """
    if mask is None:
        _checks.layers.positions(_checks.shapes.static(x), mean.shape[-1])
        positions = tf.size(x, tf.int64) // tf.maximum(tf.size(mean, tf.int64), 1)
        counts = tf.fill(tf.shape(mean)[:1], tf.cast(positions, rstd.dtype))
    else:
        counts = tf.reduce_sum(tf.cast(mask, rstd.dtype), range(1, mask.shape.rank))
    counts = counts[:, tf.newaxis]
    samples = tf.reduce_sum(tf.cast(counts > 0, rstd.dtype))

    def mean_of(values: tf.Tensor) -> tf.Tensor:
        values = tf.where(counts > 0, values, tf.zeros([], values.dtype))
        return tf.reduce_sum(values, 0) / tf.maximum(samples, 1)

    deviation = tf.math.divide_no_nan(tf.ones_like(rstd), rstd)
    variance = tf.nn.relu(tf.square(deviation) - epsilon)
    # A sample may turn out only now to have one position. Its variance stays 0.
    variance *= counts / tf.maximum(counts - 1, 1)
    return mean_of(mean), mean_of(variance), samples


def updated(old: Any, new: tf.Tensor, rate: float, samples: tf.Tensor) -> tf.Tensor:
    """Returns the running statistic after `new`, the mean over so many samples."""
    new = (1 - rate) * old + rate * tf.cast(new, old.dtype)
    return tf.where(samples > 0, new, old)


def normalize(
    x: tf.Tensor,
    mean: Any,
    variance: Any,
    gamma: Any,
    beta: Any,
    *,
    axis: int,
    epsilon: float,
    activation: str | None,
) -> tf.Tensor:
    """Returns what the fused op would, with these statistics of each channel."""
    dtype = tf.float64 if x.dtype is tf.float64 else tf.float32
    spread = [1] * x.shape.rank
    spread[axis] = -1

    def per_channel(value: Any) -> tf.Tensor:
        return tf.reshape(tf.cast(value, dtype), spread)

    rstd = _composition.arithmetic.inverse_sqrt(per_channel(variance), epsilon)
    z = (tf.cast(x, dtype) - per_channel(mean)) * rstd
    if gamma is not None:
        z *= per_channel(gamma)
    if beta is not None:
        z += per_channel(beta)
    return tf.cast(apply_activation(activation_name(activation), z), x.dtype)

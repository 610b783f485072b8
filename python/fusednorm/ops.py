"""The functional API: four norms, each one op forward and one backward.

```python
y = fusednorm.group_norm(x, gamma, beta, groups=8, activation="silu")
y, s = fusednorm.rms_norm(x, scale, residual=skip)
y, mean, rstd = fusednorm.layer_norm(x, gamma, beta, return_stats=True)
```

`gamma` and `beta` may come from elsewhere in the model. With the batch axis in front
they are given for each sample, as in AdaIN, FiLM and adaptive layer norm. With the
shape of `x` they are given for each position, as in SPADE. If they have as many axes as
`x`, axes of size 1 are broadcast: `[N, 1, C]` for `x` of `[N, T, C]` is for each
sample. If they are given for one sample, `[1, C]`, they are for all samples.

All norms compute in float32, and in float64 for float64 data. So float16 data neither
overflows nor vanishes. All outputs are differentiable.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from fusednorm import _checks, _norm
from fusednorm._norm import Norm, Outputs


def group_norm(
    x: Any,
    gamma: Any = None,
    beta: Any = None,
    *,
    groups: int,
    axis: int = -1,
    epsilon: float = 1e-3,
    zero_centered: bool = False,
    activation: Any = None,
    residual: Any = None,
    mask: Any = None,
    return_stats: bool = False,
) -> Outputs:
    """Group normalization (Wu & He, 2018), fused.

    Splits the channels of each sample into groups and normalizes each group, over
    its channels and all positions, to mean 0 and variance 1:

    ```python
    y = activation((x - mean) * rsqrt(variance + epsilon) * gamma + beta)
    ```

    Args:
        x: Floating-point tensor of rank 2 or more, `[N, ...]`, float16, bfloat16,
            float32 or float64. It is not transposed, wherever the channel axis is.
        gamma: Optional scale per channel, of shape `[C]`; per sample and channel,
            `[N, C]` or `[N, 1, ..., C]`; or per position, of the shape of `x` or
            broadcast to it. float32 or the dtype of `x`.
        beta: Optional offset, as `gamma`, of the same shape.
        groups: Number of groups, which must divide the number of channels; -1 for
            one group per channel.
        axis: The channel axis: any but 0, which is the batch. Defaults to `-1`.
        epsilon: Added to the variance, to avoid dividing by zero; at least 0. With 0
            a group of equal numbers gives `beta`. Defaults to `1e-3`.
        zero_centered: Whether the scale is `1 + gamma` instead of `gamma`. Defaults to
            `False`.
        activation: Applied to the result: `None`, or one of `"relu"`,
            `"leaky_relu"` (slope 0.2), `"silu"`, `"gelu"` (exact), `"gelu_tanh"`,
            `"tanh"` and `"sigmoid"`, or the Keras function of that name.
        residual: Optional tensor of the shape and dtype of `x`, added to `x` before
            the norm.
        mask: Optional boolean tensor of the shape of `x` without the channel axis, or
            of its first axes. Only positions where it is true count in the statistics;
            all positions are normalized. A sample in which none counts has mean 0 and
            variance 0.
        return_stats: Whether to return also the mean and the reciprocal standard
            deviation of each group.

    Returns:
        `y`, of the shape and dtype of `x`. With `residual`, `(y, sum)` with
        `sum = x + residual`. With `return_stats`, followed by `mean` and `rstd`,
        both of shape `[N, groups]`, float32 (float64 for float64 data).

    Raises:
        ValueError: if an argument does not fit the others, as far as the shapes are
            known; `tf.errors.InvalidArgumentError` when the op runs, otherwise.
        TypeError: if `axis` is not an integer.

    Example:
    >>> x = tf.random.normal([8, 32, 32, 64])
    >>> fusednorm.group_norm(x, groups=8, activation="silu").shape
    TensorShape([8, 32, 32, 64])

    Reference:

    - [Yuxin Wu & Kaiming He, 2018](https://arxiv.org/abs/1803.08494)
    """
    x = _checks.tensors.data(x)
    norm = _norm.group_norm(
        _checks.shapes.static(x),
        groups=groups,
        axis=axis,
        epsilon=epsilon,
        activation=activation,
        zero_centered=zero_centered,
    )
    if mask is not None:
        mask = _checks.masks.of_positions(mask, x, axis)
    return _called(norm, x, gamma, beta, residual, mask, return_stats)


def instance_norm(
    x: Any,
    gamma: Any = None,
    beta: Any = None,
    *,
    axis: int = -1,
    epsilon: float = 1e-3,
    zero_centered: bool = False,
    activation: Any = None,
    residual: Any = None,
    mask: Any = None,
    return_stats: bool = False,
) -> Outputs:
    """Instance normalization (Ulyanov et al., 2016), fused.

    Normalizes each channel of each sample over all its positions: `group_norm` with
    one group per channel.

    Args:
        x: Floating-point tensor of rank 2 or more, `[N, ...]`.
        gamma: Optional scale per channel, of shape `[C]`; per sample and channel,
            `[N, C]` or `[N, 1, ..., C]`; or per position, of the shape of `x` or
            broadcast to it. float32 or the dtype of `x`.
        beta: Optional offset, as `gamma`, of the same shape.
        axis: The channel axis: any but 0, which is the batch. Defaults to `-1`.
        epsilon: Added to the variance, to avoid dividing by zero; at least 0. With 0
            a group of equal numbers gives `beta`. Defaults to `1e-3`.
        zero_centered: Whether the scale is `1 + gamma` instead of `gamma`. Defaults to
            `False`.
        activation: Applied to the result; see `fusednorm.group_norm`.
        residual: Optional tensor of the shape and dtype of `x`, added to `x` before
            the norm.
        mask: Optional boolean tensor of the positions that count in the statistics; see
            `fusednorm.group_norm`.
        return_stats: Whether to return also the mean and the reciprocal standard
            deviation of each channel.

    Returns:
        `y`, of the shape and dtype of `x`. With `residual`, `(y, sum)` with
        `sum = x + residual`. With `return_stats`, followed by `mean` and `rstd`,
        both of shape `[N, C]`, float32 (float64 for float64 data).

    Raises:
        ValueError: if an argument does not fit the others, as far as the shapes are
            known; `tf.errors.InvalidArgumentError` when the op runs, otherwise.
        TypeError: if `axis` is not an integer.

    Example:
    >>> x = tf.random.normal([8, 3, 128, 128])
    >>> y, mean, rstd = fusednorm.instance_norm(x, axis=1, return_stats=True)
    >>> mean.shape
    TensorShape([8, 3])

    Reference:

    - [Dmitry Ulyanov et al., 2016](https://arxiv.org/abs/1607.08022)
    """
    return group_norm(
        x,
        gamma,
        beta,
        groups=-1,
        axis=axis,
        epsilon=epsilon,
        zero_centered=zero_centered,
        activation=activation,
        residual=residual,
        mask=mask,
        return_stats=return_stats,
    )


def layer_norm(
    x: Any,
    gamma: Any = None,
    beta: Any = None,
    *,
    axis: int | Sequence[int] = -1,
    epsilon: float = 1e-3,
    zero_centered: bool = False,
    activation: Any = None,
    residual: Any = None,
    return_stats: bool = False,
) -> Outputs:
    """Layer normalization (Ba et al., 2016), fused.

    Normalizes over the given axes, for each index of the others, to mean 0 and
    variance 1:

    ```python
    y = activation((x - mean) * rsqrt(variance + epsilon) * gamma + beta)
    ```

    One contiguous run of axes, trailing or in the middle, is fast. For any other
    choice, such as `axis=[1, 3]` of rank 4, the input and the result are transposed,
    which is slow.

    Args:
        x: Floating-point tensor: float16, bfloat16, float32 or float64.
        gamma: Optional scale per normalized position, with the normalized
            dimensions of `x` in increasing order of their axes as its shape; for each
            sample, with axis 0 of `x` before them; or with as many axes as `x`, where
            those of size 1 are broadcast. float32 or the dtype of `x`.
        beta: Optional offset, as `gamma`, of the same shape.
        axis: The axis or axes to normalize over, in any order. Defaults to `-1`.
        epsilon: Added to the variance, to avoid dividing by zero; at least 0. With 0
            a group of equal numbers gives `beta`. Defaults to `1e-3`.
        zero_centered: Whether the scale is `1 + gamma` instead of `gamma`. Defaults to
            `False`.
        activation: Applied to the result; see `fusednorm.group_norm`.
        residual: Optional tensor of the shape and dtype of `x`, added to `x` before
            the norm.
        return_stats: Whether to return also the means and the reciprocal standard
            deviations.

    Returns:
        `y`, of the shape and dtype of `x`. With `residual`, `(y, sum)` with
        `sum = x + residual`. With `return_stats`, followed by `mean` and `rstd`, both
        of the shape of `x` without the normalized axes, float32 (float64 for float64
        data).

    Raises:
        ValueError: if an argument does not fit the others, as far as the shapes are
            known; `tf.errors.InvalidArgumentError` when the op runs, otherwise.
        TypeError: if `axis` is neither an integer nor a list or tuple of integers.

    Example:
    >>> x = tf.random.normal([8, 128, 512])
    >>> y, s = fusednorm.layer_norm(x, residual=tf.ones_like(x))
    >>> y.shape, s.shape
    (TensorShape([8, 128, 512]), TensorShape([8, 128, 512]))

    Reference:

    - [Lei Ba et al., 2016](https://arxiv.org/abs/1607.06450)
    """
    x = _checks.tensors.data(x)
    norm = _norm.over_axes(
        "layer_norm",
        _checks.shapes.static(x),
        axis=axis,
        epsilon=epsilon,
        activation=activation,
        zero_centered=zero_centered,
    )
    return _called(norm, x, gamma, beta, residual, None, return_stats)


def rms_norm(
    x: Any,
    gamma: Any = None,
    *,
    axis: int | Sequence[int] = -1,
    epsilon: float = 1e-6,
    zero_centered: bool = False,
    activation: Any = None,
    residual: Any = None,
    return_stats: bool = False,
) -> Outputs:
    """Root mean square normalization (Zhang & Sennrich, 2019), fused.

    Divides by the root mean square over the given axes, without taking the mean
    away:

    ```python
    y = activation(x * rsqrt(mean(square(x)) + epsilon) * gamma)
    ```

    Args:
        x: Floating-point tensor: float16, bfloat16, float32 or float64.
        gamma: Optional scale per normalized position, with the normalized
            dimensions of `x` in increasing order of their axes as its shape; for each
            sample, with axis 0 of `x` before them; or with as many axes as `x`, where
            those of size 1 are broadcast. float32 or the dtype of `x`.
        axis: The axis or axes to normalize over, in any order; one contiguous run is
            fast, see `fusednorm.layer_norm`. Defaults to `-1`.
        epsilon: Added to the mean square, to avoid dividing by zero; at least 0. With
            0 zeros give zeros. Defaults to `1e-6`.
        zero_centered: Whether the scale is `1 + gamma`, as in Gemma, instead of
            `gamma`. Defaults to `False`.
        activation: Applied to the result; see `fusednorm.group_norm`.
        residual: Optional tensor of the shape and dtype of `x`, added to `x` before
            the norm.
        return_stats: Whether to return also the reciprocal root mean squares.

    Returns:
        `y`, of the shape and dtype of `x`. With `residual`, `(y, sum)` with
        `sum = x + residual`. With `return_stats`, followed by `rstd`, of the shape of
        `x` without the normalized axes, float32 (float64 for float64 data).

    Raises:
        ValueError: if an argument does not fit the others, as far as the shapes are
            known; `tf.errors.InvalidArgumentError` when the op runs, otherwise.
        TypeError: if `axis` is neither an integer nor a list or tuple of integers.

    Example:
    >>> x = tf.random.normal([8, 128, 512])
    >>> scale = tf.zeros([512])
    >>> fusednorm.rms_norm(x, scale, zero_centered=True).shape
    TensorShape([8, 128, 512])

    Reference:

    - [Biao Zhang & Rico Sennrich, 2019](https://arxiv.org/abs/1910.07467)
    """
    x = _checks.tensors.data(x)
    norm = _norm.over_axes(
        "rms_norm",
        _checks.shapes.static(x),
        axis=axis,
        epsilon=epsilon,
        activation=activation,
        zero_centered=zero_centered,
    )
    return _called(norm, x, gamma, None, residual, None, return_stats)


def _called(
    norm: Norm,
    x: tf.Tensor,
    gamma: Any,
    beta: Any,
    residual: Any,
    mask: tf.Tensor | None,
    return_stats: bool,
) -> Outputs:
    """Calls a norm on tensors of which only `x` and `mask` have been checked."""
    parameters = norm.parameters(x, gamma, beta)
    if residual is not None:
        residual = _checks.tensors.residual(residual, x)
    return norm(x, parameters, residual, mask, return_stats=return_stats)

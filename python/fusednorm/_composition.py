"""The norms as plain TensorFlow ops, for where the fused ones cannot go.

The functions take the arguments of the generated op wrappers and return their
outputs, so that a caller can have either. They keep the contract of docs/numerics.md:
arithmetic in `S`, `(x - mean) * rstd`, exactly beta for a constant group.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from fusednorm._activations import apply_activation

Sizes = list[int | tf.Tensor]
Tensors = Sequence[tf.Tensor]

# Below, float32 is subnormal, and TensorFlow's threads take it for zero.
_SMALLEST = 2.0**-126


def fusednorm_group_norm(
    *,
    x: tf.Tensor,
    gamma: Tensors,
    beta: Tensors,
    residual: Tensors,
    groups: int,
    axis: int = -1,
    mask: Tensors = (),
    per_sample: bool = False,
    per_position: bool = False,
    name: str = "group_norm",
    **options: Any,
) -> tuple[tf.Tensor, list[tf.Tensor], tf.Tensor, tf.Tensor]:
    """Returns y, sum, mean and rstd; see the op for the arguments."""
    with tf.name_scope(name):
        sums, x = _sum(x, residual)
        view, g = _group_view(x, groups, axis)
        y, *statistics = _normalize(
            _reshape(x, view),
            reduced=[*range(1, g), *range(g + 1, len(view))],
            parameter_shape=view
            if per_position
            else [
                *([view[0], *[1] * (g - 1)] if per_sample else []),
                *view[g : g + 2],
                *[1] * (len(view) - g - 2),
            ],
            # One number in place of those of G and K.
            mask=[tf.reshape(m, [*view[:g], 1, 1, *view[g + 2 :]]) for m in mask],
            gamma=gamma,
            beta=beta,
            **options,
        )
        return (_restored(y, x), sums, *statistics)


def fusednorm_layer_norm(
    *,
    x: tf.Tensor,
    gamma: Tensors,
    beta: Tensors,
    residual: Tensors,
    axes: Sequence[int],
    per_sample: bool = False,
    per_position: bool = False,
    name: str = "layer_norm",
    **options: Any,
) -> tuple[tf.Tensor, list[tf.Tensor], tf.Tensor, tf.Tensor]:
    """Returns y, sum, mean and rstd; see the op for the arguments."""
    with tf.name_scope(name):
        sums, x = _sum(x, residual)
        y, *statistics = _normalize(
            x,
            reduced=list(axes),
            parameter_shape=_axes_parameter_shape(x, axes, per_sample, per_position),
            gamma=gamma,
            beta=beta,
            **options,
        )
        return (y, sums, *statistics)


def fusednorm_rms_norm(
    *,
    x: tf.Tensor,
    gamma: Tensors,
    residual: Tensors,
    axes: Sequence[int],
    per_sample: bool = False,
    per_position: bool = False,
    name: str = "rms_norm",
    **options: Any,
) -> tuple[tf.Tensor, list[tf.Tensor], tf.Tensor]:
    """Returns y, sum and rstd; see the op for the arguments."""
    with tf.name_scope(name):
        sums, x = _sum(x, residual)
        y, rstd = _normalize(
            x,
            reduced=list(axes),
            parameter_shape=_axes_parameter_shape(x, axes, per_sample, per_position),
            gamma=gamma,
            beta=[],
            centred=False,
            **options,
        )
        return y, sums, rstd


_NORMS = {
    "group_norm": fusednorm_group_norm,
    "layer_norm": fusednorm_layer_norm,
    "rms_norm": fusednorm_rms_norm,
}


def gradient(
    kind: str, inputs: dict[str, Any], attributes: dict[str, Any]
) -> list[tf.Tensor]:
    """Returns what the gradient op of a norm does: dx and, if there, dgamma and dbeta.

    Args:
        kind: "group_norm", "layer_norm" or "rms_norm".
        inputs: Those of the gradient op, by name. The statistics are computed again, so
            that derivatives of the result see what they depend on.
        attributes: Those of the gradient op, by name.
    """
    # Ops of this graph, wherever the inputs come from.
    x = tf.identity(inputs["x"])
    parameters = {
        name: [tf.identity(value) for value in inputs[name]]
        for name in ("gamma", "beta")
        if name in inputs
    }
    sources = [x, *parameters.get("gamma", []), *parameters.get("beta", [])]
    seeds = [inputs[name] for name in ("dy", "dmean", "drstd") if name in inputs]

    def outputs() -> list[tf.Tensor]:
        y, _, *statistics = _NORMS[kind](
            x=x,
            residual=[],
            S=inputs["rstd"].dtype,
            **({"mask": inputs["mask"]} if "mask" in inputs else {}),
            **parameters,
            **attributes,
        )
        return [y, *statistics]

    dx, *parameter_gradients = differentiate(outputs, sources, seeds)
    return [tf.add_n([dx, *inputs["dsum"]]), *parameter_gradients]


def second_order(
    kind: str, inputs: dict[str, Any], attributes: dict[str, Any]
) -> list[tf.Tensor]:
    """Returns what the second-order op of a norm does, d_dy to d_drstd.

    Args:
        kind: "group_norm", "layer_norm" or "rms_norm".
        inputs: Those of the second-order op, by name; see `gradient` on statistics.
        attributes: Those of the second-order op, by name.
    """
    names = ("dy", "x", "gamma", "drstd")
    first = {name: tf.nest.map_structure(tf.identity, inputs[name]) for name in names}
    sources = [first["dy"], first["x"], *first["gamma"]]
    if kind != "rms_norm":
        # Nothing depends on what these are.
        first["dmean"] = tf.zeros_like(inputs["mean"])
        first["beta"] = [tf.zeros_like(each) for each in inputs["ddbeta"]]
        sources.append(first["dmean"])
    sources.append(first["drstd"])
    seeds = [inputs["ddx"], *inputs["ddgamma"], *inputs.get("ddbeta", [])]

    def outputs() -> list[tf.Tensor]:
        given = {**first, "dsum": [], "rstd": inputs["rstd"]}
        dx, *of_parameters = gradient(kind, given, attributes)
        unused = 0 if inputs["ddgamma"] else len(first["gamma"])
        return [dx, *of_parameters[unused:]]

    return differentiate(outputs, sources, seeds, tf.UnconnectedGradients.ZERO)


def differentiate(
    function: Callable[[], list[tf.Tensor]],
    sources: list[tf.Tensor],
    seeds: list[tf.Tensor | None],
    unconnected: tf.UnconnectedGradients = tf.UnconnectedGradients.NONE,
) -> list[tf.Tensor | None]:
    """Returns the gradients of a function's results by `sources`, which it reads.

    Args:
        function: Computes the results from the sources.
        sources: Results of ops that run where this is called.
        seeds: The gradient of each result; `None` where nothing depends on it.
        unconnected: What stands for a gradient that is zero.
    """

    def targets() -> tuple[list[tf.Tensor], list[tf.Tensor]]:
        pairs = zip(function(), seeds, strict=True)
        kept = [(result, seed) for result, seed in pairs if seed is not None]
        return [result for result, _ in kept], [seed for _, seed in kept]

    if not tf.executing_eagerly():
        # Tapes record nothing while a ForwardAccumulator traces what it differentiates.
        results, given = targets()
        return tf.gradients(results, sources, given, unconnected_gradients=unconnected)
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(sources)
        results, given = targets()
    return tape.gradient(results, sources, given, unconnected)


def _normalize(
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

    `mask` broadcasts against the data, and has no axes of its own besides those.
    """
    deviation = tf.cast(x, S)
    if mask:
        counted = tf.broadcast_to(mask[0], tf.shape(x))
        count = tf.reduce_sum(tf.cast(counted, S), reduced, keepdims=True)
        zero = tf.zeros([], S)

        def mean_of(values: tf.Tensor) -> tf.Tensor:
            # Not by multiplication: what is masked may be infinite or not a number.
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
        # A number near the mean, which is the mean exactly where the group is
        # constant; the mean of the deviations from it is then nearly free of rounding.
        # Where the mean is taken from does not change it, hence no gradient.
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


def _sum(x: tf.Tensor, residual: Tensors) -> tuple[list[tf.Tensor], tf.Tensor]:
    """Returns the output `sum`, rounded to the data's type, and what is normalized."""
    sums = [x + each for each in residual]
    return sums, (sums[0] if sums else x)


def _group_view(x: tf.Tensor, groups: int, axis: int) -> tuple[Sizes, int]:
    """Returns the sizes [N, P, G, K, Q] of `x`, and where G is among them.

    P and Q are left out where `x` has no axes that they are made of.
    """
    rank = x.shape.rank
    if rank is not None:
        axis %= rank
    channels = _size(x, axis, axis + 1)
    view = [_size(x, 0, 1)]
    if axis != 1:
        view.append(_size(x, 1, axis))
    g = len(view)
    view += [channels, 1] if groups == -1 else [groups, channels // groups]
    if axis + 1 not in (0, rank):
        view.append(_size(x, axis + 1, 0))
    return view, g


def _axes_parameter_shape(
    x: tf.Tensor, axes: Sequence[int], per_sample: bool, per_position: bool
) -> Sizes | tf.Tensor:
    """Returns the shape in which parameters of the axes broadcast against `x`."""
    if per_position:
        return x.shape.as_list() if x.shape.is_fully_defined() else tf.shape(x)
    rank = x.shape.rank
    if rank is None and (per_sample or axes[-1] >= 0):
        shape, rank = tf.shape(x), tf.rank(x)
        first, end = (axis % rank for axis in (axes[0], axes[-1]))
        end += 1
        outer = shape[:0]
        if per_sample:
            outer = tf.concat([shape[:1], tf.ones([first - 1], tf.int32)], 0)
        return tf.concat([outer, shape[first:end], tf.ones([rank - end], tf.int32)], 0)
    if rank is not None:
        axes = [axis % rank for axis in axes]
    end = axes[-1] + 1
    inner = [1] * (-end if end <= 0 else rank - end)
    outer = [_size(x, 0, 1), *[1] * (axes[0] - 1)] if per_sample else []
    return [*outer, *(_size(x, axis, axis + 1) for axis in axes), *inner]


def _size(x: tf.Tensor, begin: int, end: int) -> int | tf.Tensor:
    """Returns the number of elements of some axes; an `end` of 0 is that of `x`."""
    axes = slice(begin, end or None)
    size = x.shape[axes].num_elements()
    return tf.reduce_prod(tf.shape(x)[axes]) if size is None else size


def _reshape(x: tf.Tensor, sizes: Sizes) -> tf.Tensor:
    """Returns `x` in a shape of as many elements."""
    # One unknown size needs no op to compute it, but for empty tensors.
    known = [size for size in sizes if isinstance(size, int)]
    if len(known) == len(sizes) - 1 and 0 not in known:
        sizes = [size if isinstance(size, int) else -1 for size in sizes]
    return tf.reshape(x, sizes)


def _restored(y: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
    """Returns `y` in the shape of `x`."""
    if x.shape.rank is None or x.shape.as_list().count(None) > 1:
        return tf.reshape(y, tf.shape(x))
    return _reshape(y, [_size(x, axis, axis + 1) for axis in range(x.shape.rank)])


def _parameter(
    value: tf.Tensor, shape: Sizes | tf.Tensor, dtype: tf.DType
) -> tf.Tensor:
    """Returns gamma or beta in `dtype`, to broadcast against the data."""
    value = tf.cast(value, dtype)
    known = isinstance(shape, list) and all(isinstance(size, int) for size in shape)
    if known and value.shape == tf.TensorShape(shape):
        return value
    # No size is left to be inferred: one that does not fit must not pass.
    return tf.reshape(value, shape)

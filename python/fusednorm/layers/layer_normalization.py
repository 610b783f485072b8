"""The LayerNormalization layer."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from fusednorm import _checks, _norm
from fusednorm._activations import activation_name, apply_activation
from fusednorm._checks.shapes import Shape, static
from fusednorm._keras import keras
from fusednorm._norm import Norm, Outputs
from fusednorm.layers.base import AffineNormalization
from fusednorm.layers.modulation import Affine, combined, given


@keras.saving.register_keras_serializable(package="fusednorm")
class LayerNormalization(AffineNormalization):
    """Layer normalization layer (Ba et al., 2016), fused.

    Normalize the activations of the previous layer for each given example in a
    batch independently, rather than across a batch like Batch Normalization.
    i.e. applies a transformation that maintains the mean activation within each
    example close to 0 and the activation standard deviation close to 1.

    A drop-in for `keras.layers.LayerNormalization`: the same arguments, weights
    and results, computed by one op forward and one backward, which also applies
    the activation.

    `gamma` and `beta` span the axes of `inputs` specified in `axis`, in increasing
    order, whatever the order in `axis`, and this part of the inputs' shape must be
    fully defined.

    Args:
        axis: Integer or List/Tuple. The axis or axes to normalize across.
            Typically, this is the features axis/axes. The left-out axes are
            typically the batch axis/axes. `-1` is the last dimension in the
            input. Axes that are not one contiguous run cost two transpositions.
            Defaults to `-1`.
        epsilon: Small float added to variance to avoid dividing by zero. May be 0:
            equal numbers then give `beta`. Defaults to 1e-3.
        center: If True, add offset of `beta` to normalized tensor. If False,
            `beta` is ignored. Defaults to `True`.
        scale: If True, multiply by `gamma`. If False, `gamma` is not used.
            When the next layer is linear (also e.g. `nn.relu`), this can be
            disabled since the scaling will be done by the next layer.
            Defaults to `True`.
        beta_initializer: Initializer for the beta weight. Defaults to zeros.
        gamma_initializer: Initializer for the gamma weight. Defaults to ones.
        beta_regularizer: Optional regularizer for the beta weight.
            None by default.
        gamma_regularizer: Optional regularizer for the gamma weight.
            None by default.
        beta_constraint: Optional constraint for the beta weight.
            None by default.
        gamma_constraint: Optional constraint for the gamma weight.
            None by default.
        activation: Activation applied to the output within the same op; see
            `fusednorm.GroupNormalization`. None by default.
        **kwargs: Base layer keyword arguments (e.g. `name` and `dtype`), and
            `portable`, see `fusednorm.portable`. Also `rms_scaling`, which Keras has
            deprecated: with `rms_scaling=True` the output is
            `inputs * rsqrt(variance + epsilon) * gamma`, without `beta`, in a few
            ops. For a true RMS norm use `fusednorm.RMSNormalization`.

    Input shape: Arbitrary.

    Output shape: Same shape as input.

    Call arguments:
        inputs: Floating-point tensor; also a ragged one, normalized over axes after the
            ragged ones.
        residual: Optional tensor, added to `inputs` first; `y, s = layer(x,
            residual=skip)` then returns also the sum. See
            `fusednorm.GroupNormalization`.
        gamma: Optional scale that comes from elsewhere in the model, as in adaptive
            layer norm: for each sample, of shape `(batch, channels)` or `(batch, 1,
            ..., channels)`, or in any other shape that `fusednorm.layer_norm` takes.
            The output is `activation(layer(inputs) * gamma + beta)`. In a layer without
            weights of its own (`center=False, scale=False`) the op of the norm applies
            them. Otherwise a few small ops combine them with the weights first.
        beta: Optional offset, as `gamma`.
        zero_centered: Whether to multiply by `1 + gamma` instead of `gamma`. Defaults
            to `False`.

    Raises:
        ValueError: if an argument is not among what is described here, or does not
            fit the input.
        TypeError: if `axis` is neither an integer nor a list or tuple of integers.

    Example:
    >>> layer = fusednorm.LayerNormalization(axis=[1, 2, 3])
    >>> layer.build([5, 20, 30, 40])
    >>> layer.gamma.shape
    TensorShape([20, 30, 40])
    >>> layer = fusednorm.LayerNormalization(center=False, scale=False)
    >>> x, scale, shift = (tf.random.normal([8, n, 64]) for n in (16, 1, 1))
    >>> layer(x, gamma=scale, beta=shift, zero_centered=True).shape
    TensorShape([8, 16, 64])

    Reference:

    - [Lei Ba et al., 2016](https://arxiv.org/abs/1607.06450)
    """

    def __init__(
        self,
        axis: int | Sequence[int] = -1,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        beta_initializer: Any = "zeros",
        gamma_initializer: Any = "ones",
        beta_regularizer: Any = None,
        gamma_regularizer: Any = None,
        beta_constraint: Any = None,
        gamma_constraint: Any = None,
        activation: Any = None,
        **kwargs: Any,
    ) -> None:
        rms_scaling = kwargs.pop("rms_scaling", False)
        if rms_scaling:
            warnings.warn(
                "`rms_scaling=True` is deprecated: it scales the input by its standard "
                "deviation, not by its root mean square. Use "
                "`fusednorm.RMSNormalization` instead.",
                stacklevel=2,
            )
        super().__init__(
            axis=_checks.arguments.integer_axes(axis),
            epsilon=epsilon,
            center=center,
            scale=scale,
            beta_initializer=beta_initializer,
            gamma_initializer=gamma_initializer,
            beta_regularizer=beta_regularizer,
            gamma_regularizer=gamma_regularizer,
            beta_constraint=beta_constraint,
            gamma_constraint=gamma_constraint,
            activation=activation,
            **kwargs,
        )
        self.rms_scaling = rms_scaling

    def _wanted(self) -> tuple[bool, bool]:
        return (True, False) if self.rms_scaling else super()._wanted()

    def call(
        self,
        inputs: Any,
        residual: Any = None,
        gamma: Any = None,
        beta: Any = None,
        zero_centered: bool = False,
    ) -> Any:
        """Normalizes `inputs`; or the sum with `residual`, and returns both."""
        outer = given(inputs, gamma, beta, zero_centered)
        if outer and self.rms_scaling:
            raise ValueError(
                "Arguments `gamma` and `beta` of the call must not be given where the "
                "layer has rms_scaling=True."
            )
        return self._on_values(self._normalize, inputs, residual, outer)

    def _normalize(
        self, inputs: Any, residual: Any, axis: Any, outer: Affine
    ) -> Outputs:
        x, residual, gamma, beta, *of_call = self._operands(
            inputs, residual, self.gamma, self.beta, outer.gamma, outer.beta
        )
        norm = self._norm_for(static(x), axis)
        _checks.layers.built_for(x, axis, norm.axes, gamma, beta)
        if self.rms_scaling:
            total = x if residual is None else x + residual
            y = self._scaled(total, gamma, axis)
            return self._results(inputs, y if residual is None else (y, total))
        if outer:
            outer = Affine(*of_call, outer.zero_centered)
            affine = combined(Affine(gamma, beta), outer, x, axis)
            norm = self._norm_for(static(x), axis, affine.zero_centered)
            gamma, beta = affine.gamma, affine.beta
        parameters = norm.parameters(x, gamma, beta)
        outputs = norm(x, parameters, residual, portable=self.portable)
        return self._results(inputs, outputs)

    def _norm_for(
        self, shape: Shape | None, axis: Any, zero_centered: bool = False
    ) -> Norm:
        return _norm.over_axes(
            "layer_norm",
            shape,
            axis=axis,
            epsilon=self.epsilon,
            activation=self.activation,
            zero_centered=zero_centered,
        )

    def _scaled(self, x: tf.Tensor, gamma: Any, axis: Any) -> tf.Tensor:
        """Returns what Keras computes for `rms_scaling=True`."""
        norm = _norm.over_axes(
            "layer_norm",
            static(x),
            axis=axis,
            epsilon=self.epsilon,
            activation=None,
        )
        parameters = norm.parameters(x, None, None)
        _, _, rstd = norm(x, parameters, return_stats=True, portable=self.portable)
        axes = norm.axes
        for axis in axes:
            rstd = tf.expand_dims(rstd, axis)
        spread = [size if d in axes else 1 for d, size in enumerate(x.shape)]
        gamma = tf.reshape(tf.cast(gamma, rstd.dtype), spread)
        y = tf.cast(x, rstd.dtype) * rstd * gamma
        return apply_activation(activation_name(self.activation), y)

    def get_config(self) -> dict[str, Any]:
        """Returns the configuration that `from_config` makes the same layer of."""
        return {**super().get_config(), "rms_scaling": self.rms_scaling}

"""The GroupNormalization layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from fusednorm import _checks, _norm
from fusednorm._checks.shapes import Shape, static
from fusednorm._keras import LEGACY, MASK_OF_INPUTS, keras
from fusednorm._norm import Norm, Outputs
from fusednorm.layers.base import AffineNormalization


@keras.saving.register_keras_serializable(package="fusednorm")
class GroupNormalization(AffineNormalization):
    """Group normalization layer, fused.

    Group Normalization divides the channels into groups and computes
    within each group the mean and variance for normalization.
    Empirically, its accuracy is more stable than batch norm in a wide
    range of small batch sizes, if learning rate is adjusted linearly
    with batch sizes.

    A drop-in for `keras.layers.GroupNormalization`: the same arguments, weights
    and results, computed by one op forward and one backward, which also applies
    the activation.

    Relation to Layer Normalization:
    If the number of groups is set to 1, then this operation becomes nearly
    identical to Layer Normalization (see Layer Normalization docs for details).

    Relation to Instance Normalization:
    If there is one group per channel, `groups=-1`, then this operation becomes
    identical to Instance Normalization.

    Args:
        groups: Integer, the number of groups for Group Normalization, which must
            divide the number of channels; or -1 for one group per channel.
            Defaults to 32.
        axis: Integer, the channel axis: any axis but 0, which is the batch. -1 is
            the last dimension in the input. Defaults to `-1`.
        epsilon: Small float added to variance to avoid dividing by zero. May be 0:
            equal numbers then give `beta`. Defaults to 1e-3.
        center: If `True`, add offset of `beta` to normalized tensor.
            If `False`, `beta` is ignored. Defaults to `True`.
        scale: If `True`, multiply by `gamma`. If `False`, `gamma` is not used.
            When the next layer is linear (also e.g. `relu`), this can be
            disabled since the scaling will be done by the next layer.
            Defaults to `True`.
        beta_initializer: Initializer for the beta weight. Defaults to zeros.
        gamma_initializer: Initializer for the gamma weight. Defaults to ones.
        beta_regularizer: Optional regularizer for the beta weight. None by
            default.
        gamma_regularizer: Optional regularizer for the gamma weight. None by
            default.
        beta_constraint: Optional constraint for the beta weight.
            None by default.
        gamma_constraint: Optional constraint for the gamma weight. None by
            default.
        activation: Activation applied to the output within the same op: one of
            `"relu"`, `"leaky_relu"`, `"silu"`, `"gelu"`, `"gelu_tanh"`, `"tanh"`
            and `"sigmoid"`, or the Keras function of that name. None by default.
        use_mask: Whether the statistics leave out masked positions, as those of
            tf_keras's layer do and those of Keras 3's do not. Defaults to `True`. A
            configuration without it is one of Keras's or Addons' layer: `from_config`
            then takes `False`, or `True` in tf_keras.
        **kwargs: Base layer keyword arguments (e.g. `name` and `dtype`). Also
            `portable=True`, to run as plain TensorFlow ops: see `fusednorm.portable`.

    Input shape: Arbitrary, of rank 2 or more: `(batch, ...)` with the channels on
        `axis`, whose dimension must be known.

    Output shape: Same shape as input.

    Call arguments:
        inputs: Floating-point tensor.
        residual: Optional tensor of the shape of `inputs`, added to them first. The
            layer then returns two tensors, `y, s = layer(x, residual=skip)`: the
            normalized sum, and the sum `s = x + skip` for the next skip connection.
            Both come in the layer's compute dtype and with the mask of `inputs`.
        mask: Optional boolean tensor, of the shape of `inputs` without the channel
            axis or of its first axes, for example `(batch, time)`. Only positions where
            it is true count in the statistics; all positions are normalized. Defaults
            to the mask that comes with `inputs`, from an `Embedding` or a `Masking`
            layer.

    Raises:
        ValueError: if an argument is not among what is described here, or does not
            fit the input.

    Example:
    >>> layer = fusednorm.GroupNormalization(groups=8, activation="silu")
    >>> layer(tf.random.normal([4, 32, 32, 64])).shape
    TensorShape([4, 32, 32, 64])

    Reference:

    - [Yuxin Wu & Kaiming He, 2018](https://arxiv.org/abs/1803.08494)
    """

    def __init__(
        self,
        groups: int = 32,
        axis: int = -1,
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
        use_mask: bool = True,
        **kwargs: Any,
    ) -> None:
        groups = _checks.arguments.groups(groups)
        super().__init__(
            axis=_checks.arguments.integer_channel_axis(axis),
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
        self.groups = groups
        self.use_mask = bool(use_mask)

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Creates the weights and fixes the rank and channels of the input."""
        super().build(input_shape)
        self.input_spec = keras.layers.InputSpec(
            ndim=len(input_shape), axes={self.axis: input_shape[self.axis]}
        )

    def _norm_for(self, shape: Shape | None, axis: Any) -> Norm:
        return _norm.group_norm(
            shape,
            groups=self.groups,
            axis=axis,
            epsilon=self.epsilon,
            activation=self.activation,
        )

    def call(
        self, inputs: Any, residual: Any = None, mask: Any = MASK_OF_INPUTS
    ) -> Any:
        """Normalizes `inputs`; or the sum with `residual`, and returns both."""
        x, residual, gamma, beta = self._operands(
            inputs, residual, self.gamma, self.beta
        )
        mask = self._counted(inputs, mask, x)
        return self._results(inputs, self._outputs(x, gamma, beta, residual, mask))

    def _outputs(
        self,
        x: tf.Tensor,
        gamma: Any,
        beta: Any,
        residual: tf.Tensor | None,
        mask: tf.Tensor | None,
        *,
        return_stats: bool = False,
    ) -> Outputs:
        """Returns the outputs of the op."""
        norm = self._norm_for(static(x), self.axis)
        return norm(
            x,
            norm.parameters(x, gamma, beta),
            residual,
            mask,
            return_stats=return_stats,
            portable=self.portable,
        )

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> GroupNormalization:
        """Makes the layer from its configuration, or from that of Keras's layer."""
        return super().from_config({"use_mask": LEGACY, **config})

    def get_config(self) -> dict[str, Any]:
        """Returns the configuration that `from_config` makes the same layer of."""
        config = super().get_config()
        return {**config, "groups": self.groups, "use_mask": self.use_mask}

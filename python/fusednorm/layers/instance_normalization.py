"""The InstanceNormalization layer."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from fusednorm import _checks, _keras
from fusednorm._keras import MASK_OF_INPUTS, keras
from fusednorm.layers import running_statistics
from fusednorm.layers.group_normalization import GroupNormalization


@keras.saving.register_keras_serializable(package="fusednorm")
class InstanceNormalization(GroupNormalization):
    """Instance normalization layer, fused.

    Instance Normalization normalizes each channel of each sample over all its
    positions: Group Normalization with as many groups as there are channels.

    Takes the arguments of TensorFlow Addons' `InstanceNormalization`, and gives the
    results of `keras.layers.GroupNormalization(groups=-1)`.

    Args:
        axis: Integer, the channel axis: any axis but 0, which is the batch. -1 is
            the last dimension in the input. Defaults to `-1`.
        epsilon: Small float added to variance to avoid dividing by zero. May be 0:
            equal numbers then give `beta`. Defaults to 1e-3.
        center: If `True`, add offset of `beta` to normalized tensor.
            If `False`, `beta` is ignored. Defaults to `True`.
        scale: If `True`, multiply by `gamma`. If `False`, `gamma` is not used.
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
        activation: Activation applied to the output within the same op; see
            `fusednorm.GroupNormalization`. None by default.
        track_running_stats: Whether to keep running statistics per channel, as
            PyTorch's `InstanceNorm2d(track_running_stats=True)`: see below. Defaults
            to `False`.
        update_rate: Float in [0, 1], the weight of the new statistics when the running
            ones are updated. PyTorch calls it `momentum`; the `momentum` of Keras's
            `BatchNormalization` is 1 minus it. Defaults to 0.1.
        **kwargs: Base layer keyword arguments (e.g. `name` and `dtype`), `use_mask`,
            see `fusednorm.GroupNormalization`, and `portable`, see
            `fusednorm.portable`. `groups`, which TensorFlow Addons took and overwrote,
            is accepted and ignored, with a warning if it is not -1 or `None`.

    Input shape: Arbitrary, of rank 2 or more: `(batch, ...)` with the channels on
        `axis`, whose dimension must be known.

    Output shape: Same shape as input.

    Call arguments:
        inputs: Floating-point tensor.
        residual: Optional tensor, added to `inputs` first; `y, s = layer(x,
            residual=skip)` then returns also the sum. See
            `fusednorm.GroupNormalization`.
        training: Whether to update the running statistics instead of normalizing with
            them. It has no effect on a layer without running statistics.
        mask: Optional boolean tensor of the positions that count in the statistics, the
            running ones too; see `fusednorm.GroupNormalization`.

    Running statistics: with `track_running_stats=True` the layer has two more weights,
        `running_mean` (zeros at first) and `running_var` (ones), of shape
        `(channels,)`, float32 (float64 in a float64 layer), not trainable. With
        `training=True` it normalizes each sample with its own statistics, in the fused
        op, and updates the weights:

        ```python
        running = (1 - update_rate) * running + update_rate * mean_over_batch(new)
        ```

        The new variance is the unbiased one. With `training=False`, and as in Keras's
        `BatchNormalization` whenever `trainable` is `False`, every sample is normalized
        with the running statistics. That is an affine transform of each channel, in
        plain TensorFlow ops, which XLA fuses with the ops around it. Under
        `tf.distribute` the weights become the mean over the replicas. A batch without
        samples updates nothing.

    Raises:
        ValueError: if an argument is not among what is described here, or does not
            fit the input.

    Example:
    >>> layer = fusednorm.InstanceNormalization(axis=3, gamma_initializer="ones")
    >>> layer(tf.random.normal([4, 28, 28, 10])).shape
    TensorShape([4, 28, 28, 10])

    Reference:

    - [Dmitry Ulyanov et al., 2016](https://arxiv.org/abs/1607.08022)
    """

    def __init__(
        self,
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
        track_running_stats: bool = False,
        update_rate: float = 0.1,
        **kwargs: Any,
    ) -> None:
        if "momentum" in kwargs:
            raise ValueError(
                "InstanceNormalization has no argument `momentum`, which is the weight "
                "of the new statistics in PyTorch and of the old ones in Keras. Give "
                "`update_rate`, the weight of the new: PyTorch's momentum, or 1 minus "
                f"Keras's. Received: momentum={kwargs['momentum']!r}"
            )
        groups = kwargs.pop("groups", None)
        if groups not in (None, -1):
            warnings.warn(
                "InstanceNormalization always has one group per channel; its argument "
                f"`groups` is ignored. Received: groups={groups!r}",
                stacklevel=2,
            )
        super().__init__(
            groups=-1,
            axis=axis,
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
        self.track_running_stats = track_running_stats
        self.update_rate = _checks.arguments.update_rate(update_rate)

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Creates the weights and fixes the rank and channels of the input."""
        super().build(input_shape)
        if not self.track_running_stats:
            return
        shape = self._weight_shape(input_shape)
        dtype = "float64" if self.variable_dtype == "float64" else "float32"

        def running(name: str, initializer: str) -> Any:
            return self.add_statistic(
                name=name, shape=shape, dtype=dtype, initializer=initializer
            )

        self.running_mean = running("running_mean", "zeros")
        self.running_var = running("running_var", "ones")

    def call(
        self,
        inputs: Any,
        residual: Any = None,
        training: Any = None,
        mask: Any = MASK_OF_INPUTS,
    ) -> Any:
        """Normalizes `inputs`; or the sum with `residual`, and returns both."""
        if not self.track_running_stats:
            return super().call(inputs, residual, mask)
        x, residual, gamma, beta = self._operands(
            inputs, residual, self.gamma, self.beta
        )
        if training and self.trainable:
            mask = self._counted(inputs, mask, x)
            outputs = self._normalize(x, gamma, beta, residual, mask)
        else:
            outputs = self._apply(x, gamma, beta, residual)
        return self._results(inputs, outputs)

    def _normalize(
        self, x: tf.Tensor, gamma: Any, beta: Any, residual: Any, mask: Any
    ) -> Any:
        """Normalizes with the statistics of each sample, and tracks them."""
        outputs = self._outputs(x, gamma, beta, residual, mask, return_stats=True)
        mean, variance, samples = running_statistics.of_batch(
            x, *outputs[-2:], self.epsilon, mask
        )
        for weight, new in ((self.running_mean, mean), (self.running_var, variance)):
            old = _keras.value(weight)
            weight.assign(
                running_statistics.updated(old, new, self.update_rate, samples)
            )
        return outputs[0] if residual is None else outputs[:2]

    def _apply(self, x: tf.Tensor, gamma: Any, beta: Any, residual: Any) -> Any:
        """Normalizes with the running statistics."""
        total = x if residual is None else x + residual
        y = running_statistics.normalize(
            total,
            _keras.value(self.running_mean),
            _keras.value(self.running_var),
            gamma,
            beta,
            axis=self.axis,
            epsilon=self.epsilon,
            activation=self.activation,
        )
        return y if residual is None else (y, total)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> InstanceNormalization:
        """Makes the layer from its configuration, or from that of Addons' layer.

        A configuration of Addons' has the number of groups, which is that of the
        channels and is not needed.
        """
        return super().from_config(
            {name: value for name, value in config.items() if name != "groups"}
        )

    def get_config(self) -> dict[str, Any]:
        """Returns the configuration that `from_config` makes the same layer of."""
        config = super().get_config()
        del config["groups"]
        if self.track_running_stats:
            config |= {"track_running_stats": True, "update_rate": self.update_rate}
        return config

"""The InstanceNormalization layer."""

from __future__ import annotations

import warnings
from typing import Any

from fusednorm._keras import keras
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
        epsilon: Small float added to variance to avoid dividing by zero.
            Defaults to 1e-3.
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
        **kwargs: Base layer keyword arguments (e.g. `name` and `dtype`), and
            `portable`, see `fusednorm.portable`. Also `groups`, which TensorFlow
            Addons took and overwrote, is accepted and ignored; with a warning if it
            is not -1 or `None`.

    Input shape: Arbitrary, of rank 2 or more: `(batch, ...)` with the channels on
        `axis`, whose dimension must be known.

    Output shape: Same shape as input.

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
        **kwargs: Any,
    ) -> None:
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

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> InstanceNormalization:
        """Makes the layer from its configuration, or from that of Addons' layer.

        Addons' says how many groups, which are the channels, there are.
        """
        return super().from_config(
            {name: value for name, value in config.items() if name != "groups"}
        )

    def get_config(self) -> dict[str, Any]:
        """Returns the configuration that `from_config` makes the same layer of."""
        config = super().get_config()
        del config["groups"]
        return config

"""The AdaptiveGroupNormalization layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fusednorm import _checks, _norm
from fusednorm._checks.shapes import Shape, static
from fusednorm._keras import MASK_OF_INPUTS, keras
from fusednorm._norm import Norm
from fusednorm.layers.base import Normalization


@keras.saving.register_keras_serializable(package="fusednorm")
class AdaptiveGroupNormalization(Normalization):
    """Group normalization whose scale and offset follow from a condition, fused.

    For each sample a dense projection of `condition`, for example the embedding of a
    time step, a class or a style, gives one scale and one offset per channel:

    ```python
    scale, offset = split(dense(condition))
    y = activation(group_norm(x) * (1 + scale) + offset)
    ```

    With the default initializers of zeros it begins as a plain group normalization.
    The norm, the scale, the offset and the activation are one op forward and one
    backward, with gradients to the projection. It is the AdaGN of diffusion models;
    with `groups=-1` it is AdaIN (Huang & Belongie, 2017) with a learned style. If the
    scale and the offset come from elsewhere, use `fusednorm.group_norm` or
    `fusednorm.layer_norm`, which take them for each sample.

    Args:
        groups: Integer, the number of groups, which must divide the number of
            channels; or -1 for one group per channel. Defaults to 32.
        axis: Integer, the channel axis: any axis but 0, which is the batch. Defaults
            to `-1`.
        epsilon: Small float added to variance to avoid dividing by zero. May be 0:
            equal numbers then give `beta`. Defaults to 1e-3.
        center: If `True`, the condition gives an offset. Defaults to `True`.
        scale: If `True`, the condition gives a scale. Defaults to `True`.
        kernel_initializer: Initializer of the projection's kernel. Defaults to zeros.
        bias_initializer: Initializer of the projection's bias. Defaults to zeros.
        kernel_regularizer: Optional regularizer of the projection's kernel. None by
            default.
        activation: Activation applied to the output within the same op; see
            `fusednorm.GroupNormalization`. None by default.
        use_mask: Whether the statistics leave out masked positions of the data; see
            `fusednorm.GroupNormalization`. Defaults to `True`.
        **kwargs: Base layer keyword arguments (e.g. `name` and `dtype`), and
            `portable`, see `fusednorm.portable`.

    Input shape: A list of two: the data, as for `fusednorm.GroupNormalization`, and the
        condition, `(batch, features)`.

    Output shape: That of the data.

    Raises:
        ValueError: if an argument is not among what is described here, or does not fit
            the input.

    Example:
    >>> layer = fusednorm.AdaptiveGroupNormalization(groups=8, activation="silu")
    >>> layer([tf.random.normal([4, 32, 32, 64]), tf.random.normal([4, 128])]).shape
    TensorShape([4, 32, 32, 64])

    Reference:

    - [Prafulla Dhariwal & Alex Nichol, 2021](https://arxiv.org/abs/2105.05233)
    - [Xun Huang & Serge Belongie, 2017](https://arxiv.org/abs/1703.06868)
    """

    def __init__(
        self,
        groups: int = 32,
        axis: int = -1,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        kernel_initializer: Any = "zeros",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        activation: Any = None,
        use_mask: bool = True,
        **kwargs: Any,
    ) -> None:
        groups = _checks.arguments.groups(groups)
        if not (center or scale):
            raise ValueError(
                "Arguments `center` and `scale` must not both be False: the condition "
                "would be of no use. Use `fusednorm.GroupNormalization`."
            )
        super().__init__(
            axis=_checks.arguments.integer_axis(axis),
            epsilon=epsilon,
            activation=activation,
            **kwargs,
        )
        self.groups = groups
        self.use_mask = bool(use_mask)
        self.center = center
        self.scale = scale
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)

    def build(self, input_shape: Sequence[Any]) -> None:
        """Creates the projection of the condition."""
        data, condition = _pair("shapes", input_shape)
        if len(condition) != 2:
            raise ValueError(
                "The condition must have shape (batch, features). Received: shape="
                f"{_checks.shapes.as_tuple(condition)}"
            )
        (channels,) = self._weight_shape(data)
        self.projection = keras.layers.Dense(
            channels * (self.scale + self.center),
            kernel_initializer=self.kernel_initializer,
            bias_initializer=self.bias_initializer,
            kernel_regularizer=self.kernel_regularizer,
            dtype=self.dtype_policy,
            name="projection",
        )
        self.projection.build(condition)
        super().build(input_shape)

    def _norm_for(self, shape: Shape | None, axis: Any) -> Norm:
        return _norm.group_norm(
            shape,
            groups=self.groups,
            axis=axis,
            epsilon=self.epsilon,
            activation=self.activation,
            zero_centered=True,
        )

    def call(self, inputs: Any, mask: Any = MASK_OF_INPUTS) -> Any:
        """Normalizes the first of `inputs`, scaled and shifted by the second."""
        data, condition = _pair("tensors", inputs)
        projected = self.projection(condition)
        channels = projected.shape[-1] // (self.scale + self.center)
        gamma = projected[:, :channels] if self.scale else None
        beta = projected[:, -channels:] if self.center else None
        x, _, gamma, beta = self._operands(data, None, gamma, beta)
        norm = self._norm_for(static(x), self.axis)
        mask = self._counted(data, self.compute_mask(inputs, mask), x)
        parameters = norm.parameters(x, gamma, beta)
        y = norm(x, parameters, mask=mask, portable=self.portable)
        return self._results(data, y)

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        """Returns the mask of the data."""
        return mask[0] if isinstance(mask, list | tuple) else mask

    def compute_output_shape(self, input_shape: Sequence[Any]) -> Any:
        """Returns the shape of the output, which is that of the data."""
        data, _ = _pair("shapes", input_shape)
        self._norm_for(data, self.axis)
        return data

    def get_config(self) -> dict[str, Any]:
        """Returns the configuration that `from_config` makes the same layer of."""
        return {
            **super().get_config(),
            "groups": self.groups,
            "use_mask": self.use_mask,
            "center": self.center,
            "scale": self.scale,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
            "kernel_regularizer": keras.regularizers.serialize(self.kernel_regularizer),
        }


def _pair(what: str, inputs: Any) -> Any:
    """Returns the data and the condition, or their shapes."""
    if not isinstance(inputs, list | tuple) or len(inputs) != 2:
        raise ValueError(
            "AdaptiveGroupNormalization takes a list of two, the data and the "
            f"condition. Received {what}: {inputs}"
        )
    return inputs

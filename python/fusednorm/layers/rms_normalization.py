"""The RMSNormalization layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fusednorm import _checks, _norm
from fusednorm._checks.shapes import Shape, static
from fusednorm._keras import LEGACY, keras
from fusednorm._norm import Norm, Outputs
from fusednorm.layers.base import Normalization
from fusednorm.layers.modulation import Affine, combined, given


@keras.saving.register_keras_serializable(package="fusednorm")
class RMSNormalization(Normalization):
    """Root Mean Square (RMS) Normalization layer, fused.

    This layer normalizes the input tensor based on its RMS value, as in
    [Root Mean Square Layer Normalization](https://arxiv.org/abs/1910.07467)
    by Biao Zhang & Rico Sennrich:

    ```python
    y = activation(x * rsqrt(mean(square(x)) + epsilon) * scale)
    ```

    A drop-in for `keras.layers.RMSNormalization`: the same arguments, weight and
    results, computed by one op forward and one backward. It also takes axes that
    are not the last, passes masks on unless `pass_mask=False`, and in mixed precision
    computes in float32.

    `scale` spans the axes of `inputs` specified in `axis`, in increasing order,
    whatever the order in `axis`.

    Args:
        axis: Integer or List/Tuple. The axis or axes to normalize across. Axes that
            are not one contiguous run cost two transpositions. Defaults to `-1`.
        epsilon: Small float added to the mean square to avoid dividing by zero. May be
            0: zeros then give zeros. Defaults to 1e-6.
        activation: Activation applied to the output within the same op; see
            `fusednorm.GroupNormalization`. None by default.
        zero_centered: If `True`, multiply by `1 + scale`, with `scale` initialized
            to zeros, so that weight decay pulls towards no scaling (as in Gemma).
            Defaults to `False`: multiply by `scale`, initialized to ones.
        with_scale: Whether there is a `scale`. Defaults to `True`.
        pass_mask: Whether the output carries the mask of the input, as that of Keras's
            layer does not. Defaults to `True`. A configuration without it is one of
            Keras's layer: `from_config` then takes `False`.
        **kwargs: Base layer keyword arguments (e.g. `name` and `dtype`), and
            `portable`, see `fusednorm.portable`.

    Input shape: Arbitrary; the dimensions of the normalized axes must be known.

    Output shape: Same shape as input.

    Call arguments:
        inputs: Floating-point tensor; also a ragged one, normalized over axes after the
            ragged ones.
        residual: Optional tensor, added to `inputs` first; `y, s = layer(x,
            residual=skip)` then returns also the sum. See
            `fusednorm.GroupNormalization`.
        gamma: Optional scale that comes from elsewhere in the model, for each sample;
            see `fusednorm.LayerNormalization`. It is applied after the layer's own.
        zero_centered: Whether to multiply by `1 + gamma` instead of `gamma`. Defaults
            to `False`, whatever the layer's own scale is.

    Raises:
        ValueError: if an argument is not among what is described here, or does not
            fit the input.
        TypeError: if `axis` is neither an integer nor a list or tuple of integers.

    Example:
    >>> layer = fusednorm.RMSNormalization()
    >>> layer.build([5, 20, 30, 10])
    >>> layer.scale.shape
    TensorShape([10])

    Reference:

    - [Biao Zhang & Rico Sennrich, 2019](https://arxiv.org/abs/1910.07467)
    """

    def __init__(
        self,
        axis: int | Sequence[int] = -1,
        epsilon: float = 1e-6,
        activation: Any = None,
        zero_centered: bool = False,
        with_scale: bool = True,
        pass_mask: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            axis=_checks.arguments.integer_axes(axis),
            epsilon=epsilon,
            activation=activation,
            pass_mask=pass_mask,
            **kwargs,
        )
        if zero_centered and not with_scale:
            raise ValueError(
                "Argument `zero_centered` says what to add to `scale`, and with "
                "`with_scale=False` there is none. Received: zero_centered=True, "
                "with_scale=False"
            )
        self.zero_centered = zero_centered
        self.with_scale = with_scale

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Creates the weight `scale`."""
        _checks.layers.one_tensor(input_shape)
        shape = self._weight_shape(input_shape)
        self.scale = None
        if self.with_scale:
            self.scale = self.add_weight(
                name="scale",
                shape=shape,
                initializer="zeros" if self.zero_centered else "ones",
                autocast=False,
            )
        super().build(input_shape)

    def call(
        self,
        inputs: Any,
        residual: Any = None,
        gamma: Any = None,
        zero_centered: bool = False,
    ) -> Any:
        """Normalizes `inputs`; or the sum with `residual`, and returns both."""
        outer = given(inputs, gamma, None, zero_centered)
        return self._on_values(self._normalize, inputs, residual, outer)

    def _normalize(
        self, inputs: Any, residual: Any, axis: Any, outer: Affine
    ) -> Outputs:
        x, residual, scale, gamma = self._operands(
            inputs, residual, self.scale, outer.gamma
        )
        norm = self._norm_for(static(x), axis)
        _checks.layers.built_for(x, axis, norm.axes, scale)
        if outer:
            own = Affine(scale, zero_centered=self.zero_centered)
            outer = Affine(gamma, zero_centered=outer.zero_centered)
            affine = combined(own, outer, x, axis)
            norm = self._norm_for(static(x), axis, affine.zero_centered)
            scale = affine.gamma
        parameters = norm.parameters(x, scale, None)
        outputs = norm(x, parameters, residual, portable=self.portable)
        return self._results(inputs, outputs)

    def _norm_for(
        self, shape: Shape | None, axis: Any, zero_centered: bool | None = None
    ) -> Norm:
        if zero_centered is None:
            zero_centered = self.zero_centered
        return _norm.over_axes(
            "rms_norm",
            shape,
            axis=axis,
            epsilon=self.epsilon,
            activation=self.activation,
            zero_centered=zero_centered,
        )

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> RMSNormalization:
        """Makes the layer from its configuration, or from that of Keras's layer."""
        return super().from_config({"pass_mask": LEGACY, **config})

    def get_config(self) -> dict[str, Any]:
        """Returns the configuration that `from_config` makes the same layer of."""
        return {
            **super().get_config(),
            "zero_centered": self.zero_centered,
            # Keras's layer does not take it, so the default is left out.
            **({} if self.with_scale else {"with_scale": False}),
            "pass_mask": self.supports_masking,
        }

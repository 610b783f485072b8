"""The FilterResponseNormalization layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from fusednorm import _checks, _norm
from fusednorm._checks.shapes import Shape, static
from fusednorm._keras import keras
from fusednorm._norm import Norm
from fusednorm.layers.base import AffineNormalization


@keras.saving.register_keras_serializable(package="fusednorm")
class FilterResponseNormalization(AffineNormalization):
    """Filter response normalization layer (Singh & Krishnan, 2019).

    Divides each channel of each image by its root mean square over the positions,
    without taking a mean away, and applies a scale and an offset per channel:

    ```python
    y = x * rsqrt(mean(square(x)) + epsilon + abs(learned_epsilon)) * gamma + beta
    y = max(y, tau)  # with `thresholded=True`
    ```

    A drop-in for TensorFlow Addons' layer of that name: the same arguments, weights
    and results. The threshold of the paper, which Addons has as a layer of its own
    (`TLU`), is an option here.

    The normalization is one op forward and one backward. That op takes no parameters
    per channel, so the scale, the offset and the threshold are two or three plain
    TensorFlow ops (one kernel under XLA). float16 and bfloat16 data are converted to
    float32 first, which costs a copy, so that only the result is rounded.

    Args:
        epsilon: Small float added to the mean square to avoid dividing by zero. May be
            0: zeros then give `beta`. Defaults to 1e-6.
        axis: List of the two spatial axes: `[1, 2]`, the default, and nothing else.
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
        learned_epsilon: Whether to add the magnitude of a weight to `epsilon`, which
            starts at 1e-4. Defaults to `False`.
        learned_epsilon_constraint: Optional constraint for that weight. None by
            default.
        name: Optional name for the layer.
        thresholded: Whether the output is at least `tau`, a weight per channel.
            Defaults to `False`.
        tau_initializer: Initializer for the tau weight. Defaults to zeros, with which
            the threshold starts as a ReLU.
        tau_regularizer: Optional regularizer for the tau weight. None by default.
        tau_constraint: Optional constraint for the tau weight. None by default.
        **kwargs: Base layer keyword arguments (e.g. `dtype`), and `portable`, see
            `fusednorm.portable`.

    Input shape: `(batch, height, width, channels)`; the number of channels must be
        known.

    Output shape: Same shape as input.

    Raises:
        ValueError: if an argument is not among what is described here, or does not
            fit the input.
        TypeError: if `axis` is not a list or tuple.

    Example:
    >>> layer = fusednorm.FilterResponseNormalization(thresholded=True)
    >>> layer(tf.random.normal([4, 32, 32, 64])).shape
    TensorShape([4, 32, 32, 64])

    Reference:

    - [Saurabh Singh & Shankar Krishnan, 2019](https://arxiv.org/abs/1911.09737)
    """

    def __init__(
        self,
        epsilon: float = 1e-6,
        axis: Sequence[int] = (1, 2),
        beta_initializer: Any = "zeros",
        gamma_initializer: Any = "ones",
        beta_regularizer: Any = None,
        gamma_regularizer: Any = None,
        beta_constraint: Any = None,
        gamma_constraint: Any = None,
        learned_epsilon: bool = False,
        learned_epsilon_constraint: Any = None,
        name: str | None = None,
        thresholded: bool = False,
        tau_initializer: Any = "zeros",
        tau_regularizer: Any = None,
        tau_constraint: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            axis=_checks.arguments.spatial_axes(axis),
            epsilon=epsilon,
            center=True,
            scale=True,
            beta_initializer=beta_initializer,
            gamma_initializer=gamma_initializer,
            beta_regularizer=beta_regularizer,
            gamma_regularizer=gamma_regularizer,
            beta_constraint=beta_constraint,
            gamma_constraint=gamma_constraint,
            activation=None,
            name=name,
            **kwargs,
        )
        self.learned_epsilon = learned_epsilon
        self.learned_epsilon_constraint = keras.constraints.get(
            learned_epsilon_constraint
        )
        self.thresholded = thresholded
        self.tau_initializer = keras.initializers.get(tau_initializer)
        self.tau_regularizer = keras.regularizers.get(tau_regularizer)
        self.tau_constraint = keras.constraints.get(tau_constraint)
        # It is made here and not in `build`, to be the first weight as in Addons.
        self.eps_learned = None
        if learned_epsilon:
            self.eps_learned = self.add_weight(
                name="learned_epsilon",
                shape=(1,),
                initializer=keras.initializers.Constant(1e-4),
                constraint=self.learned_epsilon_constraint,
                autocast=False,
            )

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Creates `gamma`, `beta` and, if wanted, `tau`."""
        super().build(input_shape)
        shape = self._weight_shape(input_shape)
        self.tau = self._add("tau", shape) if self.thresholded else None
        self.input_spec = keras.layers.InputSpec(ndim=4, axes={3: shape[-1]})

    def _norm_for(self, shape: Shape | None, axis: Any) -> Norm:
        return _norm.over_axes(
            "rms_norm", shape, axis=axis, epsilon=self.epsilon, activation=None
        )

    def _weight_shape(self, input_shape: Sequence[int | None]) -> tuple[int, ...]:
        _checks.layers.images(input_shape)
        return (1, 1, 1, *_checks.layers.known(input_shape[3:], 3, input_shape))

    def call(self, inputs: Any) -> Any:
        """Normalizes `inputs`."""
        x, _, *weights = self._operands(inputs, None, *self._weights_of_call())
        dtype = tf.float64 if x.dtype is tf.float64 else tf.float32
        gamma, beta, *more = (tf.cast(weight, dtype) for weight in weights)
        norm = self._norm_for(static(x), self.axis)
        y, rstd = norm(
            tf.cast(x, dtype),
            norm.parameters(x, None, None),
            return_stats=True,
            portable=self.portable,
        )
        if self.learned_epsilon:
            # rstd times this is 1 / sqrt(1 / rstd^2 + learned). Computed so, nothing is
            # subtracted that might cancel.
            learned = tf.abs(more.pop(0))
            smaller = tf.math.rsqrt(1 + learned * tf.square(rstd))
            gamma = gamma * smaller[:, tf.newaxis, tf.newaxis, :]
        y = y * gamma + beta
        return self._results(inputs, tf.maximum(y, more.pop()) if more else y)

    def _weights_of_call(self) -> list[Any]:
        optional = [self.eps_learned, self.tau]
        return [self.gamma, self.beta, *(w for w in optional if w is not None)]

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> Any:
        """Returns the shape of the output, which is that of the input."""
        _checks.layers.images(input_shape)
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Returns the configuration that `from_config` makes the same layer of."""
        config = super().get_config()
        for always in ("center", "scale", "activation"):
            del config[always]
        config |= {
            "learned_epsilon": self.learned_epsilon,
            "learned_epsilon_constraint": keras.constraints.serialize(
                self.learned_epsilon_constraint
            ),
        }
        if self.thresholded:
            config |= {
                "thresholded": True,
                "tau_initializer": keras.initializers.serialize(self.tau_initializer),
                "tau_regularizer": keras.regularizers.serialize(self.tau_regularizer),
                "tau_constraint": keras.constraints.serialize(self.tau_constraint),
            }
        return config

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> FilterResponseNormalization:
        """Returns the layer that a configuration describes, also one of Addons'."""
        epsilon = config.get("epsilon")
        if isinstance(epsilon, dict):  # Addons' layer has a tensor, which Keras saves.
            epsilon = float(keras.saving.deserialize_keras_object(epsilon))
            config = {**config, "epsilon": epsilon}
        return super().from_config(config)

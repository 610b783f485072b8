"""What the normalization layers have in common."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from fusednorm import _checks, _keras, _portable
from fusednorm._activations import activation_name
from fusednorm._checks.shapes import Shape, static
from fusednorm._keras import keras
from fusednorm._norm import Norm, Outputs

constraints, initializers, regularizers = (
    keras.constraints,
    keras.initializers,
    keras.regularizers,
)


class Normalization(_keras.Layer):
    """Base of the fused normalization layers.

    Holds what all of them have: the axis, epsilon and activation, their checks and
    configuration, and the rules for dtypes.

    Under `tf.distribute` these layers have nothing to synchronize, unlike
    BatchNormalization with `synchronized=True`. The statistics of a sample come from
    that sample alone (as long as `axis` does not name the batch axis), so it does not
    matter which replica it is on. The gradients of the weights are sums over samples,
    which the strategy adds up over the replicas as it does those of any other weight.
    Only running statistics have to be averaged, and only InstanceNormalization can have
    them.

    Args:
        axis: Integer or list/tuple of integers, already checked by the subclass.
        epsilon: Float added to the variance.
        activation: Fused activation: `None`, its name, or its Keras function.
        portable: Whether to run as plain TensorFlow ops, as in `fusednorm.portable`.
        pass_mask: Whether the outputs carry the mask of the input.
        **kwargs: Base layer keyword arguments (e.g. `name` and `dtype`).
    """

    # What a layer was before `fusednorm.convert`; `None` if `unconvert` can tell that
    # from what the layer is now.
    origin: Any = None

    def __init__(
        self,
        *,
        axis: int | Sequence[int],
        epsilon: float,
        activation: Any,
        portable: bool = False,
        pass_mask: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.axis = axis
        self.epsilon = _checks.arguments.epsilon(epsilon)
        name = activation_name(activation)
        self.activation = None if name == "none" else name
        self.portable = portable
        self.supports_masking = bool(pass_mask)

    @property
    def supports_jit(self) -> bool:
        """Whether XLA can compile the layer, which Keras 3 asks before it uses it.

        On a GPU Keras's `fit` turns XLA on by itself, but a library that was built
        without CUDA has no XLA kernels for GPUs.
        """
        return self._supports_jit and (self.portable or _portable.supports_xla())

    @supports_jit.setter
    def supports_jit(self, value: bool) -> None:
        self._supports_jit = value

    def _norm_for(self, shape: Shape | None, axis: Any) -> Norm:
        """Returns the norm of inputs of a shape, with its arguments checked.

        `build` asks for it where the axes decide on the shape of weights, so that the
        arguments are checked then. Each call asks again, because attributes such as
        `epsilon` may be set at any time and inputs may have another rank. Unless one of
        these has changed, it gets the same object.

        Args:
            shape: The static shape of the input; `None` if its rank is unknown.
            axis: The axis of the layer; for a ragged input, that of its flat values.
        """
        raise NotImplementedError

    def _weight_shape(self, input_shape: Sequence[int | None]) -> tuple[int, ...]:
        """Returns the dimensions of the input along the axes, which must be known."""
        axes = self._norm_for(input_shape, self.axis).axes
        dimensions = [input_shape[axis] for axis in axes]
        return _checks.layers.known(dimensions, self.axis, input_shape)

    def _operands(self, inputs: Any, residual: Any, *weights: Any) -> list[Any]:
        """Returns the input, the residual and the weights in dtypes for the ops.

        The norm is computed in the widest of the dtypes of the input, the residual and
        the layer. So a float32 input of a float16 layer stays float32, and 1e5 in it
        does not become infinite.
        """
        x = _checks.tensors.data(inputs)
        dtypes = [x.dtype, tf.as_dtype(self.compute_dtype)]
        if residual is not None:
            residual = _checks.tensors.data(residual, "residual")
            _checks.tensors.residual_shape(static(residual), static(x))
            dtypes.append(residual.dtype)
        dtype = _widest(dtypes)
        x = _cast(x, dtype)
        residual = None if residual is None else _cast(residual, dtype)
        return [x, residual, *(_matching(weight, dtype) for weight in weights)]

    def _counted(self, inputs: Any, mask: Any, x: tf.Tensor) -> tf.Tensor | None:
        """Returns the mask of the positions that count in the statistics, if any.

        Args:
            inputs: What the layer was called with.
            mask: The mask that it was called with, if any.
            x: The input as the op takes it.
        """
        if not self.use_mask:
            return None
        if mask is None or mask is _keras.MASK_OF_INPUTS:
            mask = _keras.mask_of(inputs)
        return None if mask is None else _checks.masks.of_positions(mask, x, self.axis)

    def _on_values(
        self, normalize: Callable[..., Any], inputs: Any, residual: Any, *more: Any
    ) -> Any:
        """Calls `normalize(x, residual, axis, *more)`.

        For a ragged input, `x` is its flat values and `axis` is counted for them.
        """
        if not isinstance(inputs, tf.RaggedTensor) or residual is not None:
            return normalize(inputs, residual, self.axis, *more)
        axis = _checks.axes.of_ragged(self.axis, inputs)
        values = normalize(inputs.flat_values, None, axis, *more)
        return inputs.with_flat_values(values)

    def _results(self, inputs: Any, outputs: Outputs) -> Outputs:
        """Returns y, or y and the sum, in the compute dtype and with the mask."""
        dtype = tf.as_dtype(self.compute_dtype)
        if not isinstance(outputs, tuple):
            return _cast(outputs, dtype)
        y, total = (_cast(output, dtype) for output in outputs)
        if self.supports_masking:
            _keras.pass_mask(inputs, total)
        return y, total

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> Any:
        """Returns the shape of the output, which is that of the input."""
        self._norm_for(input_shape, self.axis)
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Returns the configuration that `from_config` makes the same layer of."""
        return {
            **super().get_config(),
            "axis": self.axis,
            "epsilon": self.epsilon,
            "activation": self.activation,
            # Keras's own layers do not take these two, so the defaults are left out.
            **({"portable": True} if self.portable else {}),
            **({} if self.supports_masking else {"pass_mask": False}),
        }


class AffineNormalization(Normalization):
    """Base of the layers with a scale `gamma` and an offset `beta`.

    Args:
        axis: Integer or list/tuple of integers, already checked by the subclass.
        epsilon: Float added to the variance.
        center: If `True`, add offset of `beta` to normalized tensor.
        scale: If `True`, multiply by `gamma`.
        beta_initializer: Initializer for the beta weight.
        gamma_initializer: Initializer for the gamma weight.
        beta_regularizer: Optional regularizer for the beta weight.
        gamma_regularizer: Optional regularizer for the gamma weight.
        beta_constraint: Optional constraint for the beta weight.
        gamma_constraint: Optional constraint for the gamma weight.
        activation: Fused activation: `None`, its name, or its Keras function.
        **kwargs: Base layer keyword arguments (e.g. `name` and `dtype`).
    """

    def __init__(
        self,
        *,
        center: bool,
        scale: bool,
        beta_initializer: Any,
        gamma_initializer: Any,
        beta_regularizer: Any,
        gamma_regularizer: Any,
        beta_constraint: Any,
        gamma_constraint: Any,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.center = center
        self.scale = scale
        self.beta_initializer = initializers.get(beta_initializer)
        self.gamma_initializer = initializers.get(gamma_initializer)
        self.beta_regularizer = regularizers.get(beta_regularizer)
        self.gamma_regularizer = regularizers.get(gamma_regularizer)
        self.beta_constraint = constraints.get(beta_constraint)
        self.gamma_constraint = constraints.get(gamma_constraint)

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Creates `gamma` and `beta` in this order, those that the layer has."""
        _checks.layers.one_tensor(input_shape)
        shape = self._weight_shape(input_shape)
        gamma, beta = self._wanted()
        self.gamma = self._add("gamma", shape) if gamma else None
        self.beta = self._add("beta", shape) if beta else None
        super().build(input_shape)

    def _wanted(self) -> tuple[bool, bool]:
        """Returns whether the layer has a `gamma` and a `beta`."""
        return self.scale, self.center

    def _add(self, name: str, shape: tuple[int, ...]) -> Any:
        return self.add_weight(
            name=name,
            shape=shape,
            initializer=getattr(self, f"{name}_initializer"),
            regularizer=getattr(self, f"{name}_regularizer"),
            constraint=getattr(self, f"{name}_constraint"),
            autocast=False,
        )

    def get_config(self) -> dict[str, Any]:
        """Returns the configuration that `from_config` makes the same layer of."""
        return {
            **super().get_config(),
            "center": self.center,
            "scale": self.scale,
            "beta_initializer": initializers.serialize(self.beta_initializer),
            "gamma_initializer": initializers.serialize(self.gamma_initializer),
            "beta_regularizer": regularizers.serialize(self.beta_regularizer),
            "gamma_regularizer": regularizers.serialize(self.gamma_regularizer),
            "beta_constraint": constraints.serialize(self.beta_constraint),
            "gamma_constraint": constraints.serialize(self.gamma_constraint),
        }


def _widest(dtypes: Sequence[tf.DType]) -> tf.DType:
    """Returns the narrowest dtype that holds the numbers of all of these."""
    first = dtypes[0]
    if all(dtype is first for dtype in dtypes):
        return first
    size = max(dtype.size for dtype in dtypes)
    widest = {dtype for dtype in dtypes if dtype.size == size}
    return tf.float32 if len(widest) > 1 else widest.pop()  # float16 and bfloat16


def _cast(x: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """Returns a tensor in a dtype; does not spend time on a cast that does nothing."""
    return x if x.dtype is dtype else tf.cast(x, dtype)


def _matching(weight: Any, dtype: tf.DType) -> Any:
    """Returns a weight or tensor in a dtype that the ops take with data of `dtype`."""
    if weight is None:
        return None
    value = weight if isinstance(weight, tf.Tensor) else _keras.value(weight)
    if value.dtype is dtype or value.dtype is tf.float32:
        return value
    return tf.cast(value, tf.float32)

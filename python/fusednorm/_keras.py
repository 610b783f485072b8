"""The Keras that the layers belong to, and all code that depends on which it is.

It is Keras 3, or tf_keras (Keras 2) where the environment makes that TensorFlow's
`tf.keras`.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from fusednorm import _checks, _compat

# With these values of the variable, TensorFlow itself uses tf_keras.
LEGACY = os.environ.get("TF_USE_LEGACY_KERAS") in ("1", "true", "True")

if TYPE_CHECKING or not LEGACY:
    import keras
else:
    try:
        import tf_keras as keras
    except ImportError as error:
        version = _compat.minor_version(_compat.tensorflow_version())
        raise ImportError(
            "TF_USE_LEGACY_KERAS is set in the environment, so fusednorm's layers are "
            "for tf_keras, which cannot be imported. Install it:\n"
            f'    pip install "tf_keras=={version}.*"\n'
            "or unset TF_USE_LEGACY_KERAS to use Keras 3."
        ) from error


class _Integers:
    """What a converted layer does with integers, which the layer before it took.

    A conversion sees in the graph of a functional model what each layer is called with.
    In a model that is code it does not, and a converted layer may be called with
    integers. `on_integers` is then the call of a layer like the one before. It is
    `None` for layers that have replaced no other: those refuse integers.
    """

    on_integers: Any = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Calls the layer; with integers, the one that it has replaced."""
        if self.on_integers is not None and args and _is_integer(args[0]):
            return self.on_integers(*args, **kwargs)
        return super().__call__(*args, **kwargs)


def _is_integer(x: Any) -> bool:
    # A symbolic tensor of Keras's does not count: its graph would get the other layer.
    if not isinstance(x, tf.Tensor | tf.Variable) and not hasattr(x, "__array__"):
        return False
    dtype = tf.as_dtype(x.dtype)
    return dtype.is_integer or dtype.is_bool


if LEGACY:

    class Layer(_Integers, keras.layers.Layer):
        """A layer that sees its inputs and weights in the dtypes they have."""

        def __init__(self, **kwargs: Any) -> None:
            super().__init__(autocast=False, **kwargs)

        def add_statistic(self, **kwargs: Any) -> Any:
            """Adds a weight that calls update; it becomes the mean over replicas."""
            return self.add_weight(
                trainable=False,
                autocast=False,
                synchronization=tf.VariableSynchronization.ON_READ,
                aggregation=tf.VariableAggregation.MEAN,
                **kwargs,
            )

else:

    class Layer(_Integers, keras.layers.Layer):
        """A layer that sees its inputs and weights in the dtypes they have."""

        def __init__(self, **kwargs: Any) -> None:
            backend = keras.backend.backend()
            if backend != "tensorflow":
                raise RuntimeError(
                    "fusednorm's layers are TensorFlow ops and need Keras's TensorFlow "
                    "backend; set the environment variable KERAS_BACKEND=tensorflow "
                    f"before importing keras. Received: KERAS_BACKEND={backend}"
                )
            super().__init__(**kwargs)
            self.autocast = False

        def compute_output_spec(
            self, inputs: Any, residual: Any = None, *_: Any, **kwargs: Any
        ) -> Any:
            """Returns the symbolic outputs, checking dtypes while a model is built."""
            for each in keras.tree.flatten(inputs):
                _checks.tensors.floating(each.dtype)
            y = super().compute_output_spec(inputs, **kwargs)
            if residual is None:
                return y
            if not keras.backend.is_keras_tensor(residual):
                residual = _checks.tensors.data(residual, "residual")
            _checks.tensors.floating(residual.dtype, "residual")
            _checks.tensors.residual_shape(list(residual.shape), list(inputs.shape))
            total = keras.KerasTensor(y.shape, dtype=y.dtype)
            if self.supports_masking:
                pass_mask(inputs, total)
            return y, total

        def add_statistic(self, **kwargs: Any) -> Any:
            """Adds a weight that calls update; it becomes the mean over replicas."""
            return self.add_weight(
                trainable=False, autocast=False, aggregation="mean", **kwargs
            )


# The default of `mask` in the calls of layers. If it were `None`, Keras 3 would pass
# the mask of the inputs itself and write it into the graph of a functional model: as
# one more argument of the call, which Keras's own layers refuse, and with the operation
# that computes it, which an `.h5` file cannot hold.
MASK_OF_INPUTS = "the mask of the inputs"


def pass_mask(source: Any, target: Any) -> None:
    """Gives `target` the mask of `source`, as Keras does for a layer's first output."""
    mask = mask_of(source)
    if mask is not None:
        target._keras_mask = mask


def mask_of(x: Any) -> Any:
    """Returns the mask that Keras has attached to a tensor, if any."""
    return getattr(x, "_keras_mask", None)


def value(weight: Any) -> Any:
    """Returns the variable that TensorFlow reads for a weight."""
    return weight if LEGACY else weight.value

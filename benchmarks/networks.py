"""Small models whose norms are Keras's, ours, or none, and otherwise the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

KINDS = ("keras", "fusednorm", "none")


class Norms:
    """Makes the norms of one kind, as functions of Keras tensors."""

    def __init__(self, kind: str):
        self.kind = kind

    def _activated(self, make: str, activation: str, **options: Any) -> Any:
        """Returns a norm and its activation: two layers, one layer, or no norm."""
        import fusednorm
        import keras

        if self.kind == "fusednorm":
            return getattr(fusednorm, make)(activation=activation, **options)
        after = keras.layers.Activation(activation)
        if self.kind == "none":
            return after
        norm = getattr(keras.layers, make)(**options)
        return lambda x: after(norm(x))

    def group(self, activation: str) -> Any:
        """Returns GroupNorm of 32 groups."""
        return self._activated("GroupNormalization", activation, groups=32)

    def instance(self, activation: str) -> Any:
        """Returns InstanceNorm."""
        return self._activated("GroupNormalization", activation, groups=-1)

    def layer(self) -> Any:
        """Returns LayerNorm."""
        import fusednorm
        import keras

        if self.kind == "none":
            return lambda x: x
        module = fusednorm if self.kind == "fusednorm" else keras.layers
        return module.LayerNormalization()

    def rms_of_sum(self) -> Any:
        """Returns (x, residual) -> (RMSNorm of their sum, the sum)."""
        import keras

        if self.kind == "fusednorm":
            return _fused_rms_of_sum()
        norm = (lambda x: x) if self.kind == "none" else keras.layers.RMSNormalization()

        def function(x: Any, residual: Any) -> Any:
            total = x + residual
            return norm(total), total

        return function


def _fused_rms_of_sum() -> Any:
    import fusednorm
    import keras

    class RmsOfSum(keras.layers.Layer):
        """RMSNorm of a sum, in one op."""

        def build(self, x_shape: Any, residual_shape: Any) -> None:
            """Creates the scale."""
            self.scale = self.add_weight(shape=x_shape[-1:], initializer="ones")

        def call(self, x: Any, residual: Any) -> Any:
            """Returns the norm and the sum."""
            return fusednorm.rms_norm(x, self.scale.value, residual=residual)

        def compute_output_shape(self, x_shape: Any, residual_shape: Any) -> Any:
            """Returns the shapes of the norm and of the sum."""
            return x_shape, residual_shape

    return RmsOfSum()


def _conv(x: Any, filters: int, size: int = 3, strides: int = 1) -> Any:
    import keras

    return keras.layers.Conv2D(filters, size, strides, padding="same", use_bias=False)(
        x
    )


def unet(norms: Norms) -> Any:
    """Returns a U-Net of residual blocks with GroupNorm and SiLU."""
    import keras

    def block(x: Any, filters: int) -> Any:
        h = _conv(norms.group("silu")(x), filters)
        h = _conv(norms.group("silu")(h), filters)
        return h + (x if x.shape[-1] == filters else _conv(x, filters, 1))

    inputs = keras.Input((32, 32, 4))
    x = _conv(inputs, 64)
    skips = []
    for filters in (64, 128):
        x = block(x, filters)
        skips.append(x)
        x = _conv(x, filters, strides=2)
    x = block(x, 128)
    for filters in (128, 64):
        x = keras.layers.UpSampling2D()(x)
        x = keras.layers.Concatenate()([x, skips.pop()])
        x = block(x, filters)
    return keras.Model(inputs, _conv(norms.group("silu")(x), 4))


def resnet18(norms: Norms) -> Any:
    """Returns a ResNet-18 with GroupNorm instead of BatchNorm."""
    import keras

    def block(x: Any, filters: int, strides: int) -> Any:
        h = norms.group("relu")(_conv(x, filters, strides=strides))
        h = norms.group("linear")(_conv(h, filters))
        if strides > 1:
            x = _conv(x, filters, 1, strides)
        return keras.layers.Activation("relu")(h + x)

    inputs = keras.Input((64, 64, 3))
    x = norms.group("relu")(_conv(inputs, 64, 7, 2))
    x = keras.layers.MaxPooling2D()(x)
    for filters in (64, 128, 256, 512):
        x = block(x, filters, 1 if filters == 64 else 2)
        x = block(x, filters, 1)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, keras.layers.Dense(100)(x))


def cyclegan(norms: Norms) -> Any:
    """Returns CycleGAN's generator, with half of its filters and four blocks."""
    import keras

    def up(x: Any, filters: int) -> Any:
        return keras.layers.Conv2DTranspose(
            filters, 3, 2, padding="same", use_bias=False
        )(x)

    inputs = keras.Input((128, 128, 3))
    x = norms.instance("relu")(_conv(inputs, 32, 7))
    for filters in (64, 128):
        x = norms.instance("relu")(_conv(x, filters, strides=2))
    for _ in range(4):
        h = norms.instance("relu")(_conv(x, 128))
        h = norms.instance("linear")(_conv(h, 128))
        x = x + h
    for filters in (64, 32):
        x = norms.instance("relu")(up(x, filters))
    return keras.Model(inputs, keras.layers.Activation("tanh")(_conv(x, 3, 7)))


TOKENS, WIDTH, HEADS, LAYERS = 128, 256, 4, 4


def _attention(x: Any) -> Any:
    import keras

    return keras.layers.MultiHeadAttention(HEADS, WIDTH // HEADS)(x, x)


def _feed_forward(x: Any) -> Any:
    import keras

    x = keras.layers.Dense(4 * WIDTH, activation="gelu")(x)
    return keras.layers.Dense(WIDTH)(x)


def transformer_layer_norm(norms: Norms) -> Any:
    """Returns a pre-norm Transformer of four layers with LayerNorm."""
    import keras

    inputs = x = keras.Input((TOKENS, WIDTH))
    for _ in range(LAYERS):
        x = x + _attention(norms.layer()(x))
        x = x + _feed_forward(norms.layer()(x))
    return keras.Model(inputs, norms.layer()(x))


def transformer_rms_norm(norms: Norms) -> Any:
    """Returns the same with RMSNorm, each of the sum with the residual."""
    import keras

    inputs = total = keras.Input((TOKENS, WIDTH))
    h = keras.layers.Dense(WIDTH)(inputs)
    for _ in range(LAYERS):
        y, total = norms.rms_of_sum()(h, total)
        h = _attention(y)
        y, total = norms.rms_of_sum()(h, total)
        h = _feed_forward(y)
    y, _ = norms.rms_of_sum()(h, total)
    return keras.Model(inputs, y)


# name -> (model of norms, batch)
MODELS: dict[str, tuple[Callable[[Norms], Any], int]] = {
    "unet": (unet, 4),
    "resnet18-gn": (resnet18, 8),
    "cyclegan": (cyclegan, 1),
    "transformer-ln": (transformer_layer_norm, 4),
    "transformer-rms": (transformer_rms_norm, 4),
}

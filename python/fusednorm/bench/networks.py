"""Models whose norms are Keras's or none, and otherwise the same, in two sizes.

They have what decides about speed and no more: no vocabulary, no positions, no noise
levels. Sums are `Add` layers and activations layers of their own, so that
`fusednorm.convert(fuse=True)` finds them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Model = Any
Tensor = Any


class Norms:
    """Applies Keras's norms, or leaves them out.

    Args:
        there: Whether there are any; activations are there in any case.
    """

    def __init__(self, there: bool) -> None:
        self._there = there

    def _normalized(self, x: Tensor, name: str, **options: Any) -> Tensor:
        from keras import layers

        return getattr(layers, name)(**options)(x) if self._there else x

    def group(self, x: Tensor, activation: str = "", groups: int = 32) -> Tensor:
        """Returns GroupNorm and an activation; InstanceNorm if `groups` is -1."""
        from keras import layers

        y = self._normalized(x, "GroupNormalization", groups=groups)
        return layers.Activation(activation)(y) if activation else y

    def layer(self, x: Tensor) -> Tensor:
        """Returns LayerNorm."""
        return self._normalized(x, "LayerNormalization", epsilon=1e-5)

    def rms(self, x: Tensor) -> Tensor:
        """Returns RMSNorm."""
        return self._normalized(x, "RMSNormalization")


def _conv(x: Tensor, filters: int, size: int = 3, strides: int = 1) -> Tensor:
    from keras import layers

    return layers.Conv2D(filters, size, strides, padding="same", use_bias=False)(x)


def _sum(*tensors: Tensor) -> Tensor:
    from keras import layers

    return layers.Add()(list(tensors))


def _attention(x: Tensor, heads: int, causal: bool = False) -> Tensor:
    from keras import layers

    attention = layers.MultiHeadAttention(heads, x.shape[-1] // heads)
    return attention(x, x, use_causal_mask=causal)


def unet(
    norms: Norms, image: int, widths: tuple[int, ...], blocks: int, attention: int
) -> Model:
    """Returns a diffusion UNet: GroupNorm and SiLU, attention on small images.

    Args:
        norms: Which.
        image: Height and width.
        widths: Channels of each resolution, the first one largest.
        blocks: Residual blocks of each resolution.
        attention: Images up to this size have attention after each block.
    """
    import keras
    from keras import layers

    def block(x: Tensor, filters: int) -> Tensor:
        h = _conv(norms.group(x, "silu"), filters)
        h = _conv(norms.group(h, "silu"), filters)
        x = _sum(h, x if x.shape[-1] == filters else _conv(x, filters, 1))
        if x.shape[1] > attention:
            return x
        tokens = layers.Reshape((x.shape[1] * x.shape[2], filters))(norms.group(x))
        h = _attention(tokens, filters // 64)
        return _sum(x, layers.Reshape(x.shape[1:])(h))

    inputs = keras.Input((image, image, 4))
    x = _conv(inputs, widths[0])
    skips = []
    for filters in widths:
        for _ in range(blocks):
            x = block(x, filters)
            skips.append(x)
        if filters != widths[-1]:
            x = _conv(x, filters, strides=2)
    x = block(x, widths[-1])
    for filters in reversed(widths):
        if x.shape[1] != skips[-1].shape[1]:
            x = layers.UpSampling2D()(x)
        for _ in range(blocks):
            x = block(layers.Concatenate()([x, skips.pop()]), filters)
    return keras.Model(inputs, _conv(norms.group(x, "silu"), 4))


def resnet18(norms: Norms, image: int) -> Model:
    """Returns a ResNet-18 with GroupNorm instead of BatchNorm."""
    import keras
    from keras import layers

    def block(x: Tensor, filters: int, strides: int) -> Tensor:
        h = norms.group(_conv(x, filters, strides=strides), "relu")
        h = norms.group(_conv(h, filters))
        if strides > 1:
            x = _conv(x, filters, 1, strides)
        return layers.Activation("relu")(_sum(h, x))

    inputs = keras.Input((image, image, 3))
    x = norms.group(_conv(inputs, 64, 7, 2), "relu")
    x = layers.MaxPooling2D()(x)
    for filters in (64, 128, 256, 512):
        x = block(x, filters, 1 if filters == 64 else 2)
        x = block(x, filters, 1)
    return keras.Model(inputs, layers.Dense(1000)(layers.GlobalAveragePooling2D()(x)))


def cyclegan(norms: Norms, image: int, filters: int, blocks: int) -> Model:
    """Returns CycleGAN's generator with InstanceNorm."""
    import keras
    from keras import layers

    def norm(x: Tensor, activation: str = "") -> Tensor:
        return norms.group(x, activation, groups=-1)

    inputs = keras.Input((image, image, 3))
    x = norm(_conv(inputs, filters, 7), "relu")
    for times in (2, 4):
        x = norm(_conv(x, times * filters, strides=2), "relu")
    for _ in range(blocks):
        h = norm(_conv(x, 4 * filters), "relu")
        x = _sum(x, norm(_conv(h, 4 * filters)))
    for times in (2, 1):
        up = layers.Conv2DTranspose(
            times * filters, 3, 2, padding="same", use_bias=False
        )
        x = norm(up(x), "relu")
    return keras.Model(inputs, layers.Activation("tanh")(_conv(x, 3, 7)))


def _encoder(norms: Norms, x: Tensor, depth: int, heads: int, causal: bool) -> Tensor:
    """Returns the tokens after pre-norm layers with LayerNorm."""
    from keras import layers

    width = x.shape[-1]
    for _ in range(depth):
        x = _sum(x, _attention(norms.layer(x), heads, causal))
        h = layers.Dense(4 * width, activation="gelu")(norms.layer(x))
        x = _sum(x, layers.Dense(width)(h))
    return norms.layer(x)


def gpt(norms: Norms, tokens: int, width: int, depth: int, heads: int) -> Model:
    """Returns a causal Transformer with LayerNorm before each part, as GPT-2 has it."""
    import keras

    inputs = keras.Input((tokens, width))
    return keras.Model(inputs, _encoder(norms, inputs, depth, heads, causal=True))


def llama(norms: Norms, tokens: int, width: int, depth: int, heads: int) -> Model:
    """Returns a causal Transformer with RMSNorm of each sum, and gated layers."""
    import keras
    from keras import layers

    inputs = keras.Input((tokens, width))
    x = layers.Dense(width)(inputs)
    for _ in range(depth):
        x = _sum(x, _attention(norms.rms(x), heads, causal=True))
        y = norms.rms(x)
        gate = layers.Dense(width * 8 // 3, activation="silu")(y)
        h = layers.Multiply()([gate, layers.Dense(width * 8 // 3)(y)])
        x = _sum(x, layers.Dense(width)(h))
    return keras.Model(inputs, norms.rms(x))


def vit(
    norms: Norms, image: int, patch: int, width: int, depth: int, heads: int
) -> Model:
    """Returns a Vision Transformer, pooled by the mean of its tokens."""
    import keras
    from keras import layers

    inputs = keras.Input((image, image, 3))
    x = layers.Conv2D(width, patch, patch)(inputs)
    x = layers.Reshape(((image // patch) ** 2, width))(x)
    x = _encoder(norms, x, depth, heads, causal=False)
    return keras.Model(inputs, layers.Dense(1000)(layers.GlobalAveragePooling1D()(x)))


@dataclass(frozen=True)
class Network:
    """A model in two sizes.

    Attributes:
        make: From the norms and a size to the model.
        cpu: A small size, for CPUs: arguments of `make`, and the batch.
        gpu: The size that people train, for GPUs.
    """

    make: Callable[..., Model]
    cpu: dict[str, Any]
    gpu: dict[str, Any]

    def size(self, *, gpu: bool) -> dict[str, Any]:
        """Returns the size for a device, with the batch."""
        return self.gpu if gpu else self.cpu

    def build(self, norms: Norms, *, gpu: bool) -> Model:
        """Returns the model in the size of a device."""
        size = dict(self.size(gpu=gpu))
        del size["batch"]
        return self.make(norms, **size)


NETWORKS = {
    "resnet18-gn": Network(
        resnet18, {"batch": 8, "image": 64}, {"batch": 64, "image": 224}
    ),
    "unet": Network(
        unet,
        {"batch": 2, "image": 32, "widths": (64, 128), "blocks": 1, "attention": 16},
        {"batch": 32, "image": 64, "widths": (128, 256, 384, 512), "blocks": 2,
         "attention": 16},
    ),
    "cyclegan": Network(
        cyclegan,
        {"batch": 1, "image": 128, "filters": 32, "blocks": 4},
        {"batch": 4, "image": 256, "filters": 64, "blocks": 9},
    ),
    "gpt": Network(
        gpt,
        {"batch": 4, "tokens": 128, "width": 256, "depth": 4, "heads": 4},
        {"batch": 8, "tokens": 1024, "width": 768, "depth": 12, "heads": 12},
    ),
    "llama": Network(
        llama,
        {"batch": 4, "tokens": 128, "width": 240, "depth": 4, "heads": 4},
        {"batch": 8, "tokens": 1024, "width": 768, "depth": 12, "heads": 12},
    ),
    "vit": Network(
        vit,
        {"batch": 8, "image": 64, "patch": 8, "width": 192, "depth": 4, "heads": 3},
        {"batch": 64, "image": 224, "patch": 16, "width": 768, "depth": 12,
         "heads": 12},
    ),
}  # fmt: skip

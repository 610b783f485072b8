"""The canonical shapes: what models call norms with, under names that do not change."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Shape:
    """One normalization as a model calls it.

    Attributes:
        name: Stable: results are compared by it.
        op: "group_norm", "layer_norm" or "rms_norm".
        shape: Of x.
        axes: The channel axis of group_norm; the normalized axes of the others.
        groups: Of group_norm; -1 is one per channel, InstanceNorm.
        activation: Applied to the result.
        residual: Whether a residual is added first.
        epsilon: As Keras's layers have it by default.
        zero_centered: Whether the scale is 1 + gamma.
    """

    name: str
    op: str
    shape: tuple[int, ...]
    axes: tuple[int, ...] = (-1,)
    groups: int = 0
    activation: str = "none"
    residual: bool = False
    epsilon: float = 1e-3
    zero_centered: bool = False

    @property
    def centred(self) -> bool:
        """Whether a mean is taken away."""
        return self.op != "rms_norm"

    @property
    def family(self) -> str:
        """What people call it: groups of one channel are InstanceNorm."""
        is_instance = self.op == "group_norm" and self.groups == -1
        return "instance_norm" if is_instance else self.op


FAMILIES = ("group_norm", "instance_norm", "layer_norm", "rms_norm")


def _group(
    name: str,
    shape: tuple[int, ...],
    groups: int,
    activation: str,
    channel_axis: int = -1,
) -> Shape:
    return Shape(name, "group_norm", shape, (channel_axis,), groups, activation)


def _layer(name: str, shape: tuple[int, ...], axis: int = -1) -> Shape:
    return Shape(name, "layer_norm", shape, (axis,))


def _rms(name: str, shape: tuple[int, ...], residual: bool = False) -> Shape:
    return Shape(name, "rms_norm", shape, residual=residual)


SHAPES = (
    _group("sd15-unet-64", (2, 64, 64, 320), 32, "silu"),
    _group("sd15-unet-32", (2, 32, 32, 640), 32, "silu"),
    _group("sd15-unet-16", (2, 16, 16, 1280), 32, "silu"),
    _group("sd15-unet-8-skip", (2, 8, 8, 2560), 32, "silu"),
    _group("sdxl-unet-128", (2, 128, 128, 320), 32, "silu"),
    _group("sd-vae-512", (1, 512, 512, 128), 32, "silu"),
    _group("sd-vae-256", (1, 256, 256, 256), 32, "silu"),
    _group("sd15-unet-64-cf", (2, 320, 64, 64), 32, "silu", 1),
    _group("sdxl-unet-128-cf", (2, 320, 128, 128), 32, "silu", 1),
    _group("rn50-gn-56", (32, 56, 56, 256), 32, "relu"),
    _group("rn50-gn-28", (32, 28, 28, 512), 32, "relu"),
    _group("rn50-gn-14", (32, 14, 14, 1024), 32, "relu"),
    _group("rn50-gn-7", (32, 7, 7, 2048), 32, "relu"),
    _group("bit-stem-112", (32, 112, 112, 64), 32, "relu"),
    _group("cyclegan-256", (1, 256, 256, 64), -1, "relu"),
    _group("cyclegan-64", (1, 64, 64, 256), -1, "relu"),
    _group("pix2pix-128-cf", (4, 128, 128, 128), -1, "leaky_relu", 1),
    _group("style-1024", (1, 1024, 1024, 32), -1, "none"),
    _group("nnunet-128", (2, 128, 128, 128, 32), -1, "leaky_relu"),
    _group("nnunet-32-cf", (2, 256, 32, 32, 32), -1, "leaky_relu", 1),
    _group("mnist-tutorial", (32, 26, 26, 10), 5, "none"),
    _layer("mnist-tutorial-ln1", (32, 26, 26, 10), 1),
    _layer("vit-b", (64, 197, 768)),
    _layer("bert-base", (32, 512, 768)),
    _layer("gpt2-xl", (8, 1024, 1600)),
    _layer("gpt3", (2, 2048, 12288)),
    _layer("swin-stage1", (64, 3136, 96)),
    _rms("llama-7b", (4, 2048, 4096), residual=True),
    _rms("llama-70b", (2, 2048, 8192), residual=True),
    _rms("gemma-head", (4, 2048, 16, 256)),
    _layer("long-row", (32, 1048576)),
    _layer("short-row", (4000000, 16)),
)

# LayerNorm of rows of 1 KiB in float32, from one row to 1 GiB: how cost grows.
_SIZES = {
    "1KiB": 2**0, "4KiB": 2**2, "16KiB": 2**4, "64KiB": 2**6, "256KiB": 2**8,
    "1MiB": 2**10, "4MiB": 2**12, "16MiB": 2**14, "64MiB": 2**16, "256MiB": 2**18,
    "1GiB": 2**20,
}  # fmt: skip
SIZE_PREFIX = "size-"
SIZES = tuple(_layer(SIZE_PREFIX + size, (rows, 256)) for size, rows in _SIZES.items())

# Small ones of three norms, from 1 KiB to 1 MiB in float32: what a call costs.
_SMALL = [size for size in _SIZES if _SIZES[size] <= 2**10]
LAUNCH = (
    *(_layer(f"launch-ln-{size}", (_SIZES[size], 256)) for size in _SMALL),
    *(_rms(f"launch-rms-{size}", (_SIZES[size], 256)) for size in _SMALL),
    *(
        _group(f"launch-gn-{size}", (1, 4 * _SIZES[size], 64), 8, "silu")
        for size in _SMALL
    ),
)
_UNITS = {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


def size_of(name: str) -> int:
    """Returns the bytes that a name of the sweep or of LAUNCH ends in."""
    text = name.rsplit("-", 1)[-1]
    return int(text[:-3]) * _UNITS[text[-3:]]

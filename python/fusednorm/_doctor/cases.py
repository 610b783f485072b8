"""What the checks share: a dozen shapes, places, who computes, what they return."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from fusednorm.bench.cases import Case
from fusednorm.bench.competitors.base import Competitor, Outputs
from fusednorm.bench.data import Data
from fusednorm.bench.shapes import SHAPES

# Of bench/shapes.py by name, with dimensions of the same kind for which float64 does
# not keep one waiting.
SMALL = {
    "sd15-unet-64": (2, 16, 16, 320),
    "sd15-unet-64-cf": (2, 320, 16, 16),
    "rn50-gn-14": (2, 14, 14, 1024),
    "cyclegan-64": (1, 32, 32, 256),
    "pix2pix-128-cf": (2, 128, 32, 32),
    "nnunet-128": (1, 24, 24, 24, 32),
    "mnist-tutorial": (32, 26, 26, 10),
    "mnist-tutorial-ln1": (32, 26, 26, 10),
    "vit-b": (2, 197, 768),
    "swin-stage1": (1, 3136, 96),
    "llama-7b": (1, 64, 4096),
    "gemma-head": (1, 64, 16, 256),
}
SEED = 6
NATIVE = "native"
_KNOWN = {shape.name: shape for shape in SHAPES}


@dataclass
class Check:
    """What a check found.

    Attributes:
        rows: Of its table, all with the same keys.
        problems: A plain sentence for each thing that is off.
        notes: What the table does not say.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Places:
    """Where this installation can run the norms.

    Attributes:
        native: Whether the kernels run on NumPy arrays.
        devices: TensorFlow's devices that the ops have kernels for, as "/CPU:0".
        why_not: Why there are none, a sentence.
    """

    native: bool
    devices: tuple[str, ...]
    why_not: str | None = None

    @property
    def all(self) -> tuple[str, ...]:
        """The kernels alone and the devices."""
        return (*((NATIVE,) if self.native else ()), *self.devices)


def places_of(info: dict[str, Any]) -> Places:
    """Returns where the norms can run, by the report of `fusednorm info`."""
    tensorflow, library = info["tensorflow"], info["libraries"]["op_library"]
    native = info["libraries"]["native_module"]["error"] is None
    why_not = tensorflow["error"] or library["error"] or info["keras"]["error"]
    if why_not is not None:
        return Places(native, (), "the ops do not run here")
    gpus = sum(device["type"] == "GPU" for device in tensorflow["devices"])
    if info["cuda"]["version"] is None:
        gpus = 0
    return Places(native, ("/CPU:0", *(f"/GPU:{i}" for i in range(gpus))))


def data_of(name: str, dtype: str) -> Data:
    """Returns the same random tensors of a case every time."""
    return Data(Case(_KNOWN[name], SMALL[name], dtype), cache_bytes=0, seed=SEED)


def ours(data: Data, place: str, *, threads: int = 2, isa: str = "auto") -> Competitor:
    """Returns our norm in a place: the kernels alone, or the ops called eagerly."""
    if place == NATIVE:
        from fusednorm.bench.competitors import native

        return native.kernel(data, threads, isa)
    from fusednorm.bench.competitors import tensorflow

    return tensorflow.eager(tensorflow.Tensors(data, place))


def outputs_of(competitor: Competitor, place: str) -> Outputs:
    """Returns what a competitor makes of forward and backward."""
    if place == NATIVE:
        return competitor.outputs(competitor.both(0))
    import tensorflow as tf

    # Wherever its tensors are, TensorFlow would take the GPU.
    with tf.device(place):
        return competitor.outputs(competitor.both(0))


def digest(outputs: Outputs) -> str:
    """Returns the same for the same bits."""
    found = sha256()
    for value in vars(outputs).values():
        if value is not None:
            found.update(value.tobytes())
    return found.hexdigest()


def off(error: float) -> str:
    """Returns in words what an error, as a multiple of its bound, says of a result."""
    if math.isinf(error):
        return "not finite"
    return f"off by {error:.2g} times the bound"

"""What a suite measures: shapes in a type, with smaller batches on a CPU."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fusednorm.bench import traffic
from fusednorm.bench.atex import ATEX
from fusednorm.bench.shapes import LAUNCH, SHAPES, SIZE_PREFIX, SIZES, Shape

ITEMSIZE = {"float32": 4, "float16": 2, "bfloat16": 2, "float64": 8}
# What is measured: peers take float64 for float32 in places.
DTYPES = ("float32", "float16", "bfloat16")
FORWARD, BACKWARD, BOTH = "forward", "backward", "forward+backward"
PASSES = (FORWARD, BACKWARD, BOTH)

_QUICK_NAMES = (
    "sd15-unet-32", "sd15-unet-64-cf", "rn50-gn-14", "cyclegan-64", "mnist-tutorial",
    "vit-b", "gemma-head",
    "size-1KiB", "size-16KiB", "size-256KiB", "size-4MiB",
)  # fmt: skip


@dataclass(frozen=True)
class Suite:
    """A list of shapes, and what it is measured with unless the user says otherwise.

    Attributes:
        shapes: In the order of the report.
        dtypes: The types to measure in.
        passes: The passes to measure.
        most_elements: Of x on a CPU; the batch is cut until x has no more.
        rounds: At most, of every case.
        seconds: After so many a case ends, as soon as it had its fewest rounds.
        call_seconds: Calls are repeated until one measurement takes so long.
        kernels: Whether kernels are timed, called from Python, and PyTorch.
        layers: Whether layers of TensorFlow are timed.
        latency: Whether every call is waited for, on tensors that stay in the cache:
            what a call costs, and not what it moves.
    """

    shapes: tuple[Shape, ...]
    dtypes: tuple[str, ...] = ("float32", "bfloat16")
    passes: tuple[str, ...] = PASSES
    most_elements: int = 2**24
    rounds: int = 11
    seconds: float = 12.0
    call_seconds: float = 0.02
    kernels: bool = True
    layers: bool = True
    latency: bool = False


_KNOWN = {shape.name: shape for shape in (*SHAPES, *SIZES)}
SUITES = {
    "quick": Suite(
        tuple(_KNOWN[name] for name in _QUICK_NAMES),
        dtypes=("float32",),
        most_elements=2**20,
        rounds=7,
        seconds=3.0,
        call_seconds=0.005,
    ),
    "canonical": Suite((*SHAPES, *SIZES)),
    # The most useful type and small shapes first: what is late is cut when time is
    # short.
    "kernels": Suite(
        tuple(sorted(SHAPES, key=lambda shape: math.prod(shape.shape))),
        dtypes=("bfloat16", "float32", "float16"),
        passes=(FORWARD, BACKWARD),
        layers=False,
    ),
    "layers": Suite(SHAPES, kernels=False),
    "launch": Suite(LAUNCH, dtypes=("float32",), passes=(FORWARD, BOTH), latency=True),
    "atex": Suite(ATEX, dtypes=("float16",), passes=(BOTH,)),
}


@dataclass(frozen=True)
class Case:
    """A shape in a type: everyone's passes over it are measured together.

    Attributes:
        shape: As models have it.
        dims: Of x as it is measured: with the batch scaled down, or as they are.
        dtype: Of x.
    """

    shape: Shape
    dims: tuple[int, ...]
    dtype: str

    @property
    def elements(self) -> int:
        """Of x."""
        return math.prod(self.dims)

    @property
    def tensor_bytes(self) -> int:
        """Of x."""
        return self.elements * ITEMSIZE[self.dtype]

    @property
    def scaled(self) -> bool:
        """Whether the batch is smaller than the shape's own."""
        return self.dims != self.shape.shape

    @property
    def parameter_dims(self) -> tuple[int, ...]:
        """The shape of gamma and beta."""
        rank = len(self.dims)
        return tuple(
            self.dims[axis] for axis in sorted(a % rank for a in self.shape.axes)
        )

    def least_bytes(self, direction: str) -> int:
        """Returns what a pass has to move: each tensor once in each direction."""
        return sum(
            traffic.least_bytes(
                self.elements,
                ITEMSIZE[self.dtype],
                backward=each == BACKWARD,
                residual=self.shape.residual,
            )
            for each in ((FORWARD, BACKWARD) if direction == BOTH else (direction,))
        )

    def __str__(self) -> str:
        """As the progress line shows it."""
        return f"{self.shape.name} {self.dtype}"


def scaled_dims(dims: Sequence[int], most_elements: int | None) -> tuple[int, ...]:
    """Returns the dimensions with the first cut so that no more elements are left.

    At least one sample stays, whatever its size; None cuts nothing.
    """
    if most_elements is None:
        return tuple(dims)
    sample = math.prod(dims[1:])
    return (max(1, min(dims[0], most_elements // max(1, sample))), *dims[1:])


def cases_of(
    suite: Suite,
    *,
    dtypes: Iterable[str] | None = None,
    families: Iterable[str] | None = None,
    names: Iterable[str] | None = None,
    scale: bool = True,
) -> list[Case]:
    """Returns the cases of a suite that are asked for, in its order.

    Sizes of the sweep are in float32 and never scaled: their size is their point.

    Raises:
        ValueError: nothing is left, or a name is not in the suite.
    """
    shapes = suite.shapes
    if names is not None:
        names = list(names)
        known = {shape.name: shape for shape in shapes}
        if unknown := [name for name in names if name not in known]:
            raise ValueError(
                f"shapes must be among {', '.join(known)}, got {', '.join(unknown)}"
            )
        shapes = tuple(known[name] for name in names)
    if families is not None:
        families = list(families)
        shapes = tuple(shape for shape in shapes if shape.family in families)
    found = []
    for dtype in dtypes or suite.dtypes:
        for shape in shapes:
            sweep = shape.name.startswith(SIZE_PREFIX)
            if sweep and dtype != "float32":
                continue
            limit = suite.most_elements if scale and not sweep else None
            found.append(Case(shape, scaled_dims(shape.shape, limit), dtype))
    if not found:
        raise ValueError("no shape of the suite is left")
    return found

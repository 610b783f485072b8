"""The canonical shapes as problems for the kernels: shapes.py in our own terms."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import gpu_paths  # noqa: F401
from fusednorm.bench import shapes, traffic
from fusednorm.bench.cases import ITEMSIZE
from reference import Norm

# The most useful first: what is late is cut when time is short.
DTYPES = ("bfloat16", "float32", "float16")
PASSES = ("forward", "backward")
# What --quick measures: small and large shapes of every family (gpu_goal.family).
QUICK_SHAPES = (
    "mnist-tutorial-ln1",
    "sd15-unet-16",
    "cyclegan-64",
    "sd15-unet-64",
    "rn50-gn-28",
    "sd15-unet-64-cf",
    "pix2pix-128-cf",
    "vit-b",
    "swin-stage1",
    "llama-7b",
    "gemma-head",
    "gpt3",
)
QUICK_DTYPES = ("bfloat16", "float32")


@dataclass(frozen=True)
class Problem:
    """A canonical shape."""

    name: str
    norm: Norm
    shape: tuple[int, ...]
    residual: bool

    def __str__(self) -> str:
        """Its name, for ids of tests."""
        return self.name


@dataclass(frozen=True)
class Case:
    """A problem in a type and a direction: what is measured."""

    problem: Problem
    dtype: str
    direction: str

    @property
    def backward(self) -> bool:
        """Whether it is the backward pass."""
        return self.direction == "backward"

    @property
    def least_bytes(self) -> int:
        """Each tensor once."""
        return traffic.least_bytes(
            math.prod(self.problem.shape),
            ITEMSIZE[self.dtype],
            backward=self.backward,
            residual=self.problem.residual,
        )

    @property
    def label(self) -> dict[str, str]:
        """What names it in a report."""
        return {
            "shape": self.problem.name,
            "dtype": self.dtype,
            "pass": self.direction,
        }


def comma(text: str) -> list[str]:
    """Returns the names of an option that takes several, comma separated."""
    return [each for each in text.split(",") if each]


def all_problems() -> list[Problem]:
    """Returns the canonical shapes."""
    return [
        Problem(
            each.name,
            Norm(each.op, each.axes, each.groups, activation=each.activation),
            each.shape,
            each.residual,
        )
        for each in shapes.SHAPES
    ]


def all_cases(
    names: Iterable[str] | None = None,
    dtypes: Iterable[str] = DTYPES,
    directions: Iterable[str] = PASSES,
) -> list[Case]:
    """Returns the cases in the order of measurement: small ones first in each type.

    Raises:
        ValueError: a name is not that of a canonical shape.
    """
    problems = all_problems()
    if names is not None:
        known = {problem.name: problem for problem in problems}
        names = list(names)
        unknown = [name for name in names if name not in known]
        if unknown:
            raise ValueError(
                f"shapes must be among {', '.join(known)}, got {', '.join(unknown)}"
            )
        problems = [known[name] for name in names]
    problems = sorted(problems, key=lambda problem: math.prod(problem.shape))
    return [
        Case(problem, dtype, direction)
        for dtype in dtypes
        for problem in problems
        for direction in directions
    ]

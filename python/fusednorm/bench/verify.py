"""Compares everybody's outputs with float64 before anything is timed.

Float64 data is compared with the processor's long double.

The bound of an output is BOUNDS[dtype] times its largest exact magnitude (1 if that is
smaller), for everybody alike: wide enough for peers that round to the data's type on
the way, narrow enough to notice another axis, group or activation. The tests hold our
kernels to much narrower bounds (tests/bounds.py).

The slope of relu and leaky_relu jumps at 0, where a rounding decides: there dy is set
to 0, so that the slope does not matter.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from fusednorm.bench.competitors.base import Outputs
from fusednorm.bench.data import Data
from fusednorm.bench.shapes import Shape

# Eight units of the 16-bit types; float32 leaves room for long sums, plainly added.
BOUNDS = {
    "float32": 1e-3,
    "float16": 8 * 2.0**-11,
    "bfloat16": 8 * 2.0**-8,
    "float64": 1e-3 * 2.0**-29,
}
JUMPS = frozenset({"relu", "leaky_relu"})
# Larger tensors are compared in their first and last samples.
MOST_ELEMENTS = 2**26


def wide_type(dtype: Any) -> type:
    """Returns the type in which results in a type are judged."""
    return np.longdouble if np.dtype(dtype) == np.float64 else np.float64


def _sigmoid(z: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.tanh(0.5 * z))


def _silu_slope(z: np.ndarray) -> np.ndarray:
    s = _sigmoid(z)
    return s * (1 + z * (1 - s))


# name -> (function, derivative); those that the suites use
ACTIVATIONS = {
    "none": (lambda z: z, np.ones_like),
    "relu": (lambda z: np.maximum(z, 0), lambda z: (z > 0).astype(z.dtype)),
    "leaky_relu": (
        lambda z: np.where(z > 0, z, 0.2 * z),
        lambda z: np.where(z > 0, 1.0, 0.2),
    ),
    "silu": (lambda z: z * _sigmoid(z), _silu_slope),
}


class Exact:
    """The outputs of the first set of a case, in float64.

    To be made before anybody gets the tensors: it changes dy where a slope jumps.

    Attributes:
        samples: The indices along the batch that y and dx are of.
        complete: Whether these are all; dgamma and dbeta are None otherwise.
        outputs: The exact outputs of those samples.
    """

    def __init__(self, data: Data) -> None:
        case = data.case
        shape = case.shape
        batch = case.dims[0]
        sample = max(1, case.elements // max(1, batch))
        most = max(2, MOST_ELEMENTS // sample)
        self.complete = batch <= most
        self.samples = np.arange(batch)
        if not self.complete:
            self.samples = np.r_[: most // 2, batch - most // 2 : batch]
        one = data.sets[0]
        dims = (len(self.samples), *case.dims[1:])
        wide = wide_type(one.x.dtype)
        y, dx = np.empty(dims, wide), np.empty(dims, wide)
        total = np.empty(dims, one.x.dtype) if shape.residual else None
        dgamma, dbeta = (np.zeros(case.parameter_dims, wide) for _ in range(2))
        for here, there in self._chunks(sample):
            x = one.x[there]
            if total is not None:
                x = total[here] = x + one.residual[there]
            xhat, rstd = _normalized(shape, x)
            gamma = _broadcast(shape, data.gamma, x.ndim)
            z = xhat * gamma
            if data.beta is not None:
                z += _broadcast(shape, data.beta, x.ndim)
            function, derivative = ACTIVATIONS[shape.activation]
            y[here] = function(z)
            dy = one.dy[there]
            if shape.activation in JUMPS:
                dy[np.abs(z) < BOUNDS[case.dtype]] = 0
                one.dy[there] = dy
            dz = dy * derivative(z)
            dgamma += _over_rows(shape, dz * xhat)
            dbeta += _over_rows(shape, dz)
            dx[here] = _dx(shape, dz * gamma, xhat, rstd)
            if one.dsum is not None:
                dx[here] += one.dsum[there]
        self.outputs = Outputs(y, total, dx)
        if self.complete:
            self.outputs.dgamma = dgamma
            self.outputs.dbeta = dbeta if shape.centred else None
        self._bound = BOUNDS[case.dtype]
        self._wide = wide

    def _chunks(self, sample: int) -> Iterator[tuple[slice, np.ndarray]]:
        step = max(1, 2**22 // sample)
        for start in range(0, len(self.samples), step):
            here = slice(start, start + step)
            yield here, self.samples[here]

    def errors(self, got: Outputs, bound: float | None = None) -> dict[str, float]:
        """Returns the largest error of each output as a multiple of its bound.

        Args:
            got: What somebody computed.
            bound: In place of that of `BOUNDS`.
        """
        found = {}
        bound = self._bound if bound is None else bound
        for name, exact in vars(self.outputs).items():
            value = getattr(got, name)
            if value is None or exact is None:
                continue
            value = np.asarray(value)
            rows = name in ("y", "sum", "dx")
            step = max(1, len(exact) // 16) if rows else max(1, len(exact))
            worst, size = 0.0, 1.0
            for start in range(0, len(exact), step):
                wanted = exact[start : start + step].astype(self._wide)
                there = self.samples[start : start + step] if rows else slice(None)
                error = np.abs(value[there].astype(self._wide) - wanted)
                worst = np.maximum(worst, np.max(error, initial=0))  # NaN stays
                size = max(size, float(np.max(np.abs(wanted), initial=0)))
            found[name] = float(worst) / (bound * size)
        return found


def _view(
    shape: Shape, dims: tuple[int, ...]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Returns the dimensions to normalize in and which of them are reduced."""
    rank = len(dims)
    axes = tuple(sorted(axis % rank for axis in shape.axes))
    if shape.op != "group_norm":
        return dims, axes
    (channel,) = axes
    groups = dims[channel] if shape.groups == -1 else shape.groups
    split = (*dims[:channel], groups, dims[channel] // groups, *dims[channel + 1 :])
    return split, tuple(i for i in range(1, rank + 1) if i != channel)


def _normalized(shape: Shape, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    dims, reduced = _view(shape, x.shape)
    wide = x.astype(wide_type(x.dtype)).reshape(dims)
    if shape.centred:
        wide -= wide.mean(reduced, keepdims=True)
    rstd = 1 / np.sqrt(np.square(wide).mean(reduced, keepdims=True) + shape.epsilon)
    return (wide * rstd).reshape(x.shape), rstd


def _broadcast(shape: Shape, parameter: np.ndarray, rank: int) -> np.ndarray:
    axes = {axis % rank for axis in shape.axes}
    sizes = iter(parameter.shape)
    return parameter.reshape([next(sizes) if i in axes else 1 for i in range(rank)])


def _over_rows(shape: Shape, terms: np.ndarray) -> np.ndarray:
    axes = {axis % terms.ndim for axis in shape.axes}
    return terms.sum(tuple(i for i in range(terms.ndim) if i not in axes))


def _dx(
    shape: Shape, dxhat: np.ndarray, xhat: np.ndarray, rstd: np.ndarray
) -> np.ndarray:
    dims, reduced = _view(shape, dxhat.shape)
    result, xhat = dxhat.reshape(dims), xhat.reshape(dims)
    with_xhat = (result * xhat).mean(reduced, keepdims=True)
    if shape.centred:
        result = result - result.mean(reduced, keepdims=True)
    return (rstd * (result - xhat * with_xhat)).reshape(dxhat.shape)

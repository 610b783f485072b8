"""Compares everybody's outputs with float64 before anything is timed.

In NumPy, or by PyTorch on the device that has the tensors. In NumPy float64 data is
compared with the processor's long double.

The bound of an output is BOUNDS[dtype] times its largest exact magnitude (1 if that is
smaller), for everybody alike: wide enough for peers that round to the data's type on
the way, narrow enough to notice another axis, group or activation. The tests hold our
kernels to much narrower bounds (tests/support/bounds.py).

The slope of relu and leaky_relu jumps at 0, where a rounding decides: there dy is set
to 0, so that the slope does not matter.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from fusednorm.bench.cases import Case
from fusednorm.bench.competitors.base import Outputs
from fusednorm.bench.data import NUMPY_TYPES, Data, to_torch
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


class _Numpy:
    """Where the exact outputs are computed: in NumPy."""

    functions = np

    def __init__(self, case: Case) -> None:
        self._type = wide_type(NUMPY_TYPES[case.dtype])

    def wide(self, array: Any) -> np.ndarray:
        """Returns any array in the type that results are judged in."""
        return np.asarray(array).astype(self._type)


class _Torch:
    """The same on the device where PyTorch has the tensors, always in float64."""

    def __init__(self, device: str) -> None:
        import torch

        self.functions = torch
        self._device = device

    def wide(self, array: Any) -> Any:
        """Returns any array, also NumPy's, in the type that results are judged in."""
        if not isinstance(array, self.functions.Tensor):
            array = to_torch(np.asarray(array), self._device)
        return array.detach().to(self._device, self.functions.float64)


def _sigmoid(f: Any, z: Any) -> Any:
    return 0.5 * (1 + f.tanh(0.5 * z))


def _silu_slope(f: Any, z: Any) -> Any:
    s = _sigmoid(f, z)
    return s * (1 + z * (1 - s))


def _leaky_slope(f: Any, z: Any) -> Any:
    return f.where(z > 0, f.ones_like(z), 0.2 * f.ones_like(z))


# name -> (function, derivative) of NumPy or PyTorch and z; those that the suites use
ACTIVATIONS = {
    "none": (lambda f, z: z, lambda f, z: f.ones_like(z)),
    "relu": (
        lambda f, z: f.where(z > 0, z, f.zeros_like(z)),
        lambda f, z: f.where(z > 0, f.ones_like(z), f.zeros_like(z)),
    ),
    "leaky_relu": (lambda f, z: z * _leaky_slope(f, z), _leaky_slope),
    "silu": (lambda f, z: z * _sigmoid(f, z), _silu_slope),
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
        # A device has the memory and the speed to compare all.
        most = batch if data.device else max(2, MOST_ELEMENTS // sample)
        self.complete = batch <= most
        self.samples = np.arange(batch)
        if not self.complete:
            self.samples = np.r_[: most // 2, batch - most // 2 : batch]
        self._bound = BOUNDS[case.dtype]
        self._space = _Torch(data.device) if data.device else _Numpy(case)
        f = self._space.functions
        gamma = self._space.wide(data.gamma)
        beta = None if data.beta is None else self._space.wide(data.beta)
        function, derivative = ACTIVATIONS[shape.activation]
        one = data.sets[0]
        pieces = []
        dgamma = dbeta = 0.0
        for there in self._chunks(sample):
            x = one.x[there]
            if shape.residual:
                x = x + one.residual[there]
            xhat, rstd = self._normalized(shape, x)
            z = xhat * _broadcast(shape, gamma, x.ndim)
            if beta is not None:
                z = z + _broadcast(shape, beta, x.ndim)
            dy = one.dy[there]
            if shape.activation in JUMPS:
                dy[f.abs(z) < self._bound] = 0
                one.dy[there] = dy
            dz = self._space.wide(dy) * derivative(f, z)
            dgamma = dgamma + _over_rows(shape, dz * xhat)
            dbeta = dbeta + _over_rows(shape, dz)
            dx = _dx(shape, dz * _broadcast(shape, gamma, x.ndim), xhat, rstd)
            if one.dsum is not None:
                dx = dx + self._space.wide(one.dsum[there])
            pieces.append((function(f, z), x if shape.residual else None, dx))
        ys, sums, dxs = zip(*pieces, strict=True)
        total = f.concatenate(sums) if shape.residual else None
        self.outputs = Outputs(f.concatenate(ys), total, f.concatenate(dxs))
        if self.complete:
            self.outputs.dgamma = dgamma
            self.outputs.dbeta = dbeta if shape.centred else None

    def _chunks(self, sample: int) -> Iterator[np.ndarray]:
        step = max(1, 2**22 // sample)
        for start in range(0, len(self.samples), step):
            yield self.samples[start : start + step]

    def _normalized(self, shape: Shape, x: Any) -> tuple[Any, Any]:
        f = self._space.functions
        dims, reduced = _view(shape, tuple(x.shape))
        wide = self._space.wide(x).reshape(dims)
        if shape.centred:
            wide = wide - wide.mean(axis=reduced, keepdims=True)
        variance = f.square(wide).mean(axis=reduced, keepdims=True)
        rstd = 1 / f.sqrt(variance + shape.epsilon)
        return (wide * rstd).reshape(x.shape), rstd

    def errors(self, got: Outputs, bound: float | None = None) -> dict[str, float]:
        """Returns the largest error of each output as a multiple of its bound.

        Args:
            got: What somebody computed.
            bound: In place of that of `BOUNDS`.
        """
        found = {}
        bound = self._bound if bound is None else bound
        wide, f = self._space.wide, self._space.functions
        for name, exact in vars(self.outputs).items():
            value = getattr(got, name)
            if value is None or exact is None:
                continue
            rows = name in ("y", "sum", "dx")
            step = max(1, len(exact) // 16) if rows else max(1, len(exact))
            worst, size = 0.0, 1.0
            for start in range(0, len(exact), step):
                wanted = wide(exact[start : start + step])
                there = self.samples[start : start + step] if rows else slice(None)
                error = f.abs(wide(value[there]) - wanted)
                worst = np.maximum(worst, _largest(f, error))  # NaN stays
                size = max(size, _largest(f, f.abs(wanted)))
            found[name] = float(worst) / (bound * size)
        return found


def _largest(f: Any, array: Any) -> float:
    return float(f.max(array)) if math.prod(array.shape) else 0.0


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


def _broadcast(shape: Shape, parameter: Any, rank: int) -> Any:
    axes = {axis % rank for axis in shape.axes}
    sizes = iter(parameter.shape)
    return parameter.reshape([next(sizes) if i in axes else 1 for i in range(rank)])


def _over_rows(shape: Shape, terms: Any) -> Any:
    axes = {axis % terms.ndim for axis in shape.axes}
    return terms.sum(axis=tuple(i for i in range(terms.ndim) if i not in axes))


def _dx(shape: Shape, dxhat: Any, xhat: Any, rstd: Any) -> Any:
    dims, reduced = _view(shape, tuple(dxhat.shape))
    result, xhat = dxhat.reshape(dims), xhat.reshape(dims)
    with_xhat = (result * xhat).mean(axis=reduced, keepdims=True)
    if shape.centred:
        result = result - result.mean(axis=reduced, keepdims=True)
    return (rstd * (result - xhat * with_xhat)).reshape(dxhat.shape)

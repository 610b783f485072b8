"""Fresh random tensors of a case: several sets, the same ones for everybody."""

from __future__ import annotations

from dataclasses import dataclass

import ml_dtypes
import numpy as np

from fusednorm.bench import timing
from fusednorm.bench.cases import Case

NUMPY_TYPES = {
    "float32": np.dtype(np.float32),
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "float64": np.dtype(np.float64),
}


@dataclass
class TensorSet:
    """What one call works on; `residual` and `dsum` only where there is a residual."""

    x: np.ndarray
    dy: np.ndarray
    residual: np.ndarray | None = None
    dsum: np.ndarray | None = None


class Data:
    """All tensors of a case.

    Attributes:
        case: Whose.
        sets: So many that together they exceed twice the last cache.
        past_the_cache: Whether they do: tiny tensors would need too many sets.
        gamma: Float32, or float64 as the data, as is beta.
        beta: None for rms_norm.
    """

    def __init__(self, case: Case, cache_bytes: int, seed: int | None = None) -> None:
        rng = np.random.default_rng(seed)
        self.case = case
        # The smallest of the passes, so that all of them go past the cache.
        moved = case.tensor_bytes * (4 if case.shape.residual else 2)
        count = timing.number_of_sets(moved, cache_bytes)
        self.past_the_cache = timing.past_the_cache(moved, cache_bytes)
        self.sets = [_new_set(case, rng) for _ in range(count)]
        # Numbers of the data's type, which peers round them to.
        self.gamma = _rounded(rng.uniform(0.5, 1.5, case.parameter_dims), case)
        self.beta = None
        if case.shape.centred:
            self.beta = _rounded(rng.standard_normal(case.parameter_dims), case)

    @staticmethod
    def needed_bytes(case: Case, cache_bytes: int) -> int:
        """Returns a guess at the memory that measuring the case takes at most."""
        residual = case.shape.residual
        moved = case.tensor_bytes * (4 if residual else 2)
        sets = timing.number_of_sets(moved, cache_bytes)
        # Inputs in NumPy and TensorFlow, and what PyTorch keeps for backward.
        inputs = case.tensor_bytes * sets * (10 if residual else 5)
        # What Keras needs in float32 at its highest, twice: TensorFlow and malloc both
        # keep what they once had.
        return inputs + 2 * 8 * 4 * case.elements


def _rounded(values: np.ndarray, case: Case) -> np.ndarray:
    return values.astype(NUMPY_TYPES[case.dtype]).astype(_drawn_type(case))


def _drawn_type(case: Case) -> type:
    """Returns the type of random numbers and parameters."""
    return np.float64 if case.dtype == "float64" else np.float32


def _aligned(values: np.ndarray) -> np.ndarray:
    """Returns a copy that begins at a cache line, as frameworks' tensors do."""
    line = 64
    memory = np.empty(values.nbytes + line, np.uint8)
    begin = -memory.ctypes.data % line
    copy = memory[begin : begin + values.nbytes].view(values.dtype)
    copy = copy.reshape(values.shape)
    copy[...] = values
    return copy


def _new_set(case: Case, rng: np.random.Generator) -> TensorSet:
    def tensor() -> np.ndarray:
        values = rng.standard_normal(case.dims, _drawn_type(case))
        return _aligned(values.astype(NUMPY_TYPES[case.dtype], copy=False))

    made = TensorSet(tensor(), tensor())
    if case.shape.residual:
        made.residual, made.dsum = tensor(), tensor()
    return made

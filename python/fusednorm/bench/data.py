"""Fresh random tensors of a case: several sets, the same ones for everybody."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

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
    """What one call works on; `residual` and `dsum` only where there is a residual.

    NumPy arrays, or PyTorch's tensors where they were made on a device.
    """

    x: Any
    dy: Any
    residual: Any = None
    dsum: Any = None


class Data:
    """All tensors of a case.

    Attributes:
        case: Whose.
        device: PyTorch's, where the sets are; None where they are NumPy's.
        sets: So many that together they exceed twice the last cache.
        past_the_cache: Whether they do: tiny tensors would need too many sets.
        gamma: Float32, or float64 as the data, as is beta.
        beta: None for rms_norm.
    """

    def __init__(
        self,
        case: Case,
        cache_bytes: int,
        seed: int | None = None,
        *,
        device: str | None = None,
    ) -> None:
        """Draws the tensors.

        Args:
            case: Whose.
            cache_bytes: Of the last cache.
            seed: None: other numbers each time.
            device: Where PyTorch makes x, dy and the others; None: NumPy does.
        """
        rng = np.random.default_rng(seed)
        self.case = case
        self.device = device
        # The smallest of the passes, so that all of them go past the cache.
        moved = case.tensor_bytes * (4 if case.shape.residual else 2)
        count = timing.number_of_sets(moved, cache_bytes)
        self.past_the_cache = timing.past_the_cache(moved, cache_bytes)
        tensor = _drawn(case, rng) if device is None else _drawn_on(case, device)
        self.sets = [_new_set(case, tensor) for _ in range(count)]
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


def _drawn(case: Case, rng: np.random.Generator) -> Callable[[], np.ndarray]:
    def tensor() -> np.ndarray:
        values = rng.standard_normal(case.dims, _drawn_type(case))
        return _aligned(values.astype(NUMPY_TYPES[case.dtype], copy=False))

    return tensor


def _drawn_on(case: Case, device: str) -> Callable[[], Any]:
    import torch

    drawn = getattr(torch, _drawn_type(case).__name__)
    wanted = getattr(torch, case.dtype)
    return lambda: torch.randn(case.dims, dtype=drawn, device=device).to(wanted)


def _new_set(case: Case, tensor: Callable[[], Any]) -> TensorSet:
    made = TensorSet(tensor(), tensor())
    if case.shape.residual:
        made.residual, made.dsum = tensor(), tensor()
    return made


def to_numpy(tensor: Any) -> np.ndarray:
    """Returns a tensor of a set as a NumPy array, in its own type."""
    if isinstance(tensor, np.ndarray):
        return tensor
    import torch

    tensor = tensor.detach()
    if tensor.dtype == torch.bfloat16:
        # NumPy's bfloat16 is not one that PyTorch knows.
        return tensor.view(torch.int16).cpu().numpy().view(ml_dtypes.bfloat16)
    return tensor.cpu().numpy()


def to_torch(array: Any, device: str) -> Any:
    """Returns what is in a set as PyTorch's tensor, without a copy where it can."""
    import torch

    if not isinstance(array, np.ndarray):
        return array.to(device)
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16).to(device)
    return torch.from_numpy(array).to(device)

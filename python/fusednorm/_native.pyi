"""The norm kernels without TensorFlow: on NumPy arrays, and in `cuda` on GPUs.

tests/packaging/test_typing.py compares this with the module.
"""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

_Op = Literal["group_norm", "layer_norm", "rms_norm"]
_Activation = Literal[
    "none", "relu", "leaky_relu", "silu", "gelu", "gelu_tanh", "tanh", "sigmoid"
]
_Isa = Literal["auto", "baseline", "avx2", "avx512"]
_DType = Literal["float32", "float16", "bfloat16", "float64"]
_Array = np.ndarray

def forward(
    op: _Op,
    x: _Array,
    gamma: _Array | None = None,
    beta: _Array | None = None,
    residual: _Array | None = None,
    *,
    axes: Sequence[int],
    groups: int = 0,
    epsilon: float,
    activation: _Activation = "none",
    zero_centered: bool = False,
    per_sample: bool = False,
    per_position: bool = False,
    mask: _Array | None = None,
    num_threads: int = 1,
    isa: _Isa = "auto",
) -> tuple[_Array, _Array | None, _Array | None, _Array]: ...
def backward(
    op: _Op,
    dy: _Array,
    x: _Array,
    mean: _Array | None,
    rstd: _Array,
    gamma: _Array | None = None,
    beta: _Array | None = None,
    dsum: _Array | None = None,
    dmean: _Array | None = None,
    drstd: _Array | None = None,
    *,
    axes: Sequence[int],
    groups: int = 0,
    epsilon: float,
    activation: _Activation = "none",
    zero_centered: bool = False,
    per_sample: bool = False,
    per_position: bool = False,
    mask: _Array | None = None,
    num_threads: int = 1,
    isa: _Isa = "auto",
) -> tuple[_Array, _Array | None, _Array | None]: ...
def second_order(
    op: _Op,
    dy: _Array,
    x: _Array,
    mean: _Array | None,
    rstd: _Array,
    ddx: _Array,
    gamma: _Array | None = None,
    ddgamma: _Array | None = None,
    ddbeta: _Array | None = None,
    drstd: _Array | None = None,
    *,
    axes: Sequence[int],
    groups: int = 0,
    epsilon: float,
    zero_centered: bool = False,
    per_sample: bool = False,
    num_threads: int = 1,
    isa: _Isa = "auto",
) -> tuple[_Array, _Array, _Array | None, _Array | None, _Array]: ...
def signatures() -> dict[str, dict[str, Any]]: ...
def isa() -> str: ...
def isas() -> list[str]: ...
def plan(
    op: _Op,
    shape: Sequence[int],
    dtype: _DType,
    *,
    axes: Sequence[int],
    groups: int = 0,
    epsilon: float = 1e-3,
    activation: _Activation = "none",
    zero_centered: bool = False,
    per_sample: bool = False,
    per_position: bool = False,
    has_gamma: bool = False,
    has_beta: bool = False,
    has_mask: bool = False,
    residual: bool = False,
    param_dtype: _DType | Literal["auto"] = "auto",
    device: str | dict[str, Any],
    direction: Literal["forward", "backward", "second_order"] = "forward",
    aligned: bool = True,
    params: bool = True,
) -> dict[str, Any]: ...
def candidates(
    op: _Op,
    shape: Sequence[int],
    dtype: _DType,
    *,
    axes: Sequence[int],
    groups: int = 0,
    epsilon: float = 1e-3,
    activation: _Activation = "none",
    zero_centered: bool = False,
    per_sample: bool = False,
    per_position: bool = False,
    has_gamma: bool = False,
    has_beta: bool = False,
    has_mask: bool = False,
    residual: bool = False,
    param_dtype: _DType | Literal["auto"] = "auto",
    device: str | dict[str, Any],
    direction: Literal["forward", "backward", "second_order"] = "forward",
    aligned: bool = True,
    params: bool = True,
) -> list[dict[str, Any]]: ...
def tuned(
    op: _Op,
    shape: Sequence[int],
    dtype: _DType,
    *,
    axes: Sequence[int],
    groups: int = 0,
    epsilon: float = 1e-3,
    activation: _Activation = "none",
    zero_centered: bool = False,
    per_sample: bool = False,
    per_position: bool = False,
    has_gamma: bool = False,
    has_beta: bool = False,
    has_mask: bool = False,
    residual: bool = False,
    param_dtype: _DType | Literal["auto"] = "auto",
    device: str | dict[str, Any],
    direction: Literal["forward", "backward", "second_order"] = "forward",
    aligned: bool = True,
    params: bool = True,
) -> dict[str, Any] | None: ...
def tuned_key(
    op: _Op,
    shape: Sequence[int],
    dtype: _DType,
    *,
    axes: Sequence[int],
    groups: int = 0,
    epsilon: float = 1e-3,
    activation: _Activation = "none",
    zero_centered: bool = False,
    per_sample: bool = False,
    per_position: bool = False,
    has_gamma: bool = False,
    has_beta: bool = False,
    has_mask: bool = False,
    residual: bool = False,
    param_dtype: _DType | Literal["auto"] = "auto",
    device: str | dict[str, Any],
    direction: Literal["forward", "backward", "second_order"] = "forward",
    aligned: bool = True,
    params: bool = True,
) -> str: ...
def tuned_table() -> dict[str, Any]: ...
def set_tuned_table(path: str, text: str) -> None: ...
def reload_tuned_table() -> None: ...
def known_devices() -> dict[str, dict[str, Any]]: ...
def cuda_devices() -> list[dict[str, Any]]: ...

# A module, which a stub of one file can only spell as a class. Its tensors are those of
# anything that speaks DLPack.
class cuda:  # noqa: N801
    class Tensor:
        def __init__(self, array: Any, *, stream: int | None = None) -> None: ...
        @property
        def shape(self) -> tuple[int, ...]: ...
        @property
        def dtype(self) -> _DType: ...
        @property
        def device(self) -> int: ...
        def __dlpack__(
            self,
            *,
            stream: int | None = None,
            max_version: tuple[int, int] | None = None,
            dl_device: tuple[int, int] | None = None,
            copy: bool | None = None,
        ) -> Any: ...
        def __dlpack_device__(self) -> tuple[int, int]: ...

    @staticmethod
    def devices() -> list[dict[str, Any]]: ...
    @staticmethod
    def first_device() -> dict[str, Any]: ...
    @staticmethod
    def forward(
        op: _Op,
        x: Any,
        gamma: Any = None,
        beta: Any = None,
        residual: Any = None,
        *,
        axes: Sequence[int],
        groups: int = 0,
        epsilon: float,
        activation: _Activation = "none",
        zero_centered: bool = False,
        per_sample: bool = False,
        per_position: bool = False,
        mask: Any = None,
        stream: int | None = None,
        out: Sequence[Any] | None = None,
    ) -> tuple[Any, ...]: ...
    @staticmethod
    def backward(
        op: _Op,
        dy: Any,
        x: Any,
        mean: Any,
        rstd: Any,
        gamma: Any = None,
        beta: Any = None,
        dsum: Any = None,
        dmean: Any = None,
        drstd: Any = None,
        *,
        axes: Sequence[int],
        groups: int = 0,
        epsilon: float,
        activation: _Activation = "none",
        zero_centered: bool = False,
        per_sample: bool = False,
        per_position: bool = False,
        mask: Any = None,
        params: bool = True,
        stream: int | None = None,
        out: Sequence[Any] | None = None,
    ) -> tuple[Any, ...]: ...
    @staticmethod
    def second_order(
        op: _Op,
        dy: Any,
        x: Any,
        mean: Any,
        rstd: Any,
        ddx: Any,
        gamma: Any = None,
        ddgamma: Any = None,
        ddbeta: Any = None,
        drstd: Any = None,
        *,
        axes: Sequence[int],
        groups: int = 0,
        epsilon: float,
        zero_centered: bool = False,
        per_sample: bool = False,
        params: bool = True,
        stream: int | None = None,
        out: Sequence[Any] | None = None,
    ) -> tuple[Any, ...]: ...

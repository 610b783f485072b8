"""Makes the competitors of a case, and says of each that cannot be made why."""

from __future__ import annotations

import importlib
import importlib.metadata
from collections.abc import Callable, Iterable
from typing import Any

from fusednorm import info
from fusednorm.bench import torch_functions
from fusednorm.bench.competitors import base
from fusednorm.bench.competitors.base import AbsentError, Competitor
from fusednorm.bench.data import Data
from fusednorm.bench.machines import Machine
from fusednorm.bench.records import BUILTIN, one_line

# Larger tensors make the overhead of an eager call invisible.
SMALL_BYTES = 2**20
_MODULES = {
    "torch": "torch",
    "torch-compile": "torch",
    "liger": "liger_kernel",
    "quack": "quack",
    "keras-graph": "keras",
    "keras-xla": "keras",
    "tf_keras": "tf_keras",
}
_DISTRIBUTIONS = {
    "liger_kernel": "liger-kernel",
    "quack": "quack-kernels",
    "tf_keras": "tf_keras",
}


def versions(peers: Iterable[str]) -> dict[str, str]:
    """Returns the version of each peer, or "missing: why"."""
    found = {}
    for name in peers:
        module = _MODULES[name]
        try:
            with info.quiet_standard_error():
                importlib.import_module(module)
            found[name] = importlib.metadata.version(_DISTRIBUTIONS.get(module, module))
        except Exception as error:  # A broken installation raises anything.
            found[name] = f"missing: {one_line(error)}"
    return found


class Field:
    """The competitors of one case.

    Attributes:
        competitors: Those that can compute it.
        absent: Name -> why, of those that cannot.
    """

    def __init__(self, data: Data, machine: Machine, peers: dict[str, str]) -> None:
        self.competitors: list[Competitor] = []
        self.absent: dict[str, str] = {}
        self._data = data
        self._machine = machine
        self._tensorflow: Any = None
        self._torch: Any = None
        small = data.case.tensor_bytes <= SMALL_BYTES
        self._add(base.KERNEL, self._kernel)
        self._add(base.GRAPH, lambda: self._in_tensorflow().graph(self._tensorflow))
        self._add(base.XLA, lambda: self._in_tensorflow().xla(self._tensorflow))
        if small:
            self._add(base.EAGER, lambda: self._in_tensorflow().eager(self._tensorflow))
            self._add(BUILTIN, lambda: self._in_tensorflow().builtin(self._tensorflow))
        for name, version in peers.items():
            if version.startswith("missing"):
                self.absent[name] = version
                continue
            for one in (name, "torch-instance-norm") if name == "torch" else (name,):
                self._add(one, lambda one=one: self._peer(one))
        # Of no interest where it does not apply.
        for name in (BUILTIN, "torch-instance-norm"):
            self.absent.pop(name, None)

    def _add(self, name: str, make: Callable[[], Competitor]) -> None:
        try:
            self.competitors.append(make())
        except AbsentError as error:
            self.absent[name] = str(error)
        except Exception as error:  # One that fails is a result, not the end.
            self.absent[name] = f"failed: {type(error).__name__}: {error}".splitlines()[
                0
            ]

    def drop(self, name: str, why: str) -> None:
        """Takes a competitor out that turned out not to work."""
        self.competitors = [each for each in self.competitors if each.name != name]
        self.absent[name] = why

    def _kernel(self) -> Competitor:
        if self._machine.is_gpu:
            return self._in_torch().cuda_kernel(self._torch)
        from fusednorm.bench.competitors import native

        return native.kernel(self._data, self._machine.threads)

    def _in_tensorflow(self) -> Any:
        from fusednorm.bench.competitors import tensorflow

        if self._tensorflow is None:
            self._tensorflow = tensorflow.Tensors(
                self._data, self._machine.tensorflow_device
            )
        return tensorflow

    def _in_torch(self) -> Any:
        from fusednorm.bench.competitors import pytorch

        if self._torch is None:
            self._torch = pytorch.Tensors(self._data, self._machine.torch_device)
        return pytorch

    def _peer(self, name: str) -> Competitor:
        if name in ("keras-graph", "keras-xla", "tf_keras"):
            module = self._in_tensorflow()
            make = module.tf_keras if name == "tf_keras" else module.keras
            norm = make(self._tensorflow)
            return module.in_graph(
                name, norm, self._tensorflow, xla=name == "keras-xla"
            )
        module = self._in_torch()
        if name == "torch-instance-norm":
            return module.instance_norm(self._torch)
        if name == "torch":
            if self._machine.is_gpu:
                return module.by_autograd(name, self._torch, torch_functions.eager)
            return module.eager(self._torch)
        make = {
            "torch-compile": torch_functions.compiled,
            "liger": torch_functions.liger,
            "quack": torch_functions.quack,
        }[name]
        wide = name in torch_functions.WANTS_FLOAT32_PARAMETERS
        return module.by_autograd(name, self._torch, make, wide=wide)

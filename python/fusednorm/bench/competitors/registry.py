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
    "keras-eager": "keras",
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
            found[name] = _version(_DISTRIBUTIONS.get(module, module))
        except Exception as error:  # A broken installation raises anything.
            found[name] = f"missing: {one_line(error)}"
    return found


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "unknown version"


class Field:
    """The competitors of one case.

    Attributes:
        competitors: Those that can compute it.
        absent: Name -> why, of those that cannot.
    """

    def __init__(
        self,
        data: Data,
        machine: Machine,
        peers: dict[str, str],
        *,
        kernels: bool = True,
        layers: bool = True,
    ) -> None:
        """Makes everybody.

        Args:
            data: The case and its tensors.
            machine: Where.
            peers: Name -> version, or "missing: why".
            kernels: Whether ours take part as kernels called from Python.
            layers: Whether ours take part as layers of TensorFlow.
        """
        self.competitors: list[Competitor] = []
        self.absent: dict[str, str] = {}
        self._data = data
        self._machine = machine
        self._tensorflow: Any = None
        self._torch: Any = None
        small = data.case.tensor_bytes <= SMALL_BYTES
        if kernels:
            self._add(base.KERNEL, self._kernel)
        if layers:
            self._of_tensorflow(base.GRAPH)
            self._of_tensorflow(base.XLA)
        if layers and small:
            self._of_tensorflow(base.EAGER)
            self._of_tensorflow(BUILTIN)
        for name, version in peers.items():
            if version.startswith("missing"):
                self.absent[name] = version
                continue
            if name == "keras-eager" and not small:
                continue
            # On a GPU `torch` itself is that function.
            more = name == "torch" and not machine.is_gpu
            for one in (name, "torch-instance-norm") if more else (name,):
                self._add(one, lambda one=one: self._peer(one))
        # Of no interest where it does not apply.
        for name in (BUILTIN, "torch-instance-norm"):
            self.absent.pop(name, None)

    def _of_tensorflow(self, name: str) -> None:
        module_names = {
            base.GRAPH: "graph",
            base.XLA: "xla",
            base.EAGER: "eager",
            BUILTIN: "builtin",
        }

        def make() -> Competitor:
            module = self._in_tensorflow()
            return getattr(module, module_names[name])(self._tensorflow)

        self._add(name, make)

    def _add(self, name: str, make: Callable[[], Competitor]) -> None:
        try:
            self.competitors.append(make())
        except AbsentError as error:
            self.absent[name] = str(error)
        except ImportError as error:
            self.absent[name] = f"missing: {one_line(error)}"
        except Exception as error:  # One that fails is a result, not the end.
            self.absent[name] = f"failed: {one_line(error)}"

    def drop(self, name: str, why: str) -> None:
        """Takes a competitor out that turned out not to work."""
        self.competitors = [each for each in self.competitors if each.name != name]
        self.absent[name] = why

    def _kernel(self) -> Competitor:
        if self._machine.is_gpu:
            if self._data.device is None:
                raise AbsentError("missing: PyTorch with CUDA, which times kernels")
            from fusednorm.bench.competitors import cuda

            self._in_torch()
            return cuda.kernel(self._torch)
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
        if name == "keras-eager":
            return self._in_tensorflow().keras_eager(self._tensorflow)
        if name in base.LAYER_PEERS:
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
        made = module.by_autograd(name, self._torch, make, wide=wide)
        if name == "quack" and self._data.case.shape.op == "layer_norm":
            made.both = made.backward = None
            made.notes.append("no backward")
        return made

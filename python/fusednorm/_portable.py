"""Which ops the norms run as: the fused ones, or plain TensorFlow ops."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator
from types import ModuleType

from fusednorm import _compat, _composition, _library

_inside = contextvars.ContextVar("fusednorm.portable", default=False)


@contextlib.contextmanager
def portable() -> Iterator[None]:
    """Context manager in which the functions and layers run as plain TensorFlow ops.

    A model that is exported in it needs nothing of fusednorm to run: a SavedModel does
    without our op library, and TFLite and ONNX know all ops. The results and gradients
    are the same within the error bounds, but take more ops and more memory.

    It is in effect for calls and for the tracing of functions in this thread. A
    `tf.function` keeps the ops that it was traced with, inside and outside of the
    context: if you have called a function of your own before, make it anew. The export
    functions of Keras trace the model anew by themselves.

    It is also a decorator. To make single layers portable, set `layer.portable = True`
    or create them with `portable=True`. For the whole process, set
    `FUSEDNORM_DISABLE=1` in the environment before `import fusednorm`.

    Example:
    ```python
    with fusednorm.portable():
        model.export("exported_model")
    ```
    """
    token = _inside.set(True)
    try:
        yield
    finally:
        _inside.reset(token)


def op_wrappers(portable: bool = False) -> ModuleType:
    """Returns the module with a function for each norm, named as its fused op.

    Args:
        portable: Whether the caller wants plain TensorFlow ops wherever it is called.
    """
    if portable or _is_portable():
        return _composition.norms
    return _library.load_op_library()


def supports_xla() -> bool:
    """Returns whether XLA can compile these ops for all devices of this process."""
    return _is_portable() or _library.supports_xla()


def _is_portable() -> bool:
    return _inside.get() or _compat.OPS_DISABLED

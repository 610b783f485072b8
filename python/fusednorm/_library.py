"""Loads the shared library with the TensorFlow ops, once."""

from __future__ import annotations

import functools
import threading
from pathlib import Path
from types import ModuleType

import tensorflow as tf
from tensorflow.python.framework.kernels import get_registered_kernels_for_op

from fusednorm import _compat, gradients, vectorization
from fusednorm._signatures import later_inputs

_lock = threading.Lock()
_library: ModuleType | None = None


def library_path() -> Path:
    """Returns where the op library lies: beside the build's `_build_info.py`."""
    return Path(_compat.build_info().__file__).with_name("libfusednorm_ops.so")


def load_op_library() -> ModuleType:
    """Loads the TensorFlow ops and registers their gradients.

    `import fusednorm` does it where it can. Call it yourself to be told why it could
    not, before a SavedModel is loaded that has the ops, say. Safe to call from several
    threads, and cheap when called again.

    Returns:
        The module of generated op wrappers, with the functions
        `fusednorm_group_norm`, `fusednorm_layer_norm`, `fusednorm_rms_norm` and
        `fusednorm_..._grad`.

    Raises:
        ImportError: if the library is missing, TensorFlow cannot load it, or
            FUSEDNORM_DISABLE is set in the environment.

    Example:
    ```python
    import fusednorm
    import tensorflow as tf

    fusednorm.load_op_library()
    served = tf.saved_model.load("exported_model")
    ```
    """
    global _library
    if _library is None:
        with _lock:
            if _library is None:
                _library = _load(library_path())
    return _library


def xla_devices() -> set[str]:
    """Returns the types of devices, "CPU" and "GPU", for which XLA has our kernels."""
    load_op_library()
    types = {
        kernel.device_type
        for kernel in get_registered_kernels_for_op("Fusednorm>GroupNorm").kernel
    }
    return {device for device in ("CPU", "GPU") if f"XLA_{device}_JIT" in types}


def supports_xla() -> bool:
    """Returns whether XLA can compile the ops for all devices of this process."""
    return {each.device_type for each in tf.config.get_visible_devices()} <= (
        xla_devices()
    )


# While a function is traced, AutoGraph would try to convert what this calls, and warn
# of what it cannot.
@tf.autograph.experimental.do_not_convert
def _load(path: Path) -> ModuleType:
    if _compat.OPS_DISABLED:
        raise ImportError(
            "fusednorm's op library is switched off by FUSEDNORM_DISABLE in the "
            "environment; its functions and layers run as plain TensorFlow ops."
        )
    if not path.is_file():
        raise ImportError(
            f"fusednorm's op library is missing: {path}. Reinstall the package; in "
            "a source checkout:\n    pip install --force-reinstall --no-deps ."
        )
    try:
        library = tf.load_op_library(str(path))
    except (tf.errors.OpError, RuntimeError) as error:
        raise ImportError(
            f"TensorFlow {tf.__version__} could not load fusednorm's op library "
            f"{path}, which was built against TensorFlow "
            f"{_compat.build_info().TENSORFLOW_VERSION}. Rebuild it in a source "
            "checkout with:\n"
            "    pip install --no-cache-dir --force-reinstall --no-deps .\n"
            f"TensorFlow says: {error}"
        ) from error
    # As in a SavedModel from before, such an input is absent where nobody speaks of it.
    for name, inputs in later_inputs().items():
        wrapper = getattr(library, name)
        absent = functools.partial(wrapper, **dict.fromkeys(inputs, ()))
        setattr(library, name, functools.update_wrapper(absent, wrapper))
    gradients.register(library)
    vectorization.register(library)
    return library

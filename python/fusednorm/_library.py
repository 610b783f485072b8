"""Loads the shared library with the TensorFlow ops: once, on first use."""

from __future__ import annotations

import importlib
import threading
from pathlib import Path
from types import ModuleType

import tensorflow as tf

from fusednorm import _compat

_lock = threading.Lock()
_library: ModuleType | None = None


def library_path() -> Path:
    """Returns where the op library lies: beside the build's `_build_info.py`."""
    return Path(_compat.build_info().__file__).with_name("libfusednorm_ops.so")


def load_op_library() -> ModuleType:
    """Loads the TensorFlow ops and registers their gradients.

    Called by every function of the package that needs the ops; call it yourself
    only to load a SavedModel that contains them without using fusednorm's
    layers or functions. Safe to call from several threads, and cheap when called
    again.

    Returns:
        The module of generated op wrappers, with the functions
        `fusednorm_group_norm`, `fusednorm_layer_norm`, `fusednorm_rms_norm` and
        `fusednorm_..._grad`.

    Raises:
        ImportError: if the library is missing, or TensorFlow cannot load it.

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


def _load(path: Path) -> ModuleType:
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
    importlib.import_module("fusednorm.gradients")
    importlib.import_module("fusednorm.vectorization")
    return library

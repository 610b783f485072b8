"""Fused normalization layers for TensorFlow and Keras 3.

GroupNorm, InstanceNorm, LayerNorm and RMSNorm, each one op forward and one
backward, with the scale and offset, an activation and a residual add inside.

Example:
```python
import fusednorm

layer = fusednorm.GroupNormalization(groups=8, activation="silu")
y = fusednorm.layer_norm(x, gamma, beta, axis=-1)
```

`fusednorm._native`, the same kernels on NumPy arrays, and `fusednorm.doctor` need no
TensorFlow; all other names do.
"""

from __future__ import annotations

import contextlib
import importlib
from typing import TYPE_CHECKING, Any

from fusednorm import _compat
from fusednorm._compat import build_info
from fusednorm._doctor import doctor

if TYPE_CHECKING:
    from fusednorm import layers, ops
    from fusednorm._library import load_op_library
    from fusednorm._portable import portable
    from fusednorm.conversion import (
        convert,
        custom_objects,
        patch_keras,
        register_conversion,
        torch_weights,
        unconvert,
    )
    from fusednorm.layers import (
        AdaptiveGroupNormalization,
        FilterResponseNormalization,
        GroupNormalization,
        InstanceNormalization,
        LayerNormalization,
        RMSNormalization,
    )
    from fusednorm.ops import group_norm, instance_norm, layer_norm, rms_norm

__all__ = [
    "AdaptiveGroupNormalization",
    "FilterResponseNormalization",
    "GroupNormalization",
    "InstanceNormalization",
    "LayerNormalization",
    "RMSNormalization",
    "__version__",
    "convert",
    "custom_objects",
    "doctor",
    "group_norm",
    "instance_norm",
    "layer_norm",
    "layers",
    "load_op_library",
    "ops",
    "patch_keras",
    "portable",
    "register_conversion",
    "rms_norm",
    "torch_weights",
    "unconvert",
]
__version__ = build_info().VERSION

# Where the names are that need TensorFlow.
_MODULES = {
    **dict.fromkeys(
        ("group_norm", "instance_norm", "layer_norm", "rms_norm"), "fusednorm.ops"
    ),
    **dict.fromkeys(
        (
            "AdaptiveGroupNormalization",
            "FilterResponseNormalization",
            "GroupNormalization",
            "InstanceNormalization",
            "LayerNormalization",
            "RMSNormalization",
        ),
        "fusednorm.layers",
    ),
    **dict.fromkeys(
        (
            "convert",
            "custom_objects",
            "patch_keras",
            "register_conversion",
            "torch_weights",
            "unconvert",
        ),
        "fusednorm.conversion",
    ),
    "layers": "fusednorm.layers",
    "load_op_library": "fusednorm._library",
    "ops": "fusednorm.ops",
    "portable": "fusednorm._portable",
}


def _load(name: str) -> Any:
    module = importlib.import_module(_MODULES[name])
    return globals().setdefault(name, getattr(module, name, module))


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    _compat.check_tensorflow(f"fusednorm.{name}")
    return _load(name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})


# At once, so that the layers are registered with Keras and the ops with TensorFlow:
# `import fusednorm` must do for `keras.models.load_model` and `tf.saved_model.load`. A
# build without TensorFlow has none, whatever is installed, unless they can do without
# its ops.
if (
    (build_info().TENSORFLOW_VERSION is not None or _compat.OPS_DISABLED)
    and _compat.tensorflow_version() is not None
    and not _compat.running_as_command()
):
    _compat.check_tensorflow("fusednorm")
    for _name in _MODULES:
        _load(_name)
    # A library that is missing or does not load is an error where it is needed.
    with contextlib.suppress(ImportError):
        globals()["load_op_library"]()

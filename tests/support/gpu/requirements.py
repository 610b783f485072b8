"""What the modules of this folder need, and what is missing where they skip."""

import importlib


def missing_torch():
    """Returns why PyTorch cannot be used here, or None."""
    try:
        importlib.import_module("torch")
    except ImportError as error:
        return f"GPU tests: no PyTorch: {error}"
    return None


def missing():
    """Returns why the kernels cannot run on a GPU here, or None."""
    if reason := missing_torch():
        return reason
    if not importlib.import_module("torch").cuda.is_available():
        return "GPU tests: no CUDA device that PyTorch can use"
    try:
        native = importlib.import_module("fusednorm._native")
    except ImportError as error:
        return f"GPU tests: no fusednorm._native: {error}"
    if not native.cuda_devices():
        return "GPU tests: fusednorm._native was built without CUDA, or sees no device"
    return None

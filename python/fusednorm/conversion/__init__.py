"""From other layers to ours and back: models, saved files, PyTorch's weights."""

from fusednorm.conversion.convert import convert, unconvert
from fusednorm.conversion.names import custom_objects
from fusednorm.conversion.patch import patch_keras
from fusednorm.conversion.pytorch import torch_weights
from fusednorm.conversion.registry import register_conversion

__all__ = [
    "convert",
    "custom_objects",
    "patch_keras",
    "register_conversion",
    "torch_weights",
    "unconvert",
]

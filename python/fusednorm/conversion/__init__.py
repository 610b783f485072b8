"""From other layers to ours and back: models, saved files, PyTorch's weights."""

from fusednorm.conversion.convert import convert, unconvert
from fusednorm.conversion.names import custom_objects
from fusednorm.conversion.patch import patch_keras
from fusednorm.conversion.pytorch import torch_weights

__all__ = [
    "convert",
    "custom_objects",
    "patch_keras",
    "torch_weights",
    "unconvert",
]

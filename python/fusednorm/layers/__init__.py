"""Keras 3 layers whose forward and backward are one op each."""

from fusednorm.layers.adaptive_group_normalization import AdaptiveGroupNormalization
from fusednorm.layers.filter_response_normalization import (
    FilterResponseNormalization,
)
from fusednorm.layers.group_normalization import GroupNormalization
from fusednorm.layers.instance_normalization import InstanceNormalization
from fusednorm.layers.layer_normalization import LayerNormalization
from fusednorm.layers.rms_normalization import RMSNormalization

__all__ = [
    "AdaptiveGroupNormalization",
    "FilterResponseNormalization",
    "GroupNormalization",
    "InstanceNormalization",
    "LayerNormalization",
    "RMSNormalization",
]

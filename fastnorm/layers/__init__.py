"""The stateful side of the package: one class per norm, with PyTorch's parameters and state dict names."""

from .base import IncompatibleKeys, Layer
from .batch import BatchNorm
from .conditional import AdaptiveInstanceNorm, AdaptiveLayerNorm, FiLM
from .group import GroupNorm
from .instance import InstanceNorm
from .layer import LayerNorm
from .rms import RMSNorm
from .switchable import SwitchableNorm
from .variance_only import SimpleLayerNorm, VarianceOnlyBatchNorm, VarianceOnlyLayerNorm

__all__ = [
    "AdaptiveInstanceNorm",
    "AdaptiveLayerNorm",
    "BatchNorm",
    "FiLM",
    "GroupNorm",
    "IncompatibleKeys",
    "InstanceNorm",
    "Layer",
    "LayerNorm",
    "RMSNorm",
    "SimpleLayerNorm",
    "SwitchableNorm",
    "VarianceOnlyBatchNorm",
    "VarianceOnlyLayerNorm",
]

"""The stateful side of the package: one class per norm, with PyTorch's parameters and state dict names."""

from .base import IncompatibleKeys, Layer
from .batch import BatchNorm
from .conditional import AdaptiveInstanceNorm, AdaptiveLayerNorm, FiLM
from .cosine import CosineLinear
from .deep import DeepNorm
from .dynamic_tanh import DynamicTanh
from .evo import EvoNormB0, EvoNormS0
from .filter_response import FilterResponseNorm
from .frozen import FrozenBatchNorm
from .gated import GatedRMSNorm
from .ghost import GhostBatchNorm
from .group import GroupNorm
from .heads import QKNorm
from .instance import InstanceNorm
from .layer import LayerNorm
from .local_response import LocalResponseNorm
from .renorm import BatchRenorm
from .response import GlobalResponseNorm
from .rms import RMSNorm
from .spectral import SpectralNorm
from .switchable import SwitchableNorm
from .variance_only import SimpleLayerNorm, VarianceOnlyBatchNorm, VarianceOnlyLayerNorm
from .vectors import Normalize, ScaleNorm
from .weight import WeightNorm, WeightStandardization
from .whitening import DecorrelatedBatchNorm, IterNorm

__all__ = [
    "AdaptiveInstanceNorm",
    "AdaptiveLayerNorm",
    "BatchNorm",
    "BatchRenorm",
    "CosineLinear",
    "DecorrelatedBatchNorm",
    "DeepNorm",
    "DynamicTanh",
    "EvoNormB0",
    "EvoNormS0",
    "FiLM",
    "FilterResponseNorm",
    "FrozenBatchNorm",
    "GatedRMSNorm",
    "GhostBatchNorm",
    "GlobalResponseNorm",
    "GroupNorm",
    "IncompatibleKeys",
    "InstanceNorm",
    "IterNorm",
    "Layer",
    "LayerNorm",
    "LocalResponseNorm",
    "Normalize",
    "QKNorm",
    "RMSNorm",
    "ScaleNorm",
    "SimpleLayerNorm",
    "SpectralNorm",
    "SwitchableNorm",
    "VarianceOnlyBatchNorm",
    "VarianceOnlyLayerNorm",
    "WeightNorm",
    "WeightStandardization",
]

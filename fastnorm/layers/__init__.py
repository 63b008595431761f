"""The stateful side of the package, with PyTorch's parameters and state dict names; the classic norms are named here."""

from .base import IncompatibleKeys, Layer
from .batch import BatchNorm
from .group import GroupNorm
from .instance import InstanceNorm
from .layer import LayerNorm
from .rms import RMSNorm

__all__ = [
    "BatchNorm",
    "GroupNorm",
    "IncompatibleKeys",
    "InstanceNorm",
    "Layer",
    "LayerNorm",
    "RMSNorm",
]

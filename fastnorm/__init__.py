"""Normalization kernels for the CPU: fast, exact, on any layout."""

from ._threads import get_num_threads, num_threads, set_num_threads
from ._warmup import warmup
from .functional import (
    Gradients,
    add_layer_norm,
    add_rms_norm,
    batch_norm,
    batch_norm_backward,
    group_norm,
    group_norm_backward,
    instance_norm,
    instance_norm_backward,
    layer_norm,
    layer_norm_backward,
    layer_norm_int8,
    rms_norm,
    rms_norm_backward,
    rms_norm_int8,
)
from .layers import BatchNorm, GroupNorm, InstanceNorm, LayerNorm, RMSNorm

__version__ = "0.1.0"

__all__ = [
    "BatchNorm",
    "Gradients",
    "GroupNorm",
    "InstanceNorm",
    "LayerNorm",
    "RMSNorm",
    "add_layer_norm",
    "add_rms_norm",
    "batch_norm",
    "batch_norm_backward",
    "get_num_threads",
    "group_norm",
    "group_norm_backward",
    "instance_norm",
    "instance_norm_backward",
    "layer_norm",
    "layer_norm_backward",
    "layer_norm_int8",
    "num_threads",
    "rms_norm",
    "rms_norm_backward",
    "rms_norm_int8",
    "set_num_threads",
    "warmup",
]

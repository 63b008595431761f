"""The public functions, one file per family of norms: the classic norms' are named here, the others' in `family.py`."""

from ._flow.backward import Gradients
from .batch import batch_norm, batch_norm_backward
from .group import group_norm, group_norm_backward
from .instance import instance_norm, instance_norm_backward
from .layer import layer_norm, layer_norm_backward
from .quantized import layer_norm_int8, rms_norm_int8
from .residual import add_layer_norm, add_rms_norm
from .rms import rms_norm, rms_norm_backward

__all__ = [
    "Gradients",
    "add_layer_norm",
    "add_rms_norm",
    "batch_norm",
    "batch_norm_backward",
    "group_norm",
    "group_norm_backward",
    "instance_norm",
    "instance_norm_backward",
    "layer_norm",
    "layer_norm_backward",
    "layer_norm_int8",
    "rms_norm",
    "rms_norm_backward",
    "rms_norm_int8",
]

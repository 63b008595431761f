"""The public functions, one file per family of norms."""

from .batch import batch_norm
from .group import group_norm
from .instance import instance_norm
from .layer import layer_norm
from .residual import add_layer_norm, add_rms_norm
from .rms import rms_norm

__all__ = [
    "add_layer_norm",
    "add_rms_norm",
    "batch_norm",
    "group_norm",
    "instance_norm",
    "layer_norm",
    "rms_norm",
]

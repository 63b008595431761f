"""The public functions, one file per family of norms."""

from ._backward import Gradients
from .batch import batch_norm, batch_norm_backward
from .conditional import (
    adaptive_instance_norm,
    adaptive_instance_norm_backward,
    adaptive_layer_norm,
    adaptive_layer_norm_backward,
    film,
    film_backward,
)
from .group import group_norm, group_norm_backward
from .instance import instance_norm, instance_norm_backward
from .layer import layer_norm, layer_norm_backward
from .quantized import layer_norm_int8, rms_norm_int8
from .residual import add_layer_norm, add_rms_norm
from .rms import rms_norm, rms_norm_backward
from .switchable import SwitchableGradients, switchable_norm, switchable_norm_backward
from .variance_only import (
    simple_layer_norm,
    simple_layer_norm_backward,
    variance_only_batch_norm,
    variance_only_batch_norm_backward,
    variance_only_layer_norm,
    variance_only_layer_norm_backward,
)

__all__ = [
    "Gradients",
    "SwitchableGradients",
    "adaptive_instance_norm",
    "adaptive_instance_norm_backward",
    "adaptive_layer_norm",
    "adaptive_layer_norm_backward",
    "add_layer_norm",
    "add_rms_norm",
    "batch_norm",
    "batch_norm_backward",
    "film",
    "film_backward",
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
    "simple_layer_norm",
    "simple_layer_norm_backward",
    "switchable_norm",
    "switchable_norm_backward",
    "variance_only_batch_norm",
    "variance_only_batch_norm_backward",
    "variance_only_layer_norm",
    "variance_only_layer_norm_backward",
]

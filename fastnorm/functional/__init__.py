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
from .cosine import CosineGradients, cosine_norm, cosine_norm_backward
from .deep import DeepConstants, DeepGradients, deep_norm, deep_norm_backward, deep_norm_constants
from .dynamic_tanh import DynamicTanhGradients, dynamic_tanh, dynamic_tanh_backward
from .evo_b0 import evo_norm_b0, evo_norm_b0_backward
from .evo_s0 import evo_norm_s0, evo_norm_s0_backward
from .filter_response import FilterResponseGradients, filter_response_norm, filter_response_norm_backward
from .frozen import frozen_batch_norm, frozen_batch_norm_backward
from .gated import GatedGradients, gated_rms_norm, gated_rms_norm_backward
from .ghost import ghost_batch_norm, ghost_batch_norm_backward
from .group import group_norm, group_norm_backward
from .heads import QKGradients, qk_norm, qk_norm_backward
from .instance import instance_norm, instance_norm_backward
from .layer import layer_norm, layer_norm_backward
from .local_response import local_response_norm, local_response_norm_backward
from .quantized import layer_norm_int8, rms_norm_int8
from .renorm import batch_renorm, batch_renorm_backward
from .residual import add_layer_norm, add_rms_norm
from .response import global_response_norm, global_response_norm_backward
from .rms import rms_norm, rms_norm_backward
from .spectral import spectral_norm, spectral_norm_backward
from .switchable import SwitchableGradients, switchable_norm, switchable_norm_backward
from .variance_only import (
    simple_layer_norm,
    simple_layer_norm_backward,
    variance_only_batch_norm,
    variance_only_batch_norm_backward,
    variance_only_layer_norm,
    variance_only_layer_norm_backward,
)
from .vectors import ScaleGradients, normalize, normalize_backward, scale_norm, scale_norm_backward
from .weight import (
    WeightNormGradients,
    weight_norm,
    weight_norm_backward,
    weight_standardization,
    weight_standardization_backward,
)
from .whitening import (
    decorrelated_batch_norm,
    decorrelated_batch_norm_backward,
    iter_norm,
    iter_norm_backward,
)

__all__ = [
    "CosineGradients",
    "DeepConstants",
    "DeepGradients",
    "DynamicTanhGradients",
    "FilterResponseGradients",
    "GatedGradients",
    "Gradients",
    "QKGradients",
    "ScaleGradients",
    "SwitchableGradients",
    "WeightNormGradients",
    "adaptive_instance_norm",
    "adaptive_instance_norm_backward",
    "adaptive_layer_norm",
    "adaptive_layer_norm_backward",
    "add_layer_norm",
    "add_rms_norm",
    "batch_norm",
    "batch_norm_backward",
    "batch_renorm",
    "batch_renorm_backward",
    "cosine_norm",
    "cosine_norm_backward",
    "decorrelated_batch_norm",
    "decorrelated_batch_norm_backward",
    "deep_norm",
    "deep_norm_backward",
    "deep_norm_constants",
    "dynamic_tanh",
    "dynamic_tanh_backward",
    "evo_norm_b0",
    "evo_norm_b0_backward",
    "evo_norm_s0",
    "evo_norm_s0_backward",
    "film",
    "film_backward",
    "filter_response_norm",
    "filter_response_norm_backward",
    "frozen_batch_norm",
    "frozen_batch_norm_backward",
    "gated_rms_norm",
    "gated_rms_norm_backward",
    "ghost_batch_norm",
    "ghost_batch_norm_backward",
    "global_response_norm",
    "global_response_norm_backward",
    "group_norm",
    "group_norm_backward",
    "instance_norm",
    "instance_norm_backward",
    "iter_norm",
    "iter_norm_backward",
    "layer_norm",
    "layer_norm_backward",
    "layer_norm_int8",
    "local_response_norm",
    "local_response_norm_backward",
    "normalize",
    "normalize_backward",
    "qk_norm",
    "qk_norm_backward",
    "rms_norm",
    "rms_norm_backward",
    "rms_norm_int8",
    "scale_norm",
    "scale_norm_backward",
    "simple_layer_norm",
    "simple_layer_norm_backward",
    "spectral_norm",
    "spectral_norm_backward",
    "switchable_norm",
    "switchable_norm_backward",
    "variance_only_batch_norm",
    "variance_only_batch_norm_backward",
    "variance_only_layer_norm",
    "variance_only_layer_norm_backward",
    "weight_norm",
    "weight_norm_backward",
    "weight_standardization",
    "weight_standardization_backward",
]

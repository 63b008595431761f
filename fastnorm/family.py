"""The rest of the family: names that `fastnorm` imports when one of them is asked for, to be imported itself in no time."""

from .functional.conditional import (
    adaptive_instance_norm,
    adaptive_instance_norm_backward,
    adaptive_layer_norm,
    adaptive_layer_norm_backward,
    film,
    film_backward,
)
from .functional.cosine import CosineGradients, cosine_norm, cosine_norm_backward
from .functional.deep import DeepConstants, DeepGradients, deep_norm, deep_norm_backward, deep_norm_constants
from .functional.dynamic_tanh import DynamicTanhGradients, dynamic_tanh, dynamic_tanh_backward
from .functional.evo_b0 import evo_norm_b0, evo_norm_b0_backward
from .functional.evo_s0 import evo_norm_s0, evo_norm_s0_backward
from .functional.filter_response import (
    FilterResponseGradients,
    filter_response_norm,
    filter_response_norm_backward,
)
from .functional.frozen import frozen_batch_norm, frozen_batch_norm_backward
from .functional.gated import GatedGradients, gated_rms_norm, gated_rms_norm_backward
from .functional.ghost import ghost_batch_norm, ghost_batch_norm_backward
from .functional.heads import QKGradients, qk_norm, qk_norm_backward
from .functional.local_response import local_response_norm, local_response_norm_backward
from .functional.renorm import batch_renorm, batch_renorm_backward
from .functional.response import global_response_norm, global_response_norm_backward
from .functional.spectral import spectral_norm, spectral_norm_backward
from .functional.switchable import SwitchableGradients, switchable_norm, switchable_norm_backward
from .functional.variance_only import (
    simple_layer_norm,
    simple_layer_norm_backward,
    variance_only_batch_norm,
    variance_only_batch_norm_backward,
    variance_only_layer_norm,
    variance_only_layer_norm_backward,
)
from .functional.vectors import ScaleGradients, normalize, normalize_backward, scale_norm, scale_norm_backward
from .functional.weight import (
    WeightNormGradients,
    weight_norm,
    weight_norm_backward,
    weight_standardization,
    weight_standardization_backward,
)
from .functional.whitening import (
    decorrelated_batch_norm,
    decorrelated_batch_norm_backward,
    iter_norm,
    iter_norm_backward,
)
from .layers.conditional import AdaptiveInstanceNorm, AdaptiveLayerNorm, FiLM
from .layers.cosine import CosineLinear
from .layers.deep import DeepNorm
from .layers.dynamic_tanh import DynamicTanh
from .layers.evo import EvoNormB0, EvoNormS0
from .layers.filter_response import FilterResponseNorm
from .layers.frozen import FrozenBatchNorm
from .layers.gated import GatedRMSNorm
from .layers.ghost import GhostBatchNorm
from .layers.heads import QKNorm
from .layers.local_response import LocalResponseNorm
from .layers.renorm import BatchRenorm
from .layers.response import GlobalResponseNorm
from .layers.spectral import SpectralNorm
from .layers.switchable import SwitchableNorm
from .layers.variance_only import SimpleLayerNorm, VarianceOnlyBatchNorm, VarianceOnlyLayerNorm
from .layers.vectors import Normalize, ScaleNorm
from .layers.weight import WeightNorm, WeightStandardization
from .layers.whitening import DecorrelatedBatchNorm, IterNorm
from .moments import Moments
from .whitening import PCAWhitening, ZCAWhitening

__all__ = [
    "AdaptiveInstanceNorm",
    "AdaptiveLayerNorm",
    "BatchRenorm",
    "CosineGradients",
    "CosineLinear",
    "DecorrelatedBatchNorm",
    "DeepConstants",
    "DeepGradients",
    "DeepNorm",
    "DynamicTanh",
    "DynamicTanhGradients",
    "EvoNormB0",
    "EvoNormS0",
    "FiLM",
    "FilterResponseGradients",
    "FilterResponseNorm",
    "FrozenBatchNorm",
    "GatedGradients",
    "GatedRMSNorm",
    "GhostBatchNorm",
    "GlobalResponseNorm",
    "IterNorm",
    "LocalResponseNorm",
    "Moments",
    "Normalize",
    "PCAWhitening",
    "QKGradients",
    "QKNorm",
    "ScaleGradients",
    "ScaleNorm",
    "SimpleLayerNorm",
    "SpectralNorm",
    "SwitchableGradients",
    "SwitchableNorm",
    "VarianceOnlyBatchNorm",
    "VarianceOnlyLayerNorm",
    "WeightNorm",
    "WeightNormGradients",
    "WeightStandardization",
    "ZCAWhitening",
    "adaptive_instance_norm",
    "adaptive_instance_norm_backward",
    "adaptive_layer_norm",
    "adaptive_layer_norm_backward",
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
    "iter_norm",
    "iter_norm_backward",
    "local_response_norm",
    "local_response_norm_backward",
    "normalize",
    "normalize_backward",
    "qk_norm",
    "qk_norm_backward",
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

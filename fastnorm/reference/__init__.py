"""What each normalization means, forward and backward: float64 NumPy, to be read as the definition.

A norm is three answers: which elements share a statistic, which statistic (mean and variance, the second
moment, or one given from outside), and which elements share an affine pair (weight, bias). `_parts.py`
says what follows from the answers; then each norm gives its own. Arguments are those of the public
functions. A forward returns ``(y, mean, rstd)``, a backward ``(dx, dweight, dbias)``, in float64, or in
longdouble where an argument is longdouble. Nothing is checked, and no argument is changed.
"""

from ._parts import moments
from .batches import (
    batch_renorm,
    batch_renorm_backward,
    frozen_batch_norm,
    frozen_batch_norm_backward,
    ghost_batch_norm,
    ghost_batch_norm_backward,
    update_renorm,
)
from .classic import (
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
    rms_norm,
    rms_norm_backward,
    update_running,
)
from .conditional import (
    adaptive_instance_norm,
    adaptive_instance_norm_backward,
    adaptive_layer_norm,
    adaptive_layer_norm_backward,
    film,
    film_backward,
)
from .deep import deep_norm, deep_norm_backward
from .dynamic_tanh import dynamic_tanh, dynamic_tanh_backward
from .evo import evo_norm_b0, evo_norm_b0_backward, evo_norm_s0, evo_norm_s0_backward
from .filter_response import filter_response_norm, filter_response_norm_backward
from .gated import gated_rms_norm, gated_rms_norm_backward
from .heads import qk_norm, qk_norm_backward
from .local_response import local_response_norm, local_response_norm_backward
from .response import global_response_norm, global_response_norm_backward
from .switchable import switchable_norm, switchable_norm_backward
from .variance_only import (
    simple_layer_norm,
    simple_layer_norm_backward,
    variance_only_batch_norm,
    variance_only_batch_norm_backward,
    variance_only_layer_norm,
    variance_only_layer_norm_backward,
)
from .vectors import normalize, normalize_backward, scale_norm, scale_norm_backward
from .weights import (
    cosine_norm,
    cosine_norm_backward,
    spectral_norm,
    spectral_norm_backward,
    weight_norm,
    weight_norm_backward,
    weight_standardization,
    weight_standardization_backward,
)
from .whitening import (
    covariance_of,
    decorrelated_batch_norm,
    decorrelated_batch_norm_backward,
    inverse_root,
    inverse_root_backward,
    iter_norm,
    iter_norm_backward,
    mean_of,
    newton_schulz,
    newton_schulz_backward,
    whitening_of_features,
)

__all__ = [
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
    "covariance_of",
    "decorrelated_batch_norm",
    "decorrelated_batch_norm_backward",
    "deep_norm",
    "deep_norm_backward",
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
    "inverse_root",
    "inverse_root_backward",
    "iter_norm",
    "iter_norm_backward",
    "layer_norm",
    "layer_norm_backward",
    "local_response_norm",
    "local_response_norm_backward",
    "mean_of",
    "moments",
    "newton_schulz",
    "newton_schulz_backward",
    "normalize",
    "normalize_backward",
    "qk_norm",
    "qk_norm_backward",
    "rms_norm",
    "rms_norm_backward",
    "scale_norm",
    "scale_norm_backward",
    "simple_layer_norm",
    "simple_layer_norm_backward",
    "spectral_norm",
    "spectral_norm_backward",
    "switchable_norm",
    "switchable_norm_backward",
    "update_renorm",
    "update_running",
    "variance_only_batch_norm",
    "variance_only_batch_norm_backward",
    "variance_only_layer_norm",
    "variance_only_layer_norm_backward",
    "weight_norm",
    "weight_norm_backward",
    "weight_standardization",
    "weight_standardization_backward",
    "whitening_of_features",
]

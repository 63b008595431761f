"""Compiling the less common norms ahead of the first call: layers of each are taken there and back, in some layouts."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import _checks
from ._floats import named

Array = NDArray[Any]
# (the module of all layers, x, its layout) -> a layer, and what its call takes
Build = Callable[[Any, Array, str], tuple[Any, tuple[Array, ...]]]

_SAMPLES, _CHANNELS, _POSITIONS = 8, 6, 5


def _by_layout(layer: str, *sizes: int, **options: Any) -> Build:
    def build(family: Any, x: Array, layout: str) -> tuple[Any, tuple[Array, ...]]:
        return getattr(family, layer)(*sizes, layout=layout, dtype=x.dtype, **options), (x,)

    return build


def _by_axis(layer: str, *more: Any, inputs: int = 1) -> Build:
    def build(family: Any, x: Array, layout: str) -> tuple[Any, tuple[Array, ...]]:
        place = {"axis": layout.index("C"), "dtype": x.dtype}
        return getattr(family, layer)(_CHANNELS, *more, **place), (x,) * inputs

    return build


def _over_last(layer: str, *more: Any, inputs: int = 1, **options: Any) -> Build:
    def build(family: Any, x: Array, layout: str) -> tuple[Any, tuple[Array, ...]]:
        return getattr(family, layer)(x.shape[-1], *more, dtype=x.dtype, **options), (x,) * inputs

    return build


def _of_weight(layer: str) -> Build:
    return lambda family, x, layout: (getattr(family, layer)(x), ())


def _normalize(p: float) -> Build:
    return lambda family, x, layout: (family.Normalize(p, layout.index("C")), (x,))


# name -> its layers: one, or one for each way that has kernels of its own
_BY_LAYOUT: dict[str, tuple[Build, ...]] = {
    "batch_renorm": (_by_layout("BatchRenorm", _CHANNELS),),
    "ghost_batch_norm": (_by_layout("GhostBatchNorm", _CHANNELS, 2),),
    "frozen_batch_norm": (_by_layout("FrozenBatchNorm", _CHANNELS),),
    "variance_only_batch_norm": (_by_layout("VarianceOnlyBatchNorm", _CHANNELS),),
    "evo_norm_b0": (_by_layout("EvoNormB0", _CHANNELS),),
    "evo_norm_s0": (
        _by_layout("EvoNormS0", _CHANNELS, 3),
        _by_layout("EvoNormS0", _CHANNELS, 3, gate=False),
    ),
    "filter_response_norm": (
        _by_layout("FilterResponseNorm", _CHANNELS),
        _by_layout("FilterResponseNorm", _CHANNELS, threshold=False),
    ),
    "global_response_norm": (_by_layout("GlobalResponseNorm", _CHANNELS),),
    "switchable_norm": (_by_layout("SwitchableNorm", _CHANNELS),),
    "adaptive_instance_norm": (_by_layout("AdaptiveInstanceNorm", _CHANNELS),),
    "film": (_by_layout("FiLM", _CHANNELS),),
    "local_response_norm": (_by_layout("LocalResponseNorm", 3),),
    "decorrelated_batch_norm": (_by_layout("DecorrelatedBatchNorm", _CHANNELS),),
    "iter_norm": (_by_layout("IterNorm", _CHANNELS),),
}
# The same of norms that are told an axis, or take the last one.
_BY_AXIS: dict[str, tuple[Build, ...]] = {
    "variance_only_layer_norm": (_by_axis("VarianceOnlyLayerNorm"),),
    "simple_layer_norm": (_by_axis("SimpleLayerNorm"),),
    "adaptive_layer_norm": (_by_axis("AdaptiveLayerNorm"),),
    "deep_norm": (_by_axis("DeepNorm", 2.0, inputs=2),),
    "dynamic_tanh": (_by_axis("DynamicTanh"),),
    "scale_norm": (_by_axis("ScaleNorm"),),
    "normalize": (_normalize(2.0), _normalize(1.0)),
    "gated_rms_norm": (
        _over_last("GatedRMSNorm", inputs=2),
        _over_last("GatedRMSNorm", inputs=2, norm_before_gate=True),
    ),
    "qk_norm": (_over_last("QKNorm", inputs=2), _over_last("QKNorm", inputs=2, kind="layer")),
    "cosine_norm": (_over_last("CosineLinear", 3), _over_last("CosineLinear", 3, True)),
    "weight_norm": (_of_weight("WeightNorm"),),
    "weight_standardization": (_of_weight("WeightStandardization"),),
    "spectral_norm": (_of_weight("SpectralNorm"),),
}
LAYERS = _BY_LAYOUT | _BY_AXIS


class FamilyPart(NamedTuple):
    """What is compiled at once: all that a norm needs in some layouts, for one dtype."""

    norm: str
    layouts: tuple[str, ...]
    dtype: str

    @classmethod
    def of(cls, norm: str, layouts: Sequence[str], dtype: str) -> FamilyPart:
        """In these layouts; over the last axis in any case where there is an axis."""
        for layout in layouts:
            _checks.layout(layout, len(layout))
        always = ("NC",) if norm in _BY_AXIS else ()
        return cls(norm, tuple(dict.fromkeys((*always, *layouts))), dtype)

    def __str__(self) -> str:
        return f"{self.norm} {self.dtype}"

    def compile(self) -> None:
        """Have it compiled, or loaded from the cache, by calls that need it."""
        family = import_module(".family", __package__)
        sizes = {"N": _SAMPLES, "C": _CHANNELS}
        for layout in self.layouts:
            shape = tuple(sizes.get(letter, _POSITIONS) for letter in layout)
            # No two of a channel are the same, and none is too large for 16 bits.
            x = (np.arange(math.prod(shape)) % 97 / 97).reshape(shape).astype(named(self.dtype))
            for build in LAYERS[self.norm]:
                _there_and_back(*build(family, x, layout))


def _there_and_back(layer: Any, inputs: tuple[Array, ...]) -> None:
    y = layer(*inputs)
    layer.backward(*(y if isinstance(y, tuple) else (y,)))
    layer.eval()(*inputs)

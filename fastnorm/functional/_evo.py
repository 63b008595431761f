"""What both EvoNorms share: their gradients' names, their parameters, a mean as the kernels subtract it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .. import _checks
from .._floats import FLOAT64, cast, computed
from ._flow.forward import Array
from ._flow.roles import Shared


class EvoGradients(NamedTuple):
    """What `evo_norm_s0_backward` and `evo_norm_b0_backward` return; dv is None where S0 has no v."""

    dx: Array | None
    dweight: Array | None
    dbias: Array | None
    dv: Array | None


def parameters_of(
    weight: Any, bias: Any, v: Any, shared: Shared, x: Array
) -> tuple[Array | None, Array | None, Array | None]:
    pair = _checks.affine_pair(weight, bias, shared.parameters, x.dtype, shared.why)
    if v is None:
        return *pair, None
    return *pair, _checks.parameter(v, "v", shared.parameters, computed(x.dtype), shared.why)


def dtypes_of(x: Array, weight: Any, v: Any) -> tuple[Any, Any, Any]:
    """Those of dweight, dbias and dv."""
    weights, of_v = (computed(x.dtype) if p is None else np.asarray(p).dtype for p in (weight, v))
    return weights, weights, of_v


def statistic(value: Any, name: str, shape: tuple[int, ...]) -> Array:
    return _checks.parameter(value, name, shape, FLOAT64, "that of what the forward call returned")


def split(mean: Array, tail: Array, x: Array) -> tuple[Array, Array]:
    """A mean as the kernels subtract it, and the rest."""
    high = cast(mean, computed(x.dtype)).astype(np.float64)
    return high, (mean - high) + tail

"""Norms whose results are signed bytes and a scale for each row, for inference with 8-bit matrix products."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import _checks
from .._floats import FLOAT32, cast
from .._layout import element_strides, elements, plan
from ..kernels.rows import quantized
from ._flow.forward import Array
from ._flow.recall import new_call, recall
from ._flow.roles import LAYER, RMS, Norm

_DOC = r"""{name} over `axis`, in signed bytes: y ≈ q · scale, in one trip over memory.

    .. math:: q = \mathrm{{round}}(y / \mathrm{{scale}}), \quad \mathrm{{scale}} = \max |y| / 127

    Rounded to the nearest, of two to the even one, and held to -128 … 127; y is what `{function}` gives in float32 (float64
    for such an x), not rounded to the 16 bits of an x that has them. The scale of a row of zeros is 0.

    Parameters
    ----------
    x : floating array of any shape and strides
    weight, bias : arrays of the shape of the normalized axes, optional
    axis : int or tuple of ints
        The axes that share a statistic and a scale, as in `{function}`.
    eps : float
        Added to the {moment}, inside the square root.
    scale : float, optional
        One for all rows, found by calibration, in place of each row's own.

    Returns
    -------
    q : int8 array of x's shape
    scale : float32 array shaped like x without `axis`

    Raises
    ------
    TypeError, ValueError
        An argument has the wrong type, dtype, shape or value.

    References
    ----------
    The dynamic and static quantization of activations, symmetric, per token, as in vLLM's fused kernels
    (`rms_norm_dynamic_per_token_quant`, `rms_norm_static_int8_quant`).

    Examples
    --------
    >>> import numpy as np, fastnorm
    >>> q, scale = fastnorm.{function}_int8(np.array([[1, 2, 4]], np.float32))
    >>> q
    array({result}, dtype=int8)
    """


def layer_norm_int8(
    x: Array,
    weight: Array | None = None,
    bias: Array | None = None,
    *,
    axis: int | tuple[int, ...] = -1,
    eps: float = 1e-5,
    scale: float | None = None,
) -> tuple[Array, Array]:
    return _quantize(LAYER, x, weight, bias, axis, eps, scale)


def rms_norm_int8(
    x: Array,
    weight: Array | None = None,
    bias: Array | None = None,
    *,
    axis: int | tuple[int, ...] = -1,
    eps: float = 1e-5,
    scale: float | None = None,
) -> tuple[Array, Array]:
    return _quantize(RMS, x, weight, bias, axis, eps, scale)


layer_norm_int8.__doc__ = _DOC.format(
    name="Layer norm", function="layer_norm", moment="biased variance", result="[[-102,  -25,  127]]"
)
rms_norm_int8.__doc__ = _DOC.format(
    name="RMS norm", function="rms_norm", moment="mean square", result="[[ 32,  64, 127]]"
)


def _quantize(
    norm: Norm, x: Array, weight: Array | None, bias: Array | None, axis: Any, eps: Any, scale: Any
) -> tuple[Array, Array]:
    static = 0.0 if scale is None else _scale(scale)
    flow = "int8" if scale is None else "int8 by a given scale"
    key, call = recall(flow, norm, axis, eps, None, x, weight, bias)
    if call is None:
        given, x = x, _checks.array(x, "x")
        shared = norm.shared(x.shape, axis)
        weight, bias = _checks.affine_pair(weight, bias, shared.parameters, x.dtype, shared.why)
        added, axes = _checks.eps(eps), shared.roles.reduced
        trailing = tuple(range(-len(axes), 0))
        if not x.flags.c_contiguous or axes != tuple(range(x.ndim - len(axes), x.ndim)):
            rows = np.ascontiguousarray(np.moveaxis(x, axes, trailing))
            q, scales = _quantize(norm, rows, weight, bias, trailing, eps, scale)
            return np.moveaxis(q, trailing, axes), scales
        if x.size == 0:
            return np.empty(x.shape, np.int8), np.zeros(shared.statistic_shape(x.shape), np.float32)
        if elements(shared.parameters) == 1:
            # No row to walk along; but one of two such elements has the same statistic.
            weight, bias = (a if a is None else np.repeat(a, 2, -1) for a in (weight, bias))
            q, scales = _quantize(norm, np.repeat(x, 2, -1), weight, bias, trailing, eps, scale)
            return q[..., :1], scales
        strides = element_strides(x)
        options = int(norm.second_moment), 0, 0, int(static > 0)
        found = plan(x.shape, (strides, strides), shared.roles, options)
        assert found is not None, "contiguous rows can always be walked"
        call = new_call(key if x is given else None, found, shared, quantized.quantize, x, eps=added)
    weight, bias = call.pair(weight, bias)
    q, scales = np.empty(x.shape, np.int8), np.full(call.statistics, static)
    call.kernel(1, x, q, weight, bias, scales)
    return q, cast(scales, FLOAT32)


def _scale(value: Any) -> float:
    """A given scale, as a number of float32."""
    try:
        with np.errstate(over="ignore"):
            number = float(np.float32(value))
    except (TypeError, ValueError, OverflowError):
        raise TypeError(f"scale is {_checks.shown(value)}, expected a number such as 0.02, or None") from None
    if not (number > 0 and math.isfinite(number)):
        raise ValueError(f"scale is {value!r}, expected a positive finite number, such as 0.02")
    return number

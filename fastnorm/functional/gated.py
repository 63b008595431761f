"""Gated RMS norm: of x times a gate, or of x and then gated; the mean square of each group of the last axis."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .. import _checks
from .._floats import FLOAT64, cast, computed
from ..kernels.maps import elementwise as maps
from ._flow.forward import Array
from ._flow.grid import MEAN_SQUARE_PER_ROW, moments
from ._flow.map import run

# A mean of squares in float32 that has lost digits neither to overflow nor to subnormals.
_TINY, _HUGE = 1e-30, 1e30
_FORWARD = "that of what the forward call returned"


class GatedGradients(NamedTuple):
    """What `gated_rms_norm_backward` returns."""

    dx: Array
    dgate: Array
    dweight: Array


def gated_rms_norm(
    x: Array,
    gate: Array,
    weight: Array | None = None,
    *,
    group_size: int | None = None,
    norm_before_gate: bool = False,
    eps: float = 1e-5,
    out: Array | None = None,
    return_stats: bool = False,
) -> Any:
    r"""RMS norm over groups of the last axis, with a gate: before the norm as in Mamba-2, or behind it.

    .. math:: h = x \cdot \mathrm{silu}(\mathrm{gate}), \quad
              y = \frac{h}{\sqrt{\mathrm{mean}(h^2) + \mathrm{eps}}} \cdot \mathrm{weight}

    or with `norm_before_gate`

    .. math:: y = \frac{x}{\sqrt{\mathrm{mean}(x^2) + \mathrm{eps}}} \cdot \mathrm{weight} \cdot \mathrm{silu}(\mathrm{gate})

    Parameters
    ----------
    x, gate : floating arrays of one shape (…, D) and dtype, of any strides
    weight : array of shape (D,), optional
    group_size : int, optional
        How many neighbours on the last axis share a mean square, a divisor of D; None means all of them.
    norm_before_gate : bool
        Whether x is normalized, and the result gated.
    eps : float
        Added to the mean square, inside the square root.
    out : array of x's shape and dtype, optional
        Where to write y; it may be x or the gate itself.
    return_stats : bool
        Whether to return what `gated_rms_norm_backward` takes.

    Returns
    -------
    y : array with x's dtype, shape and memory order
    rstd : float64 array of shape (…), or (…, D/group_size) with a group_size
        Only with `return_stats=True`.

    Raises
    ------
    TypeError, ValueError
        An argument has the wrong type, dtype, shape or value; nothing has been written.

    References
    ----------
    Dao, Gu, "Transformers are SSMs: Generalized Models and Efficient Algorithms Through Structured State Space Duality",
    2024, https://arxiv.org/abs/2405.21060

    Examples
    --------
    >>> import numpy as np, fastnorm
    >>> x, gate = np.array([[3, 4]], np.float32), np.array([[1, 1]], np.float32)
    >>> fastnorm.gated_rms_norm(x, gate).round(3)
    array([[0.849, 1.131]], dtype=float32)
    >>> fastnorm.gated_rms_norm(x, gate, norm_before_gate=True).round(3)
    array([[0.62 , 0.827]], dtype=float32)
    """
    x = _checks.array(x, "x")
    gate, split = _checks.like(gate, "gate", x), _split(x, group_size)
    out = _checks.result(out, "out", x)
    weight, added = _weight(weight, x, split), _checks.eps(eps)
    parts, to = [gate.reshape(split), x.reshape(split)], None if out is None else out.reshape(split)
    last, what = (len(split) - 1,), maps.GATED_RMS
    if norm_before_gate:
        square, what = _mean_square(parts[1]), maps.RMS_GATED
    elif computed(x.dtype) == x.dtype:  # y holds what is gated until it is scaled
        found = run(maps.GATED, parts, [], last, to if out is None or out.dtype == x.dtype else None)
        square, parts, what = found.sums[0] / split[-1], found.outputs, maps.SCALED
        if not (np.greater(square, _TINY).all() and np.less(square, _HUGE).all()):
            square = _mean_square(parts[0])
        to = parts[0] if to is None else to
    else:
        square = run(maps.GATED_SQUARE, parts, [], last).sums[0] / split[-1]
    rstd = 1 / np.sqrt(square + added)
    y = run(what, parts, [rstd, weight], out=to, again=True).outputs[0].reshape(x.shape)
    y = y if out is None else out
    return (y, rstd[..., 0]) if return_stats else y


def gated_rms_norm_backward(
    dy: Array,
    x: Array,
    gate: Array,
    rstd: Array,
    weight: Array | None = None,
    *,
    group_size: int | None = None,
    norm_before_gate: bool = False,
) -> GatedGradients:
    r"""Gradients of `gated_rms_norm` with respect to x, gate and weight.

    .. math:: dh = \mathrm{rstd} \cdot \left(dy \cdot \mathrm{weight} - \hat h \cdot
              \overline{dy \cdot \mathrm{weight} \cdot \hat h}\right), \quad
              dx = dh \cdot \mathrm{silu}(\mathrm{gate}), \quad
              d\mathrm{gate} = dh \cdot x \cdot \mathrm{silu}'(\mathrm{gate})

    with the mean over a group; dweight is the sum of :math:`dy \cdot \hat h` over all rows. With `norm_before_gate` h is x,
    :math:`dy \cdot \mathrm{silu}(\mathrm{gate})` stands for dy in dh, and
    :math:`d\mathrm{gate} = dy \cdot \hat x \cdot \mathrm{weight} \cdot \mathrm{silu}'(\mathrm{gate})`.

    Parameters
    ----------
    dy, x, gate : floating arrays of one shape and dtype
        The gradient of the result, and the forward call's inputs.
    rstd : float64 array
        As `gated_rms_norm` returned it with `return_stats=True`.
    weight : array, optional
        The forward call's.
    group_size, norm_before_gate
        The forward call's.

    Returns
    -------
    GatedGradients
        The named tuple (dx, dgate, dweight): the first two with x's dtype and memory order, dweight with weight's dtype
        (without one x's, or float32 where that has 16 bits).

    Raises
    ------
    TypeError, ValueError
        An argument has the wrong type, dtype, shape or value.

    Examples
    --------
    >>> import numpy as np, fastnorm
    >>> x, gate = np.array([[3, 4]], np.float32), np.array([[1, 1]], np.float32)
    >>> y, rstd = fastnorm.gated_rms_norm(x, gate, return_stats=True)
    >>> fastnorm.gated_rms_norm_backward(np.ones_like(x), x, gate, rstd).dweight.round(3)
    array([0.849, 1.131], dtype=float32)
    """
    x = _checks.array(x, "x")
    dy, gate, split = _checks.like(dy, "dy", x), _checks.like(gate, "gate", x), _split(x, group_size)
    own = computed(x.dtype) if weight is None else np.asarray(weight).dtype
    weight = _weight(weight, x, split)
    rstd = _checks.parameter(rstd, "rstd", split[:-1], FLOAT64, _FORWARD)[..., np.newaxis]
    parts, last = [a.reshape(split) for a in (dy, gate, x)], len(split) - 1
    sums = maps.RMS_GATED_SUMS if norm_before_gate else maps.GATED_RMS_SUMS
    mean = run(sums, parts, [weight], (last,)).sums[0] * rstd / split[-1]
    gradient = maps.RMS_GATED_GRADIENT if norm_before_gate else maps.GATED_RMS_GRADIENT
    found = run(gradient, parts, [rstd, weight, mean], tuple(range(x.ndim - 1)), again=True)
    dx, dgate = (d.reshape(x.shape) for d in found.outputs)
    return GatedGradients(dx, dgate, cast(found.sums[0].reshape(x.shape[-1]), own))


def _mean_square(x: Array) -> Array:
    return moments(MEAN_SQUARE_PER_ROW, -1, x).variance[..., np.newaxis]


def _split(x: Array, group_size: Any) -> tuple[int, ...]:
    """The shape of x, with an axis for the groups where they are not all of the last axis."""
    if x.ndim == 0 or x.shape[-1] == 0:
        raise ValueError(f"x has shape {x.shape}, with no element along a last axis: nothing to average")
    if group_size is None:
        return x.shape
    if isinstance(group_size, bool) or not isinstance(group_size, int | np.integer):
        raise TypeError(
            f"group_size is {_checks.shown(group_size)}, expected an integer that divides {x.shape[-1]}, or None"
        )
    if group_size < 1 or x.shape[-1] % group_size:
        raise ValueError(
            f"group_size is {group_size}, expected a divisor of {x.shape[-1]}, the last axis of x"
        )
    return *x.shape[:-1], x.shape[-1] // int(group_size), int(group_size)


def _weight(value: Any, x: Array, split: tuple[int, ...]) -> Array:
    """The weight as a coefficient of maps over x, split."""
    inside = split[x.ndim - 1 :]
    lead, dtype = (1,) * (x.ndim - 1), computed(x.dtype)
    if value is None:
        return np.ones(lead + (1,) * len(inside), dtype)
    why = f"x has {x.shape[-1]} elements along its last axis"
    return _checks.parameter(value, "weight", x.shape[-1:], dtype, why).reshape(lead + inside)

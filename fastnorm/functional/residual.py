"""The residual connection fused with the norm behind it: x + residual, then layer or RMS norm, in one trip."""

from __future__ import annotations

from ._flow.forward import Array, normalize_sum
from ._flow.roles import LAYER, RMS

_DOC = r"""Add `residual` to x, then {name} norm over `axis`: y and the sum, in one trip over memory.

    .. math:: s = x + \mathrm{{residual}}, \quad y = \mathrm{{{function}}}(s)

    Parameters
    ----------
    x, residual : floating arrays of one shape and dtype
    weight, bias : arrays of the shape of the normalized axes, optional
    axis : int or tuple of ints
        The axes that share a statistic, as in `{function}`.
    eps : float
        Added to the {moment}, inside the square root.
    out, sum_out : arrays of x's shape and dtype, optional
        Where to write y and the sum; each may be x or residual itself, but not one the other.

    Returns
    -------
    y : array with x's dtype, shape and memory order
    sum : x + residual, likewise

    Raises
    ------
    TypeError, ValueError
        An argument has the wrong type, dtype, shape or value; nothing has been written.

    Examples
    --------
    >>> import numpy as np, fastnorm
    >>> x = np.array([[1, 2, 3]], np.float32)
    >>> y, total = fastnorm.add_{function}(x, x)
    >>> total
    array([[2., 4., 6.]], dtype=float32)
    """


def add_layer_norm(
    x: Array,
    residual: Array,
    weight: Array | None = None,
    bias: Array | None = None,
    *,
    axis: int | tuple[int, ...] = -1,
    eps: float = 1e-5,
    out: Array | None = None,
    sum_out: Array | None = None,
) -> tuple[Array, Array]:
    y, total, _ = normalize_sum(LAYER, axis, x, residual, weight, bias, eps, out, sum_out)
    return y, total


def add_rms_norm(
    x: Array,
    residual: Array,
    weight: Array | None = None,
    bias: Array | None = None,
    *,
    axis: int | tuple[int, ...] = -1,
    eps: float = 1e-5,
    out: Array | None = None,
    sum_out: Array | None = None,
) -> tuple[Array, Array]:
    y, total, _ = normalize_sum(RMS, axis, x, residual, weight, bias, eps, out, sum_out)
    return y, total


add_layer_norm.__doc__ = _DOC.format(name="layer", function="layer_norm", moment="biased variance")
add_rms_norm.__doc__ = _DOC.format(name="RMS", function="rms_norm", moment="mean square")

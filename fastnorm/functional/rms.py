"""RMS norm: the second moment over any axes of each sample, an affine pair per position."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import _checks
from ..kernels.activations import CODES
from . import _roles
from ._forward import Array, normalize


def rms_norm(
    x: Array,
    weight: Array | None = None,
    bias: Array | None = None,
    *,
    axis: int | tuple[int, ...] = -1,
    eps: float | None = 1e-5,
    activation: str | None = None,
    out: Array | None = None,
    return_stats: bool = False,
) -> Any:
    r"""Divide x by its root mean square over `axis`, then scale and shift every position.

    .. math:: y = \mathrm{activation}\left(\frac{x}{\sqrt{\mathrm{mean}(x^2) + \mathrm{eps}}} \cdot
              \mathrm{weight} + \mathrm{bias}\right)

    Parameters
    ----------
    x : float32 or float64 array of any shape and strides
    weight, bias : arrays of the shape of the normalized axes, in the order of the array, optional
    axis : int or tuple of ints
        The axes that share a statistic, in any place: `axis=1` normalizes the channels of an NCHW array.
    eps : float or None
        Added to the mean square, inside the square root; None is the epsilon of x's dtype.
    activation : {"relu", "gelu", "gelu_tanh", "silu", "sigmoid", "tanh"}, optional
        Applied to the result in the same trip.
    out : array of x's shape and dtype, optional
        Where to write y; it may be x itself.
    return_stats : bool
        Whether to return what `rms_norm_backward` takes.

    Returns
    -------
    y : array with x's dtype, shape and memory order
    rstd : float64 array shaped like x without `axis`
        Only with `return_stats=True`.

    Raises
    ------
    TypeError, ValueError
        An argument has the wrong type, dtype, shape or value; nothing has been written.

    References
    ----------
    Zhang, Sennrich, "Root Mean Square Layer Normalization", 2019, https://arxiv.org/abs/1910.07467

    Examples
    --------
    >>> import numpy as np, fastnorm
    >>> fastnorm.rms_norm(np.array([[3, 4], [0, 2]], np.float32)).round(3)
    array([[0.849, 1.131],
           [0.   , 1.414]], dtype=float32)
    """
    x = _checks.array(x, "x")
    roles, shape, why = _roles.trailing(x.shape, axis)
    weight, bias = _checks.affine_pair(weight, bias, shape, x.dtype, why)
    code = _checks.activation(activation, CODES)
    if eps is None:
        eps = float(np.finfo(x.dtype).eps)
    y, statistics = normalize(
        x,
        roles,
        weight,
        bias,
        _checks.eps(eps),
        code,
        _checks.result(out, "out", x),
        second_moment=True,
        statistics=return_stats,
    )
    return (y, statistics.rstd) if return_stats else y

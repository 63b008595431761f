"""RMS norm: the second moment over any axes of each sample, an affine pair per position."""

from __future__ import annotations

from typing import Any

from .. import _checks
from .._floats import epsilon
from ._flow.backward import Gradients, backward
from ._flow.forward import Array, normalize
from ._flow.roles import RMS


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
    x : floating array of any shape and strides
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
    if eps is None:
        eps = epsilon(_checks.array(x, "x").dtype)
    y, statistics = normalize(RMS, axis, x, weight, bias, eps, activation, out, return_stats)
    return y if statistics is None else (y, statistics.rstd)


def rms_norm_backward(
    dy: Array,
    x: Array,
    rstd: Array,
    weight: Array | None = None,
    bias: Array | None = None,
    *,
    axis: int | tuple[int, ...] = -1,
    activation: str | None = None,
    needs: tuple[bool, bool, bool] = (True, True, True),
) -> Gradients:
    r"""Gradients of `rms_norm` with respect to x, weight and bias.

    .. math:: g = dy \cdot \mathrm{activation}'(z), \quad
              dx = \mathrm{rstd} \cdot \left(g \cdot \mathrm{weight} -
              \hat x \cdot \overline{g \cdot \mathrm{weight} \cdot \hat x}\right)

    where the means are taken over the elements that share a statistic; dweight and dbias are the sums of
    :math:`g \cdot \hat x` and of :math:`g` over the elements that share a pair.

    Parameters
    ----------
    dy, x : floating arrays of one shape and dtype
        The gradient of the result, and the forward call's input.
    rstd : float64 array
        As `rms_norm` returned it with `return_stats=True`.
    weight, bias : arrays, optional
        The forward call's; the bias matters to an activation alone.
    axis : int or tuple of ints
        The forward call's.
    activation : str, optional
        The forward call's.
    needs : three booleans
        Whether to compute dx, dweight and dbias; None stands in the place of those that are not.

    Returns
    -------
    Gradients
        The named tuple (dx, dweight, dbias): dx with x's dtype and memory order, the others with weight's dtype (without
        one x's, or float32 where that has 16 bits).

    Raises
    ------
    TypeError, ValueError
        An argument has the wrong type, dtype, shape or value.

    Examples
    --------
    >>> import numpy as np, fastnorm
    >>> x = np.array([[0, 1, 2], [3, 1, 2]], np.float32)
    >>> y, rstd = fastnorm.rms_norm(x, return_stats=True)
    >>> fastnorm.rms_norm_backward(np.ones_like(x), x, rstd).dbias
    array([2., 2., 2.], dtype=float32)
    """
    return backward(RMS, axis, dy, x, None, rstd, weight, bias, activation, needs)

"""Layer norm: mean and variance over any axes of each sample, an affine pair per position."""

from __future__ import annotations

from typing import Any

from ._flow.backward import Gradients, backward
from ._flow.forward import Array, normalize
from ._flow.roles import LAYER
from ._ragged.rows import ValidRows


def layer_norm(
    x: Array,
    weight: Array | None = None,
    bias: Array | None = None,
    *,
    axis: int | tuple[int, ...] = -1,
    eps: float = 1e-5,
    activation: str | None = None,
    out: Array | None = None,
    return_stats: bool = False,
    mask: Array | None = None,
    lengths: Array | None = None,
    keep_padding: bool = False,
) -> Any:
    r"""Normalize x over `axis` to mean 0 and variance 1, then scale and shift every position.

    .. math:: y = \mathrm{activation}\left(\frac{x - \mathrm{mean}}{\sqrt{\mathrm{var} + \mathrm{eps}}} \cdot
              \mathrm{weight} + \mathrm{bias}\right)

    Parameters
    ----------
    x : floating array of any shape and strides
    weight, bias : arrays of the shape of the normalized axes, in the order of the array, optional
    axis : int or tuple of ints
        The axes that share a statistic, in any place: `axis=1` normalizes the channels of an NCHW array.
    eps : float
        Added to the biased variance, inside the square root.
    activation : {"relu", "gelu", "gelu_tanh", "silu", "sigmoid", "tanh"}, optional
        Applied to the result in the same trip.
    out : array of x's shape and dtype, optional
        Where to write y; it may be x itself.
    return_stats : bool
        Whether to return what `layer_norm_backward` takes.
    mask : boolean array, optional
        True where a sample or position is valid: the shape of x without `axis`, or one that can be broadcast to it. Padding
        is never read, whatever it holds.
    lengths : integer array of shape (N,), optional
        The same where x without `axis` is (N, L): how many positions of each sample are valid.
    keep_padding : bool
        Whether padding is left as `out`, or without that x, has it; otherwise it is 0.

    Returns
    -------
    y : array with x's dtype, shape and memory order
    mean, rstd : float64 arrays shaped like x without `axis`
        Only with `return_stats=True`.

    Raises
    ------
    TypeError, ValueError
        An argument has the wrong type, dtype, shape or value; nothing has been written.

    References
    ----------
    Ba, Kiros, Hinton, "Layer Normalization", 2016, https://arxiv.org/abs/1607.06450

    Examples
    --------
    >>> import numpy as np, fastnorm
    >>> x = np.array([[4, 3, 2], [3, 3, 2], [2, 2, 2]], np.float32)
    >>> fastnorm.layer_norm(x).round(3)
    array([[ 1.225,  0.   , -1.225],
           [ 0.707,  0.707, -1.414],
           [ 0.   ,  0.   ,  0.   ]], dtype=float32)
    """
    if mask is not None or lengths is not None:
        rows = ValidRows(x, axis, mask, lengths)
        y, mean, rstd = rows.normalize(weight, bias, eps, activation, out, keep_padding)
        return (y, mean, rstd) if return_stats else y
    y, statistics = normalize(LAYER, axis, x, weight, bias, eps, activation, out, return_stats)
    return y if statistics is None else (y, statistics.mean, statistics.rstd)


def layer_norm_backward(
    dy: Array,
    x: Array,
    mean: Array,
    rstd: Array,
    weight: Array | None = None,
    bias: Array | None = None,
    *,
    axis: int | tuple[int, ...] = -1,
    activation: str | None = None,
    needs: tuple[bool, bool, bool] = (True, True, True),
    mask: Array | None = None,
    lengths: Array | None = None,
) -> Gradients:
    r"""Gradients of `layer_norm` with respect to x, weight and bias.

    .. math:: g = dy \cdot \mathrm{activation}'(z), \quad
              dx = \mathrm{rstd} \cdot \left(g \cdot \mathrm{weight} - \overline{g \cdot \mathrm{weight}} -
              \hat x \cdot \overline{g \cdot \mathrm{weight} \cdot \hat x}\right)

    where the means are taken over the elements that share a statistic; dweight and dbias are the sums of
    :math:`g \cdot \hat x` and of :math:`g` over the elements that share a pair.

    Parameters
    ----------
    dy, x : floating arrays of one shape and dtype
        The gradient of the result, and the forward call's input.
    mean, rstd : float64 arrays
        As `layer_norm` returned them with `return_stats=True`.
    weight, bias : arrays, optional
        The forward call's; the bias matters to an activation alone.
    axis : int or tuple of ints
        The forward call's.
    activation : str, optional
        The forward call's.
    needs : three booleans
        Whether to compute dx, dweight and dbias; None stands in the place of those that are not.
    mask, lengths
        The forward call's; dx is 0 where padding is.

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
    >>> y, mean, rstd = fastnorm.layer_norm(x, return_stats=True)
    >>> fastnorm.layer_norm_backward(np.ones_like(x), x, mean, rstd).dbias
    array([2., 2., 2.], dtype=float32)
    """
    if mask is not None or lengths is not None:
        rows = ValidRows(x, axis, mask, lengths)
        return rows.backward(dy, mean, rstd, weight, bias, activation, needs)
    return backward(LAYER, axis, dy, x, mean, rstd, weight, bias, activation, needs)

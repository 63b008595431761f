"""Group norm: mean and variance over the channels of a group in each sample, an affine pair per channel."""

from __future__ import annotations

from typing import Any

from ._flow.backward import Gradients, backward
from ._flow.forward import Array, normalize
from ._flow.roles import GROUP
from ._flow.running import UNMOVED
from ._ragged.masked import Call, backward_each, normalize_each
from ._ragged.padded import padded


def group_norm(
    x: Array,
    num_groups: int,
    weight: Array | None = None,
    bias: Array | None = None,
    *,
    eps: float = 1e-5,
    layout: str | None = None,
    activation: str | None = None,
    out: Array | None = None,
    return_stats: bool = False,
    mask: Array | None = None,
    lengths: Array | None = None,
    keep_padding: bool = False,
) -> Any:
    r"""Normalize each group of channels of each sample to mean 0 and variance 1, then scale and shift every channel.

    .. math:: y = \mathrm{activation}\left(\frac{x - \mathrm{mean}_{ng}}{\sqrt{\mathrm{var}_{ng} + \mathrm{eps}}} \cdot
              \mathrm{weight}_c + \mathrm{bias}_c\right)

    Parameters
    ----------
    x : floating array with an axis of samples and one of C channels, of any strides
    num_groups : int
        G, a divisor of C; group g holds channels g·C/G to (g + 1)·C/G - 1.
    weight, bias : arrays of shape (C,), optional
    eps : float
        Added to the biased variance, inside the square root.
    layout : str, optional
        The axes, a capital letter each, with one N and one C, such as "NHWC"; None means channels at axis 1.
    activation : {"relu", "gelu", "gelu_tanh", "silu", "sigmoid", "tanh"}, optional
        Applied to the result in the same trip.
    out : array of x's shape and dtype, optional
        Where to write y; it may be x itself.
    return_stats : bool
        Whether to return what `group_norm_backward` takes.
    mask : boolean array, optional
        True where a position is valid: the shape of x without its channels, or one that can be broadcast to it. Padding is
        never read, whatever it holds.
    lengths : integer array of shape (N,), optional
        The same of an x with one spatial axis: how many positions of each sample are valid.
    keep_padding : bool
        Whether padding is left as `out`, or without that x, has it; otherwise it is 0.

    Returns
    -------
    y : array with x's dtype, shape and memory order
    mean, rstd : float64 arrays of shape (N, G)
        Only with `return_stats=True`.

    Raises
    ------
    TypeError, ValueError
        An argument has the wrong type, dtype, shape or value; nothing has been written.

    References
    ----------
    Wu, He, "Group Normalization", 2018, https://arxiv.org/abs/1803.08494

    Examples
    --------
    >>> import numpy as np, fastnorm
    >>> x = np.array([[1, 3, 10, 14]], np.float32)
    >>> fastnorm.group_norm(x, 2).round(3)
    array([[-1.,  1., -1.,  1.]], dtype=float32)
    """
    argument = (num_groups, layout)
    if mask is not None or lengths is not None:
        call = Call(GROUP, argument, x, weight, bias, activation, out)
        valid, each = padded(call.x, layout, mask, lengths, joined=True), (num_groups, "NLC")
        y, found = normalize_each(GROUP, each, call, valid, eps, keep_padding, UNMOVED, return_stats)
        return y if found is None else (y, found.mean, found.rstd)
    y, statistics = normalize(GROUP, argument, x, weight, bias, eps, activation, out, return_stats)
    return y if statistics is None else (y, statistics.mean, statistics.rstd)


def group_norm_backward(
    dy: Array,
    x: Array,
    num_groups: int,
    mean: Array,
    rstd: Array,
    weight: Array | None = None,
    bias: Array | None = None,
    *,
    layout: str | None = None,
    activation: str | None = None,
    needs: tuple[bool, bool, bool] = (True, True, True),
    mask: Array | None = None,
    lengths: Array | None = None,
) -> Gradients:
    r"""Gradients of `group_norm` with respect to x, weight and bias.

    .. math:: g = dy \cdot \mathrm{activation}'(z), \quad
              dx = \mathrm{rstd} \cdot \left(g \cdot \mathrm{weight} - \overline{g \cdot \mathrm{weight}} -
              \hat x \cdot \overline{g \cdot \mathrm{weight} \cdot \hat x}\right)

    where the means are taken over the elements that share a statistic; dweight and dbias are the sums of
    :math:`g \cdot \hat x` and of :math:`g` over the elements that share a pair.

    Parameters
    ----------
    dy, x : floating arrays of one shape and dtype
        The gradient of the result, and the forward call's input.
    num_groups : int
        The forward call's.
    mean, rstd : float64 arrays
        As `group_norm` returned them with `return_stats=True`.
    weight, bias : arrays, optional
        The forward call's; the bias matters to an activation alone.
    layout : str, optional
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
    >>> x = np.array([[1, 3, 10, 14]], np.float32)
    >>> y, mean, rstd = fastnorm.group_norm(x, 2, return_stats=True)
    >>> fastnorm.group_norm_backward(np.ones_like(x), x, 2, mean, rstd).dbias
    array([1., 1., 1., 1.], dtype=float32)
    """
    argument = (num_groups, layout)
    if mask is not None or lengths is not None:
        call = Call(GROUP, argument, x, weight, bias, activation)
        valid, each = padded(call.x, layout, mask, lengths, joined=True), (num_groups, "NLC")
        return backward_each(GROUP, each, call, valid, dy, mean, rstd, needs)
    return backward(GROUP, argument, dy, x, mean, rstd, weight, bias, activation, needs)

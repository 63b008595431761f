"""Batch norm: mean and variance of each channel over a whole batch, or running ones, an affine pair per channel."""

from __future__ import annotations

from typing import Any

from .. import _checks
from ._flow.backward import Gradients, backward
from ._flow.forward import Array, normalize, standardize
from ._flow.roles import BATCH, BATCH_IN_TRAINING
from ._flow.running import Update, as_statistics
from ._ragged.masked import Call, backward_batch, normalize_batch
from ._ragged.padded import padded


def batch_norm(
    x: Array,
    running_mean: Array | None = None,
    running_var: Array | None = None,
    weight: Array | None = None,
    bias: Array | None = None,
    *,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    layout: str | None = None,
    activation: str | None = None,
    out: Array | None = None,
    return_stats: bool = False,
    mask: Array | None = None,
    lengths: Array | None = None,
    keep_padding: bool = False,
) -> Any:
    r"""Normalize each channel by the batch's statistics or by running ones, then scale and shift it.

    .. math:: y = \mathrm{activation}\left(\frac{x - \mathrm{mean}_c}{\sqrt{\mathrm{var}_c + \mathrm{eps}}} \cdot
              \mathrm{weight}_c + \mathrm{bias}_c\right)

    Parameters
    ----------
    x : floating array with an axis of samples and one of C channels, of any strides
    running_mean, running_var : float32 or float64 arrays of shape (C,), optional
        Used in inference; in training updated in place to (1 - momentum)·running + momentum·batch, the variance unbiased.
    weight, bias : arrays of shape (C,), optional
    training : bool
        Whether to use the batch's statistics; without running ones they are used in any case.
    momentum : float
        The share of the batch in the running statistics.
    eps : float
        Added to the biased variance, inside the square root.
    layout : str, optional
        The axes, a capital letter each, with one N and one C, such as "NHWC"; None means channels at axis 1.
    activation : {"relu", "gelu", "gelu_tanh", "silu", "sigmoid", "tanh"}, optional
        Applied to the result in the same trip.
    out : array of x's shape and dtype, optional
        Where to write y; it may be x itself.
    return_stats : bool
        Whether to return what `batch_norm_backward` takes.
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
    mean, rstd : float64 arrays of shape (C,)
        Only with `return_stats=True`; in inference running_mean and 1/√(running_var + eps).

    Raises
    ------
    TypeError, ValueError
        An argument has the wrong type, dtype, shape or value, or training has one value per channel; nothing has been
        written, running statistics included.

    References
    ----------
    Ioffe, Szegedy, "Batch Normalization", 2015, https://arxiv.org/abs/1502.03167

    Examples
    --------
    >>> import numpy as np, fastnorm
    >>> x = np.array([[4, 3, 2], [3, 3, 2], [2, 2, 2]], np.float32)
    >>> fastnorm.batch_norm(x, training=True).round(3)
    array([[ 1.225,  0.707,  0.   ],
           [ 0.   ,  0.707,  0.   ],
           [-1.225, -1.414,  0.   ]], dtype=float32)
    """
    momentum = _checks.momentum(momentum)
    constant = not training and (running_mean is not None or running_var is not None)
    if mask is not None or lengths is not None:
        call = Call(BATCH, layout, x, weight, bias, activation, out)
        valid = padded(call.x, layout, mask, lengths)
        if not constant:
            update = Update(running_mean, running_var, momentum)
            y, found = normalize_batch(call, valid, eps, keep_padding, update, BATCH_IN_TRAINING)
            return (y, found.mean, found.rstd) if return_stats else y
        to = None if keep_padding else out
        y = standardize(BATCH, layout, call.x, running_mean, running_var, weight, bias, eps, activation, to)
        y = valid.alone(y, call.x, out, keep_padding)
    elif constant:
        y = standardize(BATCH, layout, x, running_mean, running_var, weight, bias, eps, activation, out)
    else:
        update = Update(running_mean, running_var, momentum)
        y, statistics = normalize(
            BATCH_IN_TRAINING, layout, x, weight, bias, eps, activation, out, return_stats, update
        )
        return y if statistics is None else (y, statistics.mean, statistics.rstd)
    return (y, *as_statistics(running_mean, running_var, eps)) if return_stats else y


def batch_norm_backward(
    dy: Array,
    x: Array,
    mean: Array,
    rstd: Array,
    weight: Array | None = None,
    bias: Array | None = None,
    *,
    training: bool = True,
    layout: str | None = None,
    activation: str | None = None,
    needs: tuple[bool, bool, bool] = (True, True, True),
    mask: Array | None = None,
    lengths: Array | None = None,
) -> Gradients:
    r"""Gradients of `batch_norm` with respect to x, weight and bias.

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
        As `batch_norm` returned them with `return_stats=True`.
    weight, bias : arrays, optional
        The forward call's; the bias matters to an activation alone.
    training : bool
        Whether mean and rstd are the batch's, and depend on x, or constants: then dx is rstd·g·weight.
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
    >>> x = np.array([[0, 3], [1, 1], [2, 2]], np.float32)
    >>> y, mean, rstd = fastnorm.batch_norm(x, training=True, return_stats=True)
    >>> fastnorm.batch_norm_backward(np.ones_like(x), x, mean, rstd).dbias
    array([3., 3.], dtype=float32)
    """
    if mask is not None or lengths is not None:
        call = Call(BATCH, layout, x, weight, bias, activation)
        valid = padded(call.x, layout, mask, lengths)
        return backward_batch(call, valid, dy, mean, rstd, needs, constant=not training)
    return backward(BATCH, layout, dy, x, mean, rstd, weight, bias, activation, needs, constant=not training)

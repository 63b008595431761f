"""Instance norm: mean and variance of each channel of each sample, an affine pair per channel."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import _checks
from ._flow.backward import Gradients, backward
from ._flow.forward import Array, normalize, standardize
from ._flow.roles import INSTANCE, Norm, Shared, elements_per_statistic
from ._flow.running import Update, as_statistics
from ._ragged.masked import Call, backward_each, normalize_each
from ._ragged.padded import padded
from ._ragged.ragged import Ragged
from ._ragged.sequences import sequences


def instance_norm(
    x: Array,
    running_mean: Array | None = None,
    running_var: Array | None = None,
    weight: Array | None = None,
    bias: Array | None = None,
    *,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
    layout: str | None = None,
    activation: str | None = None,
    out: Array | None = None,
    return_stats: bool = False,
    mask: Array | None = None,
    lengths: Array | None = None,
    cu_seqlens: Array | None = None,
    keep_padding: bool = False,
) -> Any:
    r"""Normalize each channel of each sample to mean 0 and variance 1, then scale and shift every channel.

    .. math:: y = \mathrm{activation}\left(\frac{x - \mathrm{mean}_{nc}}{\sqrt{\mathrm{var}_{nc} + \mathrm{eps}}} \cdot
              \mathrm{weight}_c + \mathrm{bias}_c\right)

    Parameters
    ----------
    x : floating array with an axis of samples, one of C channels and others to average over, of any strides
    running_mean, running_var : float32 or float64 arrays of shape (C,), optional
        Used where `use_input_stats` is False; else updated in place with the mean over the samples of their statistics.
    weight, bias : arrays of shape (C,), optional
    use_input_stats : bool
        Whether to use the sample's own statistics (True) or the running ones.
    momentum : float
        The share of this input in the running statistics.
    eps : float
        Added to the biased variance, inside the square root.
    layout : str, optional
        The axes, a capital letter each, with one N and one C, such as "NHWC"; None means channels at axis 1.
    activation : {"relu", "gelu", "gelu_tanh", "silu", "sigmoid", "tanh"}, optional
        Applied to the result in the same trip.
    out : array of x's shape and dtype, optional
        Where to write y; it may be x itself.
    return_stats : bool
        Whether to return what `instance_norm_backward` takes.
    mask : boolean array, optional
        True where a position is valid: the shape of x without its channels, or one that can be broadcast to it. Padding is
        never read, whatever it holds.
    lengths : integer array of shape (N,), optional
        The same of an x with one spatial axis: how many positions of each sample are valid.
    cu_seqlens : integer array of shape (sequences + 1,), optional
        For x of shape (positions, C), without padding: the offsets of packed sequences, each a sample, from 0 to positions.
    keep_padding : bool
        Whether padding is left as `out`, or without that x, has it; otherwise it is 0.

    Returns
    -------
    y : array with x's dtype, shape and memory order
    mean, rstd : float64 arrays of shape (N, C)
        Only with `return_stats=True`.

    Raises
    ------
    TypeError, ValueError
        An argument has the wrong type, dtype, shape or value; nothing has been written, running statistics included.

    References
    ----------
    Ulyanov, Vedaldi, Lempitsky, "Instance Normalization", 2016, https://arxiv.org/abs/1607.08022

    Examples
    --------
    >>> import numpy as np, fastnorm
    >>> x = np.array([[[1, 2, 3], [0, 0, 6]]], np.float32)
    >>> fastnorm.instance_norm(x).round(3)
    array([[[-1.225,  0.   ,  1.225],
            [-0.707, -0.707,  1.414]]], dtype=float32)
    """
    momentum = _checks.momentum(momentum)
    if mask is not None or lengths is not None or cu_seqlens is not None:
        if not use_input_stats:
            raise ValueError(
                "use_input_stats is False, expected True with mask, lengths or cu_seqlens: batch_norm has both"
            )
        call = Call(INSTANCE, layout, x, weight, bias, activation, out)
        ragged = _ragged(call.x, layout, mask, lengths, cu_seqlens)
        update = Update(running_mean, running_var, momentum)
        y, found = normalize_each(INSTANCE, "NLC", call, ragged, eps, keep_padding, update, return_stats)
        return y if found is None else (y, found.mean, found.rstd)
    if use_input_stats:
        update = Update(running_mean, running_var, momentum)
        y, statistics = normalize(_OWN, layout, x, weight, bias, eps, activation, out, return_stats, update)
        return y if statistics is None else (y, statistics.mean, statistics.rstd)
    if running_mean is None and running_var is None:
        raise ValueError(
            "use_input_stats is False but running_mean is None, expected running statistics to use"
        )
    y = standardize(INSTANCE, layout, x, running_mean, running_var, weight, bias, eps, activation, out)
    if not return_stats:
        return y
    samples = x.shape[_checks.layout(layout, x.ndim)[0]]
    return (y, *(np.tile(s, (samples, 1)) for s in as_statistics(running_mean, running_var, eps)))


def _ragged(x: Array, layout: Any, mask: Any, lengths: Any, cu_seqlens: Any) -> Ragged:
    if cu_seqlens is None:
        return padded(x, layout, mask, lengths)
    if mask is not None or lengths is not None:
        raise ValueError("cu_seqlens is given beside mask or lengths, expected one of them")
    return sequences(x, layout, cu_seqlens)


def _shared_by_own_statistics(shape: tuple[int, ...], layout: Any) -> Shared:
    """The roles of instance norm, for samples that have something to average over."""
    shared = INSTANCE.shared(shape, layout)
    if elements_per_statistic(shape, shared.roles) == 0:
        raise ValueError(f"x has shape {shape}, with no element to average over in a channel of a sample")
    return shared


_OWN = Norm(_shared_by_own_statistics)


def instance_norm_backward(
    dy: Array,
    x: Array,
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
    cu_seqlens: Array | None = None,
) -> Gradients:
    r"""Gradients of `instance_norm` with respect to x, weight and bias.

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
        As `instance_norm` returned them with `return_stats=True`.
    weight, bias : arrays, optional
        The forward call's; the bias matters to an activation alone.
    layout : str, optional
        The forward call's.
    activation : str, optional
        The forward call's.
    needs : three booleans
        Whether to compute dx, dweight and dbias; None stands in the place of those that are not.
    mask, lengths, cu_seqlens
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
    >>> x = np.array([[[1, 2, 3], [0, 0, 6]]], np.float32)
    >>> y, mean, rstd = fastnorm.instance_norm(x, return_stats=True)
    >>> fastnorm.instance_norm_backward(np.ones_like(x), x, mean, rstd).dbias
    array([3., 3.], dtype=float32)
    """
    if mask is not None or lengths is not None or cu_seqlens is not None:
        call = Call(INSTANCE, layout, x, weight, bias, activation)
        ragged = _ragged(call.x, layout, mask, lengths, cu_seqlens)
        return backward_each(INSTANCE, "NLC", call, ragged, dy, mean, rstd, needs)
    return backward(INSTANCE, layout, dy, x, mean, rstd, weight, bias, activation, needs)

"""EvoNorm S0: x gated by its own sigmoid, over the deviation of a group of channels, an affine pair per channel."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import _checks
from .._floats import FLOAT64, cast
from ..kernels.maps.elementwise import EVO_S0, EVO_S0_GRADIENT, EVO_S0_SUMS
from ._evo import EvoGradients, dtypes_of, parameters_of, split, statistic
from ._flow import grid as _grid
from ._flow.backward import backward
from ._flow.forward import Array, normalize
from ._flow.map import Channels, run
from ._flow.roles import GROUP, Norm

_DIVIDED_GROUP = Norm(GROUP.shared, centred=False)


def evo_norm_s0(
    x: Array,
    num_groups: int,
    weight: Array | None = None,
    bias: Array | None = None,
    v: Array | None = None,
    *,
    eps: float = 1e-5,
    layout: str | None = None,
    activation: str | None = None,
    out: Array | None = None,
    return_stats: bool = False,
) -> Any:
    r"""Gate x by its own sigmoid, divide by the standard deviation of its group, then scale and shift every channel.

    .. math:: y = \frac{x \cdot \sigma(v_c\,x)}{\sqrt{\mathrm{var}_{ng}(x) + \mathrm{eps}}} \cdot \mathrm{weight}_c +
              \mathrm{bias}_c

    It stands in the place of a norm and the activation behind it, and depends on no other sample.

    Parameters
    ----------
    x : floating array with an axis of samples and one of C channels, of any strides
    num_groups : int
        G, a divisor of C; group g holds channels g·C/G to (g + 1)·C/G - 1.
    weight, bias : arrays of shape (C,), optional
    v : array of shape (C,), optional
        How steep the gate is; without it there is none.
    eps : float
        Added to the biased variance, inside the square root.
    layout : str, optional
        The axes, a capital letter each, with one N and one C, such as "NHWC"; None means channels at axis 1.
    activation : {"relu", "gelu", "gelu_tanh", "silu", "sigmoid", "tanh"}, optional
        Applied to the result in the same trip, where there is no gate.
    out : array of x's shape and dtype, optional
        Where to write y; it may be x itself.
    return_stats : bool
        Whether to return what `evo_norm_s0_backward` takes.

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
    Liu, Brock, Simonyan, Le, "Evolving Normalization-Activation Layers", 2020, https://arxiv.org/abs/2004.02967

    Examples
    --------
    >>> import numpy as np, fastnorm
    >>> x = np.array([[1, 3, 10, 14]], np.float32)
    >>> fastnorm.evo_norm_s0(x, 2, v=np.ones(4, np.float32)).round(3)
    array([[0.731, 2.858, 5.   , 7.   ]], dtype=float32)
    """
    if v is None:
        argument = (num_groups, layout)
        y, of_group = normalize(_DIVIDED_GROUP, argument, x, weight, bias, eps, activation, out, return_stats)
        return y if of_group is None else (y, of_group.mean, of_group.rstd)
    _no_activation(activation)
    x = _checks.array(x, "x")
    shared = GROUP.shared(x.shape, (num_groups, layout))
    out = _checks.result(out, "out", x)
    weight, bias, v = parameters_of(weight, bias, v, shared, x)
    added = _checks.eps(eps)
    found = _grid.moments(GROUP, (num_groups, layout), x)
    rstd, channels = 1 / np.sqrt(found.variance + added), Channels.of(x, layout)
    scale = _of_group(rstd, channels) if weight is None else _of_group(rstd, channels) * weight
    known = channels.of_channel(v), channels.of_both(scale), channels.of_channel(bias, missing=0.0)
    y = run(EVO_S0, [x], known, out=out, again=True).outputs[0]
    return (y, found.mean + found.tail, rstd) if return_stats else y


def evo_norm_s0_backward(
    dy: Array,
    x: Array,
    num_groups: int,
    mean: Array,
    rstd: Array,
    weight: Array | None = None,
    bias: Array | None = None,
    v: Array | None = None,
    *,
    layout: str | None = None,
    activation: str | None = None,
) -> EvoGradients:
    r"""Gradients of `evo_norm_s0` with respect to x, weight, bias and v.

    .. math:: h = x\,\sigma(v x), \quad dx = \mathrm{rstd}\left(dy \cdot \mathrm{weight} \cdot h'(x) -
              \hat x \cdot \mathrm{rstd} \cdot \overline{dy \cdot \mathrm{weight} \cdot h}\right)

    with the mean over a group, and dv the sum of
    :math:`dy \cdot \mathrm{weight} \cdot \mathrm{rstd} \cdot x^2 \sigma'(v x)` over a channel.

    Parameters
    ----------
    dy, x : floating arrays of one shape and dtype
        The gradient of the result, and the forward call's input.
    num_groups : int
        The forward call's.
    mean, rstd : float64 arrays of shape (N, G)
        As `evo_norm_s0` returned them with `return_stats=True`.
    weight, bias, v : arrays, optional
        The forward call's; the bias matters to an activation alone.
    layout, activation : str, optional
        The forward call's.

    Returns
    -------
    EvoGradients
        The named tuple (dx, dweight, dbias, dv): dx with x's dtype and memory order, the others with weight's dtype, dv with
        v's (without one x's, or float32 where that has 16 bits).

    Raises
    ------
    TypeError, ValueError
        An argument has the wrong type, dtype, shape or value.

    Examples
    --------
    >>> import numpy as np, fastnorm
    >>> x, v = np.array([[1, 3, 10, 14]], np.float32), np.ones(4, np.float32)
    >>> y, mean, rstd = fastnorm.evo_norm_s0(x, 2, v=v, return_stats=True)
    >>> fastnorm.evo_norm_s0_backward(np.ones_like(x), x, 2, mean, rstd, v=v).dbias
    array([1., 1., 1., 1.], dtype=float32)
    """
    argument = (num_groups, layout)
    if v is None:
        every = (True, True, True)
        of_group = backward(_DIVIDED_GROUP, argument, dy, x, mean, rstd, weight, bias, activation, every)
        return EvoGradients(of_group.dx, of_group.dweight, of_group.dbias, None)
    _no_activation(activation)
    x = _checks.array(x, "x")
    shared = GROUP.shared(x.shape, argument)
    dy, dtypes = _checks.like(dy, "dy", x), dtypes_of(x, weight, v)
    weight, _, v = parameters_of(weight, bias, v, shared, x)
    shape = shared.statistic_shape(x.shape)
    mean, rstd = statistic(mean, "mean", shape), statistic(rstd, "rstd", shape)
    if x.dtype == FLOAT64:
        exact = _grid.moments(GROUP, argument, x)  # with digits of the mean that one number has no room for
        mean, tail = exact.mean, exact.tail
    else:
        tail = np.zeros(shape)
    channels = Channels.of(x, layout)
    gate = channels.of_channel(v)
    products, ones, of_v = channels.sums(run(EVO_S0_SUMS, [dy, x], [gate], channels.others))
    r, w = _of_group(rstd, channels), np.ones(()) if weight is None else weight
    per_group = channels.shape[1] // num_groups
    drstd = (products * w).reshape(*shape, per_group).sum(2)
    of_x = -drstd * rstd**2 / max(1, channels.size * per_group)
    high, low = split(mean, tail, x)
    group = (high, rstd, of_x, -of_x * rstd * low)
    known = [gate, channels.of_both(r * w), *(channels.of_both(_of_group(s, channels)) for s in group)]
    dx = run(EVO_S0_GRADIENT, [dy, x], known, again=True).outputs[0]
    sums = (r * products).sum(0), ones.sum(0), (r * w * of_v).sum(0)
    return EvoGradients(dx, *(cast(s, d) for s, d in zip(sums, dtypes, strict=True)))


def _no_activation(activation: Any) -> None:
    if activation is not None:
        raise ValueError(
            f"activation is {activation!r}, expected None beside v, whose gate is in the place of one"
        )


def _of_group(statistic: Array, channels: Channels) -> Array:
    """What has the shape (N, G), for each channel."""
    return np.repeat(statistic, channels.shape[1] // max(1, statistic.shape[1]), 1)

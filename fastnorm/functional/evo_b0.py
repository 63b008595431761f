"""EvoNorm B0: x over the batch's deviation, or the instance's plus v·x where that is more; an affine pair per channel."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import _checks
from .._floats import FLOAT64, cast
from ..kernels.maps.elementwise import EVO_B0, EVO_B0_GRADIENT, EVO_B0_SUMS
from ..kernels.mixture import merge_samples
from ._evo import EvoGradients, dtypes_of, parameters_of, split, statistic
from ._flow import grid as _grid
from ._flow.forward import Array
from ._flow.map import Channels, run
from ._flow.roles import BATCH_IN_TRAINING, INSTANCE, Shared
from ._flow.running import Running


def evo_norm_b0(
    x: Array,
    running_var: Array | None = None,
    weight: Array | None = None,
    bias: Array | None = None,
    v: Array | None = None,
    *,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    layout: str | None = None,
    out: Array | None = None,
    return_stats: bool = False,
) -> Any:
    r"""Divide x by the batch's deviation, or by the instance's plus v·x where that is more; scale and shift every channel.

    .. math:: y = \frac{x}{\max\left(\sqrt{\mathrm{var}_c(x) + \mathrm{eps}}, \
              v_c\,x + \sqrt{\mathrm{var}_{nc}(x) + \mathrm{eps}}\right)} \cdot \mathrm{weight}_c + \mathrm{bias}_c

    It stands in the place of batch norm and the activation behind it.

    Parameters
    ----------
    x : floating array with an axis of samples and one of C channels, of any strides
    running_var : float32 or float64 array of shape (C,), optional
        Used as the batch's variance in inference; in training updated as by `batch_norm`.
    weight, bias, v : arrays of shape (C,), optional
        Without a v it is 1, as it begins in the paper.
    training : bool
        Whether to use the batch's own variance; without a running one it is used in any case.
    momentum : float
        The share of the batch in the running variance.
    eps : float
        Added to both biased variances, inside the square roots.
    layout : str, optional
        The axes, a capital letter each, with one N and one C, such as "NHWC"; None means channels at axis 1.
    out : array of x's shape and dtype, optional
        Where to write y; it may be x itself.
    return_stats : bool
        Whether to return what `evo_norm_b0_backward` takes.

    Returns
    -------
    y : array with x's dtype, shape and memory order
    mean, var : float64 arrays of shape (N, C)
        The statistics of the instances, from which the batch's follow; only with `return_stats=True`.

    Raises
    ------
    TypeError, ValueError
        An argument has the wrong type, dtype, shape or value, or training has one value per channel; nothing has been
        written, the running variance included.

    References
    ----------
    Liu, Brock, Simonyan, Le, "Evolving Normalization-Activation Layers", 2020, https://arxiv.org/abs/2004.02967

    Examples
    --------
    >>> import numpy as np, fastnorm
    >>> x = np.array([[[-2, 0]], [[1, 3]]], np.float32)
    >>> fastnorm.evo_norm_b0(x).round(3)
    array([[[-1.109,  0.   ]],
    <BLANKLINE>
           [[ 0.5  ,  0.75 ]]], dtype=float32)
    """
    x = _checks.array(x, "x")
    shared = INSTANCE.shared(x.shape, layout)
    out = _checks.result(out, "out", x)
    parameters = parameters_of(weight, bias, v, shared, x)
    running = _running(running_var, shared, training, x, out, momentum)
    if training or running is None:
        BATCH_IN_TRAINING.shared(x.shape, layout)  # refuses a batch that has no variance
    added = _checks.eps(eps)
    if x.size == 0:
        y, nothing = (
            np.empty_like(x) if out is None else out,
            np.full(shared.statistic_shape(x.shape), np.nan),
        )
        return (y, nothing, nothing.copy()) if return_stats else y
    found = _grid.moments(INSTANCE, layout, x)
    channels = Channels.of(x, layout)
    batch = _of_batch(found, channels) if training or running is None else None
    weight, bias, v = parameters
    known = _deviations(channels, v, running, batch, found, added)
    pair = channels.of_channel(weight), channels.of_channel(bias, missing=0.0)
    y = run(EVO_B0, [x], [*known, *pair], out=out, again=True).outputs[0]
    if running is not None and batch is not None:
        running.update(batch.mean, batch.variance, channels.size * channels.shape[0])
    return (y, found.mean + found.tail, found.variance) if return_stats else y


def evo_norm_b0_backward(
    dy: Array,
    x: Array,
    mean: Array,
    var: Array,
    running_var: Array | None = None,
    weight: Array | None = None,
    v: Array | None = None,
    *,
    training: bool = False,
    eps: float = 1e-5,
    layout: str | None = None,
) -> EvoGradients:
    r"""Gradients of `evo_norm_b0` with respect to x, weight, bias and v.

    With d the divisor and :math:`q = dy \cdot \mathrm{weight}`, :math:`\partial d = -q\,x/d^2` goes to the batch's deviation
    where d is that, else to v, x and the instance's deviation; and from a deviation s of n elements to each of them as
    :math:`(x - \mathrm{mean})/(n\,s)`.

    Parameters
    ----------
    dy, x : floating arrays of one shape and dtype
        The gradient of the result, and the forward call's input.
    mean, var : float64 arrays of shape (N, C)
        As `evo_norm_b0` returned them with `return_stats=True`.
    running_var, weight, v : arrays, optional
        The forward call's; the running variance, before it was updated, matters in inference alone.
    training, eps, layout
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
    >>> x = np.array([[[-2, 0]], [[1, 3]]], np.float32)
    >>> y, mean, var = fastnorm.evo_norm_b0(x, return_stats=True)
    >>> fastnorm.evo_norm_b0_backward(np.ones_like(x), x, mean, var).dbias
    array([4.], dtype=float32)
    """
    x = _checks.array(x, "x")
    shared = INSTANCE.shared(x.shape, layout)
    dy, dtypes = _checks.like(dy, "dy", x), dtypes_of(x, weight, v)
    weight, _, v = parameters_of(weight, None, v, shared, x)
    running = _running(running_var, shared, False, x, None, 0.0)
    shape, added = shared.statistic_shape(x.shape), _checks.eps(eps)
    mean, var = statistic(mean, "mean", shape), statistic(var, "var", shape)
    if x.size == 0:
        return EvoGradients(np.empty_like(x), *(np.zeros(shared.parameters, d) for d in dtypes))
    found = _grid.Moments(mean, np.zeros(shape), var)
    if x.dtype == FLOAT64:
        found = _grid.moments(INSTANCE, layout, x)  # with digits of the mean that one number has no room for
    channels, w = Channels.of(x, layout), np.ones(()) if weight is None else weight
    batch = _of_batch(found, channels) if training or running is None else None
    known = _deviations(channels, v, running, batch, found, added)
    sums = channels.sums(run(EVO_B0_SUMS, [dy, x], known, channels.others))
    products, ones, of_instance, of_batch, of_v = sums
    rstd, count = 1 / np.sqrt(found.variance + added), channels.size
    high, low = split(found.mean, found.tail, x)
    of_x = -w * of_instance / count
    shift = -of_x * low * rstd
    if batch is not None:
        # x - batch's mean = (x - instance's mean) + what lies between the two.
        share = -w * of_batch.sum(0) / np.sqrt(batch.variance + added) / (count * len(mean))
        of_x, shift = of_x + share / rstd, shift + share * (_grid.difference(found, batch) - low)
    own = (channels.of_both(s) for s in (high, rstd, of_x, shift))
    dx = run(EVO_B0_GRADIENT, [dy, x], [*known, channels.of_channel(weight), *own], again=True).outputs[0]
    results = products.sum(0), ones.sum(0), (-w * of_v).sum(0)
    return EvoGradients(dx, *(cast(r, d) for r, d in zip(results, dtypes, strict=True)))


def _running(
    var: Any, shared: Shared, training: bool, x: Array, out: Array | None, momentum: float
) -> Running | None:
    """The running variance, beside a mean that nobody asks for."""
    if var is None:
        return None
    (channels,), why = shared.parameters, shared.why
    var = _checks.running(var, "running_var", (channels,), why, training)
    for name, other in (("out", out), ("x", x if training else None)):
        if other is not None and _checks.overlap(var, other):
            raise ValueError(f"running_var shares memory with {name}, expected an array of its own")
    return Running(np.zeros(channels), var, _checks.momentum(momentum))


def _of_batch(found: _grid.Moments, channels: Channels) -> _grid.Moments:
    """The moments of each channel."""
    samples, count = channels.shape
    merged = np.empty((3, count))
    merge_samples(_grid.in_order(found), np.full(samples, channels.size), merged)
    return _grid.Moments(*merged)


def _deviations(
    channels: Channels,
    v: Array | None,
    running: Running | None,
    batch: _grid.Moments | None,
    found: _grid.Moments,
    eps: float,
) -> list[Array]:
    """v, and the deviations of the batch and of each instance, as the maps take them."""
    if batch is not None:
        variance = batch.variance
    else:
        assert running is not None
        variance = running.var.astype(np.float64)
    of_batch, of_instance = np.sqrt(variance + eps), np.sqrt(found.variance + eps)
    return [channels.of_channel(v), channels.of_channel(of_batch), channels.of_both(of_instance)]

"""Switchable norm: a learned mixture of instance, layer and batch statistics, an affine pair per channel."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import _checks
from .._floats import FLOAT64, cast, computed
from ..kernels.activations import CODES
from ..kernels.mixture import mix, mix_backward
from ._flow import grid as _grid
from ._flow.roles import INSTANCE, Shared, elements_per_statistic
from ._flow.running import Running, checked
from ._ragged.places import places

Array = NDArray[Any]

_THREE = "one for each of the instance's, the layer's and the batch's statistics"


class SwitchableGradients(NamedTuple):
    """What `switchable_norm_backward` returns."""

    dx: Array
    dmean_weight: Array
    dvar_weight: Array
    dweight: Array
    dbias: Array


def switchable_norm(
    x: Array,
    mean_weight: Array | None = None,
    var_weight: Array | None = None,
    weight: Array | None = None,
    bias: Array | None = None,
    running_mean: Array | None = None,
    running_var: Array | None = None,
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
    r"""Normalize by a mixture of the instance's, the layer's and the batch's statistics, then scale and shift every channel.

    .. math:: y = \mathrm{activation}\left(\frac{x - \sum_k w_k\,\mathrm{mean}_k}{\sqrt{\sum_k w'_k\,\mathrm{var}_k +
              \mathrm{eps}}} \cdot \mathrm{weight}_c + \mathrm{bias}_c\right), \quad k \in \{in, ln, bn\}

    where w is the softmax of `mean_weight` and w' that of `var_weight`.

    Parameters
    ----------
    x : floating array with an axis of samples, one of C channels and others to average over, of any strides
    mean_weight, var_weight : arrays of shape (3,), optional
        The logits of the mixtures of means and of variances, for instance, layer and batch; equal shares without them.
    weight, bias : arrays of shape (C,), optional
    running_mean, running_var : float32 or float64 arrays of shape (C,), optional
        Used as the batch's statistics in inference; in training updated as by `batch_norm`.
    training : bool
        Whether to use the batch's own statistics; without running ones they are used in any case.
    momentum : float
        The share of the batch in the running statistics.
    eps : float
        Added to the mixed variance, inside the square root.
    layout : str, optional
        The axes, a capital letter each, with one N and one C, such as "NHWC"; None means channels at axis 1.
    activation : {"relu", "gelu", "gelu_tanh", "silu", "sigmoid", "tanh"}, optional
        Applied to the result in the same trip.
    out : array of x's shape and dtype, optional
        Where to write y; it may be x itself.
    return_stats : bool
        Whether to return what `switchable_norm_backward` takes.
    mask, lengths, keep_padding
        Which positions are valid, and what becomes of the others, as in `batch_norm`.

    Returns
    -------
    y : array with x's dtype, shape and memory order
    mean, var : float64 arrays of shape (N, C)
        The statistics of the instances, from which all others follow; only with `return_stats=True`.

    Raises
    ------
    TypeError, ValueError
        An argument has the wrong type, dtype, shape or value; nothing has been written, running statistics included.

    References
    ----------
    Luo, Ren, Peng, Zhang, Li, "Differentiable Learning-to-Normalize via Switchable Normalization", 2018,
    https://arxiv.org/abs/1806.10779

    Examples
    --------
    >>> import numpy as np, fastnorm
    >>> x = np.array([[[1, 3], [4, 8]], [[0, 0], [2, 6]]], np.float32)
    >>> only_batch = np.array([-100, -100, 0], np.float32)
    >>> fastnorm.switchable_norm(x, only_batch, only_batch).round(3)
    array([[[ 0.   ,  1.633],
            [-0.447,  1.342]],
    <BLANKLINE>
           [[-0.816, -0.816],
            [-1.342,  0.447]]], dtype=float32)
    """
    x = _checks.array(x, "x")
    shared = _shared(x.shape, layout)
    out = _checks.result(out, "out", x)
    logits = _logits(mean_weight, var_weight)
    weight, bias = _checks.affine_pair(weight, bias, shared.parameters, x.dtype, shared.why, out)
    running = _running(running_mean, running_var, shared, training, x, out, momentum)
    added = _checks.eps(eps)
    _checks.activation(activation, CODES)
    valid = places(x, layout, mask, lengths)
    found = valid.moments()
    if not valid.counts.any():
        y = valid.apply(found, (None, None), added, activation, out, keep_padding)
        return (y, found.mean, found.variance) if return_stats else y
    mixture = _mixture(found, valid.counts, logits, None if training else running)
    pair = _grid.of_samples(weight, found.mean.shape), _grid.of_samples(bias, found.mean.shape)
    y = valid.apply(_grid.Moments(*mixture.mixed), pair, added, activation, out, keep_padding)
    if running is not None and training:
        mean, _, variance = mixture.batch
        running.update(mean, variance, valid.counts.sum())
    return (y, found.mean + found.tail, found.variance) if return_stats else y


def switchable_norm_backward(
    dy: Array,
    x: Array,
    mean: Array,
    var: Array,
    mean_weight: Array | None = None,
    var_weight: Array | None = None,
    weight: Array | None = None,
    bias: Array | None = None,
    running_mean: Array | None = None,
    running_var: Array | None = None,
    *,
    training: bool = False,
    eps: float = 1e-5,
    layout: str | None = None,
    activation: str | None = None,
    mask: Array | None = None,
    lengths: Array | None = None,
) -> SwitchableGradients:
    r"""Gradients of `switchable_norm` with respect to x and all parameters.

    With :math:`S_1, S_2` the sums of :math:`g` and :math:`g \hat x` over an instance and r the mixture's rstd,

    .. math:: d\mathrm{mean} = -r\,\mathrm{weight}_c\,S_1, \quad d\mathrm{var} = -\tfrac12 r^2\,\mathrm{weight}_c\,S_2,
              \quad d\,\mathrm{logit}_k = w_k \sum_{nc} d\mathrm{mean}\,(\mathrm{mean}_k - \mathrm{mean})

    and dx follows through the means and variances of instance, layer and batch (`docs/norms/switchable_norm.md`).

    Parameters
    ----------
    dy, x : floating arrays of one shape and dtype
        The gradient of the result, and the forward call's input.
    mean, var : float64 arrays of shape (N, C)
        As `switchable_norm` returned them with `return_stats=True`.
    mean_weight, var_weight, weight, bias, running_mean, running_var : arrays, optional
        The forward call's; the running ones, before they were updated, matter in inference alone.
    training, eps, layout, activation, mask, lengths
        The forward call's; dx is 0 where padding is.

    Returns
    -------
    SwitchableGradients
        The named tuple (dx, dmean_weight, dvar_weight, dweight, dbias): dx with x's dtype and memory order, the others in
        the parameters' dtypes (without one x's, or float32 where that has 16 bits).

    Raises
    ------
    TypeError, ValueError
        An argument has the wrong type, dtype, shape or value.

    Examples
    --------
    >>> import numpy as np, fastnorm
    >>> x = np.array([[[1, 3], [4, 8]], [[0, 0], [2, 6]]], np.float32)
    >>> y, mean, var = fastnorm.switchable_norm(x, return_stats=True)
    >>> fastnorm.switchable_norm_backward(np.ones_like(x), x, mean, var).dbias
    array([4., 4.], dtype=float32)
    """
    x = _checks.array(x, "x")
    own = computed(x.dtype)
    dtypes = [own if p is None else p.dtype for p in (mean_weight, var_weight, weight, weight)]
    shared = _shared(x.shape, layout)
    logits = _logits(mean_weight, var_weight)
    weight, bias = _checks.affine_pair(weight, bias, shared.parameters, x.dtype, shared.why)
    running = _running(running_mean, running_var, shared, False, x, None, 0.0)
    shape, added = shared.statistic_shape(x.shape), _checks.eps(eps)
    mean, var = (
        _checks.parameter(s, name, shape, FLOAT64, _FORWARD) for s, name in ((mean, "mean"), (var, "var"))
    )
    dy = _checks.like(dy, "dy", x)
    valid = places(x, layout, mask, lengths)
    if not valid.counts.any():
        nothing = (np.zeros(n, dtype) for n, dtype in zip((3, 3, shape[1], shape[1]), dtypes, strict=True))
        return SwitchableGradients(np.zeros_like(x), *nothing)
    # Of float64, with the digits of the mean that one number has no room for.
    found = valid.moments() if x.dtype == FLOAT64 else _grid.Moments(mean, np.zeros(shape), var)
    mixture = _mixture(found, valid.counts, logits, None if training else running)
    mean, tail, variance = mixture.mixed
    rstd = 1 / np.sqrt(variance + added)
    w = np.ones(shape[1]) if weight is None else weight.astype(np.float64)
    pair = _grid.of_samples(weight, shape), _grid.of_samples(bias, shape)
    if activation is not None and x.dtype == FLOAT64:
        # The kernels know a mean of one number: what it lacks goes into the bias.
        pair = pair[0], (0.0 if bias is None else bias) - tail * rstd * w
    sums = valid.sums(dy, mean, rstd, pair, activation)
    (of_x, of_1), dlogits, dpair = mixture.back(rstd, w, sums)
    dx = valid.gradient(dy, mean, rstd, (rstd, of_x, of_1), pair, activation)
    results = zip((*dlogits, *dpair), dtypes, strict=True)
    return SwitchableGradients(dx, *(cast(r, dtype) for r, dtype in results))


_FORWARD = "that of what the forward call returned"


def _shared(shape: tuple[int, ...], layout: Any) -> Shared:
    shared = INSTANCE.shared(shape, layout)
    if elements_per_statistic(shape, shared.roles) == 0:
        raise ValueError(f"x has shape {shape}, with no element to average over in a channel of a sample")
    return shared


def _logits(mean_weight: Any, var_weight: Any) -> Array:
    """Those of means and of variances; without them, of equal shares."""
    logits = np.zeros((2, 3))
    for line, given, name in zip(
        logits, (mean_weight, var_weight), ("mean_weight", "var_weight"), strict=True
    ):
        if given is not None:
            line[:] = _checks.parameter(given, name, (3,), FLOAT64, _THREE)
    return logits


def _running(
    mean: Any, var: Any, shared: Shared, written: bool, x: Array, out: Array | None, momentum: float
) -> Running | None:
    if mean is None and var is None:
        return None
    return checked(mean, var, shared, written, x, out, _checks.momentum(momentum))


class _Mixture(NamedTuple):
    """The statistics of every instance, and what they were merged and mixed to; a line each for mean, tail and variance."""

    instance: tuple[Array, ...]  # (N, C) each
    counts: Array  # (N,), the elements of an instance
    given: bool  # whether the batch's are running ones
    shares: Array  # (2, 3)
    layer: Array  # (3, N)
    batch: Array  # (3, C)
    mixed: Array  # (3, N, C)

    def back(self, rstd: Array, weight: Array, sums: _grid.Sums) -> tuple[Array, Array, Array]:
        """The terms of x_hat and of 1 in dx, and the gradients of the logits and of weight and bias."""
        terms, dlogits, dpair = np.empty((2, *rstd.shape)), np.zeros((2, 3)), np.zeros((2, rstd.shape[1]))
        mix_backward(tuple(self), rstd, weight, _grid.in_order(sums), terms, dlogits, dpair)
        return terms, dlogits, dpair


def _mixture(found: _grid.Moments, counts: Array, logits: Array, running: Running | None) -> _Mixture:
    (samples, channels), given = found.mean.shape, running is not None
    instance, counts = _grid.in_order(found), np.ascontiguousarray(counts, np.int64)
    shares, layer, batch = np.empty((2, 3)), np.empty((3, samples)), np.empty((3, channels))
    if running is not None:
        batch[0], batch[1], batch[2] = running.mean, 0, running.var
    mixed = np.empty((3, samples, channels))
    mix(instance, counts, logits, given, shares, layer, batch, mixed)
    return _Mixture(instance, counts, given, shares, layer, batch, mixed)

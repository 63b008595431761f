"""Switchable norm: a learned mixture of instance, layer and batch statistics, an affine pair per channel."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import _checks
from .._floats import FLOAT64, cast, computed
from ..kernels.activations import CODES
from . import _grid
from ._places import places
from ._roles import INSTANCE, Shared, elements_per_statistic
from ._running import Running, checked

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
    shares = _shares(mean_weight, "mean_weight"), _shares(var_weight, "var_weight")
    weight, bias = _checks.affine_pair(weight, bias, shared.parameters, x.dtype, shared.why, out)
    running = _running(running_mean, running_var, shared, training, x, out, momentum)
    added = _checks.eps(eps)
    _checks.activation(activation, CODES)
    valid = places(x, layout, mask, lengths)
    found = valid.moments()
    if not valid.counts.any():
        y = valid.apply(found, (None, None), added, activation, out, keep_padding)
        return (y, found.mean, found.variance) if return_stats else y
    batch = None if training or running is None else running
    mixture = _mixture(found, valid.counts, shares, batch)
    pair = _of_samples(weight, found.mean.shape), _of_samples(bias, found.mean.shape)
    y = valid.apply(mixture.mixed, pair, added, activation, out, keep_padding)
    if running is not None and training:
        of_batch = _grid.merged(found, 0, valid.counts)
        running.update(of_batch.mean[0], of_batch.variance[0], valid.counts.sum())
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
    shares = _shares(mean_weight, "mean_weight"), _shares(var_weight, "var_weight")
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
    mixture = _mixture(found, valid.counts, shares, None if training or running is None else running)
    mixed = mixture.mixed
    rstd = 1 / np.sqrt(mixed.variance + added)
    w = np.ones(shape[1:]) if weight is None else weight.astype(np.float64)
    pair = _of_samples(weight, shape), _of_samples(bias, shape)
    if activation is not None and x.dtype == FLOAT64:
        # The kernels know a mean of one number: what it lacks goes into the bias.
        pair = pair[0], (0.0 if bias is None else bias) - mixed.tail * rstd * w
    first, second = valid.sums(dy, mixed.mean, rstd, pair, activation)
    second = second - mixed.tail * rstd * first
    dmean, dvar = -rstd * w * first, -0.5 * rstd**2 * w * second
    into_mean, into_var = mixture.back(dmean, dvar, shares)
    # A mean's share in each of its elements; of a sample without any, all sums are 0.
    part = 1 / np.maximum(1, valid.counts)[:, np.newaxis]
    of_x = 2 * part * into_var / rstd
    of_1 = part * (into_mean + 2 * into_var * _grid.difference(mixed, found)) - of_x * mixed.tail * rstd
    dx = valid.gradient(dy, mixed.mean, rstd, (rstd, of_x, of_1), pair, activation)
    results = *mixture.logits(dmean, dvar, shares), second.sum(0), first.sum(0)
    return SwitchableGradients(dx, *(cast(r, dtype) for r, dtype in zip(results, dtypes, strict=True)))


_FORWARD = "that of what the forward call returned"


def _shared(shape: tuple[int, ...], layout: Any) -> Shared:
    shared = INSTANCE.shared(shape, layout)
    if elements_per_statistic(shape, shared.roles) == 0:
        raise ValueError(f"x has shape {shape}, with no element to average over in a channel of a sample")
    return shared


def _shares(logits: Any, name: str) -> Array:
    """The softmax of three logits."""
    if logits is None:
        return np.full(3, 1 / 3)
    logits = _checks.parameter(logits, name, (3,), FLOAT64, _THREE)
    powers = np.exp(logits - logits.max())
    shares: Array = powers / powers.sum()
    return shares


def _of_samples(parameter: Array | None, shape: tuple[int, ...]) -> Array | None:
    """A parameter of each channel, for every sample."""
    return None if parameter is None else np.broadcast_to(parameter, shape)


def _running(
    mean: Any, var: Any, shared: Shared, written: bool, x: Array, out: Array | None, momentum: float
) -> Running | None:
    if mean is None and var is None:
        return None
    return checked(mean, var, shared, written, x, out, _checks.momentum(momentum))


# -- Statistics: means are (mean, tail), and only differences between them are rounded ---------------------------------


class _Mixture(NamedTuple):
    """The three statistics of every instance, and what they are mixed to."""

    instance: _grid.Moments
    layer: _grid.Moments
    batch: _grid.Moments
    mixed: _grid.Moments
    parts: Array  # each sample's in the batch's statistics, (N, 1): 0 where these are running ones

    def back(self, dmean: Array, dvar: Array, shares: tuple[Array, Array]) -> tuple[Array, Array]:
        """The gradients with respect to the mean and variance of every instance."""
        w, v = shares
        into_mean, into_var = w[0] * dmean, v[0] * dvar
        for k, (of, axis, parts) in enumerate(
            ((self.layer, 1, 1 / dmean.shape[1]), (self.batch, 0, self.parts)), 1
        ):
            of_var = v[k] * dvar.sum(axis, keepdims=True)
            spread = 2 * of_var * _grid.difference(self.instance, of)
            into_mean = into_mean + parts * (w[k] * dmean.sum(axis, keepdims=True) + spread)
            into_var = into_var + parts * of_var
        return into_mean, into_var

    def logits(self, dmean: Array, dvar: Array, shares: tuple[Array, Array]) -> tuple[Array, Array]:
        """The gradients with respect to the logits of both mixtures."""
        three = self.instance, self.layer, self.batch
        means = [np.sum(dmean * _grid.difference(of, self.mixed)) for of in three]
        variances = [np.sum(dvar * (of.variance - self.mixed.variance)) for of in three]
        return shares[0] * means, shares[1] * variances


def _mixture(
    found: _grid.Moments, counts: Array, shares: tuple[Array, Array], running: Running | None
) -> _Mixture:
    layer, parts = _grid.merged(found, 1, counts), (counts / counts.sum())[:, np.newaxis]
    if running is None:
        batch = _grid.merged(found, 0, counts)
    else:
        mean, var = (s.astype(np.float64)[np.newaxis] for s in (running.mean, running.var))
        batch, parts = _grid.Moments(mean, np.zeros_like(mean), var), np.zeros_like(parts)
    (w, v), pilot = shares, found.mean
    shift = (
        w[0] * found.tail
        + w[1] * _grid.difference(layer, _at(pilot))
        + w[2] * _grid.difference(batch, _at(pilot))
    )
    mean = pilot + shift
    variance = v[0] * found.variance + v[1] * layer.variance + v[2] * batch.variance
    return _Mixture(found, layer, batch, _grid.Moments(mean, (pilot - mean) + shift, variance), parts)


def _at(mean: Array) -> _grid.Moments:
    """A mean without a tail."""
    return _grid.Moments(mean, np.zeros(()), np.zeros(()))

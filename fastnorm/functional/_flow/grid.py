"""The four steps of a norm whose coefficients are arithmetic on statistics: moments, apply; sums, gradient.

A norm that mixes statistics (switchable norm), corrects them (batch renormalization) or shares them out otherwise (ghost
batch norm) takes the moments of x where they are shared the least, computes a mean, a variance, a weight and a bias for
each of these places in NumPy, and applies them. Backward, it takes two sums for each place, computes three coefficients,
and applies those. Every array of statistics or parameters here is shaped as `Shared.statistic_shape` says: (N, C) for
`PER_SAMPLE_AND_CHANNEL`, (C,) for `PER_CHANNEL`, x.shape without `axis` for `PER_ROW`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ... import _checks
from ..._floats import FLOAT64
from ..._layout import Ints
from ...kernels.activations import CODES
from ...kernels.columns import backward as columns_backward
from ...kernels.columns import forward as columns
from ...kernels.rows import backward as rows_backward
from ...kernels.rows import forward as rows
from .arrange import arrange
from .backward import lines_of, summed
from .recall import free, new_call, recall
from .roles import BATCH, INSTANCE, LAYER, RMS, Norm, with_own_pairs

Array = NDArray[Any]

PER_SAMPLE_AND_CHANNEL = with_own_pairs(INSTANCE)  # the argument is a layout
PER_CHANNEL = with_own_pairs(BATCH)  # the same
PER_ROW = with_own_pairs(LAYER)  # the argument is axis
MEAN_SQUARE_PER_ROW = with_own_pairs(RMS)


class Moments(NamedTuple):
    """Float64; the variance is biased, and the mean square where the norm's one statistic is that: its mean is 0.

    The mean is mean + tail: where x is float64, its last digits matter.
    """

    mean: Array
    tail: Array
    variance: Array


def moments(norm: Norm, argument: Any, x: Array) -> Moments:
    """What the elements that share a statistic say; NaN where there are none."""
    key, call = recall("moments", norm, argument, None, None, x)
    if call is None:
        given, x = x, _checks.array(x, "x")
        shared = norm.shared(x.shape, argument)
        if x.size == 0:
            return Moments(*np.full((3, *shared.statistic_shape(x.shape)), np.nan))
        at = arrange(x, None, [None], shared.roles, (int(norm.second_moment), 0))
        key = key if x is given and at.plain else None
        call = new_call(key, at.plan, shared, (columns if at.plan.columns else rows).forward, x)
        x = at.x
    values = np.empty((3, call.plan.statistics))
    call.kernel(1, x, None, None, None, None, None, values)
    mean, variance, tail = call.plan.statistics_out(values)
    found = Moments(mean, tail, variance)
    return Moments(*(s.T for s in found)) if call.shared.flipped else found


def unmoved(shape: Ints) -> Moments:
    """Statistics, of `shape`, with which x stays as it is."""
    return Moments(np.zeros(shape), np.zeros(shape), np.ones(shape))


def of_samples(parameter: Array | None, shape: Ints) -> Array | None:
    """A parameter of each channel for every sample, (N, C)."""
    if parameter is None:
        return None
    result: Array = np.empty(shape, parameter.dtype)
    result[:] = parameter
    return result


def difference(a: Moments, b: Moments) -> Array:
    """The mean of a less that of b."""
    found: Array = (a.mean - b.mean) + (a.tail - b.tail)
    return found


def in_order(statistics: tuple[Array, ...]) -> tuple[Array, ...]:
    """As kernels take them that do arithmetic on statistics: in C order."""
    return tuple(map(np.ascontiguousarray, statistics))


def apply(
    norm: Norm,
    argument: Any,
    x: Array,
    statistics: Moments,
    weight: Array | None = None,
    bias: Array | None = None,
    *,
    eps: float = 0.0,
    activation: str | None = None,
    out: Array | None = None,
) -> Array:
    """y = activation((x - mean - tail)/√(variance + eps)·weight + bias), all of them arrays with a place per statistic.

    Weight and bias are rounded once, to the dtype in which the kernels compute on x.
    """
    key, call = recall("apply", norm, argument, eps, activation, x)
    at = None
    if call is not None and (out is None or free(out, call, x)):
        y = y_to = call.new() if out is None else out
    else:
        given, x = x, _checks.array(x, "x")
        shared = norm.shared(x.shape, argument)
        out = _checks.result(out, "out", x)
        code, added = _checks.activation(activation, CODES), _checks.eps(eps)
        if x.size == 0:
            return np.empty_like(x) if out is None else out
        at = arrange(x, None, [out], shared.roles, (0, code))
        key = key if x is given and at.plain else None
        kernel, size = (columns if at.plan.columns else rows).apply, at.plan.pairs(shared.parameters)
        call = new_call(key, at.plan, shared, kernel, x, eps=added, gradients=(0, size))
        x, y_to = at.x, at.results[0]
    pair = call.pair(*(rounded(p, call.dtype) for p in (weight, bias)))
    mean, tail, variance = map(call.placed, statistics)
    call.kernel(1, x, y_to, *pair, np.concatenate((mean, tail)), variance)
    return y if at is None else at.given_back()[0]


class Sums(NamedTuple):
    """Float64: Σ g and Σ g·x_hat for every statistic, where g = dy·activation'(z)."""

    of_g: Array
    of_product: Array


def sums(
    norm: Norm,
    argument: Any,
    dy: Array,
    x: Array,
    mean: Array,
    rstd: Array,
    weight: Array | None = None,
    bias: Array | None = None,
    *,
    activation: str | None = None,
) -> Sums:
    """The sums behind a gradient, x_hat being (x - mean)·rstd; weight and bias matter to an activation alone."""
    key, call = recall("sums", norm, argument, None, activation, x)
    if call is None or not call.alike(dy, x):
        given, x = (dy, x), _checks.array(x, "x")
        dy = _checks.like(dy, "dy", x)
        shared = norm.shared(x.shape, argument)
        code = _checks.activation(activation, CODES)
        if x.size == 0:
            return Sums(*np.zeros((2, *shared.statistic_shape(x.shape))))
        at = arrange(x, dy, [None], shared.roles, (0, code, 1))
        key = key if dy is given[0] and x is given[1] and at.plain else None
        kernel = (columns_backward if at.plan.columns else rows_backward).backward
        size = lines_of(at.plan), at.plan.pairs(shared.parameters)
        call = new_call(key, at.plan, shared, kernel, x, gradients=size)
        dy, x = at.beside, at.x
    pair = call.pair(*(rounded(p, call.dtype) for p in (weight, bias)))
    found = np.zeros((2, *call.gradients))
    call.kernel(1, dy, x, None, *pair, call.statistic(mean), call.statistic(rstd), found)
    of_product, of_g = summed(found, call, FLOAT64)
    return Sums(of_g, of_product)


def gradient(
    norm: Norm,
    argument: Any,
    dy: Array,
    x: Array,
    mean: Array,
    rstd: Array,
    terms: tuple[Array, Array, Array],
    weight: Array | None = None,
    bias: Array | None = None,
    *,
    activation: str | None = None,
) -> Array:
    """dx = terms[0]·weight·g + terms[1]·x_hat + terms[2], g and x_hat as in `sums`."""
    key, call = recall("gradient", norm, argument, None, activation, x)
    at = None
    if call is not None and call.alike(dy, x):
        dx = dx_to = call.new()
    else:
        given, x = (dy, x), _checks.array(x, "x")
        dy = _checks.like(dy, "dy", x)
        shared = norm.shared(x.shape, argument)
        code = _checks.activation(activation, CODES)
        if x.size == 0:
            return np.empty_like(x)
        at = arrange(x, dy, [None], shared.roles, (0, code, 1))
        key = key if dy is given[0] and x is given[1] and at.plain else None
        kernel = (columns_backward if at.plan.columns else rows_backward).gradient
        call = new_call(key, at.plan, shared, kernel, x)
        dy, x, dx_to = at.beside, at.x, at.results[0]
    pair = call.pair(*(rounded(p, call.dtype) for p in (weight, bias)))
    lines = np.concatenate([call.statistic(term) for term in terms])
    call.kernel(1, dy, x, dx_to, *pair, call.statistic(mean), call.statistic(rstd), lines)
    return dx if at is None else at.given_back()[0]


def rounded(parameter: Array | None, dtype: Any) -> Array | None:
    """A weight or bias, in C order."""
    return None if parameter is None else np.ascontiguousarray(parameter, dtype)

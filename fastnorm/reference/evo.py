"""EvoNorm S0 and B0, forward and backward."""

import numpy as np
from numpy.typing import ArrayLike

from ._parts import (
    ACTIVATIONS,
    Array,
    MaybeArray,
    affine,
    by_channel,
    by_sample_and_channel,
    by_sample_and_group,
    from_layout,
    moments,
    split_channels,
    to_layout,
    wide,
)

# fmt: off

Gradients = tuple[Array, Array, Array, Array | None]


def evo_norm_s0(x: ArrayLike, num_groups: int, weight: MaybeArray = None, bias: MaybeArray = None,
                v: MaybeArray = None, *, eps: float = 1e-5, layout: str | None = None) -> tuple[Array, Array, Array]:
    """x·σ(v·x) over a group's standard deviation: (y, mean, rstd) (Liu, Brock, Simonyan and Le 2020, arXiv:2004.02967)."""
    x = from_layout(x, layout)
    grouped = split_channels(x, num_groups)
    mean, var = moments(grouped, by_sample_and_group(grouped).statistic)
    rstd = 1 / np.sqrt(var + eps)
    y = affine(_gated(x, v)[0] * _to_channels(rstd, x), weight, bias, by_channel(x))
    return to_layout(y, layout), mean, rstd


def evo_norm_s0_backward(dy: ArrayLike, x: ArrayLike, num_groups: int, mean: ArrayLike, rstd: ArrayLike,
                         weight: MaybeArray = None, v: MaybeArray = None, *, layout: str | None = None) -> Gradients:
    """(dx, dweight, dbias, dv)."""
    dy, x, rstd, mean = from_layout(dy, layout), from_layout(x, layout), wide(rstd), wide(mean)
    shared, (h, of_x, of_v) = by_channel(x), _gated(x, v)
    r = _to_channels(rstd, x)
    q = affine(dy, weight, None, shared)
    drstd = split_channels(q * h, num_groups).sum(by_sample_and_group(split_channels(x, num_groups)).statistic)
    dvar = -drstd * rstd**3 / 2
    count = x[0].size / num_groups
    dx = q * of_x * r + 2 * _to_channels(dvar, x) * (x - _to_channels(mean, x)) / count
    dv = None if of_v is None else (q * r * of_v).sum(shared.affine)
    return to_layout(dx, layout), (dy * h * r).sum(shared.affine), dy.sum(shared.affine), dv


def evo_norm_b0(x: ArrayLike, running_var: MaybeArray = None, weight: MaybeArray = None, bias: MaybeArray = None,
                v: MaybeArray = None, *, training: bool = False, eps: float = 1e-5, layout: str | None = None
                ) -> tuple[Array, Array, Array]:
    """x over the greater of the batch's deviation and the instance's plus v·x: (y, mean, var), these of the instances."""
    x = from_layout(x, layout)
    divisor, _ = _divisor(x, None if training else running_var, v, eps)
    y = affine(x / divisor, weight, bias, by_channel(x))
    return to_layout(y, layout), *moments(x, by_sample_and_channel(x).statistic)


def evo_norm_b0_backward(dy: ArrayLike, x: ArrayLike, mean: ArrayLike, var: ArrayLike, running_var: MaybeArray = None,
                         weight: MaybeArray = None, v: MaybeArray = None, *, training: bool = False,
                         eps: float = 1e-5, layout: str | None = None) -> Gradients:
    """(dx, dweight, dbias, dv): through the greater of the two, and from it through its deviation."""
    dy, x = from_layout(dy, layout), from_layout(x, layout)
    running_var = None if training else running_var
    shared = by_channel(x)
    divisor, own = _divisor(x, running_var, v, eps)
    q = affine(dy, weight, None, shared)
    ddivisor = -q * x / divisor**2
    dx = q / divisor + own * ddivisor * affine(np.ones_like(x), v, None, shared)
    dx += _through_deviation(own * ddivisor, x, by_sample_and_channel(x).statistic, eps)
    if running_var is None:
        dx += _through_deviation(~own * ddivisor, x, shared.statistic, eps)
    dv = (own * ddivisor * x).sum(shared.affine)
    return to_layout(dx, layout), (dy * x / divisor).sum(shared.affine), dy.sum(shared.affine), dv


def _gated(x: Array, v: MaybeArray) -> tuple[Array, Array, Array | None]:
    """h = x·σ(v·x), or x, and its slopes along x and v."""
    if v is None:
        return x, np.ones_like(x), None
    z = affine(x, v, None, by_channel(x))
    sigmoid = ACTIVATIONS["sigmoid"]
    return x * sigmoid.value(z), ACTIVATIONS["silu"].slope(z), x * x * sigmoid.slope(z)


def _to_channels(statistic: Array, x: Array) -> Array:
    """(N, G), repeated for the channels of each group and all positions."""
    of_channel = np.repeat(statistic, x.shape[1] // statistic.shape[1], 1)
    return of_channel.reshape(*of_channel.shape, *[1] * (x.ndim - 2))


def _divisor(x: Array, running_var: MaybeArray, v: MaybeArray, eps: float) -> tuple[Array, Array]:
    """The greater of the two, and where that is the instance's."""
    shared, instance = by_channel(x), by_sample_and_channel(x).statistic
    var = moments(x, shared.statistic)[1] if running_var is None else wide(running_var)
    of_batch = affine(np.ones_like(x), np.sqrt(var + eps), None, shared)
    deviation = np.sqrt(moments(x, instance)[1] + eps)
    term = affine(x, v, None, shared) + np.expand_dims(deviation, instance)
    return np.maximum(of_batch, term), term > of_batch


def _through_deviation(gradient: Array, x: Array, axes: tuple[int, ...], eps: float) -> Array:
    """From √(var + eps), which all elements along `axes` share, to each of them."""
    mean, var = (np.expand_dims(s, axes) for s in moments(x, axes))
    result: Array = gradient.sum(axes, keepdims=True) * (x - mean) / np.sqrt(var + eps) / (x.size / var.size)
    return result

"""Variance-only layer and batch norm, forward and backward: divided by the standard deviation, not centred."""

import numpy as np
from numpy.typing import ArrayLike

from ._parts import (
    ACTIVATIONS,
    Array,
    Axes,
    MaybeArray,
    Shared,
    Triple,
    affine,
    by_channel,
    by_row,
    forward,
    from_layout,
    moments,
    to_layout,
    wide,
    x_hat_of,
)
from .classic import layer_norm, layer_norm_backward

# fmt: off


def _divided_backward(dy: Array, x: Array, mean: Array, rstd: ArrayLike, weight: MaybeArray, bias: MaybeArray,
                      shared: Shared, activation: str | None, constant: bool) -> Triple:
    """The chain rule through z = x * rstd * weight + bias and, unless it is constant, through rstd."""
    divided = x_hat_of(x, None, rstd, shared)
    g = dy
    if activation is not None:
        g = dy * ACTIVATIONS[activation].slope(affine(divided, weight, bias, shared))
    gw = dx_hat = affine(g, weight, None, shared)
    if not constant:
        dx_hat = dx_hat - x_hat_of(x, mean, rstd, shared) * (gw * divided).mean(shared.statistic, keepdims=True)
    dx = dx_hat * np.expand_dims(wide(rstd), shared.statistic)
    return dx, (g * divided).sum(shared.affine), g.sum(shared.affine)


def variance_only_layer_norm(x: ArrayLike, weight: MaybeArray = None, bias: MaybeArray = None, *, axis: Axes = -1,
                             eps: float = 1e-5, activation: str | None = None) -> Triple:
    """Divide each row by its standard deviation (Wang et al. 2020, arXiv:2006.12753): (y, mean, rstd)."""
    x = wide(x)
    shared = by_row(x, axis)
    mean, var = moments(x, shared.statistic)
    y, rstd = forward(x, None, var, eps, weight, bias, shared, activation)
    return y, mean, rstd


def variance_only_layer_norm_backward(dy: ArrayLike, x: ArrayLike, mean: ArrayLike, rstd: ArrayLike,
                                      weight: MaybeArray = None, bias: MaybeArray = None, *, axis: Axes = -1,
                                      activation: str | None = None) -> Triple:
    x = wide(x)
    return _divided_backward(wide(dy), x, wide(mean), rstd, weight, bias, by_row(x, axis), activation, False)


def variance_only_batch_norm(x: ArrayLike, running_var: MaybeArray = None, weight: MaybeArray = None,
                             bias: MaybeArray = None, *, training: bool = False, eps: float = 1e-5,
                             layout: str | None = None, activation: str | None = None) -> Triple:
    """Divide each channel by its standard deviation (Wang et al. 2020, arXiv:2006.12753): (y, mean, rstd)."""
    x = from_layout(x, layout)
    shared = by_channel(x)
    mean, var = moments(x, shared.statistic)
    if not training and running_var is not None:
        mean, var = np.zeros_like(mean), wide(running_var)
    y, rstd = forward(x, None, var, eps, weight, bias, shared, activation)
    return to_layout(y, layout), mean, rstd


def variance_only_batch_norm_backward(dy: ArrayLike, x: ArrayLike, mean: ArrayLike, rstd: ArrayLike,
                                      weight: MaybeArray = None, bias: MaybeArray = None, *, training: bool = True,
                                      layout: str | None = None, activation: str | None = None) -> Triple:
    dy, x = from_layout(dy, layout), from_layout(x, layout)
    shared = by_channel(x)
    found = _divided_backward(dy, x, wide(mean), rstd, weight, bias, shared, activation, not training)
    return to_layout(found[0], layout), *found[1:]


def simple_layer_norm(x: ArrayLike, *, axis: Axes = -1, eps: float = 1e-5, activation: str | None = None) -> Triple:
    """Layer norm without weight and bias (Wang et al. 2020, arXiv:2006.12753)."""
    return layer_norm(x, axis=axis, eps=eps, activation=activation)


def simple_layer_norm_backward(dy: ArrayLike, x: ArrayLike, mean: ArrayLike, rstd: ArrayLike, *, axis: Axes = -1,
                               activation: str | None = None) -> Array:
    return layer_norm_backward(dy, x, mean, rstd, axis=axis, activation=activation)[0]

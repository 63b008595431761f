"""Adaptive layer norm, adaptive instance norm and FiLM, forward and backward: a scale and shift for each sample."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ._parts import Array, Axes, MaybeArray, Triple, activated, from_layout, through, to_layout, wide
from .classic import instance_norm, instance_norm_backward, layer_norm, layer_norm_backward

# fmt: off


def _of_each(x: Array, function: Callable[..., Any], *given: Any) -> tuple[Array, ...]:
    """The results of a function of one sample, for all of them; what is given has a value for each, or is None."""
    found = [function(x[i], *(None if g is None else wide(g)[i] for g in given)) for i in range(len(x))]
    return tuple(np.stack(results) for results in zip(*found, strict=True))


def _in_sample(axis: Axes, ndim: int) -> tuple[int, ...]:
    return tuple(a % ndim - 1 for a in ((axis,) if isinstance(axis, int) else axis))


def adaptive_layer_norm(x: ArrayLike, weight: MaybeArray = None, bias: MaybeArray = None, *, axis: Axes = -1,
                        eps: float = 1e-5, activation: str | None = None) -> Triple:
    """The layer norm of each sample with its own weight and bias (Peebles and Xie 2022, arXiv:2212.09748)."""
    x = wide(x)
    axes = _in_sample(axis, x.ndim)

    def one(x: Array, w: MaybeArray, b: MaybeArray) -> Triple:
        return layer_norm(x, w, b, axis=axes, eps=eps, activation=activation)

    y, mean, rstd = _of_each(x, one, weight, bias)
    return y, mean, rstd


def adaptive_layer_norm_backward(dy: ArrayLike, x: ArrayLike, mean: ArrayLike, rstd: ArrayLike,
                                 weight: MaybeArray = None, bias: MaybeArray = None, *, axis: Axes = -1,
                                 activation: str | None = None) -> Triple:
    dy = wide(dy)
    axes = _in_sample(axis, dy.ndim)

    def one(dy: Array, x: Array, mean: Array, rstd: Array, w: MaybeArray, b: MaybeArray) -> Triple:
        return layer_norm_backward(dy, x, mean, rstd, w, b, axis=axes, activation=activation)

    dx, dweight, dbias = _of_each(dy, one, x, mean, rstd, weight, bias)
    return dx, dweight, dbias


def adaptive_instance_norm(x: ArrayLike, weight: MaybeArray = None, bias: MaybeArray = None, *, eps: float = 1e-5,
                           layout: str | None = None, activation: str | None = None) -> Triple:
    """The instance norm of each sample with its own weight and bias (Huang and Belongie 2017, arXiv:1703.06868)."""
    x = from_layout(x, layout)

    def one(x: Array, w: MaybeArray, b: MaybeArray) -> tuple[Array, ...]:
        y, mean, rstd = instance_norm(x[np.newaxis], None, None, w, b, eps=eps, activation=activation)
        return y[0], mean[0], rstd[0]

    y, mean, rstd = _of_each(x, one, weight, bias)
    return to_layout(y, layout), mean, rstd


def adaptive_instance_norm_backward(dy: ArrayLike, x: ArrayLike, mean: ArrayLike, rstd: ArrayLike,
                                    weight: MaybeArray = None, bias: MaybeArray = None, *,
                                    layout: str | None = None, activation: str | None = None) -> Triple:
    def one(dy: Array, *given: Array) -> tuple[Array, ...]:
        x, mean, rstd, w, b = (None if g is None else g[np.newaxis] for g in given)
        w, b = (None if p is None else p[0] for p in (w, b))
        dx, dw, db = instance_norm_backward(dy[np.newaxis], x, mean, rstd, w, b, activation=activation)
        return dx[0], dw, db

    dx, dweight, dbias = _of_each(from_layout(dy, layout), one, from_layout(x, layout), mean, rstd, weight, bias)
    return to_layout(dx, layout), dweight, dbias


def _modulated(x: Array, weight: MaybeArray, bias: MaybeArray) -> Array:
    shape = (*x.shape[:2], *(1 for _ in x.shape[2:]))
    z: Array = x if weight is None else x * wide(weight).reshape(shape)
    return z if bias is None else z + wide(bias).reshape(shape)


def film(x: ArrayLike, weight: MaybeArray = None, bias: MaybeArray = None, *, layout: str | None = None,
         activation: str | None = None) -> Array:
    """x * weight + bias for each channel of each sample (Perez et al. 2017, arXiv:1709.07871)."""
    return to_layout(activated(_modulated(from_layout(x, layout), weight, bias), activation), layout)


def film_backward(dy: ArrayLike, x: ArrayLike, weight: MaybeArray = None, bias: MaybeArray = None, *,
                  layout: str | None = None, activation: str | None = None) -> Triple:
    x = from_layout(x, layout)
    g = through(from_layout(dy, layout), _modulated(x, weight, bias), activation)
    positions = tuple(range(2, x.ndim))
    return to_layout(_modulated(g, weight, None), layout), (g * x).sum(positions), g.sum(positions)

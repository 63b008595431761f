"""Variations on batch norm: batch renormalization, ghost batch norm, frozen batch norm; forward and backward."""

import numpy as np
from numpy.typing import ArrayLike

from ._parts import (
    ACTIVATIONS,
    Array,
    MaybeArray,
    Triple,
    affine,
    by_channel,
    from_layout,
    moments,
    to_layout,
    wide,
)
from .classic import batch_norm, batch_norm_backward

# fmt: off


def batch_renorm(x: ArrayLike, running_mean: ArrayLike, running_std: ArrayLike, weight: MaybeArray = None,
                 bias: MaybeArray = None, *, training: bool = False, r_max: float = 3.0, d_max: float = 5.0,
                 eps: float = 1e-5, layout: str | None = None, activation: str | None = None
                 ) -> tuple[Array, Array, Array, Array, Array]:
    """Normalize by the batch, corrected towards running statistics: (y, mean, rstd, r, d) (Ioffe 2017, arXiv:1702.03275)."""
    x, mean, std = from_layout(x, layout), wide(running_mean), wide(running_std)
    shared = by_channel(x)
    r, d = np.ones_like(std), np.zeros_like(mean)
    if training:
        (mean, var), running = moments(x, shared.statistic), (mean, std)
        std = np.sqrt(var + eps)
        r = np.clip(std / running[1], 1 / r_max, r_max)
        d = np.clip((mean - running[0]) / running[1], -d_max, d_max)
    z = affine(affine((x - _each(mean, x)) / _each(std, x), r, d, shared), weight, bias, shared)
    return to_layout(z if activation is None else ACTIVATIONS[activation].value(z), layout), mean, 1 / std, r, d


def batch_renorm_backward(dy: ArrayLike, x: ArrayLike, mean: ArrayLike, rstd: ArrayLike, r: ArrayLike, d: ArrayLike,
                          weight: MaybeArray = None, bias: MaybeArray = None, *, training: bool = True,
                          layout: str | None = None, activation: str | None = None) -> Triple:
    """The chain rule back through scale and shift, then through batch norm; r and d are constants."""
    g, x = from_layout(dy, layout), from_layout(x, layout)
    shared = by_channel(x)
    x_hat = affine((x - _each(wide(mean), x)) * _each(wide(rstd), x), r, d, shared)
    if activation is not None:
        g = g * ACTIVATIONS[activation].slope(affine(x_hat, weight, bias, shared))
    through = affine(affine(g, weight, None, shared), r, None, shared)
    dx = batch_norm_backward(through, x, mean, rstd, training=training)[0]
    return to_layout(dx, layout), (g * x_hat).sum(shared.affine), g.sum(shared.affine)


def update_renorm(running_mean: ArrayLike, running_std: ArrayLike, mean: ArrayLike, rstd: ArrayLike,
                  momentum: float) -> tuple[Array, Array]:
    """The running statistics after a batch: its standard deviation is biased, and has eps in it."""
    pairs = (wide(running_mean), wide(mean)), (wide(running_std), 1 / wide(rstd))
    first, second = (running + momentum * (batch - running) for running, batch in pairs)
    return first, second


def _each(statistic: Array, x: Array) -> Array:
    return statistic.reshape(-1, *[1] * (x.ndim - 2))


def ghost_batch_norm(x: ArrayLike, ghost_batch_size: int, weight: MaybeArray = None, bias: MaybeArray = None, *,
                     eps: float = 1e-5, layout: str | None = None, activation: str | None = None) -> Triple:
    """Batch norm of one ghost batch after another, the last perhaps smaller (Hoffer et al. 2017, arXiv:1705.08741)."""
    found = [batch_norm(ghost, None, None, weight, bias, training=True, eps=eps, activation=activation)
             for ghost in _ghosts(x, ghost_batch_size, layout)]
    y, mean, rstd = zip(*found, strict=True)
    return to_layout(np.concatenate(y), layout), np.stack(mean), np.stack(rstd)


def ghost_batch_norm_backward(dy: ArrayLike, x: ArrayLike, ghost_batch_size: int, mean: ArrayLike, rstd: ArrayLike,
                              weight: MaybeArray = None, bias: MaybeArray = None, *, layout: str | None = None,
                              activation: str | None = None) -> Triple:
    ghosts = zip(_ghosts(dy, ghost_batch_size, layout), _ghosts(x, ghost_batch_size, layout), wide(mean), wide(rstd),
                 strict=True)
    found = [batch_norm_backward(g, ghost, m, r, weight, bias, activation=activation) for g, ghost, m, r in ghosts]
    dx, dweight, dbias = zip(*found, strict=True)
    return to_layout(np.concatenate(dx), layout), np.sum(dweight, 0), np.sum(dbias, 0)


def _ghosts(x: ArrayLike, size: int, layout: str | None) -> list[Array]:
    x = from_layout(x, layout)
    return [x[first:first + size] for first in range(0, len(x), size)]


def frozen_batch_norm(x: ArrayLike, running_mean: ArrayLike, running_var: ArrayLike, weight: MaybeArray = None,
                      bias: MaybeArray = None, *, eps: float = 1e-5, layout: str | None = None,
                      activation: str | None = None) -> Array:
    """Batch norm in inference, of which all parameters are constants."""
    return batch_norm(x, running_mean, running_var, weight, bias, eps=eps, layout=layout, activation=activation)[0]


def frozen_batch_norm_backward(dy: ArrayLike, x: ArrayLike, running_mean: ArrayLike, running_var: ArrayLike,
                               weight: MaybeArray = None, bias: MaybeArray = None, *, eps: float = 1e-5,
                               layout: str | None = None, activation: str | None = None) -> Array:
    """dx alone."""
    rstd = 1 / np.sqrt(wide(running_var) + eps)
    return batch_norm_backward(dy, x, running_mean, rstd, weight, bias, training=False, layout=layout,
                               activation=activation)[0]

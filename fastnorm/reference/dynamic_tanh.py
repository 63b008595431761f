"""Dynamic tanh, forward and backward."""

import numpy as np
from numpy.typing import ArrayLike

from ._parts import Array, Axes, MaybeArray, Shared, activated, affine, through, wide

# fmt: off


def dynamic_tanh(x: ArrayLike, alpha: ArrayLike, weight: MaybeArray = None, bias: MaybeArray = None, *,
                 axis: Axes = -1, activation: str | None = None) -> Array:
    """activation(tanh(alpha·x)·weight + bias) (Zhu, Chen, He, LeCun and Liu 2025, arXiv:2503.10622)."""
    x = wide(x)
    return activated(affine(np.tanh(wide(alpha) * x), weight, bias, _pairs(x, axis)), activation)


def dynamic_tanh_backward(dy: ArrayLike, x: ArrayLike, alpha: ArrayLike, weight: MaybeArray = None,
                          bias: MaybeArray = None, *, axis: Axes = -1,
                          activation: str | None = None) -> tuple[Array, Array, Array, Array]:
    """(dx, dalpha, dweight, dbias)."""
    x, alpha = wide(x), wide(alpha)
    shared = _pairs(x, axis)
    y = np.tanh(alpha * x)
    g = through(wide(dy), affine(y, weight, bias, shared), activation)
    dz = affine(g, weight, None, shared) * (1 - y * y)
    dalpha = np.full(alpha.shape, (dz * x).sum())
    return dz * alpha, dalpha, (g * y).sum(shared.affine), g.sum(shared.affine)


def _pairs(x: Array, axis: Axes) -> Shared:
    """There are no statistics; an affine pair is shared along all axes but `axis`."""
    own = {a % x.ndim for a in ((axis,) if isinstance(axis, int) else axis)}
    return Shared(statistic=(), affine=tuple(a for a in range(x.ndim) if a not in own))

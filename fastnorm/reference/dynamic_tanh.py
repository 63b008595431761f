"""Dynamic tanh, forward and backward."""

import numpy as np
from numpy.typing import ArrayLike

from ._parts import Array, Axes, MaybeArray, Shared, affine, wide

# fmt: off


def dynamic_tanh(x: ArrayLike, alpha: ArrayLike, weight: MaybeArray = None, bias: MaybeArray = None, *,
                 axis: Axes = -1) -> Array:
    """tanh(alpha·x)·weight + bias (Zhu, Chen, He, LeCun and Liu 2025, arXiv:2503.10622)."""
    x = wide(x)
    return affine(np.tanh(wide(alpha) * x), weight, bias, _pairs(x, axis))


def dynamic_tanh_backward(dy: ArrayLike, x: ArrayLike, alpha: ArrayLike, weight: MaybeArray = None, *,
                          axis: Axes = -1) -> tuple[Array, Array, Array, Array]:
    """(dx, dalpha, dweight, dbias)."""
    dy, x, alpha = wide(dy), wide(x), wide(alpha)
    shared = _pairs(x, axis)
    y = np.tanh(alpha * x)
    dz = affine(dy, weight, None, shared) * (1 - y * y)
    dalpha = np.full(alpha.shape, (dz * x).sum())
    return dz * alpha, dalpha, (dy * y).sum(shared.affine), dy.sum(shared.affine)


def _pairs(x: Array, axis: Axes) -> Shared:
    """There are no statistics; an affine pair is shared along all axes but `axis`."""
    own = {a % x.ndim for a in ((axis,) if isinstance(axis, int) else axis)}
    return Shared(statistic=(), affine=tuple(a for a in range(x.ndim) if a not in own))

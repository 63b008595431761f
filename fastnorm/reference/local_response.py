"""Local response norm, forward and backward."""

import numpy as np
from numpy.typing import ArrayLike

from ._parts import Array, from_layout, to_layout

# fmt: off


def local_response_norm(x: ArrayLike, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0, *,
                        layout: str | None = None) -> Array:
    """x over (k + alpha·mean of the squares in its window)^beta (Krizhevsky, Sutskever and Hinton 2012)."""
    x = from_layout(x, layout)
    return to_layout(x * _under_power(x, size, alpha, k) ** -beta, layout)


def local_response_norm_backward(dy: ArrayLike, x: ArrayLike, size: int, alpha: float = 1e-4, beta: float = 0.75,
                                 k: float = 1.0, *, layout: str | None = None) -> tuple[Array]:
    """(dx,): an element is in the windows of those in its own, mirrored."""
    dy, x = from_layout(dy, layout), from_layout(x, layout)
    t = _under_power(x, size, alpha, k)
    dt = _window_sums((-beta * dy * x * t ** (-beta - 1))[:, ::-1], size)[:, ::-1]
    return (to_layout(dy * t**-beta + 2 * alpha / size * x * dt, layout),)


def _under_power(x: Array, size: int, alpha: float, k: float) -> Array:
    t: Array = k + alpha * (_window_sums(np.square(x), size) / size)
    return t


def _window_sums(x: Array, size: int) -> Array:
    """Over `size` channels around each, of which size // 2 lie before it; zeros lie outside."""
    padding = [(0, 0)] * x.ndim
    padding[1] = size // 2, (size - 1) // 2
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(x, padding), size, axis=1)
    sums: Array = windows.sum(-1)
    return sums

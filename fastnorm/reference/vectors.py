"""Normalize (by any p-norm) and scale norm, forward and backward."""

import numpy as np
from numpy.typing import ArrayLike

from ._parts import Array, Axes, activated, by_row, through, wide

# fmt: off


def normalize(x: ArrayLike, p: float = 2.0, axis: Axes = 1, eps: float = 1e-12, *,
              activation: str | None = None) -> tuple[Array, Array]:
    """x over its p-norm, which counts for eps at least: (y, norm) (torch.nn.functional.normalize)."""
    x = wide(x)
    row = by_row(x, axis).statistic
    norm = np.abs(x).max(row) if p == np.inf else (np.abs(x)**p).sum(row)**(1 / p)
    return activated(x / np.expand_dims(np.maximum(norm, eps), row), activation), norm


def normalize_backward(dy: ArrayLike, x: ArrayLike, norm: ArrayLike, p: float = 2.0, axis: Axes = 1,
                       eps: float = 1e-12, *, activation: str | None = None) -> Array:
    """The quotient rule; of several largest values each has a share of the slope of their norm."""
    dy, x = wide(dy), wide(x)
    row = by_row(x, axis).statistic
    norm = np.expand_dims(wide(norm), row)
    if p == np.inf:
        slope = np.sign(x) * (np.abs(x) == norm)
        slope /= np.abs(slope).sum(row, keepdims=True)
    else:
        slope = np.sign(x) * np.power(np.abs(x) / norm, p - 1, where=x != 0, out=np.zeros_like(x))
    denominator = np.maximum(norm, eps)
    dy = through(dy, x / denominator, activation)
    ddenominator = -(dy * x).sum(row, keepdims=True) / denominator**2
    dx: Array = dy / denominator + np.where(norm < eps, 0, ddenominator * slope)
    return dx


def scale_norm(x: ArrayLike, g: ArrayLike, *, axis: Axes = -1, eps: float = 1e-5,
               activation: str | None = None) -> tuple[Array, Array]:
    """Vectors brought to the length g (Nguyen and Salazar 2019, arXiv:1910.05895): (y, their own lengths)."""
    y, norm = normalize(x, 2, axis, eps)
    return activated(wide(g) * y, activation), norm


def scale_norm_backward(dy: ArrayLike, x: ArrayLike, norm: ArrayLike, g: ArrayLike, *, axis: Axes = -1,
                        eps: float = 1e-5, activation: str | None = None) -> tuple[Array, Array]:
    """(dx, dg)."""
    y, _ = normalize(x, 2, axis, eps)
    dz = through(wide(dy), wide(g) * y, activation)
    dx = normalize_backward(wide(g) * dz, x, norm, 2, axis, eps)
    return dx, np.sum(dz * y).reshape(np.shape(g))

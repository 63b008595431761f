"""Norms of weights, and of the product with them: weight, spectral and cosine norm, weight standardization."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ._parts import Array, Axes, MaybeArray, Triple, backward, by_row, forward, moments, wide

# fmt: off

# A norm for every index along `dim`, over all other axes.


def _over(v: Array, dim: Axes | None) -> tuple[int, ...]:
    kept = () if dim is None else tuple(d % v.ndim for d in ((dim,) if isinstance(dim, int) else dim))
    return tuple(axis for axis in range(v.ndim) if axis not in kept)


def weight_norm(v: ArrayLike, g: MaybeArray = None, dim: Axes | None = 0) -> tuple[Array, Array]:
    """(g·v/‖v‖, ‖v‖) (Salimans and Kingma 2016, arXiv:1602.07868)."""
    v = wide(v)
    norm = np.sqrt(np.square(v).sum(_over(v, dim), keepdims=True))
    w = (1 if g is None else wide(g)) * v / norm
    return w, norm.reshape(()) if dim is None else norm


def weight_norm_backward(dw: ArrayLike, v: ArrayLike, g: MaybeArray, norm: ArrayLike,
                         dim: Axes | None = 0) -> tuple[Array, Array]:
    dw, v, norm = wide(dw), wide(v), wide(norm)
    direction = v / norm
    dg = (dw * direction).sum(_over(v, dim), keepdims=True)
    dv = (1 if g is None else wide(g)) / norm * (dw - direction * dg)
    return dv, dg.reshape(norm.shape)


# Weight standardization: layer norm of all that an output has.


def _of_outputs(w: Array, axis: Axes | None) -> Any:
    return by_row(w, tuple(range(1, w.ndim)) if axis is None else axis)


def weight_standardization(w: ArrayLike, *, axis: Axes | None = None, eps: float = 1e-5) -> Triple:
    """(w - mean)/√(var + eps), mean, rstd (Qiao et al. 2019, arXiv:1903.10520)."""
    w = wide(w)
    shared = _of_outputs(w, axis)
    mean, var = moments(w, shared.statistic)
    w_hat, rstd = forward(w, mean, var, eps, None, None, shared, None)
    return w_hat, mean, rstd


def weight_standardization_backward(dy: ArrayLike, w: ArrayLike, mean: ArrayLike, rstd: ArrayLike, *,
                                    axis: Axes | None = None) -> Array:
    dy, w = wide(dy), wide(w)
    return backward(dy, w, mean, rstd, None, None, _of_outputs(w, axis), None)[0]


# Spectral norm: w is a matrix with a row for every index along `dim`.


def _matrix(w: Array, dim: int) -> Array:
    rows = np.moveaxis(w, dim, 0)
    return rows.reshape(len(rows), -1)


def spectral_norm(w: ArrayLike, u: ArrayLike, v: ArrayLike, *, dim: int = 0, n_power_iterations: int = 1,
                  eps: float = 1e-12, training: bool = False) -> tuple[Array, Any, Array, Array]:
    """(w/σ, σ, u, v), σ = uᵀWv (Miyato et al. 2018, arXiv:1802.05957)."""
    w = wide(w)
    matrix, left, right = _matrix(w, dim), wide(u), wide(v)
    for _ in range(n_power_iterations if training else 0):
        left = _direction(matrix @ right, eps)
        right = _direction(matrix.T @ left, eps)
    sigma = left @ matrix @ right
    return w / sigma, sigma, left, right


def _direction(a: Array, eps: float) -> Array:
    return a / np.maximum(np.sqrt(a @ a), eps)  # type: ignore[no-any-return]


def spectral_norm_backward(dy: ArrayLike, w: ArrayLike, u: ArrayLike, v: ArrayLike, sigma: Any, *,
                           dim: int = 0) -> Array:
    """The gradient through w/σ, u and v being constants."""
    dy, w = wide(dy), wide(w)
    dsigma = -(dy * w).sum() / sigma**2
    d_matrix: Array = _matrix(dy, dim) / sigma + dsigma * np.outer(wide(u), wide(v))
    return np.moveaxis(d_matrix.reshape(np.moveaxis(w, dim, 0).shape), 0, dim)


# Cosine norm: the cosine of x and each row of weight.


def _unit(x: Array, centered: bool, eps: float) -> tuple[Array, Array]:
    """Rows over their norms, and these."""
    x = x - np.expand_dims(moments(x, -1)[0], -1) if centered else x
    norm = np.maximum(np.sqrt(np.square(x).sum(-1, keepdims=True)), eps)
    return x / norm, norm


def cosine_norm(x: ArrayLike, weight: ArrayLike, *, centered: bool = False, eps: float = 1e-8) -> Array:
    """x̂·ŵ for every row w of weight (Luo et al. 2017, arXiv:1702.05870)."""
    return _unit(wide(x), centered, eps)[0] @ _unit(wide(weight), centered, eps)[0].T


def cosine_norm_backward(dy: ArrayLike, x: ArrayLike, weight: ArrayLike, *, centered: bool = False,
                         eps: float = 1e-8) -> tuple[Array, Array]:
    dy, x, weight = wide(dy), wide(x), wide(weight)

    def through(g: Array, a: Array) -> Array:
        a_hat, norm = _unit(a, centered, eps)
        da: Array = np.where(norm > eps, g - a_hat * (g * a_hat).sum(-1, keepdims=True), g) / norm
        return da  # centered, its mean is 0, as are those of all unit rows

    dx = through(dy @ _unit(weight, centered, eps)[0], x)
    flat = _unit(x, centered, eps)[0].reshape(-1, x.shape[-1])
    return dx, through(dy.reshape(-1, len(weight)).T @ flat, weight)

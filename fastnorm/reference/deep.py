"""Deep norm, forward and backward."""

from numpy.typing import ArrayLike

from ._parts import Array, Axes, MaybeArray, wide
from .classic import layer_norm, layer_norm_backward

# fmt: off


def deep_norm(x: ArrayLike, residual: ArrayLike, weight: MaybeArray = None, bias: MaybeArray = None, *, alpha: float,
              axis: Axes = -1, eps: float = 1e-5, activation: str | None = None) -> tuple[Array, ...]:
    """(y, total, mean, rstd), y the layer norm of total = alpha · x + residual (Wang et al. 2022, arXiv:2203.00555)."""
    total = alpha * wide(x) + wide(residual)
    y, mean, rstd = layer_norm(total, weight, bias, axis=axis, eps=eps, activation=activation)
    return y, total, mean, rstd


def deep_norm_backward(dy: ArrayLike, total: ArrayLike, mean: ArrayLike, rstd: ArrayLike, weight: MaybeArray = None,
                       bias: MaybeArray = None, *, alpha: float, axis: Axes = -1,
                       activation: str | None = None) -> tuple[Array, ...]:
    """(dx, dresidual, dweight, dbias)."""
    found = layer_norm_backward(dy, total, mean, rstd, weight, bias, axis=axis, activation=activation)
    dresidual, dweight, dbias = found
    return alpha * dresidual, dresidual, dweight, dbias

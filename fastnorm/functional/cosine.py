"""Cosine norm: a linear layer whose results are cosines of x and each row of its weight, in place of dot products."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import _checks
from .._floats import cast, computed, store
from ._flow.grid import MEAN_SQUARE_PER_ROW, PER_ROW, apply, gradient, moments, sums

Array = NDArray[Any]


class CosineGradients(NamedTuple):
    """What `cosine_norm_backward` returns."""

    dx: Array
    dweight: Array


def cosine_norm(x: Array, weight: Array, *, centered: bool = False, eps: float = 1e-8) -> Array:
    r"""The cosines of x and each row of weight; centered, their correlations.

    .. math:: y_j = \hat x \cdot \hat w_j, \quad \hat x = \frac{x}{\max(\lVert x \rVert, \mathrm{eps})}, \quad
              \hat w_j = \frac{w_j}{\max(\lVert w_j \rVert, \mathrm{eps})}

    where centered x and :math:`w_j` first lose their means: y is Pearson's correlation.

    Parameters
    ----------
    x : floating array of shape (..., in_features), of any strides
    weight : array of shape (out_features, in_features)
    centered : bool
        Whether to subtract the mean of x and of each row of weight.
    eps : float
        The least norm that is divided by, as in PyTorch's `cosine_similarity`.

    Returns
    -------
    y : array of shape (..., out_features) with x's dtype
        The matrix product is BLAS's, in x's dtype (in float32 for 16 bits): a cosine is right to about the square root of
        in_features roundings.

    Raises
    ------
    TypeError, ValueError
        An argument has the wrong type, dtype, shape or value.

    References
    ----------
    Luo, Zhan, Wang, Yang, "Cosine Normalization: Using Cosine Similarity Instead of Dot Product in Neural Networks", 2017,
    https://arxiv.org/abs/1702.05870

    Examples
    --------
    >>> import numpy as np
    >>> from fastnorm import cosine_norm
    >>> x, weight = np.array([[3, 4]], np.float32), np.array([[5, 0], [0, -2]], np.float32)
    >>> cosine_norm(x, weight).round(3)
    array([[ 0.6, -0.8]], dtype=float32)
    """
    given = x = _checks.array(x, "x")
    x, weight, least = _checked(x, weight, eps)
    y = _product(_matrix(_unit(x, centered, least).rows), _unit(weight, centered, least).rows.T)
    return cast(y, given.dtype, copy=False).reshape(*given.shape[:-1], len(weight))


def cosine_norm_backward(
    dy: Array, x: Array, weight: Array, *, centered: bool = False, eps: float = 1e-8
) -> CosineGradients:
    r"""Gradients of `cosine_norm` with respect to x and weight.

    .. math:: dx = \frac{g - \hat x \, (g \cdot \hat x)}{\lVert x \rVert}, \quad g = \sum_j dy_j \, \hat w_j

    and dw likewise; where a norm is below eps, which then is a constant in its place, without the second term. It is the
    same centered: g has no mean to lose, being made of rows without one.

    Parameters
    ----------
    dy : floating array of shape (..., out_features) and x's dtype
        The gradient of the result.
    x, weight : arrays
        The forward call's.
    centered : bool
        The forward call's.
    eps : float
        The forward call's.

    Returns
    -------
    CosineGradients
        The named tuple (dx, dweight): dx with x's dtype and memory order, dweight with weight's dtype.

    Raises
    ------
    TypeError, ValueError
        An argument has the wrong type, dtype, shape or value.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnorm import cosine_norm_backward
    >>> x, weight = np.array([[3, 4]], np.float32), np.array([[2, 0]], np.float32)
    >>> dx, dweight = cosine_norm_backward(np.ones((1, 1), np.float32), x, weight)
    >>> dx.round(3), dweight.round(3)
    (array([[ 0.128, -0.096]], dtype=float32), array([[0. , 0.4]], dtype=float32))
    """
    given = x = _checks.array(x, "x")
    own = weight
    x, weight, least = _checked(x, weight, eps)
    dy = _checks.like(dy, "dy", np.empty((*given.shape[:-1], len(weight)), given.dtype), "y")
    g = _matrix(dy).astype(x.dtype, copy=False)
    of_x, of_weight = _unit(x, centered, least), _unit(weight, centered, least)
    dx = _gradient(_product(g, of_weight.rows).reshape(x.shape), of_x)
    dweight = _gradient(_product(g.T, _matrix(of_x.rows)), of_weight)
    if dx.dtype != given.dtype:
        dx = store(dx, np.empty_like(given))
    return CosineGradients(dx.reshape(given.shape), cast(dweight, own.dtype, copy=False))


def _checked(x: Array, weight: Any, eps: Any) -> tuple[Array, Array, float]:
    """x, with at least two axes, and weight, in the dtype in which they are multiplied, and eps."""
    _checks.axes(-1, x.shape)
    if isinstance(weight, np.ndarray) and weight.ndim != 2:
        raise ValueError(f"weight has shape {weight.shape}, expected two axes: (out_features, in_features)")
    why = f"(out_features, in_features), the latter being the last axis of x, whose shape is {x.shape}"
    dtype = computed(x.dtype)
    shape = np.shape(weight)[:1] + x.shape[-1:]
    weight = _checks.parameter(weight, "weight", shape, dtype, why)
    return np.atleast_2d(x.astype(dtype, copy=False)), weight, _checks.eps(eps)


class _Unit(NamedTuple):
    """Rows over their norms, 1 over these norms, and whether eps stands in for one."""

    rows: Array
    scale: Array
    constant: Array


def _unit(x: Array, centered: bool, eps: float) -> _Unit:
    norm = PER_ROW if centered else MEAN_SQUARE_PER_ROW
    found = moments(norm, -1, x)
    with np.errstate(all="ignore"):
        length = np.sqrt(found.variance * x.shape[-1])
        constant, length = length < eps, np.maximum(length, eps)
        return _Unit(apply(norm, -1, x, found._replace(variance=np.square(length))), 1 / length, constant)


def _gradient(g: Array, unit: _Unit) -> Array:
    """The gradient of what became unit rows, from that of these."""
    nothing, one = np.zeros_like(unit.scale), np.ones_like(unit.scale)
    product = sums(PER_ROW, -1, g, unit.rows, nothing, one).of_product
    with np.errstate(all="ignore"):
        of_rows = np.where(unit.constant, 0, -unit.scale * product)
    return gradient(PER_ROW, -1, g, unit.rows, nothing, one, (unit.scale, of_rows, nothing))


def _product(a: Array, b: Array) -> Array:
    """a @ b by BLAS; infinities become NaN without a word, as in the kernels."""
    with np.errstate(all="ignore"):
        return np.asarray(a @ b)


def _matrix(x: Array) -> Array:
    return x.reshape(math.prod(x.shape[:-1]), x.shape[-1])

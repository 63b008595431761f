"""Vectors brought to a length: normalize, to 1 by any p-norm; scale norm, to one learned length."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .. import _checks
from .._floats import computed
from ..kernels.activations import CODES
from ._flow import forward as _forward
from ._flow.forward import Array
from ._flow.roles import EUCLIDEAN
from ._lengths import (
    EUCLIDEAN_PER_ROW,
    checked,
    euclidean_gradient,
    gradient_by_slope,
    least_square,
    lengths,
    rows_of,
    scaled,
)


def normalize(
    x: Array,
    p: float = 2.0,
    axis: int | tuple[int, ...] = 1,
    eps: float = 1e-12,
    *,
    activation: str | None = None,
    out: Array | None = None,
    return_norm: bool = False,
) -> Any:
    r"""Divide the vectors that lie along `axis` by their p-norms.

    .. math:: y = \mathrm{activation}\left(\frac{x}{\max(\lVert x \rVert_p, \mathrm{eps})}\right), \quad
              \lVert x \rVert_p = \left(\sum \lvert x \rvert^p\right)^{1/p}

    Parameters
    ----------
    x : floating array of any shape and strides
    p : float
        Above 0; infinity is the largest absolute value. By 2 it is one trip over memory, by others NumPy finds the norms.
    axis : int or tuple of ints
        Along which the vectors lie; PyTorch's `dim`.
    eps : float
        The least that a norm counts for.
    activation : {"relu", "gelu", "gelu_tanh", "silu", "sigmoid", "tanh"}, optional
        Applied to the result in the same trip.
    out : array of x's shape and dtype, optional
        Where to write y; it may be x itself.
    return_norm : bool
        Whether to return what `normalize_backward` takes.

    Returns
    -------
    y : array with x's dtype, shape and memory order
    norm : float64 array shaped like x without `axis`
        The p-norms, also those below eps. Only with `return_norm=True`.

    Raises
    ------
    TypeError, ValueError
        An argument has the wrong type, dtype, shape or value; nothing has been written.

    References
    ----------
    PyTorch's `torch.nn.functional.normalize`

    Examples
    --------
    >>> import numpy as np
    >>> from fastnorm.functional.vectors import normalize
    >>> x = np.array([[3, 4], [0, 0]], np.float32)
    >>> normalize(x).round(3)
    array([[0.6, 0.8],
           [0. , 0. ]], dtype=float32)
    >>> y, norm = normalize(x, p=float("inf"), return_norm=True)
    >>> norm
    array([4., 0.])
    """
    x, p, eps = _checks.array(x, "x"), _checks.order(p), _checks.least(eps)
    if p == 2:
        least = least_square(eps, x.dtype)
        y, found = _forward.normalize(EUCLIDEAN, axis, x, None, None, least, activation, out, return_norm)
        return y if found is None else (y, np.asarray(np.sqrt(found.variance)))
    axes = _checks.axes(axis, x.shape)
    out = _checks.result(out, "out", x)
    _checks.activation(activation, CODES)
    with np.errstate(all="ignore"):  # as in the kernels
        norm = lengths(x, p, axes)
        y = scaled(x, axes, 1 / np.maximum(norm, eps), out, activation)
    return (y, np.asarray(norm)) if return_norm else y


def normalize_backward(
    dy: Array,
    x: Array,
    norm: Array,
    p: float = 2.0,
    axis: int | tuple[int, ...] = 1,
    eps: float = 1e-12,
    *,
    activation: str | None = None,
) -> Array:
    r"""Gradient of `normalize` with respect to x.

    .. math:: g = dy \cdot \mathrm{activation}'(z), \quad
              dx = \frac{1}{n} \left(g - \frac{\sum g \cdot x}{n} \cdot
              \frac{\partial \lVert x \rVert_p}{\partial x}\right), \quad n = \max(\lVert x \rVert_p, \mathrm{eps})

    where the second term is 0 for a norm below eps. The slope of the norm is 0 where x is 0; of several largest values
    that infinity finds, each has a share of it, as in PyTorch.

    Parameters
    ----------
    dy, x : floating arrays of one shape and dtype
        The gradient of the result, and the forward call's input.
    norm : float64 array
        As `normalize` returned it with `return_norm=True`.
    p, axis, eps, activation
        The forward call's.

    Returns
    -------
    dx : array with x's dtype, shape and memory order

    Raises
    ------
    TypeError, ValueError
        An argument has the wrong type, dtype, shape or value.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnorm.functional.vectors import normalize, normalize_backward
    >>> x = np.array([[3, 4]], np.float32)
    >>> y, norm = normalize(x, return_norm=True)
    >>> normalize_backward(np.array([[5, 0]], np.float32), x, norm).round(3)
    array([[ 0.64, -0.48]], dtype=float32)
    """
    x, p, eps = _checks.array(x, "x"), _checks.order(p), _checks.least(eps)
    dy, axes = _checks.like(dy, "dy", x), _checks.axes(axis, x.shape)
    norm = checked(norm, x, axes)
    _checks.activation(activation, CODES)
    with np.errstate(all="ignore"):
        if p == 2:
            dx, _ = euclidean_gradient(dy, x, norm, axes, eps, activation)
            return dx
        return gradient_by_slope(dy, x, norm, p, axes, eps, activation)


class ScaleGradients(NamedTuple):
    """What `scale_norm_backward` returns."""

    dx: Array
    dg: Array


def scale_norm(
    x: Array,
    g: float | Array,
    *,
    axis: int | tuple[int, ...] = -1,
    eps: float = 1e-5,
    activation: str | None = None,
    out: Array | None = None,
    return_norm: bool = False,
) -> Any:
    r"""Bring the vectors that lie along `axis` to one length, g.

    .. math:: y = \mathrm{activation}\left(g \cdot \frac{x}{\max(\lVert x \rVert_2, \mathrm{eps})}\right)

    Parameters
    ----------
    x : floating array of any shape and strides
    g : float, or array of one number
    axis : int or tuple of ints
        Along which the vectors lie.
    eps : float
        The least that a norm counts for.
    activation : {"relu", "gelu", "gelu_tanh", "silu", "sigmoid", "tanh"}, optional
        Applied to the result in the same trip.
    out : array of x's shape and dtype, optional
        Where to write y; it may be x itself.
    return_norm : bool
        Whether to return what `scale_norm_backward` takes.

    Returns
    -------
    y : array with x's dtype, shape and memory order
    norm : float64 array shaped like x without `axis`
        The lengths that x had. Only with `return_norm=True`.

    Raises
    ------
    TypeError, ValueError
        An argument has the wrong type, dtype, shape or value; nothing has been written.

    References
    ----------
    Nguyen, Salazar, "Transformers without Tears", 2019, https://arxiv.org/abs/1910.05895

    Examples
    --------
    >>> import numpy as np
    >>> from fastnorm.functional.vectors import scale_norm
    >>> scale_norm(np.array([[3, 4], [0, 2]], np.float32), 10).round(3)
    array([[ 6.,  8.],
           [ 0., 10.]], dtype=float32)
    """
    x, factor, eps = _checks.array(x, "x"), _checks.scalar(g, "g"), _checks.least(eps)
    axes, least = _checks.axes(axis, x.shape), least_square(eps, x.dtype)
    weight = np.full(rows_of(x, axes), factor, computed(x.dtype))
    arguments = x, weight, None, least, activation, out, return_norm
    y, found = _forward.normalize(EUCLIDEAN_PER_ROW, axes, *arguments)
    return y if found is None else (y, np.asarray(np.sqrt(found.variance)))


def scale_norm_backward(
    dy: Array,
    x: Array,
    norm: Array,
    g: float | Array,
    *,
    axis: int | tuple[int, ...] = -1,
    eps: float = 1e-5,
    activation: str | None = None,
) -> ScaleGradients:
    r"""Gradients of `scale_norm` with respect to x and g.

    .. math:: h = dy \cdot \mathrm{activation}'(z), \quad dg = \sum h \cdot \frac{x}{n}, \quad
              dx = \frac{g}{n} \left(h - \frac{x}{n} \sum h \cdot \frac{x}{n}\right), \quad
              n = \max(\lVert x \rVert_2, \mathrm{eps})

    where the sum in dx is that of a vector, and left out for a norm below eps.

    Parameters
    ----------
    dy, x : floating arrays of one shape and dtype
        The gradient of the result, and the forward call's input.
    norm : float64 array
        As `scale_norm` returned it with `return_norm=True`.
    g, axis, eps, activation
        The forward call's.

    Returns
    -------
    ScaleGradients
        The named tuple (dx, dg): dx with x's dtype and memory order, dg with g's shape and dtype (for a float x's dtype, or
        float32 where that has 16 bits).

    Raises
    ------
    TypeError, ValueError
        An argument has the wrong type, dtype, shape or value.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnorm.functional.vectors import scale_norm, scale_norm_backward
    >>> x = np.array([[3, 4]], np.float32)
    >>> y, norm = scale_norm(x, 10, return_norm=True)
    >>> dx, dg = scale_norm_backward(np.array([[5, 0]], np.float32), x, norm, 10)
    >>> dx.round(3), dg.round(3).tolist()
    (array([[ 6.4, -4.8]], dtype=float32), 3.0)
    """
    x, factor, eps = _checks.array(x, "x"), _checks.scalar(g, "g"), _checks.least(eps)
    dy, axes = _checks.like(dy, "dy", x), _checks.axes(axis, x.shape)
    _checks.activation(activation, CODES)
    with np.errstate(all="ignore"):
        dx, products = euclidean_gradient(dy, x, checked(norm, x, axes), axes, eps, activation, factor)
        dtype = g.dtype if isinstance(g, np.ndarray) else computed(x.dtype)
        return ScaleGradients(dx, np.full(np.shape(g), np.sum(products, dtype=np.float64), dtype))

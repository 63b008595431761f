"""Spectral norm: a weight over its largest singular value, which power iteration follows from step to step."""

from __future__ import annotations

import math
from contextlib import nullcontext
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import _checks
from .._floats import FLOAT32, FLOAT64, computed, fitting, store
from .._layout import Ints
from .._threads import num_threads
from ._flow.grid import PER_ROW, Moments, apply, gradient, sums

Array = NDArray[Any]

# Of fewer elements the quotient is left to one thread: those of the kernels, which spin after a call, and those of BLAS keep
# each other from the cores. Medians in µs on two cores, omp: 512×4608 1440, and so 690; 4096×4096 8890 and 8160.
_SERIAL = 1 << 24
# Of singular values within 2**±100, products are in the range of float32; of those within 2**±480, squares in float64's.
_EXPONENTS = {FLOAT32: 100, FLOAT64: 480}


def spectral_norm(
    w: Array,
    u: Array,
    v: Array,
    *,
    dim: int = 0,
    n_power_iterations: int = 1,
    eps: float = 1e-12,
    training: bool = False,
    out: Array | None = None,
    return_sigma: bool = False,
) -> Any:
    r"""Divide w by its spectral norm, as far as u and v tell its first pair of singular vectors.

    .. math:: y = \frac{w}{\sigma}, \quad \sigma = u^T W v

    where W is w as a matrix, with a row for each index along `dim`. In training u and v are improved first, in place, by

    .. math:: u \leftarrow \frac{W v}{\max(\lVert W v \rVert, \mathrm{eps})}, \quad
              v \leftarrow \frac{W^T u}{\max(\lVert W^T u \rVert, \mathrm{eps})}

    Parameters
    ----------
    w : floating array of at least two axes and any strides
    u : float32 or float64 array of shape (h,)
        The left singular vector so far, h being w's length along `dim`.
    v : float32 or float64 array of shape (w.size / h,)
        The right singular vector so far.
    dim : int
        The axis of the outputs: 0 for PyTorch's weights, 1 for those of its transposed convolutions.
    n_power_iterations : int
        How many times to improve u and v.
    eps : float
        The least length that a vector is divided by.
    training : bool
        Whether to improve u and v.
    out : array of w's shape and dtype, optional
        Where to write y; it may be w itself.
    return_sigma : bool
        Whether to return what `spectral_norm_backward` takes.

    Returns
    -------
    y : array with w's dtype, shape and memory order
    sigma : float
        Only with `return_sigma=True`.

    Raises
    ------
    TypeError, ValueError
        An argument has the wrong type, dtype, shape or value; nothing has been written.

    References
    ----------
    Miyato, Kataoka, Koyama, Yoshida, "Spectral Normalization for Generative Adversarial Networks", 2018,
    https://arxiv.org/abs/1802.05957

    Examples
    --------
    >>> import numpy as np
    >>> from fastnorm import spectral_norm
    >>> u, v = np.array([0.6, 0.8]), np.array([0.8, 0.6])
    >>> w = np.array([[8, 0], [0, 1]], np.float32)
    >>> spectral_norm(w, u, v, n_power_iterations=9, training=True)
    array([[1.   , 0.   ],
           [0.   , 0.125]], dtype=float32)
    """
    w = _checks.array(w, "w")
    at = _place(dim, w)
    out = _checks.result(out, "out", w, "w")
    u, v = _vectors(u, v, at, w, out, training)
    times, least = _checks.count("n_power_iterations", n_power_iterations), _checks.eps(eps)
    matrix = np.moveaxis(w, at.axis, 0).reshape(at.rows, at.columns)
    matrix = matrix.astype(computed(w.dtype), copy=False)
    found = _estimate(matrix, u, v, times if training else 0, least)
    y = _over(w, found.sigma, out)
    if training:
        u[...], v[...] = found.u, found.v
    return (y, found.sigma) if return_sigma else y


def spectral_norm_backward(dy: Array, w: Array, u: Array, v: Array, sigma: float, *, dim: int = 0) -> Array:
    r"""Gradient of `spectral_norm` with respect to w, u and v being constants.

    .. math:: dw = \frac{1}{\sigma} \left(dy - \frac{\sum dy \cdot w}{\sigma} \, u v^T\right)

    Parameters
    ----------
    dy, w : floating arrays of one shape and dtype
        The gradient of the result, and the forward call's input.
    u, v : arrays
        As the forward call left them.
    sigma : float
        As `spectral_norm` returned it with `return_sigma=True`.
    dim : int
        The forward call's.

    Returns
    -------
    dw : array with w's dtype, shape and memory order

    Raises
    ------
    TypeError, ValueError
        An argument has the wrong type, dtype, shape or value.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnorm import spectral_norm, spectral_norm_backward
    >>> w, u, v = np.array([[4, 0], [0, 1]], np.float32), np.array([1.0, 0.0]), np.array([1.0, 0.0])
    >>> y, sigma = spectral_norm(w, u, v, return_sigma=True)
    >>> spectral_norm_backward(np.ones_like(w), w, u, v, sigma)
    array([[-0.0625,  0.25  ],
           [ 0.25  ,  0.25  ]], dtype=float32)
    """
    w = _checks.array(w, "w")
    dy = _checks.like(dy, "dy", w, "w")
    at = _place(dim, w)
    why = _why(at, w)
    u = _checks.parameter(u, "u", (at.rows,), FLOAT64, why)
    v = _checks.parameter(v, "v", (at.columns,), FLOAT64, why)
    over = _inverse(_checks.real(sigma, "sigma", "that of the forward call"))
    dtype = fitting(w.dtype, over)
    if dtype != w.dtype:
        wide = spectral_norm_backward(dy.astype(dtype), w.astype(dtype), u, v, sigma, dim=dim)
        return store(wide, np.empty_like(w))
    # dw lies as what goes for x, which then is dy, in w's order; what goes for dy is v, the same for every row.
    dy = dy if dy.strides == w.strides else store(dy, np.empty_like(w))
    each = np.moveaxis(v.astype(dtype).reshape(1, *at.lengths), 0, at.axis)
    inner = sums(PER_ROW, at.everywhere, dy, w, np.zeros(()), over).of_product
    with np.errstate(all="ignore"):
        of_v = -inner * over * u
    terms = of_v, np.full(at.rows, over), np.zeros(at.rows)
    known = np.zeros(at.rows), np.ones(at.rows)
    return gradient(PER_ROW, at.along, np.broadcast_to(each, w.shape), dy, *known, terms)


class _Place(NamedTuple):
    """Where in w its rows are, as a matrix."""

    axis: int  # which tells rows apart
    along: Ints  # the axes that a row goes along …
    lengths: Ints  # … and theirs
    everywhere: Ints  # all axes
    rows: int
    columns: int


def _place(dim: Any, w: Array) -> _Place:
    if w.ndim < 2:
        raise ValueError(
            f"w has shape {w.shape}, expected at least two axes: that of the outputs, and others"
        )
    if w.size == 0:
        raise ValueError(f"w has shape {w.shape}, with no element: there is no singular value")
    if isinstance(dim, tuple):
        raise TypeError(f"dim is {_checks.shown(dim)}, expected an integer, the axis of the outputs")
    (axis,) = _checks.indices(dim, "dim", w.shape, "w")
    along = tuple(i for i in range(w.ndim) if i != axis)
    lengths, rows = tuple(w.shape[i] for i in along), w.shape[axis]
    return _Place(axis, along, lengths, tuple(range(w.ndim)), rows, w.size // rows)


def _why(at: _Place, w: Array) -> str:
    return f"as a matrix, w of shape {w.shape} has {at.rows} rows (along axis {at.axis}) of {at.columns}"


def _vectors(u: Any, v: Any, at: _Place, w: Array, out: Array | None, training: bool) -> tuple[Array, Array]:
    """u and v, to be updated in training: then they share memory with nothing."""
    why = _why(at, w)
    u = _checks.running(u, "u", (at.rows,), why, training)
    v = _checks.running(v, "v", (at.columns,), why, training)
    others = (("v", v), ("w", w), ("out", out))
    for name, mine, rest in (("u", u, others), ("v", v, others[1:])):
        for other, array in rest:
            if training and array is not None and _checks.overlap(mine, array):
                raise ValueError(
                    f"{name} shares memory with {other}, expected an array of its own: {name}.copy()"
                )
    return u, v


def _inverse(sigma: float) -> Array:
    with np.errstate(divide="ignore"):
        return np.asarray(1 / np.float64(sigma))


def _over(w: Array, sigma: float, out: Array | None) -> Array:
    """w / sigma."""
    over = _inverse(sigma)
    if fitting(w.dtype, over) != computed(w.dtype):
        return store(w.astype(np.float64) / sigma, np.empty_like(w) if out is None else out)
    zero, every = np.zeros(()), tuple(range(w.ndim))
    with num_threads(1) if w.size < _SERIAL else nullcontext():
        return apply(PER_ROW, every, w, Moments(zero, zero, np.ones(())), over, out=out)


# -- Power iteration -----------------------------------------------------------------------------------------------


class _Estimate(NamedTuple):
    u: Array
    v: Array
    sigma: float


def _estimate(matrix: Array, u: Array, v: Array, times: int, eps: float) -> _Estimate:
    """u and v after so many iterations, and sigma: of a matrix brought near 1 where sigma calls for it."""
    with np.errstate(all="ignore"):
        found = _iterated(matrix, u, v, times, eps)
        limit = _EXPONENTS[matrix.dtype]
        if 2.0**-limit < abs(found.sigma) < 2.0**limit:
            return found
        peak = float(np.max(np.abs(matrix)))
        if not 0 < peak < math.inf:
            return found
        exponent = math.frexp(peak)[1]
        found = _iterated(np.ldexp(matrix, -exponent), u, v, times, float(np.ldexp(eps, -exponent)))
        return found._replace(sigma=float(np.ldexp(found.sigma, exponent)))


def _iterated(matrix: Array, u: Array, v: Array, times: int, eps: float) -> _Estimate:
    dtype = matrix.dtype
    if times == 0:
        return _Estimate(u, v, float(u.astype(np.float64) @ (matrix @ v.astype(dtype))))
    for _ in range(times):
        u = _direction(matrix @ v.astype(dtype), eps)
        back = u.astype(dtype) @ matrix
        v = _direction(back, eps)
    return _Estimate(u, v, float(back @ v))  # Wᵀu is at hand, so that uᵀWv takes no third product


def _direction(a: Array, eps: float) -> Array:
    a = a.astype(np.float64)
    return np.asarray(a / max(np.linalg.norm(a), eps))

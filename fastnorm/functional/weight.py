"""Norms of weights alone: a length apart from the direction, and rows of mean 0 and variance 1."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import _checks
from .._floats import FLOAT64, DType, cast, computed, fitting, store
from .._layout import Ints
from ._flow.backward import backward
from ._flow.forward import normalize
from ._flow.roles import LAYER, remembered
from ._lengths import EUCLIDEAN_PER_ROW

Array = NDArray[Any]


class WeightNormGradients(NamedTuple):
    """What `weight_norm_backward` returns."""

    dv: Array
    dg: Array


def weight_norm(
    v: Array,
    g: Array | None = None,
    dim: int | tuple[int, ...] | None = 0,
    *,
    out: Array | None = None,
    return_norm: bool = False,
) -> Any:
    r"""Make a weight of a direction v and a length g of its own for each index along `dim`.

    .. math:: w = g \cdot \frac{v}{\lVert v \rVert}

    Parameters
    ----------
    v : floating array of any shape and strides
    g : array of the norms' shape, v's with 1 for every axis but `dim`, optional
        The lengths; for `dim=None` of shape (). None stands for ones.
    dim : int, tuple of ints or None
        The axes that keep norms of their own: each norm is taken over all the others. None is one norm of all of v;
        -1 is the last axis (and not, as in PyTorch, another name of None).
    out : array of v's shape and dtype, optional
        Where to write w.
    return_norm : bool
        Whether to return what `weight_norm_backward` takes.

    Returns
    -------
    w : array with v's dtype, shape and memory order
        NaN where a norm is 0.
    norm : float64 array of the norms' shape
        Only with `return_norm=True`.

    Raises
    ------
    TypeError, ValueError
        An argument has the wrong type, dtype, shape or value; nothing has been written.

    References
    ----------
    Salimans, Kingma, "Weight Normalization", 2016, https://arxiv.org/abs/1602.07868

    Examples
    --------
    >>> import numpy as np
    >>> from fastnorm import weight_norm
    >>> weight_norm(np.array([[3, 4], [0, 2]], np.float32), np.array([[5], [1]], np.float32))
    array([[3., 4.],
           [0., 1.]], dtype=float32)
    """
    v = _checks.array(v, "v")
    norms = _norms(v.shape, dim)
    length, weight = _lengths(g, norms, v.dtype)
    out = _checks.result(out, "out", v, "v")
    # Where v is overwritten, nothing would be left to go back to.
    to = None if out is None or np.may_share_memory(out, v) else norms.framed(out)
    y, found = normalize(EUCLIDEAN_PER_ROW, norms.axes, norms.framed(v), weight, None, 0.0, None, to, True)
    assert found is not None
    w = norms.unframed(y)
    if fitting(v.dtype, _product(found.rstd, length), length) != computed(v.dtype):
        store(weight_norm(v.astype(np.float64), length.reshape(norms.shape), dim), w)
    if out is not None:
        if to is None:
            np.copyto(out, w)
        w = out
    return (w, np.sqrt(found.variance).reshape(norms.shape)) if return_norm else w


def weight_norm_backward(
    dw: Array,
    v: Array,
    g: Array | None,
    norm: Array,
    dim: int | tuple[int, ...] | None = 0,
) -> WeightNormGradients:
    r"""Gradients of `weight_norm` with respect to v and g.

    .. math:: dg = \sum dw \cdot \hat v, \quad
              dv = \frac{g}{\lVert v \rVert} \left(dw - \hat v \, dg\right), \quad
              \hat v = \frac{v}{\lVert v \rVert}

    where the sums are taken over the elements that share a norm.

    Parameters
    ----------
    dw, v : floating arrays of one shape and dtype
        The gradient of the result, and the forward call's input.
    g : array of the norms' shape, or None
        The forward call's.
    norm : float64 array of the norms' shape
        As `weight_norm` returned it with `return_norm=True`.
    dim : int, tuple of ints or None
        The forward call's.

    Returns
    -------
    WeightNormGradients
        The named tuple (dv, dg): dv with v's dtype and memory order, dg with g's dtype (without one v's, or float32 where
        that has 16 bits).

    Raises
    ------
    TypeError, ValueError
        An argument has the wrong type, dtype, shape or value.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnorm import weight_norm, weight_norm_backward
    >>> v, g = np.array([[3, 4]], np.float32), np.array([[10]], np.float32)
    >>> w, norm = weight_norm(v, g, return_norm=True)
    >>> weight_norm_backward(np.array([[1, 0]], np.float32), v, g, norm).dg
    array([[0.6]], dtype=float32)
    """
    v = _checks.array(v, "v")
    dw = _checks.like(dw, "dw", v, "v")
    norms = _norms(v.shape, dim)
    length, weight = _lengths(g, norms, v.dtype)
    own = computed(v.dtype) if g is None else g.dtype
    norm = _checks.parameter(norm, "norm", norms.shape, FLOAT64, "that of what the forward call returned")
    with np.errstate(all="ignore"):
        rstd = 1 / norm.reshape(norms.lengths)
    if fitting(v.dtype, rstd, _product(rstd, length), length) != computed(v.dtype):
        given = dw.astype(np.float64), v.astype(np.float64), length.reshape(norms.shape)
        wide = weight_norm_backward(*given, norm, dim)
        return WeightNormGradients(store(wide.dv, np.empty_like(v)), cast(wide.dg, own))
    arrays, needs = (norms.framed(dw), norms.framed(v)), (True, True, False)
    found = backward(EUCLIDEAN_PER_ROW, norms.axes, *arrays, None, rstd, weight, None, None, needs)
    assert found.dx is not None and found.dweight is not None
    return WeightNormGradients(norms.unframed(found.dx), cast(found.dweight, own).reshape(norms.shape))


class _Norms(NamedTuple):
    """What shares a norm."""

    axes: Ints  # that a norm is taken over …
    lengths: Ints  # … and what is left of the shape
    shape: Ints  # of the norms as PyTorch has them
    frame: bool  # is an axis wanting that keeps its norms, or one that they are taken over?

    def framed(self, v: Array) -> Array:
        """v with an axis of each kind."""
        return v[np.newaxis, ..., np.newaxis] if self.frame else v

    def unframed(self, v: Array) -> Array:
        return v[0, ..., 0] if self.frame else v


@remembered
def _norms(shape: Ints, dim: Any) -> _Norms:
    kept = () if dim is None else _checks.indices(dim, "dim", shape, "v")
    axes = tuple(i for i in range(len(shape)) if i not in kept)
    if math.prod(shape[i] for i in axes) == 0:
        raise ValueError(f"v has shape {shape}, with no element to take a norm of (dim is {dim!r})")
    own = () if dim is None else tuple(n if i in kept else 1 for i, n in enumerate(shape))
    lengths = tuple(shape[i] for i in kept)
    if kept and axes:
        return _Norms(axes, lengths, own, False)
    return _Norms((*(1 + i for i in axes), 1 + len(shape)), (1, *lengths), own, True)


def _lengths(g: Any, norms: _Norms, dtype: DType) -> tuple[Array, Array | None]:
    """The lengths as they are given, or in float64, and as the kernels take them; ones, and None, where there are none."""
    own = computed(dtype)
    if g is None:
        return np.ones(norms.lengths, own), None
    given = own if isinstance(g, np.ndarray) and g.dtype == own else FLOAT64
    why = "one for each norm of v, whose other axes are 1 long"
    length = _checks.parameter(g, "g", norms.shape, given, why).reshape(norms.lengths)
    return length, cast(length, own, copy=False)


def _product(rstd: Array, length: Array) -> Array:
    """length / norm, infinite or NaN without a word where the norm is 0."""
    with np.errstate(all="ignore"):
        return np.asarray(rstd * length)


def weight_standardization(
    w: Array,
    *,
    axis: int | tuple[int, ...] | None = None,
    eps: float = 1e-5,
    out: Array | None = None,
    return_stats: bool = False,
) -> Any:
    r"""Give the weights of each output a mean of 0 and a variance of 1.

    .. math:: \hat w = \frac{w - \mathrm{mean}}{\sqrt{\mathrm{var} + \mathrm{eps}}}

    Parameters
    ----------
    w : floating array of at least two axes and any strides
    axis : int, tuple of ints or None
        The axes that share a mean and a variance; None is all but axis 0, the outputs of PyTorch's weights.
    eps : float
        Added to the variance, inside the square root.
    out : array of w's shape and dtype, optional
        Where to write the result; it may be w itself.
    return_stats : bool
        Whether to return what `weight_standardization_backward` takes.

    Returns
    -------
    w_hat : array with w's dtype, shape and memory order
    mean, rstd : float64 arrays shaped like w without `axis`
        Only with `return_stats=True`.

    Raises
    ------
    TypeError, ValueError
        An argument has the wrong type, dtype, shape or value; nothing has been written.

    References
    ----------
    Qiao, Wang, Liu, Shen, Yuille, "Micro-Batch Training with Batch-Channel Normalization and Weight Standardization", 2019,
    https://arxiv.org/abs/1903.10520

    Examples
    --------
    >>> import numpy as np
    >>> from fastnorm import weight_standardization
    >>> weight_standardization(np.array([[3, 5], [-2, 2]], np.float32), eps=0)
    array([[-1.,  1.],
           [-1.,  1.]], dtype=float32)
    """
    w = _checks.array(w, "w")
    out = _checks.result(out, "out", w, "w")
    w_hat, found = normalize(LAYER, _of_outputs(axis, w), w, None, None, eps, None, out, return_stats)
    return w_hat if found is None else (w_hat, found.mean, found.rstd)


def weight_standardization_backward(
    dy: Array, w: Array, mean: Array, rstd: Array, *, axis: int | tuple[int, ...] | None = None
) -> Array:
    r"""Gradient of `weight_standardization` with respect to w.

    .. math:: dw = \mathrm{rstd} \cdot \left(dy - \overline{dy} - \hat w \cdot \overline{dy \cdot \hat w}\right)

    where the means are taken over the elements that share a statistic.

    Parameters
    ----------
    dy, w : floating arrays of one shape and dtype
        The gradient of the result, and the forward call's input.
    mean, rstd : float64 arrays
        As `weight_standardization` returned them with `return_stats=True`.
    axis : int, tuple of ints or None
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
    >>> from fastnorm import weight_standardization, weight_standardization_backward
    >>> w = np.array([[3, 5, 10]], np.float32)
    >>> w_hat, mean, rstd = weight_standardization(w, return_stats=True)
    >>> weight_standardization_backward(np.ones_like(w), w, mean, rstd)
    array([[0., 0., 0.]], dtype=float32)
    """
    w = _checks.array(w, "w")
    dy = _checks.like(dy, "dy", w, "w")
    given = dy, w, mean, rstd, None, None, None, (True, False, False)
    dw = backward(LAYER, _of_outputs(axis, w), *given).dx
    assert dw is not None
    return dw


def _of_outputs(axis: Any, w: Array) -> Ints:
    """The axes that share a statistic."""
    if axis is None and w.ndim < 2:
        raise ValueError(
            f"w has shape {w.shape}, expected at least two axes, of which the first keeps its own statistics"
        )
    return _checks.axes(tuple(range(1, w.ndim)) if axis is None else axis, w.shape, "w")

"""What tests measure with: inputs that break careless statistics, arrays in any memory order, roundings."""

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.random import Generator
from numpy.typing import ArrayLike, DTypeLike, NDArray

Array = NDArray[np.floating]
Axes = int | Sequence[int] | None

# The bounds of the accuracy contract, in roundings (see the two functions below) of the dtype of the result.
FORWARD_ROUNDINGS = 4
GRADIENT_ROUNDINGS = 16


def roundings(y: ArrayLike, exact: ArrayLike, dtype: DTypeLike) -> float:
    """max |y - exact| / (eps * max(1, |exact|)): the error of a normalized result; NaN where y has a NaN."""
    wide = np.result_type(np.asarray(exact), np.float64)
    y, exact = np.asarray(y, wide), np.asarray(exact, wide)
    assert y.shape == exact.shape, f"comparing {y.shape} with {exact.shape}"
    error = np.abs(y - exact) / np.maximum(1, np.abs(exact))
    return float(np.max(error, initial=0) / np.finfo(dtype).eps)


def gradient_roundings(d: ArrayLike, exact: ArrayLike, dtype: DTypeLike) -> float:
    """max |d - exact| / (eps * max |exact|): the error of a gradient at its own scale."""
    wide = np.result_type(np.asarray(exact), np.float64)
    d, exact = np.asarray(d, wide), np.asarray(exact, wide)
    assert d.shape == exact.shape, f"comparing {d.shape} with {exact.shape}"
    error, scale = np.max(np.abs(d - exact), initial=0), np.max(np.abs(exact), initial=0)
    if scale == 0:
        return 0.0 if error == 0 else math.inf
    return float(error / scale / np.finfo(dtype).eps)


# Inputs
# ------

# name -> f(z, i): a row of values for each group of elements that share a statistic, made from standard
# normals z of shape (groups, count) and positions i of shape (count,). Rows are then laid along the axes that
# a norm reduces, so that a name means the same for every norm and layout.
_ROWS: dict[str, Callable[[Array, NDArray[np.intp]], Array]] = {
    "standard normal": lambda z, i: z,
    "mean 1e3, std 1": lambda z, i: 1e3 + z,
    "mean 1e5, std 1": lambda z, i: 1e5 + z,
    "mean 1, std 1e-3": lambda z, i: 1 + 1e-3 * z,
    "40000 ... 40003": lambda z, i: 40000 + i % 4 + np.zeros_like(z),
    "80000 ... 80003": lambda z, i: 80000 + i % 4 + np.zeros_like(z),
    "constant 1234": lambda z, i: np.full_like(z, 1234),
    "standard normal * 1e18": lambda z, i: 1e18 * z,
    "standard normal * 1e30": lambda z, i: 1e30 * z,
    "one 1e6 among normals": lambda z, i: np.where(z == z.max(1, keepdims=True, initial=-np.inf), 1e6, z),
    "+-1e7 alternating + normal": lambda z, i: 1e7 * (1 - 2 * (i % 2)) + z,
    "sorted, mean 1e4, std 100": lambda z, i: np.sort(1e4 + 100 * z),
}


def _laid_along_axes(rows: Callable[[Array, NDArray[np.intp]], Array]) -> Callable[..., Array]:
    def values(shape: Sequence[int], axes: Axes, rng: Generator, dtype: DTypeLike = np.float32) -> Array:
        axes = range(len(shape)) if axes is None else [axes] if isinstance(axes, int) else axes
        reduced = sorted(axis % len(shape) for axis in axes)
        kept = [axis for axis in range(len(shape)) if axis not in reduced]
        groups, count = math.prod(shape[axis] for axis in kept), math.prod(shape[axis] for axis in reduced)
        laid = rows(rng.standard_normal((groups, count)), np.arange(count))
        stored = laid.reshape([shape[axis] for axis in kept + reduced])
        return np.ascontiguousarray(stored.transpose(np.argsort(kept + reduced)), dtype)

    return values


# name -> f(shape, axes, rng, dtype=float32): a C-contiguous array, a row laid along the `axes` of each group.
# For group norm, shape (N, G, C/G, ...) and axes (2, ...), to be reshaped to (N, C, ...).
INPUTS: dict[str, Callable[..., Array]] = {name: _laid_along_axes(rows) for name, rows in _ROWS.items()}


# Memory orders
# -------------


def _stored_in_order(x: Array, order: Sequence[int]) -> Array:
    return np.ascontiguousarray(x.transpose(order)).transpose(np.argsort(order))


def _swapped_leading_axes(x: Array) -> Array:
    return _stored_in_order(x, [1, 0, *range(2, x.ndim)]) if x.ndim > 1 else x.copy()


def _channels_last(x: Array) -> Array:
    return _stored_in_order(x, [0, *range(2, x.ndim), 1]) if x.ndim > 1 else x.copy()


def _reversed_along(x: Array, axes: tuple[int, ...]) -> Array:
    return np.flip(np.flip(x, axes).copy(), axes)


def _every_other(x: Array) -> Array:
    store = np.full([2 * n for n in x.shape], np.nan, x.dtype)
    view = store[(slice(None, None, 2),) * x.ndim]
    view[...] = x
    return view


def _crop(x: Array) -> Array:
    store = np.full([n + 3 for n in x.shape], np.nan, x.dtype)
    view = store[tuple(slice(1, 1 + n) for n in x.shape)]
    view[...] = x
    return view


def _misaligned(x: Array) -> Array:
    view = np.empty(x.nbytes + 1, np.uint8)[1:].view(x.dtype).reshape(x.shape)
    view[...] = x
    return view


def _read_only(x: Array) -> Array:
    view = x.copy()
    view.flags.writeable = False
    return view


# name -> f(array of at least one axis): an array of equal values and the same shape, in other memory. What
# lies between the elements of the strided ones is NaN, so that a kernel which reads it is found out.
ZOO: dict[str, Callable[[Array], Array]] = {
    "contiguous": lambda x: x.copy(order="C"),
    "fortran order": lambda x: x.copy(order="F"),
    "transposed view": _swapped_leading_axes,
    "channels-last view": _channels_last,
    "first axis reversed": lambda x: _reversed_along(x, (0,)),
    "last axis reversed": lambda x: _reversed_along(x, (x.ndim - 1,)),
    "all axes reversed": lambda x: _reversed_along(x, tuple(range(x.ndim))),
    "every other element": _every_other,
    "crop of a larger array": _crop,
    "byte-swapped": lambda x: x.astype(x.dtype.newbyteorder()),
    "misaligned": _misaligned,
    "read-only": _read_only,
}


def stride_zero(x: Array, axis: int) -> Array:
    """The first slice of x along `axis`, broadcast to x's shape with stride 0."""
    return np.broadcast_to(np.take(x, [0], axis), x.shape)

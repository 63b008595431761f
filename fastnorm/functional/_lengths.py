"""The lengths of rows by any p-norm: how they are found, and what the gradient of x over its length is made of."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import _checks
from .._floats import FLOAT32, FLOAT64, DType, computed, store
from .._layout import Ints, elements
from ._flow.backward import backward
from ._flow.grid import MEAN_SQUARE_PER_ROW, PER_ROW, apply, gradient, moments, sums, unmoved
from ._flow.roles import EUCLIDEAN, with_own_pairs

Array = NDArray[Any]

EUCLIDEAN_PER_ROW = with_own_pairs(EUCLIDEAN)

# The shortest lengths of which 1/length, and in float64 length² too, stays in the range of the dtype.
_SHORTEST = {FLOAT32: 1.2e-38, FLOAT64: 1.5e-154}


def least_square(eps: float, dtype: DType) -> float:
    """eps² as the kernels take it beside an x of `dtype`; 0 for an eps of 0 alone."""
    return max(eps, _SHORTEST[computed(dtype)]) ** 2 if eps > 0 else 0.0


def lengths(x: Array, p: float, axes: Ints) -> Array:
    """The p-norms of x over `axes` in float64, for any p but 2, which the kernels know."""
    size = np.abs(x).astype(computed(x.dtype), copy=False)
    if p == 1:
        return _sum(size, axes)
    norm: Array = np.max(size, axes, keepdims=True)
    if p != math.inf:
        # As shares of the largest, whose powers neither overflow nor vanish.
        unit = np.where((norm > 0) & (norm < math.inf), norm, 1)
        powers = np.power(np.divide(size, unit, out=size), p, out=size)
        norm = unit * np.expand_dims(_sum(powers, axes) ** (1 / p), axes)
    return np.asarray(np.squeeze(norm, axes), np.float64)


def _sum(x: Array, axes: Ints) -> Array:
    """Σ x, to the last digits, and on all threads."""
    return moments(PER_ROW, axes, x).mean * elements(tuple(x.shape[i] for i in axes))


def scaled(
    x: Array, axes: Ints, factor: Array, out: Array | None = None, activation: str | None = None
) -> Array:
    """x times a factor for each row, and its activation."""
    return apply(MEAN_SQUARE_PER_ROW, axes, x, unmoved(factor.shape), factor, activation=activation, out=out)


def checked(length: Any, x: Array, axes: Ints) -> Array:
    """The lengths that a forward call returned."""
    return _checks.parameter(
        length, "norm", rows_of(x, axes), FLOAT64, "that of what the forward call returned"
    )


def rows_of(x: Array, axes: Ints) -> Ints:
    """The shape of what there is one of for each row."""
    return tuple(n for i, n in enumerate(x.shape) if i not in axes)


class Projection(NamedTuple):
    """What the gradient of x/max(length, eps) is made of, a float64 number for each row."""

    scale: Array  # 1/max(length, eps)
    product: Array  # Σ g·x·scale, where g = dy·activation'(z)
    pull: Array  # of the slope of the length, in dx; 0 where eps stands in the length's place

    @classmethod
    def of(
        cls,
        dy: Array,
        x: Array,
        length: Array,
        axes: Ints,
        eps: float,
        weight: Array | None,
        activation: str | None,
    ) -> Projection:
        scale = np.asarray(1 / np.maximum(length, eps))
        given = dy, x, np.zeros_like(scale), scale, weight
        product = sums(MEAN_SQUARE_PER_ROW, axes, *given, activation=activation).of_product
        return cls(scale, product, np.where(length < eps, 0.0, -scale * product))


def euclidean_gradient(
    dy: Array,
    x: Array,
    length: Array,
    axes: Ints,
    eps: float,
    activation: str | None,
    factor: float = 1.0,
) -> tuple[Array, Array]:
    """dx of activation(factor·x/max(‖x‖, eps)), and Σ g·x/max(‖x‖, eps) for each row."""
    weight = np.full(length.shape, factor, computed(x.dtype))
    if not np.any(length < eps):  # one trip
        rstd, needs = np.asarray(1 / length), (True, True, False)
        found = backward(EUCLIDEAN_PER_ROW, axes, dy, x, None, rstd, weight, None, activation, needs)
        assert found.dx is not None and found.dweight is not None
        return found.dx, found.dweight
    scale, product, pull = Projection.of(dy, x, length, axes, eps, weight, activation)
    nothing = np.zeros_like(scale)
    given = dy, x, nothing, scale, (scale, factor * pull, nothing), weight
    return gradient(MEAN_SQUARE_PER_ROW, axes, *given, activation=activation), product


def gradient_by_slope(
    dy: Array, x: Array, length: Array, p: float, axes: Ints, eps: float, activation: str | None
) -> Array:
    """dx of activation(x/max(‖x‖, eps)) for any p, in float64 until it is rounded."""
    found = Projection.of(dy, x, length, axes, eps, None, activation)
    scale, pull, whole = (np.expand_dims(a, axes) for a in (found.scale, found.pull, length))
    values, g = x.astype(np.float64), dy.astype(np.float64)
    if activation is not None:
        nothing, one = np.zeros_like(length), np.ones_like(length)
        given = g, values, nothing, found.scale, (one, nothing, nothing)
        g = gradient(MEAN_SQUARE_PER_ROW, axes, *given, activation=activation)
    size = np.abs(values)
    if p == math.inf:
        is_largest = size == whole
        slope = is_largest / np.maximum(np.sum(is_largest, axes, keepdims=True), 1)
    else:
        slope = np.power(size / whole, p - 1, out=np.zeros_like(size), where=size > 0)
    return store(scale * g + pull * np.sign(values) * slope, np.empty_like(x))

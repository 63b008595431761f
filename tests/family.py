"""What the tests of the less common norms share: a norm against its definition, and that against differences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from .checks import assert_like
from .oracle import FORWARD_ROUNDINGS, GRADIENT_ROUNDINGS, gradient_roundings, roundings

Array = NDArray[Any]

SIZES = {"N": 4, "C": 6, "D": 2, "H": 5, "W": 7, "L": 11}
LAYOUTS = ("NC", "NCL", "NLC", "NCHW", "NHWC", "NCDHW", "HWNC", "CHWN", "LNC")
WITH_POSITIONS = LAYOUTS[1:]


def in_layout(layout: str) -> tuple[int, ...]:
    return tuple(SIZES[letter] for letter in layout)


def wide(array: Array | None) -> Array | None:
    """In more digits than the kernels have: float64, or longdouble for float64."""
    if array is None:
        return None
    return np.asarray(array, np.float64 if array.dtype.itemsize < 8 else np.longdouble)


def assert_forward(y: Array, exact: Array, x: Array) -> None:
    assert_like(y, x)
    assert roundings(y, exact, x.dtype) <= FORWARD_ROUNDINGS


def assert_all_gradients(found: Sequence[Any], exact: Sequence[Array], dtype: Any) -> None:
    for i, (gradient, wanted) in enumerate(zip(found, exact, strict=True)):
        assert gradient.shape == wanted.shape, i
        assert gradient_roundings(gradient, wanted, dtype) <= GRADIENT_ROUNDINGS, i


def check_differences(
    loss: Callable[..., float], gradients: Sequence[Array], arguments: Sequence[Array], rng: Generator
) -> None:
    """Gradients of a float64 function along random directions against central differences.

    A step of 1e-5 errs by 1e-10 of the third derivative, and by 1e-16/1e-5 for the function's own rounding: 1e-7 is safe.
    """
    for i, (gradient, argument) in enumerate(zip(gradients, arguments, strict=True)):
        direction = rng.standard_normal(argument.shape)
        ends = []
        for step in (1e-5, -1e-5):
            moved = list(arguments)
            moved[i] = argument + step * direction
            ends.append(loss(*moved))
        slope, found = (ends[0] - ends[1]) / 2e-5, float((gradient * direction).sum())
        scale = max(1.0, abs(slope), float(np.abs(gradient * direction).sum()))
        assert abs(slope - found) <= 1e-7 * scale, i

"""Argument errors: each names the argument, what it was, and what would do. Nothing is written before they have passed."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._floats import FLOAT32, FLOAT64, SUPPORTED, cast, computed, is_supported
from ._layout import Ints, walkable

Array = NDArray[Any]

# Statistics are wider than the data: 16 bits would lose what they are kept for.
_RUNNING = (FLOAT32, FLOAT64)


def array(value: Any, name: str) -> Array:
    """`value` as the kernels can walk it: real floating, in native byte order and aligned (copied where it is not)."""
    if not isinstance(value, np.ndarray):
        raise TypeError(
            f"{name} is a {type(value).__name__}, expected a NumPy array of {SUPPORTED}: np.asarray({name})"
        )
    dtype = value.dtype.newbyteorder("=")
    if not is_supported(dtype):
        raise TypeError(f"{name} has dtype {value.dtype}, expected {SUPPORTED}: {name}.astype(np.float32)")
    if value.dtype is not dtype and value.dtype != dtype:
        value = value.astype(dtype)
    if not walkable(value):
        value = value.copy(order="K")
    return np.asarray(value)


def like(value: Any, name: str, x: Array) -> Array:
    """An input of x's shape and dtype."""
    result = array(value, name)
    if result.shape != x.shape:
        raise ValueError(f"{name} has shape {result.shape}, expected {x.shape}, the shape of x")
    if result.dtype != x.dtype:
        raise TypeError(
            f"{name} has dtype {result.dtype}, expected {x.dtype}, the dtype of x: {name}.astype(x.dtype)"
        )
    return result


def result(value: Any, name: str, x: Array) -> Array | None:
    """An array of x's shape and dtype to write to, or None."""
    if value is None:
        return None
    if not isinstance(value, np.ndarray):
        raise TypeError(f"{name} is a {type(value).__name__}, expected a NumPy array like np.empty_like(x)")
    if value.shape != x.shape:
        raise ValueError(f"{name} has shape {value.shape}, expected {x.shape}, the shape of x")
    if value.dtype.newbyteorder("=") != x.dtype:
        raise TypeError(f"{name} has dtype {value.dtype}, expected {x.dtype}, the dtype of x")
    if not value.flags.writeable:
        raise ValueError(f"{name} is read-only, expected an array that can be written to")
    if any(stride == 0 and length > 1 for stride, length in zip(value.strides, value.shape, strict=True)):
        raise ValueError(
            f"{name} is broadcast (has a stride of 0), expected an array with a place for every element"
        )
    return value


def affine_pair(
    weight: Any, bias: Any, shape: Ints, dtype: np.dtype[Any], why: str, *results: Array | None
) -> tuple[Array | None, Array | None]:
    """Weight and bias, or None, as kernels take them beside an x of `dtype`; copied if they share memory with a result."""
    dtype = computed(dtype)
    if weight is not None:
        weight = _apart(parameter(weight, "weight", shape, dtype, why), results)
    if bias is not None:
        bias = _apart(parameter(bias, "bias", shape, dtype, why), results)
    return weight, bias


def _apart(value: Array, results: tuple[Array | None, ...]) -> Array:
    """`value`, or a copy where writing one of the results could change it."""
    if any(r is not None and np.may_share_memory(value, r) for r in results):
        return value.copy()
    return value


def parameter(value: Any, name: str, shape: Ints, dtype: np.dtype[Any], why: str) -> Array:
    """A weight, a bias or a statistic of `shape`, as `dtype` in C order; `why` tells where the shape comes from.

    Copied also where it is read-only or not aligned: these are types of their own to Numba, and every kernel would compile
    once more.
    """
    if not isinstance(value, np.ndarray):
        raise TypeError(f"{name} is a {type(value).__name__}, expected a NumPy array of shape {shape}: {why}")
    if value.dtype.kind != "f" and value.dtype.name != "bfloat16":
        raise TypeError(f"{name} has dtype {value.dtype}, expected a real floating one, such as {dtype}")
    if value.shape != shape:
        raise ValueError(f"{name} has shape {value.shape}, expected {shape}: {why}")
    return cast(np.asarray(value), dtype, copy=not value.flags.carray)


def running(value: Any, name: str, shape: Ints, why: str, written: bool) -> Array:
    """A running statistic: of a real floating dtype, writable where it is to be updated."""
    if not isinstance(value, np.ndarray):
        raise TypeError(f"{name} is a {type(value).__name__}, expected a NumPy array of shape {shape}: {why}")
    if value.dtype.newbyteorder("=") not in _RUNNING:
        raise TypeError(
            f"{name} has dtype {value.dtype}, expected float32 or float64: {name}.astype(np.float32)"
        )
    if value.shape != shape:
        raise ValueError(f"{name} has shape {value.shape}, expected {shape}: {why}")
    if written and not value.flags.writeable:
        raise ValueError(
            f"{name} is read-only, expected an array that can be updated in place: {name}.copy()"
        )
    return value


def eps(value: Any) -> float:
    """A number to add to a variance; below 0 it leaves NaN where the sum is negative, as in PyTorch."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"eps is {value!r}, expected a number such as 1e-5") from None
    if not math.isfinite(number):
        raise ValueError(f"eps is {value!r}, expected a finite number, such as 1e-5")
    return number


def momentum(value: Any) -> float:
    """The share of the new statistics in running ones; outside 0 to 1 it extrapolates, as in PyTorch."""
    if value is None:
        raise TypeError(
            "momentum is None, expected a number from 0 to 1: the layer keeps the count for a cumulative average"
        )
    if value.__class__ is float and math.isfinite(value):
        return value
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"momentum is {value!r}, expected a number from 0 to 1, such as 0.1") from None
    if not math.isfinite(number):
        raise ValueError(f"momentum is {value!r}, expected a finite number, such as 0.1")
    return number


def activation(value: Any, codes: dict[str | None, int]) -> int:
    """The code of an activation."""
    try:
        return codes[value]
    except (KeyError, TypeError):
        known = ", ".join(repr(name) for name in codes)
        raise ValueError(f"activation is {value!r}, expected one of {known}") from None


def axes(axis: Any, shape: Ints) -> Ints:
    """The normalized axes, in the order of the array."""
    ndim = len(shape)
    if ndim == 0:
        raise ValueError("x has no axes (shape ()), expected at least one to normalize over: x[np.newaxis]")
    given = axis if isinstance(axis, tuple) else (axis,)
    for value in given:
        if isinstance(value, bool) or not isinstance(value, int | np.integer):
            raise TypeError(f"axis is {axis!r}, expected an integer or a tuple of them")
        if not -ndim <= value < ndim:
            raise ValueError(
                f"axis is {axis!r}, expected from {-ndim} to {ndim - 1}: x has {ndim} axes (shape {shape})"
            )
    found = sorted(int(value) % ndim for value in given)
    if not found:
        raise ValueError("axis is (), expected at least one axis to normalize over")
    if len(set(found)) < len(found):
        raise ValueError(f"axis is {axis!r}, which names an axis twice: x has {ndim} axes")
    lengths = [shape[i] for i in found]
    if 0 in lengths:
        raise ValueError(
            f"x has shape {shape}, with no element along the normalized axis {axis!r}: nothing to average"
        )
    return tuple(found)


@lru_cache(maxsize=256)
def layout(value: Any, ndim: int) -> tuple[int, int]:
    """The axes of samples and of channels that a layout names."""
    if value is None:
        if ndim < 2:
            raise ValueError(
                f"x has {ndim} axes, expected at least 2: samples first, channels at axis 1 (or name a layout)"
            )
        return 0, 1
    if not isinstance(value, str):
        raise TypeError(f'layout is {value!r}, expected a string that names the axes, such as "NCHW"')
    if value.count("N") != 1 or value.count("C") != 1 or not (value.isalpha() and value.isupper()):
        raise ValueError(
            f'layout is "{value}", expected one capital letter per axis with one N and one C, such as "NHWC"'
        )
    if len(set(value)) < len(value):
        raise ValueError(f'layout is "{value}", which names an axis twice')
    if len(value) != ndim:
        raise ValueError(
            f'layout is "{value}" ({len(value)} axes), expected {ndim} letters: x has {ndim} axes'
        )
    return value.index("N"), value.index("C")


def num_groups(value: Any, channels: int) -> int:
    """A number of groups that divides the channels."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(
            f"num_groups is {value!r}, expected an integer that divides {channels}, the channels of x"
        )
    if value < 1 or channels % value:
        raise ValueError(
            f"num_groups is {value}, expected a divisor of {channels}, the number of channels of x"
        )
    return int(value)


def num_iterations(value: Any) -> int:
    """How often to iterate."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"num_iterations is {value!r}, expected an integer of at least 1, such as 5")
    if value < 1:
        raise ValueError(f"num_iterations is {value}, expected at least 1, such as 5")
    return int(value)


def overlap(a: Array, b: Array) -> bool:
    """Whether two arrays share memory."""
    return np.may_share_memory(a, b) and bool(np.shares_memory(a, b))


def needs(value: Any) -> tuple[bool, bool, bool]:
    """Which gradients to compute."""
    if not isinstance(value, tuple | list) or len(value) != 3:
        raise ValueError(f"needs is {value!r}, expected three booleans, for dx, dweight and dbias")
    return bool(value[0]), bool(value[1]), bool(value[2])

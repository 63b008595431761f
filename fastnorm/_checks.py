"""Argument errors: each names the argument, what it was, and what would do. Nothing is written before they have passed."""

from __future__ import annotations

import math
import operator
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._floats import FLOAT32, FLOAT64, SUPPORTED, cast, computed, is_supported
from ._layout import IN_ORDER, Ints, walkable

Array = NDArray[Any]

# Statistics are wider than the data: 16 bits would lose what they are kept for.
_RUNNING = (FLOAT32, FLOAT64)


def array(value: Any, name: str) -> Array:
    """`value` as the kernels can walk it: real floating, in native byte order and aligned (copied where it is not)."""
    if value.__class__ is np.ndarray and value.dtype in _RUNNING and value.flags.carray:
        return value  # as most are, in 0.2 µs for 2
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


def like(value: Any, name: str, x: Array, of: str = "x") -> Array:
    """An input of x's shape and dtype; `of` is what x is called."""
    result = array(value, name)
    if result.shape != x.shape:
        raise ValueError(f"{name} has shape {result.shape}, expected {x.shape}, the shape of {of}")
    if result.dtype != x.dtype:
        raise TypeError(
            f"{name} has dtype {result.dtype}, expected {x.dtype}, the dtype of {of}: {name}.astype({of}.dtype)"
        )
    return result


def result(value: Any, name: str, x: Array, of: str = "x") -> Array | None:
    """An array of x's shape and dtype to write to, or None; `of` is what x is called."""
    if value is None:
        return None
    if not isinstance(value, np.ndarray):
        raise TypeError(
            f"{name} is a {type(value).__name__}, expected a NumPy array like np.empty_like({of})"
        )
    if value.shape != x.shape:
        raise ValueError(f"{name} has shape {value.shape}, expected {x.shape}, the shape of {of}")
    if value.dtype.newbyteorder("=") != x.dtype:
        raise TypeError(f"{name} has dtype {value.dtype}, expected {x.dtype}, the dtype of {of}")
    if not value.flags.writeable:
        raise ValueError(f"{name} is read-only, expected an array that can be written to")
    shared = (stride == 0 and length > 1 for stride, length in zip(value.strides, value.shape, strict=True))
    if value.size and any(shared):
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
    """A weight, a bias or a statistic of `shape`, as `dtype` in C order; `why` tells where the shape comes from."""
    in_order = isinstance(value, np.ndarray) and value.flags.num & IN_ORDER == IN_ORDER
    if value.__class__ is np.ndarray and value.dtype is dtype and value.shape == shape and in_order:
        return value
    if not isinstance(value, np.ndarray):
        raise TypeError(f"{name} is a {type(value).__name__}, expected a NumPy array of shape {shape}: {why}")
    if value.dtype.kind != "f" and value.dtype.name != "bfloat16":
        raise TypeError(f"{name} has dtype {value.dtype}, expected a real floating one, such as {dtype}")
    if value.shape != shape:
        raise ValueError(f"{name} has shape {value.shape}, expected {shape}: {why}")
    return cast(np.asarray(value), dtype, copy=not in_order)


def running(value: Any, name: str, shape: Ints, why: str, written: bool) -> Array:
    """A running statistic: of a real floating dtype, writable where it is to be updated."""
    if not isinstance(value, np.ndarray):
        raise TypeError(f"{name} is a {type(value).__name__}, expected a NumPy array of shape {shape}: {why}")
    if value.dtype not in _RUNNING and value.dtype.newbyteorder("=") not in _RUNNING:
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


def shown(value: Any) -> str:
    """A wrong value in a message: of an array, given in the place of another argument, no more than its shape."""
    return f"an array of shape {value.shape}" if isinstance(value, np.ndarray) else repr(value)


def real(value: Any, name: str, such_as: str) -> float:
    """A number, NaN and infinities among them."""
    try:
        return float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name} is {shown(value)}, expected a number such as {such_as}") from None


def count(name: str, value: Any) -> int:
    """A positive int."""
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} is {shown(value)}, expected an int") from None
    if number < 1:
        raise ValueError(f"{name} is {value}, expected at least 1")
    return number


def number(value: Any, name: str, example: str) -> float:
    """A finite number."""
    result = real(value, name, example)
    if not math.isfinite(result):
        raise ValueError(f"{name} is {value!r}, expected a finite number, such as {example}")
    return result


def eps(value: Any) -> float:
    """A number to add to a variance; below 0 it leaves NaN where the sum is negative, as in PyTorch."""
    return number(value, "eps", "1e-5")


def least(value: Any) -> float:
    """The least that a length counts for."""
    result = number(value, "eps", "1e-12")
    if result < 0:
        raise ValueError(f"eps is {value!r}, expected a number of at least 0, such as 1e-12")
    return result


def order(value: Any) -> float:
    """The p of a p-norm: a positive number, or infinity."""
    p = real(value, "p", "2")
    if not p > 0:
        raise ValueError(f"p is {value!r}, expected a positive number, such as 2 or float('inf')")
    return p


def scalar(value: Any, name: str) -> float:
    """A parameter that is one number: a float, or an array of one."""
    if not isinstance(value, np.ndarray):
        return number(value, name, "1.0")
    if value.size != 1:
        raise ValueError(f"{name} has shape {value.shape}, expected (): one number")
    return float(parameter(value, name, value.shape, FLOAT64, "one number").item())


def at_least(value: Any, name: str, least: float) -> float:
    """A number that is no less; it may be infinite."""
    try:
        result = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name} is {shown(value)}, expected a number of at least {least}") from None
    if not result >= least:
        raise ValueError(f"{name} is {value!r}, expected at least {least}")
    return result


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
        raise TypeError(f"momentum is {shown(value)}, expected a number from 0 to 1, such as 0.1") from None
    if not math.isfinite(number):
        raise ValueError(f"momentum is {value!r}, expected a finite number, such as 0.1")
    return number


def activation(value: Any, codes: dict[str | None, int]) -> int:
    """The code of an activation."""
    try:
        return codes[value]
    except (KeyError, TypeError):
        known = ", ".join(repr(name) for name in codes)
        raise ValueError(f"activation is {shown(value)}, expected one of {known}") from None


def indices(value: Any, name: str, shape: Ints, of: str) -> Ints:
    """Axes by number, each once, in the order of the array, which is called `of`."""
    ndim = len(shape)
    given = value if isinstance(value, tuple) else (value,)
    for axis in given:
        if isinstance(axis, bool) or not isinstance(axis, int | np.integer):
            raise TypeError(f"{name} is {shown(value)}, expected an integer or a tuple of them")
        if not -ndim <= axis < ndim:
            raise ValueError(
                f"{name} is {value!r}, expected from {-ndim} to {ndim - 1}: {of} has {ndim} axes (shape {shape})"
            )
    found = sorted(int(axis) % ndim for axis in given)
    if len(set(found)) < len(found):
        raise ValueError(f"{name} is {value!r}, which names an axis twice: {of} has {ndim} axes")
    return tuple(found)


def axes(axis: Any, shape: Ints, of: str = "x") -> Ints:
    """The normalized axes, in the order of the array; `of` is what it is called."""
    if not shape:
        raise ValueError(
            f"{of} has no axes (shape ()), expected at least one to normalize over: {of}[np.newaxis]"
        )
    found = indices(axis, "axis", shape, of)
    if not found:
        raise ValueError("axis is (), expected at least one axis to normalize over")
    lengths = [shape[i] for i in found]
    if 0 in lengths:
        raise ValueError(
            f"{of} has shape {shape}, with no element along the normalized axis {axis!r}: nothing to average"
        )
    return found


def layout(value: Any, ndim: int) -> tuple[int, int]:
    """The axes of samples and of channels that a layout names."""
    if value is not None and not isinstance(value, str):  # nor need it be hashable
        raise TypeError(f'layout is {shown(value)}, expected a string that names the axes, such as "NCHW"')
    return _axes_of(value, ndim)


@lru_cache(maxsize=256)
def _axes_of(value: str | None, ndim: int) -> tuple[int, int]:
    """The same of what may be a layout."""
    if value is None:
        if ndim < 2:
            raise ValueError(
                f"x has {ndim} axes, expected at least 2: samples first, channels at axis 1 (or name a layout)"
            )
        return 0, 1
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
            f"num_groups is {shown(value)}, expected an integer that divides {channels}, the channels of x"
        )
    if value < 1 or channels % value:
        raise ValueError(
            f"num_groups is {value}, expected a divisor of {channels}, the number of channels of x"
        )
    return int(value)


def mask(value: Any, shape: Ints, why: str) -> Array:
    """A boolean array, True where a position is valid, that can be broadcast to `shape`."""
    if not isinstance(value, np.ndarray) or value.dtype != np.bool_:
        found = f"dtype {value.dtype}" if isinstance(value, np.ndarray) else f"type {type(value).__name__}"
        raise TypeError(f"mask has {found}, expected a boolean NumPy array, True where a position is valid")
    ndim = len(shape)
    padded = (1,) * (ndim - value.ndim) + value.shape
    if value.ndim > ndim or any(a not in (1, b) for a, b in zip(padded, shape, strict=True)):
        raise ValueError(
            f"mask has shape {value.shape}, expected one that can be broadcast to {shape}: {why}"
        )
    return value


def lengths(value: Any, samples: int, most: int) -> Array:
    """How many positions of each sample are valid."""
    found = np.asarray(value)
    if found.dtype.kind not in "iu":
        raise TypeError(f"lengths has dtype {found.dtype}, expected integers, one for each sample")
    if found.shape != (samples,):
        raise ValueError(f"lengths has shape {found.shape}, expected ({samples},): one for each sample of x")
    if samples and not (found.min() >= 0 and found.max() <= most):
        raise ValueError(
            f"lengths has values from {found.min()} to {found.max()}, expected 0 to {most}, the length of x"
        )
    return found


def offsets(value: Any, total: int) -> Array:
    """Where each of the packed sequences begins, and the last one ends, as attention libraries pass it."""
    found = np.asarray(value)
    if found.dtype.kind not in "iu" or found.ndim != 1:
        raise TypeError(
            f"cu_seqlens is {found.ndim}-dimensional of {found.dtype}, expected integers in one dimension"
        )
    if found.size == 0 or found[0] != 0 or found[-1] != total or np.any(found[1:] < found[:-1]):
        raise ValueError(
            f"cu_seqlens is {np.array2string(found, threshold=6)}, expected offsets that begin with 0, never fall, and end "
            f"with {total}, the positions of x"
        )
    return found.astype(np.int64)


def num_iterations(value: Any) -> int:
    """How often to iterate."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"num_iterations is {shown(value)}, expected an integer of at least 1, such as 5")
    if value < 1:
        raise ValueError(f"num_iterations is {value}, expected at least 1, such as 5")
    return int(value)


def overlap(a: Array, b: Array) -> bool:
    """Whether two arrays share memory; no two do that own theirs, which is known in 0.1 µs."""
    if a.flags.owndata and b.flags.owndata and a is not b:
        return False
    return np.may_share_memory(a, b) and bool(np.shares_memory(a, b))


def needs(value: Any) -> tuple[bool, bool, bool]:
    """Which gradients to compute."""
    if not isinstance(value, tuple | list) or len(value) != 3:
        raise ValueError(f"needs is {shown(value)}, expected three booleans, for dx, dweight and dbias")
    return bool(value[0]), bool(value[1]), bool(value[2])

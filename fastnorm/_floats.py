"""The floating dtypes: which there are, as what the kernels hold them, and in which they compute."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

DType = np.dtype[Any]
Array = NDArray[Any]

FLOAT16, FLOAT32, FLOAT64 = np.dtype(np.float16), np.dtype(np.float32), np.dtype(np.float64)
# NumPy's own; bfloat16 comes with ml_dtypes, and is known here by its name, without an import.
_BFLOAT16 = "bfloat16"
# Numba knows no 16-bit floats on a CPU: the kernels take them as integers of their own.
_HELD = {FLOAT16: np.dtype(np.uint16)}
_HELD_BFLOAT16 = np.dtype(np.int16)

# What float32 holds with all its digits.
_LEAST, _MOST = np.finfo(FLOAT32).tiny, np.finfo(FLOAT32).max

_NAMES = ("float32", "float64", "float16")
SUPPORTED = "float32, float64, float16, or bfloat16 (pip install 'fastnorm[bfloat16]')"


def is_supported(dtype: DType) -> bool:
    """Whether x may have it, in native byte order."""
    return dtype in (FLOAT32, FLOAT64, FLOAT16) or dtype.name == _BFLOAT16


def installed() -> list[str]:
    """The names of those that this environment has."""
    return [*_NAMES, *([_BFLOAT16] if find_spec("ml_dtypes") else [])]


def named(name: str) -> DType:
    """A supported dtype by its name."""
    if name == _BFLOAT16:
        try:
            import ml_dtypes  # noqa: F401 (from now on NumPy knows the name)
        except ImportError:
            raise ValueError("bfloat16 needs ml_dtypes: pip install 'fastnorm[bfloat16]'") from None
    elif name not in _NAMES:
        raise ValueError(f"dtypes has {name!r}, expected some of {', '.join([*_NAMES, _BFLOAT16])}")
    return np.dtype(name)


def held(dtype: DType) -> DType:
    """The dtype of the kernels' view of such an array."""
    if dtype.itemsize > 2:
        return dtype
    return _HELD_BFLOAT16 if dtype.name == _BFLOAT16 else _HELD.get(dtype, dtype)


def computed(dtype: DType) -> DType:
    """The dtype in which the kernels compute on it, and take its parameters."""
    return FLOAT32 if dtype.itemsize == 2 else dtype


def cast(array: Array, dtype: DType, copy: bool = True) -> Array:
    """The array in another dtype, in C order; what is too large becomes an infinity without a word, as in the kernels."""
    if array.dtype == dtype:
        return array.astype(dtype, order="C", copy=copy)
    with np.errstate(over="ignore", invalid="ignore"):  # 1 µs
        return array.astype(dtype, order="C", copy=copy)


def store(values: Array, target: Array) -> Array:
    """`target`, with values of another dtype written to it as `cast` makes them."""
    with np.errstate(over="ignore", invalid="ignore"):
        target[...] = values
    return target


def fitting(dtype: DType, *factors: Array) -> DType:
    """The dtype in which to compute on arrays of `dtype` times these factors, none of them subnormal in it, or too large."""
    own = computed(dtype)
    for factor in factors if own == FLOAT32 else ():
        size = np.abs(factor)  # what has the dtype has lost nothing to it
        if size.dtype == own or size.size == 0 or (size.min() >= _LEAST and size.max() <= _MOST):
            continue
        size = size[(size > 0) & (size < np.inf)]
        if np.min(size, initial=1) < _LEAST or np.max(size, initial=1) > _MOST:
            return FLOAT64
    return own


def epsilon(dtype: DType) -> float:
    """The gap between 1 and the next number."""
    return 2.0**-7 if dtype.name == _BFLOAT16 else float(np.finfo(dtype).eps)

"""The one home of Numba's options: three decorators, and nothing else in the package names a fast-math flag."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit

# No nnan and no ninf anywhere: NaN and inf follow IEEE rules. `contract` allows fused multiply-adds, which only ever
# round less; none of these three can undo compensated arithmetic.
_SAFE = {"contract", "nsz", "arcp"}
# `reassoc` is what lets LLVM vectorise a reduction (4 to 16 times faster), and also what would rewrite (x - high) - low
# as x - (high + low): only functions that add up a block may have it.
_SUMMING = _SAFE | {"reassoc"}


def step(function: Callable[..., Any]) -> Callable[..., Any]:
    """A piece of a kernel: exact arithmetic, inlined by LLVM into the kernels that call it."""
    return njit(nogil=True, error_model="numpy", fastmath=_SAFE)(function)  # type: ignore[no-any-return]


def reduction(function: Callable[..., Any]) -> Callable[..., Any]:
    """A piece of a kernel that adds up one block, in whatever order the vector unit likes."""
    return njit(nogil=True, error_model="numpy", fastmath=_SUMMING)(function)  # type: ignore[no-any-return]


def kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """An entry point called from Python: cached on disk, parallel over its `prange` loops, without the GIL."""
    return njit(nogil=True, error_model="numpy", fastmath=_SAFE, parallel=True, cache=True)(function)  # type: ignore[no-any-return]

"""The one home of Numba's options: a few decorators, and nothing else in the package names a fast-math flag."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit

# No nnan and no ninf anywhere: NaN and inf follow IEEE rules. `contract` allows fused multiply-adds, which only ever
# round less; none of these three can undo compensated arithmetic. No `reassoc` either: the order of a sum is written out,
# in vectors, and (x - high) - low stays what it is.
_SAFE = {"contract", "nsz", "arcp"}


def step(function: Callable[..., Any]) -> Callable[..., Any]:
    """A piece of a kernel, always inlined: a call costs 10 to 15 ns, for an array is passed as seven numbers."""
    return njit(nogil=True, error_model="numpy", fastmath=_SAFE, forceinline=True)(function)  # type: ignore[no-any-return]


def routine(function: Callable[..., Any]) -> Callable[..., Any]:
    """A piece of a kernel that is called seldom, or does much: compiled once, and called."""
    return njit(nogil=True, error_model="numpy", fastmath=_SAFE)(function)  # type: ignore[no-any-return]


def kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """An entry point called from Python: cached on disk, parallel over its `prange` loops, without the GIL."""
    return njit(nogil=True, error_model="numpy", fastmath=_SAFE, parallel=True, cache=True)(function)  # type: ignore[no-any-return]

"""The one home of Numba's options: a few decorators, and nothing else in the package names a fast-math flag."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Any

from numba import njit
from numba.core import sigutils
from numba.core.ccallback import CFunc
from numba.core.compiler_lock import global_compiler_lock

from ._cache import DiskCache
from ._launch import launch
from ._part import Part

# No nnan and no ninf anywhere: NaN and inf follow IEEE rules. `contract` allows fused multiply-adds, which only ever
# round less; none of these three can undo compensated arithmetic. No `reassoc` either: the order of a sum is written out,
# in vectors, and (x - high) - low stays what it is.
_SAFE = {"contract", "nsz", "arcp"}


def step(function: Callable[..., Any]) -> Part:
    """A piece of a kernel, always inlined: a call costs 10 to 15 ns, for an array is passed as seven numbers."""
    return Part(function, nogil=True, error_model="numpy", fastmath=_SAFE, forceinline=True)


def routine(function: Callable[..., Any]) -> Part:
    """A piece of a kernel that is called seldom, or does much: compiled once, and called."""
    return Part(function, nogil=True, error_model="numpy", fastmath=_SAFE)


def strict(function: Callable[..., Any]) -> Part:
    """A step without any of them, for the same bits wherever it is inlined.

    `arcp` makes a quotient a product, and what `contract` joins depends on what LLVM made of the code around it: of a vector
    of which one number is used, it made one number first.
    """
    # Unless it is told, Numba takes the flags of the function for which it compiles this one.
    return Part(function, nogil=True, error_model="numpy", fastmath=False, forceinline=True)


def c_function(function: Callable[..., Any], signature: Any) -> Any:
    """A function compiled for one signature, cached on disk, to be called by its address."""
    launch()  # as below

    def compiled() -> Any:
        options = {"nogil": True, "error_model": "numpy", "fastmath": _SAFE}
        # A fork waits for the lock; Numba takes it after an import, whose lock a child would inherit.
        with global_compiler_lock:
            result: Any = CFunc(function, sigutils.normalize_signature(signature), locals={}, options=options)
            result._cache = DiskCache(function)
            result.compile()
        return result

    return _undisturbed(compiled)


def _undisturbed(compiled: Callable[..., Any], *arguments: Any) -> Any:
    """Compile, or load, in a thread of its own, for a Ctrl-C arrives in the main one.

    Each compilation reads on in Numba's registries, by generators: one that an interrupt has ended fails all later ones.
    """
    outcome: list[tuple[Any, BaseException | None]] = []

    def work() -> None:
        try:
            outcome.append((compiled(*arguments), None))
        except BaseException as error:
            outcome.append((None, error))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    result, error = outcome[0]
    if error is not None:
        raise error
    return result


def parallel(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function whose `prange` loops are spread over the threads, cached on disk."""
    result = _cached(njit(nogil=True, error_model="numpy", parallel=True)(function))
    result.compile = partial(_launched, result.compile)
    return result  # type: ignore[no-any-return]


def _launched(compiled: Callable[..., Any], *arguments: Any) -> Any:
    """Compile, or load, once there is a threading layer: code is linked to it, and LLVM ends a process that has none."""
    launch()
    return compiled(*arguments)


def _cached(compiled: Any) -> Any:
    compiled._cache = DiskCache(compiled.py_func)
    return compiled


def inside(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function for a user's own compiled code, and for Python; cached on disk, without the GIL."""
    return _cached(njit(nogil=True, error_model="numpy", fastmath=_SAFE)(function))  # type: ignore[no-any-return]


def arithmetic(function: Callable[..., Any]) -> Callable[..., Any]:
    """Arithmetic on small arrays, called from Python; cached on disk, without the GIL."""
    result = _cached(njit(nogil=True, error_model="numpy")(function))
    result.compile = partial(_undisturbed, result.compile)
    return result  # type: ignore[no-any-return]

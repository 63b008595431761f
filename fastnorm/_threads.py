"""How many threads a call may use: per calling thread, serial where it must be or is faster."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numba
from numba.np.ufunc import parallel as _parallel

# Below this many elements a second thread costs more than it saves: a parallel region takes 2 µs to enter.
SERIAL_ELEMENTS = 16384


class _Limits(threading.local):
    value: int | None = None


_limits = _Limits()
# One parallel region of ours at a time: Numba's workqueue layer aborts the process when two threads meet in it.
_region = threading.Lock()
_forked = False

# What a user may have set about spinning; and what is set where there is none of these.
_SPINNING = {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"}
_SPINS = "1000"
_launching = threading.Lock()
_launched = False

# Numba's own setting, which is the user's. Once launched, as these two have it inside: 0.1 µs for their 0.7 and 1.
_get, _set = numba.get_num_threads, numba.set_num_threads


def _after_fork() -> None:
    """A child inherits no worker threads, and GNU OpenMP ends a child that asks for its parent's: stay serial there."""
    global _region, _launching, _forked
    _region, _launching = threading.Lock(), threading.Lock()
    _forked = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def get_num_threads() -> int:
    """The number of threads that fastnorm's calls from this thread may use.

    Examples
    --------
    >>> import fastnorm
    >>> with fastnorm.num_threads(1):
    ...     fastnorm.get_num_threads()
    1
    """
    limit = _limits.value
    return numba.config.NUMBA_NUM_THREADS if limit is None else limit


def set_num_threads(n: int) -> None:
    """Let fastnorm's calls from this thread use at most n threads.

    Raises
    ------
    ValueError
        n is not between 1 and the number Numba started with (NUMBA_NUM_THREADS).
    """
    most = numba.config.NUMBA_NUM_THREADS
    if isinstance(n, bool) or not isinstance(n, int):
        raise TypeError(f"n is {n!r}, expected an integer from 1 to {most}")
    if not 1 <= n <= most:
        raise ValueError(f"n is {n}, expected an integer from 1 to {most} (NUMBA_NUM_THREADS)")
    _limits.value = n


@contextmanager
def num_threads(n: int) -> Iterator[None]:
    """Let the calls inside a `with` block, from this thread, use at most n threads."""
    before = _limits.value
    set_num_threads(n)
    try:
        yield
    finally:
        _limits.value = before


def launch() -> None:
    """Let Numba load its threading layer, before the first kernel does: GNU OpenMP reads how long to spin when it is loaded.

    Its idle threads spin, by default for milliseconds, and keep the cores from other libraries' threads. Batch norm of
    0.05 ms and NumPy's matmul of 0.4 ms in turn, on two cores, took 32 and 12 ms. With 1000 spins, some 40 µs, they take 0.3
    and 0.4 ms; with 10,000 still 1.8 and 6 ms. With none, a call that follows at once takes 0.1 ms: the threads have slept.
    """
    global _launched, _get, _set
    if _launched:
        return
    with _launching:
        if not _launched:
            ours = not _SPINNING & os.environ.keys()
            if ours:
                os.environ["GOMP_SPINCOUNT"] = _SPINS
            try:
                numba.get_num_threads()
            finally:
                if ours:
                    del os.environ["GOMP_SPINCOUNT"]
            _get = getattr(_parallel, "_get_num_threads", _get)
            _set = getattr(_parallel, "_set_num_threads", _set)
            _launched = True


def spread(kernel: Callable[..., Any], elements: int) -> Callable[..., Any]:
    """A kernel to be called for 1 thread (its last argument) that takes as many as so many elements deserve."""
    launch()
    return kernel if elements < SERIAL_ELEMENTS else partial(_in_parallel, kernel)


def _in_parallel(kernel: Callable[..., Any], *arguments: Any) -> None:
    """Call a kernel on more threads than the 1 it was given, where these are allowed and free."""
    threads = 1 if _forked else get_num_threads()
    if threads == 1 or not _region.acquire(False):
        kernel(*arguments)
        return
    try:
        before = _get()
        if before != threads:
            _set(threads)
        try:
            kernel(*arguments[:-1], threads)
        finally:
            if before != threads:
                _set(before)
    finally:
        _region.release()

"""How many threads a call may use: per calling thread, serial where it must be or is faster."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numba

# Below this many elements a second thread costs more than it saves: a parallel region takes 2 µs to enter.
SERIAL_ELEMENTS = 16384

_limits = threading.local()
# One parallel region of ours at a time: Numba's workqueue layer aborts the process when two threads meet in it.
_region = threading.Lock()
_forked = False


def _after_fork() -> None:
    """A child inherits no worker threads, and GNU OpenMP ends a child that asks for its parent's: stay serial there."""
    global _region, _forked
    _region = threading.Lock()
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
    limit: int | None = getattr(_limits, "value", None)
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
    before = getattr(_limits, "value", None)
    set_num_threads(n)
    try:
        yield
    finally:
        _limits.value = before


def enter_parallel(elements: int) -> int:
    """How many threads a call over so many elements gets; more than 1 must be given back by `leave_parallel`."""
    if elements < SERIAL_ELEMENTS or _forked:
        return 1
    threads = get_num_threads()
    if threads == 1 or not _region.acquire(blocking=False):
        return 1
    numba.set_num_threads(threads)
    return threads


def leave_parallel() -> None:
    """Let another call go parallel."""
    _region.release()

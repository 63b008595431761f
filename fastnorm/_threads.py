"""How many threads a call may use: per calling thread, serial where it must be or is faster."""

from __future__ import annotations

import math
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from time import perf_counter
from typing import Any, Protocol, TypeVar
from weakref import WeakSet

import numba

from ._cpus import allowed
from ._launch import Layer, launch

# Below this many elements a second thread costs more than it saves: a parallel region takes 2 µs to enter, and to find out
# whether it pays another, of the 4 or 5 that layer norm takes.
SERIAL_ELEMENTS = 32768
# From this many on it does not count that a thread has to be woken, or waits for one that spins: that takes 70 to 1000 µs.
# (Layer norm 4096×768 and NumPy's matmul in turn: 1.65 ms on two threads, and 1.05 where it is found that one is faster.)
_LONG = 1 << 23
# Every so many calls on more threads one thread is tried; after two that were slower it has so many seconds.
_PROBED, _SHORTEST, _LONGEST = 256, 1e-4, 2e-2


_Task = TypeVar("_Task")
_Result = TypeVar("_Result")


class _Team:
    """The threads that GNU OpenMP keeps for a thread that has entered a region, until that thread ends."""


class _Own(threading.local):
    limit: int | None = None
    team: _Team | None = None


_own = _Own()
# One parallel region of ours at a time: whoever comes meanwhile has a core of its own already.
_region = threading.Lock()
_forked = False

# With a team for every caller, n of them would keep n² threads. Two: the main thread's, and that of a thread that works.
_TEAMS = 2
_teams: WeakSet[_Team] = WeakSet()
_teaming = threading.RLock()


def _after_fork() -> None:
    """A child inherits no worker threads, and GNU OpenMP ends a child that asks for its parent's: stay serial there."""
    global _region, _forked
    _region = threading.Lock()
    _forked = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def get_num_threads() -> int:
    """The number of threads that fastnorm's calls from this thread may use.

    By default the least of NUMBA_NUM_THREADS, OMP_NUM_THREADS, the CPUs in the affinity of the process, and its container's
    quota.

    Examples
    --------
    >>> import fastnorm
    >>> with fastnorm.num_threads(1):
    ...     fastnorm.get_num_threads()
    1
    """
    limit = _own.limit
    return min(numba.config.NUMBA_NUM_THREADS, allowed()) if limit is None else limit


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
    _own.limit = n


@contextmanager
def num_threads(n: int) -> Iterator[None]:
    """Let the calls inside a `with` block, from this thread, use at most n threads."""
    before = _own.limit
    try:
        set_num_threads(n)
        yield
    finally:
        _own.limit = before


def spread(kernel: Callable[..., Any], elements: int) -> Callable[..., Any]:
    """A kernel to be called for 1 thread (its first argument) that takes as many as so many elements deserve."""
    layer = launch()
    if layer is None or elements < SERIAL_ELEMENTS:
        return kernel
    parallel = partial(_in_parallel, layer, _ENTERS.get(layer.name, _always), kernel)
    return parallel if elements >= _LONG else _Trial(kernel, parallel)


class _Trial:
    """A kernel, not among the longest, on more threads as long as these are found to be faster.

    Where the others sleep, or wait for a core, a call of 10 µs takes 70 to 200: after a pause of the caller's; and on two
    cores for a tenth of a second of calls, where Linux wakes a thread on the core of the one that wakes it.
    """

    __slots__ = ("_alone", "_calls", "_kernel", "_left", "_lost", "_parallel", "_pause")

    def __init__(self, kernel: Callable[..., Any], parallel: Callable[..., Any]) -> None:
        self._kernel, self._parallel = kernel, parallel
        self._calls = 0
        self._alone = math.inf  # seconds of the last call on one thread
        self._lost = 0  # calls on more threads that were slower, one after the other
        self._pause = _SHORTEST  # seconds of calls on one thread that follow two of these
        self._left = 0.0  # of them

    def __call__(self, one: int, *arguments: Any) -> None:
        # What threads write here at once may be lost: it is a guess in any case.
        self._calls += 1
        start = perf_counter()
        if self._left > 0 or self._calls % _PROBED == 2:
            self._kernel(one, *arguments)
            self._alone = perf_counter() - start
            self._left -= self._alone
            return
        if not self._parallel(one, *arguments):
            return
        if perf_counter() - start < self._alone:
            self._lost, self._pause = 0, _SHORTEST
            return
        self._lost += 1
        if self._lost == 2:
            self._lost, self._left, self._pause = 0, self._pause, min(2 * self._pause, _LONGEST)


def _free() -> int:
    """How many threads a call may take now."""
    return 1 if _forked or _region.locked() else get_num_threads()


def _in_parallel(
    layer: Layer, enters: Callable[[], bool], kernel: Callable[..., Any], one: int, *arguments: Any
) -> bool:
    """Call a kernel on more threads than the 1 it was given, where these are allowed and free; whether they were."""
    threads = _free()
    if threads == 1 or not enters():
        kernel(one, *arguments)
        return False
    # No `acquire(False)`: an interrupt between it and its `try` would leave the lock held. None comes between a `with` and
    # its body; and whoever takes the lock in between, this thread waits for one call.
    with _region:
        before = layer.get()
        try:
            if before != threads:
                layer.set(threads)
            kernel(threads, *arguments)
        finally:
            if before != threads:
                layer.set(before)
    return True


class Map(Protocol):
    """What `team` gives: the results of a function, in the order of its tasks."""

    def __call__(self, function: Callable[[_Task], _Result], tasks: Iterable[_Task], /) -> list[_Result]: ...


@contextmanager
def team(most: int) -> Iterator[Map]:
    """A `map` over at most so many Python threads, for work that leaves the GIL, as NumPy's does; kernels run serially."""
    threads = min(most, _free())
    if threads == 1:
        yield lambda function, tasks: list(map(function, tasks))
        return
    with _region, ThreadPoolExecutor(threads, "fastnorm", set_num_threads, (1,)) as pool:
        yield lambda function, tasks: list(pool.map(function, tasks))


def _has_team() -> bool:
    """On omp: whether this thread has a team, or may have one."""
    if _own.team is None:
        with _teaming:
            if len(_teams) < _TEAMS:
                _own.team = _Team()
                _teams.add(_own.team)
    return _own.team is not None


def _is_alone() -> bool:
    """On workqueue: whether no other thread runs Python, 0.6 µs.

    The layer aborts the process when a thread enters a region while another is inside, and the other may be in a user's own
    function, before this call or during it: of these nobody knows. A thread of the layer that calls back out of a user's
    `prange` runs Python too.
    """
    return len(sys._current_frames()) == 1


def _always() -> bool:
    return True


# Whether a thread may enter a parallel region, where not every thread may at any time.
_ENTERS = {"omp": _has_team, "workqueue": _is_alone}

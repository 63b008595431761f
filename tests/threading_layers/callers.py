"""Any number of Python threads call at once: the same bits, and n callers do not make n² threads."""

import os
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numba
from work import regions, serial, work

import fastnorm

CALLERS = 8
MOST = numba.config.NUMBA_NUM_THREADS


def threads():
    """Of the process, Numba's included, where the system tells."""
    return len(os.listdir("/proc/self/task")) if os.path.exists("/proc/self/task") else 0


def call(_):
    fastnorm.set_num_threads(MOST)
    start.wait()
    return [work() for _ in range(20)]


others = threads()
fastnorm.set_num_threads(MOST)
expected = serial()
with regions() as entered:
    assert work() == expected
assert len(entered) == 2  # forward and backward
start = Barrier(CALLERS)
with ThreadPoolExecutor(CALLERS) as pool:
    for found in pool.map(call, range(CALLERS)):
        assert set(found) == {expected}
    # The callers, and what Numba's layer has for this thread and one of them.
    assert threads() <= others + CALLERS + 2 * MOST, threads()

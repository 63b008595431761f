"""A limit from outside, to one thread: no parallel region is entered, until the user asks for more."""

import os
import sys

if sys.argv[1:] == ["affinity"]:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

import numba
from work import regions, work

import fastnorm

assert fastnorm.get_num_threads() == 1
with regions() as entered:
    expected = work()
    assert not entered
    for n in range(2, numba.config.NUMBA_NUM_THREADS + 1):
        with fastnorm.num_threads(n):
            assert work() == expected
        assert entered

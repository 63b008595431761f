"""Ctrl-C at any moment of a call, the first one too: afterwards calls are parallel, and Numba's setting is the user's."""

import random
import signal
import sys
from contextlib import suppress

import numba
from work import regions, serial, work

from fastnorm import _threads


def interrupted(seconds, calls):
    """Some calls, with an interrupt after so many seconds, if they take as long."""
    with suppress(KeyboardInterrupt):
        signal.setitimer(signal.ITIMER_REAL, seconds)
        for _ in range(calls):
            work()
        signal.setitimer(signal.ITIMER_REAL, 0)


signal.signal(signal.SIGALRM, signal.default_int_handler)
# An interrupt inside a callback of llvmlite's, while it loads a kernel, is lost: Python can only print it.
sys.unraisablehook, before = lambda _: None, sys.unraisablehook
random.seed(0)
for _ in range(40):
    interrupted(random.uniform(5e-4, 0.06), 1)
expected = serial()
sys.unraisablehook = before
numba.set_num_threads(1)
for _ in range(3000):
    interrupted(random.uniform(1e-5, 5e-4), 100)
    assert not _threads._region.locked()
    assert numba.get_num_threads() == 1
with regions() as entered:
    assert work() == expected
assert len(entered) == 2

"""Calls while another thread goes in and out of parallel regions of a user's own function, on the main thread and not."""

from threading import Event, Thread

import numpy as np
from numba import njit, prange
from work import serial, work


@njit(parallel=True, nogil=True)
def user(a):
    total = 0.0
    for i in prange(a.size):
        total += a[i]
    return total


def run_user():
    while not stop.is_set():
        assert user(ones) == ones.size


def run_ours():
    for _ in range(300):
        results.append(work())
    stop.set()


ones = np.ones(20_000)
expected = serial()
for main, other in ((run_user, run_ours), (run_ours, run_user)):
    stop, results = Event(), []
    thread = Thread(target=other)
    thread.start()
    main()
    thread.join()
    assert len(results) == 300 and set(results) == {expected}

"""A user's own `prange` whose body calls fastnorm."""

import numpy as np
from numba import njit, objmode, prange
from work import serial, work

N = 16
found = [""] * N


def call(i):
    found[i] = work()


@njit(parallel=True)
def user(n):
    done = np.zeros(n)
    for i in prange(n):
        with objmode():
            call(i)
        done[i] = 1
    return done.sum()


expected = serial()
for _ in range(5):
    found[:] = [""] * N
    assert user(N) == N
    assert set(found) == {expected}
assert work() == expected

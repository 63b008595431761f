"""What the scripts beside this one call, compare, and run in a forked child."""

import hashlib
import os
from contextlib import contextmanager

import numpy as np

import fastnorm
from fastnorm import _threads

X = np.random.default_rng(0).standard_normal((64, 1000)).astype(np.float32)
assert X.size > _threads.SERIAL_ELEMENTS
_threads._LONG = 0  # whether more threads pay for a call is not asked here


def work(_=None):
    """Forward and backward, on all threads that a call gets; a digest of every bit of the results."""
    y, mean, rstd = fastnorm.layer_norm(X, return_stats=True)
    digest = hashlib.sha256()
    for array in (y, mean, rstd, *fastnorm.layer_norm_backward(X, X, mean, rstd)):
        digest.update(array)
    return digest.hexdigest()


def serial():
    """What `work` has to give."""
    with fastnorm.num_threads(1):
        return work()


@contextmanager
def regions():
    """A list that grows by one for each parallel region that fastnorm enters."""
    entered, before = [], _threads._region

    class Counted:
        locked = before.locked
        __exit__ = staticmethod(before.__exit__)

        def __enter__(self):
            before.__enter__()
            entered.append(1)

    _threads._region = Counted()
    try:
        yield entered
    finally:
        _threads._region = before


def forked(function):
    """What a function returns, a string, in a forked child."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writer, function().encode())
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader) as answer:
        found = answer.read()
    _, status = os.waitpid(child, 0)
    assert status == 0, f"the child ended with {os.waitstatus_to_exitcode(status)}"
    return found

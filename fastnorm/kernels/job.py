"""What a kernel knows of its task: a grid of contiguous runs, where each array's run (b, m) begins, and the options.

Every problem is a grid of B = B0·B1 kept positions times M = M0·M1 reduced positions, each a contiguous run of `LENGTH`
elements. In the rows family the run is reduced (a statistic per b); in the columns family it is kept (a statistic per b
and position in the run). Arrays that share an element along an axis, as a weight does, have stride 0 there.

One int64 array holds it all, a line per array: an array costs a call 40 ns, a named tuple of as many integers 800.
"""

import numpy as np

from .._jit import step

# Not plain integers: Numba takes each of those for a type of its own, and would compile `start` once for every line.

# The lines of a job: Y is the result (dx in a backward pass), BESIDE the second input (a residual, or dy) …
COUNTS, OPTIONS, X, AFFINE, Y, BESIDE = np.arange(6)
# … the columns of the first: how many positions, and how many neighbours in a kept run share a statistic (group norm) …
B0, B1, M0, M1, LENGTH, FOLD = range(6)
# … of the second: RMS or mean and variance, the fused activation, whether to store past the cache, whether x_hat's mean
# is a constant of the backward pass (inference) …
SECOND_MOMENT, ACTIVATION, STREAMING, CONSTANT = range(4)
# … and of the others, after the strides (in elements) along B0, B1, M0, M1: the first element, and the step along the run.
OFFSET, ALONG = 4, 5


@step
def start(job, array, b, m):
    """The index in its flat array where the run (b, m) of `array` begins."""
    index = job[array, OFFSET]
    if job[COUNTS, B0] > 1:
        index += (b // job[COUNTS, B1]) * job[array, B0]
        b = b % job[COUNTS, B1]
    if job[COUNTS, M0] > 1:
        index += (m // job[COUNTS, M1]) * job[array, M0]
        m = m % job[COUNTS, M1]
    return index + b * job[array, B1] + m * job[array, M1]


@step
def kept(job):
    """B, the kept positions outside the run."""
    return job[COUNTS, B0] * job[COUNTS, B1]


@step
def reduced(job):
    """M, the reduced positions outside the run."""
    return job[COUNTS, M0] * job[COUNTS, M1]


@step
def slot(job, b):
    """Which of the kept positions that share an affine pair b is: each adds up parameter gradients of its own."""
    outer, inner = 0, b
    if job[COUNTS, B0] > 1:
        outer, inner = b // job[COUNTS, B1], b % job[COUNTS, B1]
    result = 0
    if job[AFFINE, B0] == 0:
        result = outer
    if job[AFFINE, B1] == 0:
        result = result * job[COUNTS, B1] + inner
    return result

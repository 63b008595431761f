"""What a kernel knows of its task: a grid of contiguous runs, where each array's run (b, m) begins, and the options.

Every problem is a grid of B = B0·B1 kept positions times M = M0·M1 reduced positions, each a contiguous run of `LENGTH`
elements. In the rows family the run is reduced (a statistic per b); in the columns family it is kept (a statistic per b
and position in the run). Arrays that share an element along an axis, as a weight does, have stride 0 there.

One int64 array holds it all, a line per array: an array costs a call 40 ns, a named tuple of as many integers 800.
"""

import numpy as np

from .._jit import step

# Not plain integers: Numba takes each of those for a type of its own, and would compile `start` once for every line.

# The lines of a job: how its kernel is entered, the addresses of PHASES, Y for the result (dx in a backward pass), BESIDE
# for the second input (a residual, or dy) …
COLUMNS = 6
COUNTS, OPTIONS, ENTRY, PHASES, X, AFFINE, Y, BESIDE = np.arange(8) * COLUMNS
# (Behind the phases, which are five at most: whether x is divided only, and no mean subtracted.)
UNCENTRED = PHASES + 5
# … the columns of the first: how many positions, and how many neighbours in a kept run share a statistic (group norm) …
B0, B1, M0, M1, LENGTH, FOLD = range(6)
# … of the second: RMS or mean and variance, the fused activation, whether to store past the cache, whether x_hat's mean
# is a constant of the backward pass (inference), how many lines of parameters' gradients there are, of how many each …
SECOND_MOMENT, ACTIVATION, STREAMING, CONSTANT, GRADIENTS, PARAMETERS = range(6)
# … where STREAMING says whether all runs are stored so, for they have lines of their own, or those alone that follow each
# other …
IN_TURN, WHOLE_LINES = 1, 2
# … where the second moment is 1 for the mean square, or the sum of squares, of which eps is then the least …
SUM_OF_SQUARES = 2
# … in a forward pass that adds a residual the bits of a float64 by which x is multiplied, in the place of CONSTANT …
FACTOR = CONSTANT
# … of the third: the address of the kernel, how many arrays like x it takes, the bits of eps, and the type of arrays …
WHOLE, ARRAYS, EPS, TYPE = range(4)
# … and of the others, after the strides (in elements) along B0, B1, M0, M1: the step along the run, and in a map the first
# element of a coefficient.
ALONG, OFFSET = 4, 5


@step
def _level(count, inner, outer_step, step):
    """How the places of one axis, or of two, lie; `inner` is 0 where they lie evenly, which saves the division below."""
    return inner if count > 1 and outer_step != inner * step else 0, outer_step, step


@step
def walk(job, array):
    """How the runs of `array` lie, read from the job once: along b and along m."""
    along_b = _level(job[COUNTS + B0], job[COUNTS + B1], job[array + B0], job[array + B1])
    along_m = _level(job[COUNTS + M0], job[COUNTS + M1], job[array + M0], job[array + M1])
    return along_b, along_m


@step
def _along(level, i):
    inner, outer_step, step = level
    if inner > 0:
        return (i // inner) * outer_step + (i % inner) * step
    return i * step


@step
def place(walk, b, m):
    """The index at which the run (b, m) begins, from the first element of its array."""
    along_b, along_m = walk
    return _along(along_b, b) + _along(along_m, m)


@step
def touch(level, length):
    """Whether runs of a length follow each other along b or along m, as a walk has it, without gaps."""
    inner, _, step = level
    return inner == 0 and step == length


@step
def start(job, array, b, m):
    """The same, for a run that is looked up alone."""
    return place(walk(job, array), b, m)


@step
def walks_of(job):
    """How x, dy, dx and the affine pair lie."""
    return walk(job, X), walk(job, BESIDE), walk(job, Y), walk(job, AFFINE)


@step
def by_segment(job):
    """Whether a run shares an affine pair, and the runs of a group have different ones."""
    return job[AFFINE + ALONG] == 0 and (job[AFFINE + M0] != 0 or job[AFFINE + M1] != 0)


@step
def goes_past(job, width):
    """Whether results go past the cache, of whose runs `width` elements are written one after the other."""
    way = job[OPTIONS + STREAMING]
    return way == WHOLE_LINES or (way == IN_TURN and width == job[COUNTS + LENGTH])


@step
def are_even(job):
    """Whether the runs of a group are evenly spaced in all arrays, and their pairs, where each has its own, neighbours."""
    return job[COUNTS + M0] == 1 and (not by_segment(job) or job[AFFINE + M1] == 1)


@step
def apart(job):
    """How many successive kept positions share affine pairs that no others use; 0 where there is no such number."""
    if job[COUNTS + B0] == 1:
        return np.int64(1 if job[AFFINE + B1] != 0 else 0)
    if job[AFFINE + B0] == 0:
        return np.int64(0)
    return job[COUNTS + B1] if job[AFFINE + B1] == 0 else np.int64(1)


@step
def centre_of(job, mean, tail):
    """What is subtracted from x for y, of a mean and its tail: nothing by a norm that only divides."""
    return (0.0, 0.0) if job[UNCENTRED] != 0 else (mean, tail)


@step
def beyond(job, mean, rstd):
    """What a norm that only divides has in the place of x_hat is x·rstd: so much more."""
    return mean * rstd if job[UNCENTRED] != 0 else 0.0


@step
def sums_squares(job):
    """Whether the statistic is the sum of squares."""
    return job[OPTIONS + SECOND_MOMENT] == SUM_OF_SQUARES


@step
def count_of(job):
    """The elements of a group, by which its sum of squares is divided; 1 where that sum is the statistic."""
    return 1.0 if sums_squares(job) else np.float64(reduced(job) * job[COUNTS + LENGTH])


@step
def kept(job):
    """B, the kept positions outside the run."""
    return job[COUNTS + B0] * job[COUNTS + B1]


@step
def reduced(job):
    """M, the reduced positions outside the run."""
    return job[COUNTS + M0] * job[COUNTS + M1]


@step
def slot(job, b):
    """Which of the kept positions that share an affine pair b is: each adds up parameter gradients of its own."""
    outer, inner = 0, b
    if job[COUNTS + B0] > 1:
        outer, inner = b // job[COUNTS + B1], b % job[COUNTS + B1]
    result = 0
    if job[AFFINE + B0] == 0:
        result = outer
    if job[AFFINE + B1] == 0:
        result = result * job[COUNTS + B1] + inner
    return result

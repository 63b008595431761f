"""What every backward phase is given; and the gradients of weight and bias while they are added up, in lines of each."""

from .._jit import arithmetic, step
from .apply import pair_of
from .job import GRADIENTS, OPTIONS, PARAMETERS
from .language.memory import moved, nothing
from .phases import listed

# The phases of a backward call: the first alone, or the others in turn.
ALL_AT_ONCE, SUMS, MERGE, APPLY = range(4)


@step
def of_backward(arrays, numbers, job):
    """Arrays (dy, x, dx), the affine pair, statistics (mean, rstd), and gradients (dweight, dbias, size of a line)."""
    dy, x, dx = listed(arrays, 3)
    mean, rstd, dweight = listed(numbers, 3)
    parameters = job[OPTIONS + PARAMETERS]
    gradients = dweight, moved(dweight, job[OPTIONS + GRADIENTS] * parameters), parameters
    return (dy, x, dx), pair_of(arrays, 3), (mean, rstd), gradients


@step
def nowhere(gradients):
    """The same where nobody asks for them."""
    return nothing(gradients[0]), nothing(gradients[1]), gradients[2]


@step
def line_of(gradients, i):
    """The i-th line of both: for the kept positions, or the tasks, that share a pair."""
    dweight, dbias, parameters = gradients
    return moved(dweight, i * parameters), moved(dbias, i * parameters), parameters


@arithmetic
def add_lines(lines, totals):
    """totals, (2, parameters), from all lines of both, (2, lines, parameters), which are used up; an overflow is no warning.

    NumPy's sum, its cast, and to silence that took 2 µs of a small call's 8.
    """
    _, count, parameters = lines.shape
    for i in range(2):
        first, total = lines[i, 0], totals[i]
        for k in range(1, count):
            line = lines[i, k]
            for p in range(parameters):
                first[p] += line[p]
        for p in range(parameters):
            total[p] = first[p]

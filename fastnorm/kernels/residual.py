"""What a forward phase normalizes: x, or factor·x + residual, which is stored first."""

from .._jit import step
from .job import FACTOR, OPTIONS, X, Y
from .language.loads import load, load_part, store, store_part
from .language.memory import given, numbers_like
from .language.vectors import fma, in_vectors, lanes, splat
from .phases import listed

# The phases of a forward call: the first alone, or the others in turn.
ALL_AT_ONCE, ADD, CHUNKS, MERGE, APPLY = range(5)


@step
def source_of(arrays):
    """What is normalized, x or the sum, and its line of the job."""
    x, residual, total = listed(arrays, 3)
    return (total, Y) if given(residual) else (x, X)


@step
def factor_of(job, numbers):
    """What x is multiplied by before the residual is added; numbers: any of float64."""
    return numbers_like(job, numbers)[OPTIONS + FACTOR]


@step
def add_run(x, at, residual, more, total, to, size, factor):
    """total = factor·x + residual, in one rounding where the machine has it; by a factor of 1 in any case."""
    n, times = lanes(x), splat(total, factor)
    whole = in_vectors(size, n)
    for i in range(0, whole, n):
        store(total, to + i, fma(load(x, at + i), times, load(residual, more + i)))
    rest = size - whole
    if rest > 0:
        i = whole
        value = fma(load_part(x, at + i, rest), times, load_part(residual, more + i, rest))
        store_part(total, to + i, value, rest)

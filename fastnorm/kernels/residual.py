"""What a forward phase normalizes: x, or x + residual, which is stored first."""

from .._jit import step
from .job import X, Y
from .loads import load, load_part, store, store_part
from .memory import given
from .phases import listed
from .vectors import in_vectors, lanes

# The phases of a forward call: the first alone, or the others in turn.
ALL_AT_ONCE, ADD, CHUNKS, MERGE, APPLY = range(5)


@step
def source_of(arrays):
    """What is normalized, x or x + residual, and its line of the job."""
    x, residual, total = listed(arrays, 3)
    return (total, Y) if given(residual) else (x, X)


@step
def add_run(x, at, residual, more, total, to, size):
    """total = x + residual."""
    n = lanes(x)
    whole = in_vectors(size, n)
    for i in range(0, whole, n):
        store(total, to + i, load(x, at + i) + load(residual, more + i))
    rest = size - whole
    if rest > 0:
        i = whole
        value = load_part(x, at + i, rest) + load_part(residual, more + i, rest)
        store_part(total, to + i, value, rest)

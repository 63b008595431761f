"""One kernel for many samples, each with a job of its own: a loop of calls, without what a call costs."""

from numba import prange

from .._jit import parallel, step
from .language.memory import moved, pointer
from .phases import address, call

# A line of `tables` holds so many addresses of memory like x, and then those of memory like statistics.
ARRAYS, NUMBERS = 6, 3


@step
def _one(whole, tables, jobs, i, eps, threads):
    line = moved(pointer(tables), i * (ARRAYS + NUMBERS))
    job = moved(pointer(jobs), i * jobs.shape[1])
    call(whole, threads, address(line), address(moved(line, ARRAYS)), address(job), eps)


@step
def _first(ends, part, parts):
    """The first sample of a part, of parts with about as many elements each."""
    i = 0
    while i < len(ends) and ends[i] * parts <= part * ends[-1]:
        i += 1
    return i


@parallel
def each(threads, whole, tables, jobs, ends, eps):
    """Call a kernel, which `whole` is the address of, for every sample.

    tables: (samples, 9) addresses, 0 for what is absent. jobs: (samples, numbers of a job). ends: (samples,) the elements up
    to the end of each, for those that run side by side, a thread for each; 0 for the first ones, if these are to run one
    after the other, each on all threads. All of int64.
    """
    alone = _first(ends, 0, threads)
    for i in range(alone):
        _one(whole, tables, jobs, i, eps, threads)
    if threads == 1:
        for i in range(alone, len(ends)):
            _one(whole, tables, jobs, i, eps, threads)
        return
    for thread in prange(threads):
        for i in range(max(alone, _first(ends, thread, threads)), _first(ends, thread + 1, threads)):
            _one(whole, tables, jobs, i, eps, 1)

"""Columns, backward: slabs whole, or in parts by several tasks."""

import numpy as np
from numba import prange

from .._jit import kernel, routine, step
from .columns_gradient import LINES, chunk_sums, finish_lines, gradient_rows, start_lines
from .job import (
    AFFINE,
    ALONG,
    COUNTS,
    LENGTH,
    kept,
    reduced,
)
from .memory import given, keep, moved, pointer
from .slabs import chunks_of, clear, is_whole, slab_of, slabs_of, task_of, tasks_of, width_of
from .sums import add_exactly
from .tiles import (
    padded,
)

# The phases of a backward call: the first alone, or the others in turn.
ALL_AT_ONCE, SUMS, MERGE, APPLY = range(4)

# -- Slabs, whole or in parts --------------------------------------------------------------------------------------


@step
def slabs_per_line(job, lines):
    """Slabs of a task: with a pair per row, so many that each task has a line of parameter gradients to itself."""
    if job[AFFINE + ALONG] != 0:
        return 1
    return (kept(job) * slabs_of(job) + lines - 1) // lines


@step
def own_line(gradients, i, job):
    """The parameter gradients that task i adds to: a line of its own where each row has its own pair."""
    dweight, dbias, parameters = gradients
    if job[AFFINE + ALONG] != 0 or not given(dweight):
        return gradients
    return moved(dweight, i * parameters), moved(dbias, i * parameters), parameters


@routine
def finished_lines(arrays, pair, statistics, gradients, sums, job, b, low, width, lines, line, state, wanted):
    """All lines of a slab from its sums."""
    start_lines(arrays[1], pair, statistics, job, b, low, width, lines, line, state)
    rstd = moved(statistics[1], b * job[COUNTS + LENGTH] + low)
    finish_lines(pair, rstd, sums, job, b, low, width, lines, line, gradients, wanted)


@step
def _add_chunk(sums, rest, more, count):
    """sums += more, what is rounded away going to `rest`."""
    for k in range(count):
        sums[k], rest[k] = add_exactly(sums[k], rest[k], more[k])


@step
def _add_rest(sums, rest, count):
    """sums += rest, where that is not what an infinity leaves."""
    for k in range(count):
        sums[k] += rest[k] if rest[k] == rest[k] else 0.0


@routine
def _whole_slab(arrays, pair, statistics, gradients, own, job, i, lines, line, state):
    """Slab i in two trips while it is in the cache. state: nine float64 lines."""
    b, low, width = slab_of(job, i)
    sums, rest = moved(state, 3 * line), moved(state, 6 * line)
    clear(sums, 6 * line)
    start_lines(arrays[1], pair, statistics, job, b, low, width, lines, line, state)
    for chunk in range(chunks_of(job)):
        clear(state, 3 * line)
        chunk_sums(arrays, pair, job, b, chunk, low, width, lines, line, state)
        _add_chunk(sums, rest, state, 3 * line)
    _add_rest(sums, rest, 3 * line)
    rstd = moved(statistics[1], b * job[COUNTS + LENGTH] + low)
    finish_lines(pair, rstd, sums, job, b, low, width, lines, line, gradients, True)
    gradient_rows(arrays, pair, own, job, b, np.int64(0), reduced(job), low, width, lines, line)


@step
def _merge_sums(arrays, pair, statistics, gradients, partial, job, i, lines, line, state):
    """The sums of all chunks of slab i into the first, and what follows from them for its columns' pairs."""
    b, low, width = slab_of(job, i)
    chunks = chunks_of(job)
    sums = moved(partial, i * chunks * 3 * line)
    clear(state, 3 * line)
    for chunk in range(1, chunks):
        _add_chunk(sums, state, moved(sums, chunk * 3 * line), 3 * line)
    _add_rest(sums, state, 3 * line)
    finished_lines(arrays, pair, statistics, gradients, sums, job, b, low, width, lines, line, state, True)


@step
def _apply_slabs(arrays, pair, statistics, gradients, partial, job, first, last, lines, line, state):
    """dx and the rows' own gradients of whole slabs, in one task: no other adds to the same line."""
    stride = chunks_of(job) * 3 * line
    for slab in range(first, last):
        b, low, width = slab_of(job, slab)
        sums = moved(partial, slab * stride)
        finished_lines(
            arrays, pair, statistics, gradients, sums, job, b, low, width, lines, line, state, False
        )
        gradient_rows(arrays, pair, gradients, job, b, np.int64(0), reduced(job), low, width, lines, line)


@routine
def _backward_phase(phase, i, arrays, pair, statistics, gradients, partial, job):
    job, like = pointer(job), arrays[1]
    arrays = (pointer(arrays[0]), pointer(arrays[1]), pointer(arrays[2]))
    pair, statistics = (pointer(pair[0]), pointer(pair[1])), (pointer(statistics[0]), pointer(statistics[1]))
    lines_given, parameters = gradients[0].shape
    gradients = (pointer(gradients[0]), pointer(gradients[1]), parameters)
    slabs, chunks, sums = slabs_of(job), chunks_of(job), pointer(partial)
    line = padded(arrays[1], width_of(job))
    low_space, space = np.zeros(LINES * line, like.dtype), np.empty(9 * line)
    lines, state = pointer(low_space), pointer(space)
    band = slabs_per_line(job, lines_given)
    low_slab, last_slab = i * band, min((i + 1) * band, kept(job) * slabs)
    own = own_line(gradients, i, job)
    if phase == ALL_AT_ONCE:
        for slab in range(low_slab, last_slab):
            _whole_slab(arrays, pair, statistics, gradients, own, job, slab, lines, line, state)
    elif phase == SUMS:
        b, low, width = slab_of(job, i // chunks)
        start_lines(arrays[1], pair, statistics, job, b, low, width, lines, line, state)
        found = moved(sums, i * 3 * line)
        clear(found, 3 * line)
        chunk_sums(arrays, pair, job, b, i % chunks, low, width, lines, line, found)
    elif phase == MERGE:
        _merge_sums(arrays, pair, statistics, gradients, sums, job, i, lines, line, state)
    elif job[AFFINE + ALONG] == 0:
        _apply_slabs(arrays, pair, statistics, own, sums, job, low_slab, last_slab, lines, line, state)
    else:
        b, first, last, low, width = task_of(job, i)
        found = moved(sums, (b * slabs + i % slabs) * chunks * 3 * line)
        finished_lines(
            arrays, pair, statistics, gradients, found, job, b, low, width, lines, line, state, False
        )
        gradient_rows(arrays, pair, gradients, job, b, first, last, low, width, lines, line)
    keep(low_space)
    keep(space)


@kernel
def backward(dy, x, dx, weight, bias, mean, rstd, dweight, dbias, job, threads):
    """Gradients from a norm's input and statistics.

    dy, x, dx: flat, dx of size 0 where nobody asks. weight, bias: flat, or of size 0. mean, rstd: (B·length,) float64, mean
    of size 0 for RMS. dweight, dbias: (lines, parameters) float64, zeros to add to, or (lines, 0) where nobody asks; a line
    for each slot of the job, or where each row has its own pair, for each of the tasks that share the slabs.
    """
    counts = pointer(job)
    slabs, chunks = kept(counts) * slabs_of(counts), chunks_of(counts)
    first, last = (ALL_AT_ONCE, ALL_AT_ONCE) if is_whole(counts) else (SUMS, APPLY)
    line = padded(pointer(x), width_of(counts))
    partial = np.empty(slabs * chunks * 3 * line if last == APPLY else 0)
    band = slabs_per_line(counts, dweight.shape[0])
    bands = (slabs + band - 1) // band
    applying = bands if counts[AFFINE + ALONG] == 0 else tasks_of(counts)
    tasks = (bands, slabs * chunks, slabs, applying)
    for phase in range(first, last + 1):
        if threads == 1:
            for i in range(tasks[phase]):
                _backward_phase(
                    phase,
                    np.int64(i),
                    (dy, x, dx),
                    (weight, bias),
                    (mean, rstd),
                    (dweight, dbias),
                    partial,
                    job,
                )
        else:
            for i in prange(tasks[phase]):
                _backward_phase(
                    phase,
                    np.int64(i),
                    (dy, x, dx),
                    (weight, bias),
                    (mean, rstd),
                    (dweight, dbias),
                    partial,
                    job,
                )

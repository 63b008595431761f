"""Columns, backward: slabs whole, or in parts by several tasks."""

import numpy as np

from ..._jit import routine, step
from ..gradients import ALL_AT_ONCE, APPLY, SUMS, line_of, nowhere, of_backward
from ..job import AFFINE, ALONG, GRADIENTS, OPTIONS, apart, kept, reduced
from ..language.loads import clear, load, store
from ..language.memory import given, keep, moved, numbers_like, padded, pointer
from ..language.vectors import lanes, without_nan
from ..phases import Phase, kernel, run_all, run_one, table
from ..sums import add_exactly
from .gradient import LINES, SUM, chunk_sums, gradient_rows
from .lines import fill_terms, finish_lines, start_lines
from .slabs import chunks_of, is_whole, slab_of, slabs_of, task_of, tasks_of, width_of


@step
def slabs_per_line(job):
    """Slabs of a task: with a pair per row, so many that each task has a line of parameter gradients to itself.

    Or if samples have pairs of their own, all slabs of a sample: then one line is enough.
    """
    if job[AFFINE + ALONG] != 0:
        return 1
    if apart(job) > 0:
        return apart(job) * slabs_of(job)
    lines = job[OPTIONS + GRADIENTS]
    return (kept(job) * slabs_of(job) + lines - 1) // lines


@routine
def finished_lines(arrays, pair, statistics, gradients, sums, job, b, low, width, lines, line, state):
    """All lines of a slab from its sums."""
    start_lines(arrays[1], pair, statistics, job, b, low, width, lines, line, state)
    finish_lines(pair, statistics, sums, job, b, low, width, lines, line, gradients, state)


@step
def _add_chunk(sums, rest, more, count):
    """sums += more, what is rounded away going to `rest`; whole vectors."""
    for k in range(0, count, lanes(sums)):
        total, left = add_exactly(load(sums, k), load(rest, k), load(more, k))
        store(sums, k, total)
        store(rest, k, left)


@step
def _add_rest(sums, rest, count):
    """sums += rest, where that is not what an infinity leaves."""
    for k in range(0, count, lanes(sums)):
        store(sums, k, load(sums, k) + without_nan(load(rest, k)))


# -- Phases --------------------------------------------------------------------------------------------------------


@Phase
def _whole_slabs(i, arrays, numbers, job, eps):
    """Some slabs, each in two trips while it is in the cache."""
    arrays, pair, statistics, gradients = of_backward(arrays, numbers, job)
    line, band = padded(arrays[1], width_of(job)), slabs_per_line(job)
    space, low_space = np.empty(9 * line), np.empty(LINES * line)
    state, lines = pointer(space), numbers_like(pointer(low_space), arrays[1])
    clear(lines, SUM * line)
    sums, rest = moved(state, 3 * line), moved(state, 6 * line)
    own = gradients if job[AFFINE + ALONG] != 0 or apart(job) > 0 else line_of(gradients, i)
    for slab in range(i * band, min((i + 1) * band, kept(job) * slabs_of(job))):
        b, low, width = slab_of(job, slab)
        clear(sums, 6 * line)
        start_lines(arrays[1], pair, statistics, job, b, low, width, lines, line, state)
        for chunk in range(chunks_of(job)):
            clear(state, 3 * line)
            chunk_sums(arrays, pair, job, b, chunk, low, width, lines, line, state)
            _add_chunk(sums, rest, state, 3 * line)
        _add_rest(sums, rest, 3 * line)
        finish_lines(pair, statistics, sums, job, b, low, width, lines, line, own, state)
        gradient_rows(arrays, pair, own, job, b, np.int64(0), reduced(job), low, width, lines, line)
    keep(space)
    keep(low_space)


@Phase
def _sum_chunk(i, arrays, numbers, job, eps):
    """The sums of one chunk of a slab."""
    sums = numbers[3]
    arrays, pair, statistics, _ = of_backward(arrays, numbers, job)
    line, chunks = padded(arrays[1], width_of(job)), chunks_of(job)
    space, low_space = np.empty(3 * line), np.empty(LINES * line)
    lines = numbers_like(pointer(low_space), arrays[1])
    clear(lines, SUM * line)
    b, low, width = slab_of(job, i // chunks)
    start_lines(arrays[1], pair, statistics, job, b, low, width, lines, line, pointer(space))
    found = moved(sums, i * 3 * line)
    clear(found, 3 * line)
    chunk_sums(arrays, pair, job, b, i % chunks, low, width, lines, line, found)
    keep(space)
    keep(low_space)


@Phase
def _merge_sums(i, arrays, numbers, job, eps):
    """The sums of all chunks of slab i into the first, and what follows from them for its columns' pairs."""
    partial = numbers[3]
    arrays, pair, statistics, gradients = of_backward(arrays, numbers, job)
    line, chunks = padded(arrays[1], width_of(job)), chunks_of(job)
    space, low_space = np.empty(3 * line), np.empty(LINES * line)
    state, lines = pointer(space), numbers_like(pointer(low_space), arrays[1])
    clear(lines, SUM * line)
    b, low, width = slab_of(job, i)
    sums = moved(partial, i * chunks * 3 * line)
    clear(state, 3 * line)
    for chunk in range(1, chunks):
        _add_chunk(sums, state, moved(sums, chunk * 3 * line), 3 * line)
    _add_rest(sums, state, 3 * line)
    # Other pairs are left to `_gradient_rows`, whose tasks have lines of their own.
    if job[AFFINE + ALONG] != 0 and given(gradients[0]):
        finished_lines(arrays, pair, statistics, gradients, sums, job, b, low, width, lines, line, state)
    keep(space)
    keep(low_space)


@Phase
def _gradient_rows(i, arrays, numbers, job, eps):
    """dx of some rows of a slab; or of whole slabs, where pairs do not go along the run: no other task adds to its line."""
    partial = numbers[3]
    arrays, pair, statistics, gradients = of_backward(arrays, numbers, job)
    line, slabs = padded(arrays[1], width_of(job)), slabs_of(job)
    space, low_space = np.empty(3 * line), np.empty(LINES * line)
    state, lines = pointer(space), numbers_like(pointer(low_space), arrays[1])
    clear(lines, SUM * line)
    by_row = job[AFFINE + ALONG] == 0
    band = slabs_per_line(job) if by_row else np.int64(1)
    own = line_of(gradients, i if apart(job) == 0 else 0) if by_row else nowhere(gradients)
    for slab in range(i * band, min((i + 1) * band, kept(job) * slabs) if by_row else i + 1):
        b, first, last, low, width = task_of(job, slab)
        if by_row:
            b, low, width = slab_of(job, slab)
            first, last = np.int64(0), reduced(job)
        sums = moved(partial, (b * slabs + slab % slabs) * chunks_of(job) * 3 * line)
        finished_lines(arrays, pair, statistics, own, sums, job, b, low, width, lines, line, state)
        gradient_rows(arrays, pair, own, job, b, first, last, low, width, lines, line)
    keep(space)
    keep(low_space)


@Phase
def _gradient_of_terms(i, arrays, numbers, job, eps):
    """A task of dx, the terms of all columns being given."""
    terms = numbers[2]
    arrays, pair, statistics, gradients = of_backward(arrays, numbers, job)
    line = padded(arrays[1], width_of(job))
    space, low_space = np.empty(3 * line), np.empty(LINES * line)
    lines = numbers_like(pointer(low_space), arrays[1])
    clear(lines, SUM * line)
    b, first, last, low, width = task_of(job, i)
    start_lines(arrays[1], pair, statistics, job, b, low, width, lines, line, pointer(space))
    fill_terms(pair, terms, job, b, low, width, lines, line)
    gradient_rows(arrays, pair, nowhere(gradients), job, b, first, last, low, width, lines, line)
    keep(space)
    keep(low_space)


@kernel(_gradient_of_terms, arrays=5)
def gradient(threads, arrays, numbers, job, eps):
    """dx = terms[0]·weight·g + terms[1]·x_hat + terms[2], where g = dy·act'(z).

    arrays: dy, x, dx, weight, bias. numbers: mean, rstd, and terms, (3, B·length).
    """
    # After the sums, whose trip over memory ended where this one begins.
    run_one(0, tasks_of(job), arrays, numbers, job, eps, threads, True)


@kernel(_whole_slabs, _sum_chunk, _merge_sums, _gradient_rows, arrays=5)
def backward(threads, arrays, numbers, job, eps):
    """Gradients from a norm's input and statistics.

    arrays: as in `rows_backward.backward`. numbers: mean and rstd, (B·length,), mean null for RMS; gradients, likewise as
    there: a line for each slot of the job, or where rows have their own pairs, for each task that shares the slabs.
    """
    slabs, chunks = kept(job) * slabs_of(job), chunks_of(job)
    first, last = (ALL_AT_ONCE, ALL_AT_ONCE) if is_whole(job) else (SUMS, APPLY)
    line = padded(arrays[1], width_of(job))
    partial = np.empty(slabs * chunks * 3 * line if last == APPLY else 0)
    band = slabs_per_line(job)
    bands = (slabs + band - 1) // band
    tasks = (bands, slabs * chunks, slabs, bands if job[AFFINE + ALONG] == 0 else tasks_of(job))
    more = table((numbers[0], numbers[1], numbers[2], pointer(partial)))
    run_all(first, last, tasks, arrays, more, job, eps, threads)
    keep(partial)

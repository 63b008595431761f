"""Columns, forward: the run is kept. Inference, and a slab from its statistics to its result."""

import numpy as np
from numba import prange

from .._jit import kernel, routine, step
from .activations import NONE, activate
from .apply import shared_pair
from .job import (
    ACTIVATION,
    AFFINE,
    ALONG,
    BESIDE,
    COUNTS,
    FOLD,
    LENGTH,
    OPTIONS,
    STREAMING,
    X,
    Y,
    kept,
    place,
    reduced,
    start,
    walk,
)
from .memory import given, keep, moved, nothing, pointer, stack, stream
from .rows import ADD, ALL_AT_ONCE, APPLY, CHUNKS, MERGE, add_run
from .slabs import (
    FOUR_WIDE,
    LINES,
    WIDE,
    chunk_moments,
    chunks_of,
    finish_moments,
    is_whole,
    merge_chunks,
    rows_per_chunk,
    slab_of,
    slabs_of,
    task_of,
    tasks_of,
    widening,
    width_of,
)
from .sums import inverse_root
from .tiles import (
    apply_row,
    apply_row_affine,
    fill_coefficients,
    padded,
    repeat,
)
from .vectors import lanes, load, store

# -- Applying ------------------------------------------------------------------------------------------------------


@step
def _apply_band(x, y, walks, pair, job, b, first, count, wide, low, width, lines, line):
    """Rows from `first` on, `count` of them of `wide` rows each."""
    weight, bias = pair
    xs, ys, pairs = walks
    by_row = job[AFFINE + ALONG] == 0 and given(weight)
    code, streaming = job[OPTIONS + ACTIVATION], job[OPTIONS + STREAMING] != 0
    for r in range(count):
        m = first + r * wide
        at, to = place(xs, b, m) + low, place(ys, b, m) + low
        target, t = (moved(lines, 3 * line), np.int64(0)) if streaming else (y, to)
        if by_row:
            w, c = shared_pair(weight, bias, place(pairs, b, m))
            apply_row_affine(x, at, target, t, width, lines, line, w, c)
        else:
            apply_row(x, at, target, t, width, lines, line)
        if code != NONE:
            activate(target, t, width, code)
        if streaming:
            stream(target, y, to, width)


@routine
def apply_rows(x, array, y, pair, job, b, first, last, low, width, lines, line):
    """Rows first to last of y, `width` columns from `low` on. lines: high, scale and shift, then space for a row."""
    walks = walk(job, array), walk(job, Y), walk(job, AFFINE)
    wide = min(widening(job, array, width), widening(job, Y, width))
    if given(pair[0]) and job[AFFINE + ALONG] == 0:
        wide = 1
    whole = (last - first) // wide if wide > 1 else 0
    if whole > 0:
        repeated = stack(y, FOUR_WIDE)
        for i in range(3):
            repeat(moved(lines, i * line), width, wide, moved(repeated, i * WIDE))
        _apply_band(x, y, walks, pair, job, b, first, whole, wide, low, width * wide, repeated, WIDE)
        first += whole * wide
    _apply_band(x, y, walks, pair, job, b, first, last - first, np.int64(1), low, width, lines, line)


@step
def along_run(pair, job):
    """The pair where it goes along the run, null where each row has its own."""
    weight, bias = pair
    if job[AFFINE + ALONG] == 0:
        return nothing(weight), nothing(bias)
    return pair


@step
def rstd_of(state, eps, line, rstd):
    """rstd from the line of variances."""
    for k in range(0, line, lanes(state)):
        store(rstd, k, inverse_root(load(state, 2 * line + k) + eps))


@step
def _apply_state(x, array, y, pair, job, span, low, width, state, rstd, lines, line):
    """y of rows first to last from mean and tail in `state`, and rstd."""
    b, first, last = span
    affine = start(job, AFFINE, b, 0) + low * job[AFFINE + ALONG]
    fill_coefficients(y, state, rstd, width, along_run(pair, job), affine, lines, line)
    apply_rows(x, array, y, pair, job, b, first, last, low, width, lines, line)


@routine
def _apply_phase(x, y, weight, bias, statistics, job_array, eps, i):
    """A task of inference: statistics per channel are read where the affine pair is, others where their own b is."""
    job = pointer(job_array)
    mean, tail, variance = statistics
    b, first, last, low, width = task_of(job, i)
    line = padded(pointer(y), width)
    state, low_state = np.zeros(4 * line), np.zeros(4 * line, y.dtype)
    numbers = pointer(state)
    step = job[AFFINE + ALONG]
    index = start(job, AFFINE, b, 0) + low * step
    if mean.size == kept(job) * job[COUNTS + LENGTH]:
        index, step = b * job[COUNTS + LENGTH] + low, 1
    for k in range(width):
        numbers[k] = mean[index + k * step]
        numbers[2 * line + k] = variance[index + k * step]
    if tail.size > 0:
        for k in range(width):
            numbers[line + k] = tail[index + k]
    rstd = moved(numbers, 3 * line)
    rstd_of(numbers, eps, line, rstd)
    pair = (pointer(weight), pointer(bias))
    span = (b, first, last)
    _apply_state(
        pointer(x), X, pointer(y), pair, job, span, low, width, numbers, rstd, pointer(low_state), line
    )
    keep(state)
    keep(low_state)


@kernel
def apply(x, y, weight, bias, mean, tail, variance, job, eps, threads):
    """y from x and given statistics, in inference.

    x, y: flat. weight, bias: flat, or of size 0. mean, variance: (B·length,), or (channels,); tail: as mean, or of size 0.
    """
    tasks = tasks_of(pointer(job))
    if threads == 1:
        for i in range(tasks):
            _apply_phase(x, y, weight, bias, (mean, tail, variance), job, eps, np.int64(i))
    else:
        for i in prange(tasks):
            _apply_phase(x, y, weight, bias, (mean, tail, variance), job, eps, np.int64(i))


# -- Forward -------------------------------------------------------------------------------------------------------


@step
def _add_residual(arrays, job, i):
    """total = x + residual, for slab i."""
    x, residual, total, _ = arrays
    b, low, width = slab_of(job, i)
    xs, more, to = walk(job, X), walk(job, BESIDE), walk(job, Y)
    for m in range(reduced(job)):
        at, beside = place(xs, b, m) + low, place(more, b, m) + low
        add_run(x, at, residual, beside, total, place(to, b, m) + low, width)


@routine
def _forward_slab(arrays, pair, statistics, job, eps, i, space, lines, line):
    """Slab i in one trip. space: float64 lines, three for each chunk and one; lines: four in the dtype of y."""
    b, low, width = slab_of(job, i)
    rows, chunks, per_chunk = reduced(job), chunks_of(job), rows_per_chunk(job)
    source, array = arrays[0], X
    if given(arrays[1]):
        _add_residual(arrays, job, i)
        source, array = arrays[2], Y
    xs = walk(job, array)
    for chunk in range(chunks):
        state = moved(space, chunk * LINES * line)
        chunk_moments(source, xs, job, array, b, chunk, low, width, lines, state, line)
    merge_chunks(space, chunks, rows, per_chunk, line)
    finish_moments(space, rows, job[COUNTS + FOLD], width, line)
    rstd = moved(space, chunks * LINES * line)
    rstd_of(space, eps, line, rstd)
    if given(statistics):
        store_statistics(statistics, space, line, rstd, job, b, low, width)
    span = (b, np.int64(0), rows)
    _apply_state(source, array, arrays[3], pair, job, span, low, width, space, rstd, lines, line)


@step
def store_statistics(statistics, state, line, rstd, job, b, low, width):
    """Mean, variance and rstd of a slab, each a line of all columns."""
    all_columns = kept(job) * job[COUNTS + LENGTH]
    at = b * job[COUNTS + LENGTH] + low
    for k in range(width):
        statistics[at + k] = state[k] + state[line + k]
        statistics[all_columns + at + k] = state[2 * line + k]
        statistics[2 * all_columns + at + k] = rstd[k]


@routine
def _forward_phase(phase, i, arrays, pair, memory, job_array, eps):
    job = pointer(job_array)
    like = arrays[3]
    arrays = (pointer(arrays[0]), pointer(arrays[1]), pointer(arrays[2]), pointer(arrays[3]))
    pair = (pointer(pair[0]), pointer(pair[1]))
    statistics, partial = pointer(memory[0]), pointer(memory[1])
    source, array = (arrays[2], Y) if given(arrays[1]) else (arrays[0], X)
    slabs, chunks = slabs_of(job), chunks_of(job)
    line = padded(arrays[3], width_of(job))
    space = np.empty((LINES * chunks + 1) * line if phase == ALL_AT_ONCE else line)
    lines = np.zeros(4 * line, like.dtype)
    if phase == ALL_AT_ONCE:
        _forward_slab(arrays, pair, statistics, job, eps, i, pointer(space), pointer(lines), line)
    elif phase == ADD:
        _add_residual(arrays, job, i)
    elif phase == CHUNKS:
        b, low, width = slab_of(job, i // chunks)
        state = moved(partial, i * LINES * line)
        chunk_moments(
            source, walk(job, array), job, array, b, i % chunks, low, width, pointer(lines), state, line
        )
    elif phase == MERGE:
        b, low, width = slab_of(job, i)
        state = moved(partial, i * chunks * LINES * line)
        merge_chunks(state, chunks, reduced(job), rows_per_chunk(job), line)
        finish_moments(state, reduced(job), job[COUNTS + FOLD], width, line)
        if given(statistics):
            rstd_of(state, eps, line, pointer(space))
            store_statistics(statistics, state, line, pointer(space), job, b, low, width)
    else:
        b, first, last, low, width = task_of(job, i)
        state = moved(partial, (b * slabs + i % slabs) * chunks * LINES * line)
        rstd_of(state, eps, line, pointer(space))
        span = (b, first, last)
        _apply_state(
            source,
            array,
            arrays[3],
            pair,
            job,
            span,
            low,
            width,
            state,
            pointer(space),
            pointer(lines),
            line,
        )
    keep(space)
    keep(lines)


@kernel
def forward(x, residual, total, y, weight, bias, statistics, job, eps, threads):
    """Statistics and result of every slab: in one trip where one core has it, chunk by chunk in two where not.

    x, y: flat. residual, and total like y, for x + residual: flat, or both of size 0. weight, bias: flat, or of size 0.
    statistics: (3, B·length) float64 for mean, variance, rstd, each repeated for the columns that share it; or of size 0.
    """
    counts = pointer(job)
    slabs, chunks = kept(counts) * slabs_of(counts), chunks_of(counts)
    first, last = ALL_AT_ONCE, ALL_AT_ONCE
    if not is_whole(counts):
        first, last = ADD if residual.size > 0 else CHUNKS, APPLY
    line = padded(pointer(y), width_of(counts))
    partial = np.empty(slabs * chunks * LINES * line if last == APPLY else 0)
    tasks = (slabs, slabs, slabs * chunks, slabs, tasks_of(counts))
    for phase in range(first, last + 1):
        if threads == 1:
            for i in range(tasks[phase]):
                _forward_phase(
                    phase,
                    np.int64(i),
                    (x, residual, total, y),
                    (weight, bias),
                    (statistics, partial),
                    job,
                    eps,
                )
        else:
            for i in prange(tasks[phase]):
                _forward_phase(
                    phase,
                    np.int64(i),
                    (x, residual, total, y),
                    (weight, bias),
                    (statistics, partial),
                    job,
                    eps,
                )

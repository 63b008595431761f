"""Columns, forward: the run is kept. Inference, and a slab from its statistics to its result."""

import numpy as np

from ..._jit import routine, step
from ..activations import NONE, activate
from ..apply import pair_along, pair_of, run_given, shared_pair
from ..coefficients import fill_coefficients, fill_given
from ..job import (
    ACTIVATION,
    AFFINE,
    ALONG,
    BESIDE,
    COUNTS,
    FOLD,
    LENGTH,
    OPTIONS,
    PARAMETERS,
    UNCENTRED,
    X,
    Y,
    by_segment,
    goes_past,
    kept,
    place,
    reduced,
    start,
    sums_squares,
    walk,
)
from ..language.loads import clear, load, store
from ..language.memory import given, is_staged, keep, moved, numbers_like, padded, pointer, stack, stage
from ..language.past import START, flush, new_sink, pour, poured, room, written
from ..language.vectors import lanes, splat
from ..phases import Phase, kernel, listed, run_all, table
from ..residual import ADD, ALL_AT_ONCE, APPLY, CHUNKS, MERGE, add_run, factor_of, source_of
from ..sums import rstd_with
from .slabs import (
    FOUR_SLABS,
    FOUR_WIDE,
    LINES,
    SLAB,
    WIDE,
    chunk_moments,
    chunks_of,
    finish_moments,
    is_whole,
    merge_chunks,
    rows_per_chunk,
    slab_moments,
    slab_of,
    slabs_of,
    task_of,
    tasks_of,
    widening,
    width_of,
)
from .tiles import (
    paired_row_vector,
    repeat,
    row_vector,
)

# -- Applying ------------------------------------------------------------------------------------------------------


@routine
def _staged_row(row, y, to, width, by_row, code, sink):
    """A row by way of a buffer, behind three lines: with an activation."""
    lines, line = row[2]
    buffer, start = moved(lines, 3 * line), np.int64(0)
    if by_row:
        written(paired_row_vector, row, start, width, buffer, start)
    else:
        written(row_vector, row, start, width, buffer, start)
    activate(buffer, start, width, code)
    pour(buffer, y, to, width, sink)


@step
def _apply_band(x, y, walks, pair, job, band, low, width, known, sink):
    """A band of rows of position b: from `first` on, `count` of them of `wide` rows each."""
    b, first, count, wide = band
    weight, bias = pair
    xs, ys, pairs = walks
    by_row = job[AFFINE + ALONG] == 0 and given(weight)
    code = job[OPTIONS + ACTIVATION]
    staged = code != NONE and is_staged(y, given(sink[0]))
    for r in range(count):
        m = first + r * wide
        at, to = place(xs, b, m) + low, place(ys, b, m) + low
        w, c = shared_pair(weight, bias, place(pairs, b, m)) if by_row else (1.0, 0.0)
        row = x, at, known, (splat(y, w), splat(y, c))
        if staged:
            _staged_row(row, y, to, width, by_row, code, sink)
            continue
        if by_row:
            poured(paired_row_vector, row, START, width, y, to, sink)
        else:
            poured(row_vector, row, START, width, y, to, sink)
        if code != NONE:
            activate(stage(y, known[0], staged), to, width, code)


@routine
def apply_rows(x, array, y, pair, job, span, low, width, lines, line):
    """Rows first to last of y, `width` columns from `low` on. lines: high, scale and shift, then space for a row."""
    b, first, last = span
    walks = walk(job, array), walk(job, Y), walk(job, AFFINE)
    sink = new_sink(goes_past(job, width), room(y, job))
    wide = min(widening(job, array, last - first, width), widening(job, Y, last - first, width))
    if given(pair[0]) and by_segment(job):
        wide = 1
    whole = (last - first) // wide if wide > 1 else 0
    if whole > 0:
        repeated = stack(y, FOUR_WIDE)
        for i in range(3):
            repeat(moved(lines, i * line), width, wide, moved(repeated, i * WIDE))
        band = b, first, whole, wide
        _apply_band(x, y, walks, pair, job, band, low, width * wide, (repeated, WIDE), sink)
        first += whole * wide
    band = b, first, last - first, np.int64(1)
    _apply_band(x, y, walks, pair, job, band, low, width, (lines, line), sink)
    flush(y, sink)


@step
def rstd_of(state, job, eps, line, rstd):
    """rstd from the line of variances."""
    least = sums_squares(job)
    for k in range(0, line, lanes(state)):
        store(rstd, k, rstd_with(load(state, 2 * line + k), eps, least))


@step
def apply_state(x, array, y, pair, job, span, low, width, state, rstd, lines, line):
    """y of rows first to last from mean and tail in `state`, and rstd."""
    affine = start(job, AFFINE, span[0], 0) + low * job[AFFINE + ALONG]
    fill_coefficients(y, state, rstd, width, pair_along(pair, job), affine, lines, line)
    apply_rows(x, array, y, pair, job, span, low, width, lines, line)


@Phase
def _apply_given(i, arrays, numbers, job, eps):
    """A task of inference: statistics are read where the affine pair is."""
    (x, y), pair = listed(arrays, 2), pair_of(arrays, 2)
    mean, variance = listed(numbers, 2)
    b, first, last, low, width = task_of(job, i)
    own = job[AFFINE + ALONG] != 0
    at = start(job, AFFINE, b, 0) + (low if own else 0)
    lines, line = stack(y, FOUR_SLABS), SLAB
    given_ones = mean, variance, job[OPTIONS + PARAMETERS]
    fill_given(y, given_ones, own, eps, pair_along(pair, job), at, width, lines, line)
    apply_rows(x, X, y, pair, job, (b, first, last), low, width, lines, line)


@kernel(_apply_given, arrays=4)
def apply(threads, arrays, numbers, job, eps):
    """y from x and given statistics, in inference; arrays and numbers as in `rows.apply`."""
    run_given(0, tasks_of(job), arrays, numbers, job, eps, threads)


# -- Forward -------------------------------------------------------------------------------------------------------


@routine
def _add(x, residual, total, job, i, factor):
    """total = factor·x + residual, for slab i."""
    b, low, width = slab_of(job, i)
    xs, more, to = walk(job, X), walk(job, BESIDE), walk(job, Y)
    for m in range(reduced(job)):
        at, beside = place(xs, b, m) + low, place(more, b, m) + low
        add_run(x, at, residual, beside, total, place(to, b, m) + low, width, factor)


@step
def store_statistics(statistics, state, line, rstd, job, b, low, width, alone):
    """Mean, variance and rstd of a slab, each a line of all folds; where these `alone` are wanted, tails for rstd."""
    fold, length = job[COUNTS + FOLD], job[COUNTS + LENGTH]
    folds, first = kept(job) * length // fold, (b * length + low) // fold
    for j in range(width // fold):
        k, at = j * fold, first + j
        statistics[at] = state[k] + state[line + k]
        statistics[folds + at] = state[2 * line + k]
        statistics[2 * folds + at] = rstd[k]
        if alone:
            statistics[at], statistics[2 * folds + at] = state[k], state[line + k]


@Phase
def _forward_slab(i, arrays, numbers, job, eps):
    """Slab i in one trip."""
    (x, residual, total, y), pair = listed(arrays, 4), pair_of(arrays, 4)
    statistics = numbers[0]
    b, low, width = slab_of(job, i)
    chunks = chunks_of(job)
    if given(residual):
        _add(x, residual, total, job, i, factor_of(job, statistics))
    source, array = source_of(arrays)
    line, xs = padded(y, width_of(job)), walk(job, array)
    space, low_space = np.empty((LINES * chunks + 1) * line), np.zeros(4 * line)
    state, lines = pointer(space), numbers_like(pointer(low_space), y)
    slab_moments(source, xs, job, array, b, low, width, lines, state, line)
    rstd = moved(state, chunks * LINES * line)
    rstd_of(state, job, eps, line, rstd)
    if given(statistics):
        store_statistics(statistics, state, line, rstd, job, b, low, width, not given(y))
    if given(y):
        if job[UNCENTRED] != 0:
            clear(state, 2 * line)
        span = (b, np.int64(0), reduced(job))
        apply_state(source, array, y, pair, job, span, low, width, state, rstd, lines, line)
    keep(space)
    keep(low_space)


@Phase
def _add_residual(i, arrays, numbers, job, eps):
    """The sum of x and residual, for slab i."""
    x, residual, total = listed(arrays, 3)
    _add(x, residual, total, job, i, factor_of(job, numbers[0]))


@Phase
def _sum_chunk(i, arrays, numbers, job, eps):
    """Moments of one chunk of a slab."""
    source, array = source_of(arrays)
    chunks, line = chunks_of(job), padded(source, width_of(job))
    b, low, width = slab_of(job, i // chunks)
    low_space = np.zeros(3 * line)
    lines, state = numbers_like(pointer(low_space), source), moved(numbers[1], i * LINES * line)
    chunk_moments(source, walk(job, array), job, array, b, i % chunks, low, width, lines, state, line)
    keep(low_space)


@Phase
def _merge_chunks(i, arrays, numbers, job, eps):
    """Moments of a slab, from those of its chunks."""
    statistics, partial = listed(numbers, 2)
    chunks, line = chunks_of(job), padded(arrays[0], width_of(job))
    b, low, width = slab_of(job, i)
    state = moved(partial, i * chunks * LINES * line)
    merge_chunks(state, chunks, reduced(job), rows_per_chunk(job), line)
    finish_moments(state, job, width, line)
    if given(statistics):
        space = np.empty(line)
        rstd_of(state, job, eps, line, pointer(space))
        store_statistics(statistics, state, line, pointer(space), job, b, low, width, not given(arrays[3]))
        keep(space)
    if job[UNCENTRED] != 0:
        clear(state, 2 * line)


@Phase
def _apply_found(i, arrays, numbers, job, eps):
    """A task of the result, once the statistics of all slabs are known."""
    source, array = source_of(arrays)
    y, pair = arrays[3], pair_of(arrays, 4)
    b, first, last, low, width = task_of(job, i)
    slabs, line = slabs_of(job), padded(y, width_of(job))
    state = moved(numbers[1], (b * slabs + i % slabs) * chunks_of(job) * LINES * line)
    space, low_space = np.empty(line), np.zeros(4 * line)
    rstd, lines = pointer(space), numbers_like(pointer(low_space), y)
    rstd_of(state, job, eps, line, rstd)
    apply_state(source, array, y, pair, job, (b, first, last), low, width, state, rstd, lines, line)
    keep(space)
    keep(low_space)


@kernel(_forward_slab, _add_residual, _sum_chunk, _merge_chunks, _apply_found, arrays=6)
def forward(threads, arrays, numbers, job, eps):
    """Statistics and result of every slab: in one trip where one core has it, chunk by chunk in two where not.

    arrays: as in `rows.forward`. numbers: (3, B·length/fold), or null: mean, variance, rstd (the mean's tail where y is
    null).
    """
    slabs, chunks = kept(job) * slabs_of(job), chunks_of(job)
    if is_whole(job):
        run_all(ALL_AT_ONCE, ALL_AT_ONCE, (slabs,), arrays, numbers, job, eps, threads)
        return
    partial = np.empty(slabs * chunks * LINES * padded(arrays[0], width_of(job)))
    tasks = (0, slabs, slabs * chunks, slabs, tasks_of(job))
    first, last = ADD if given(arrays[1]) else CHUNKS, APPLY if given(arrays[3]) else MERGE
    more = table((numbers[0], pointer(partial)))
    run_all(first, last, tasks, arrays, more, job, eps, threads)
    keep(partial)

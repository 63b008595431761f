"""Columns, forward: the run is kept. Statistics of every column over the rows, inference, and both in turn."""

import numpy as np
from numba import prange

from .._jit import kernel, step
from .activations import NONE, activate
from .blocks import BLOCK, add, cast, copy, fold_sums, split, wide_total
from .floats import borrow, stream
from .job import (
    ACTIVATION,
    AFFINE,
    ALONG,
    BESIDE,
    COUNTS,
    FOLD,
    LENGTH,
    M0,
    M1,
    OPTIONS,
    SECOND_MOMENT,
    STREAMING,
    X,
    Y,
    kept,
    reduced,
    start,
)
from .rows import ADD, ALL_AT_ONCE, APPLY, CHUNK, CHUNKS, LOCAL, MERGE
from .tiles import SLAB, TILE, apply_columns, apply_columns_affine, merge_columns, rows_of, tile_moments

# As integers of Numba's own: see `job`.
ZERO, ONE = np.arange(2)
# Rows of a chunk, the fixed unit of merging and of parallel work, at the least.
_CHUNK = 1024
# Elements of a wide row that is only applied to: its coefficients stay in L1.
_WIDE = 1024
# Columns of a task, where there are many; and elements of a task that applies.
_WIDTH = 512
_TASK = 65536


@step
def widening(job, array, width, most):
    """How many successive rows are one wide row of at most `most` elements, where rows touch: long loops, started seldom."""
    length = job[COUNTS, LENGTH]
    if width == length and 2 * length <= most and job[COUNTS, M0] == 1 and job[array, M1] == length:
        return most // length
    return 1


@step
def rows_per_chunk(job):
    """Rows of a chunk: so many that the statistics of all chunks stay below 400 KiB, and a multiple of a tile."""
    rows, most = reduced(job), max(4, 16384 // job[COUNTS, LENGTH])
    return max(_CHUNK, (rows + most - 1) // most)


@step
def chunks_of(job):
    per_chunk = rows_per_chunk(job)
    return (reduced(job) + per_chunk - 1) // per_chunk


@step
def width_of(job):
    """Columns of a task, whole folds."""
    fold = job[COUNTS, FOLD]
    return min(job[COUNTS, LENGTH], fold * max(1, _WIDTH // fold))


@step
def slabs_of(job):
    width = width_of(job)
    return (job[COUNTS, LENGTH] + width - 1) // width


# -- Statistics ----------------------------------------------------------------------------------------------------


@step
def band_moments(x, job, array, b, first, count, wide, low, state, like):
    """Moments of `count` rows, each `wide` successive rows in one, from row `first` on, into state (3, width)."""
    width = state.shape[1]
    where = np.empty(TILE, np.int64)
    sums = np.empty((4, SLAB), like.dtype)
    block = np.empty((3, SLAB))
    for row in range(0, count, TILE):
        rows = min(TILE, count - row)
        for k in range(0, width, SLAB):
            size = min(SLAB, width - k)
            rows_of(where, job, array, b, first + row * wide, rows, wide, low + k)
            tile_moments(x, where, rows, size, sums, block, job[OPTIONS, SECOND_MOMENT])
            merge_columns(row, state, k, rows, block, ZERO, size)


@step
def chunk_moments(x, job, array, b, chunk, low, state, like):
    """Moments of one chunk's columns, from `low` on, into state (3, width); returns how many rows it has."""
    per_chunk = rows_per_chunk(job)
    first = chunk * per_chunk
    rows = min(per_chunk, reduced(job) - first)
    width = state.shape[1]
    wide = widening(job, array, width, SLAB)
    if wide == 1:
        band_moments(x, job, array, b, first, rows, wide, low, state, like)
        return rows
    whole = rows // wide
    count = ZERO
    if whole > 0:
        parts = np.empty((3, width * wide))
        band_moments(x, job, array, b, first, whole, wide, low, parts, like)
        for i in range(wide):
            merge_columns(count, state, ZERO, whole, parts, i * width, width)
            count += whole
    if rows > count:
        rest = np.empty((3, width))
        band_moments(x, job, array, b, first + count, rows - count, ONE, low, rest, like)
        merge_columns(count, state, ZERO, rows - count, rest, ZERO, width)
    return rows


@step
def _folded(means, tails, m2, mean, tail):
    """(Σ e, Σ e², Σ M2) over neighbouring columns, e = their distance from (mean, tail): by blocks, for the rounding."""
    first, second, within = 0.0, 0.0, 0.0
    for i in range(0, means.size, BLOCK):
        e, squares = fold_sums(means[i : i + BLOCK], tails[i : i + BLOCK], mean, tail)
        first += e
        second += squares
        within += wide_total(m2[i : i + BLOCK])
    return first, second, within


@step
def finish_moments(state, rows, fold):
    """Fold neighbouring columns into one statistic each, and turn M2 into the variance, in place."""
    width = state.shape[1]
    if fold == 1:
        for k in range(width):
            state[2, k] /= rows
        return
    for k in range(0, width, fold):
        means, tails, m2s = state[0, k : k + fold], state[1, k : k + fold], state[2, k : k + fold]
        centre = means[0]
        shift = _folded(means, tails, m2s, centre, 0.0)[0] / fold
        mean = centre + shift
        tail = (centre - mean) + shift
        first, second, within = _folded(means, tails, m2s, mean, tail)
        tail += first / fold
        m2 = within + rows * (second - first * first / fold)
        for j in range(k, k + fold):
            state[0, j], state[1, j], state[2, j] = mean, tail, m2 / (np.float64(rows) * fold)


# -- Applying ------------------------------------------------------------------------------------------------------


@step
def fill_coefficients(state, rstd, weight, bias, affine, along, result):
    """high, scale and shift of every column, as result[0 to 2], with the affine pair where it goes along the run."""
    for k in range(rstd.size):
        scale = rstd[k]
        offset = 0.0
        if along != 0 and weight.size > 0:
            scale *= weight[affine + k]
            if bias.size > 0:
                offset = np.float64(bias[affine + k])
        high, low = split(weight, state[0, k], state[1, k])
        result[0, k] = high
        result[1, k] = cast(weight, scale)
        result[2, k] = cast(weight, offset - low * scale)


@step
def apply_rows(x, y, weight, bias, job, array, b, first, last, low, width, coefficients):
    """Rows first to last of y, `width` columns from `low` on; coefficients is (3, width)."""
    wide = min(widening(job, array, width, _WIDE), widening(job, Y, width, _WIDE))
    if weight.size > 0 and job[AFFINE, ALONG] == 0:
        wide = 1
    whole = (last - first) // wide
    if wide > 1 and whole > 0:
        spread = np.empty((3, width * wide), weight.dtype)
        for i in range(wide):
            for line in range(3):
                copy(coefficients[line], spread[line, i * width : (i + 1) * width])
        _apply_band(x, y, weight, bias, job, array, b, first, whole, wide, low, spread)
        first += whole * wide
    _apply_band(x, y, weight, bias, job, array, b, first, last - first, ONE, low, coefficients)


@step
def _apply_band(x, y, weight, bias, job, array, b, first, count, wide, low, coefficients):
    width = coefficients.shape[1]
    high, scale, shift = coefficients[0], coefficients[1], coefficients[2]
    by_row = job[AFFINE, ALONG] == 0 and weight.size > 0
    code, streaming = job[OPTIONS, ACTIVATION], job[OPTIONS, STREAMING] != 0
    buffer = np.empty(width if streaming else 0, weight.dtype)
    for r in range(count):
        m = first + r * wide
        at, to = start(job, array, b, m) + low, start(job, Y, b, m) + low
        out = y[to : to + width]
        target = buffer if streaming else out
        if by_row:
            affine = start(job, AFFINE, b, m)
            c = bias[affine] if bias.size > 0 else cast(weight, 0)
            apply_columns_affine(x[at : at + width], target, high, scale, shift, weight[affine], c)
        else:
            apply_columns(x[at : at + width], target, high, scale, shift)
        if code != NONE:
            activate(target, code)
        if streaming:
            stream(target, out)


@step
def task_of(job, i):
    """(b, first row, last row, first column, columns) of the i-th task that applies."""
    width, slabs = width_of(job), slabs_of(job)
    band = max(1, _TASK // width)
    bands = (reduced(job) + band - 1) // band
    low = (i % slabs) * width
    first = ((i // slabs) % bands) * band
    return (
        i // (slabs * bands),
        first,
        min(first + band, reduced(job)),
        low,
        min(width, job[COUNTS, LENGTH] - low),
    )


@step
def tasks_of(job):
    band = max(1, _TASK // width_of(job))
    return kept(job) * ((reduced(job) + band - 1) // band) * slabs_of(job)


@step
def _apply_task(x, array, y, weight, bias, mean, tail, variance, job, eps, i):
    b, first, last, low, width = task_of(job, i)
    state = np.zeros((2, width))
    rstd = np.empty(width)
    along = job[AFFINE, ALONG]
    affine = start(job, AFFINE, b, 0) + low * along
    # Statistics per channel are read where the affine pair is, others where their own b is.
    index, step = affine, along
    if mean.size == kept(job) * job[COUNTS, LENGTH]:
        index, step = b * job[COUNTS, LENGTH] + low, ONE
    for k in range(width):
        state[0, k] = mean[index + k * step]
        rstd[k] = 1.0 / np.sqrt(np.float64(variance[index + k * step]) + eps)
    if tail.size > 0:
        copy(tail[index : index + width], state[1])
    coefficients = np.empty((3, width), weight.dtype)
    fill_coefficients(state, rstd, weight, bias, affine, along, coefficients)
    apply_rows(x, y, weight, bias, job, array, b, first, last, low, width, coefficients)


@kernel
def apply(x, y, weight, bias, mean, tail, variance, job, eps, threads):
    """y from x and given statistics, in inference.

    x, y: flat. weight, bias: flat, or of size 0. mean, variance: (B·length,), or (channels,); tail: as mean, or of size 0.
    """
    x, y, weight, bias, job = borrow(x), borrow(y), borrow(weight), borrow(bias), borrow(job)
    mean, tail, variance = borrow(mean), borrow(tail), borrow(variance)
    tasks = tasks_of(job)
    if threads == 1:
        for i in range(tasks):
            _apply_task(x, X, y, weight, bias, mean, tail, variance, job, eps, np.int64(i))
    else:
        for i in prange(tasks):
            _apply_task(x, X, y, weight, bias, mean, tail, variance, job, eps, np.int64(i))


# -- Forward -------------------------------------------------------------------------------------------------------


@step
def is_local(job):
    """Whether a slab's rows stay in one core's L2 between statistics and result, and no core stays idle for it."""
    size = reduced(job) * width_of(job)
    return size <= 2 * LOCAL and (kept(job) * slabs_of(job) >= 8 or size <= CHUNK)


@step
def slab_of(job, i):
    """(b, first column, columns) of slab i."""
    width, slabs = width_of(job), slabs_of(job)
    low = (i % slabs) * width
    return i // slabs, low, min(width, job[COUNTS, LENGTH] - low)


@step
def _add_residual(arrays, job, i):
    """total = x + residual, for slab i."""
    x, residual, total, _ = arrays
    b, low, width = slab_of(job, i)
    for m in range(reduced(job)):
        at, more, to = start(job, X, b, m) + low, start(job, BESIDE, b, m) + low, start(job, Y, b, m) + low
        add(x[at : at + width], residual[more : more + width], total[to : to + width])


@step
def _store_chunk(x, partial, job, array, i, like):
    """Phase 1 of 3: the moments of one chunk of one slab."""
    slabs, chunks = slabs_of(job), chunks_of(job)
    chunk = (i // slabs) % chunks
    b, low, width = slab_of(job, (i // (slabs * chunks)) * slabs + i % slabs)
    state = np.empty((3, width))
    chunk_moments(x, job, array, b, chunk, low, state, like)
    for line in range(3):
        copy(state[line], partial[b * chunks + chunk, line, low : low + width])


@step
def _merge_chunks(partial, result, job, i):
    """Phase 2 of 3: mean, tail and variance of slab i, in the order and so to the bit of `_forward_slab`."""
    chunks, rows, per_chunk = chunks_of(job), reduced(job), rows_per_chunk(job)
    b, low, width = slab_of(job, i)
    at = b * job[COUNTS, LENGTH] + low
    state = np.empty((3, width))
    count = ZERO
    for chunk in range(chunks):
        more = min(per_chunk, rows - count)
        merge_columns(count, state, ZERO, more, partial[b * chunks + chunk], low, width)
        count += more
    finish_moments(state, rows, job[COUNTS, FOLD])
    for line in range(3):
        copy(state[line], result[line, at : at + width])


@step
def _forward_slab(arrays, pair, statistics, job, eps, i):
    """Slab i in one trip."""
    weight, bias = pair
    b, low, width = slab_of(job, i)
    rows = reduced(job)
    source, array = arrays[0], X
    if arrays[1].size > 0:
        _add_residual(arrays, job, i)
        source, array = arrays[2], Y
    state = np.empty((3, width))
    block = np.empty((3, width))
    count = ZERO
    for chunk in range(chunks_of(job)):
        more = chunk_moments(source, job, array, b, chunk, low, block, weight)
        merge_columns(count, state, ZERO, more, block, ZERO, width)
        count += more
    finish_moments(state, rows, job[COUNTS, FOLD])
    rstd = np.empty(width)
    for k in range(width):
        rstd[k] = 1.0 / np.sqrt(state[2, k] + eps)
    if statistics.size > 0:
        at = b * job[COUNTS, LENGTH] + low
        for k in range(width):
            mean = state[0, k] + state[1, k]
            statistics[0, at + k], statistics[1, at + k], statistics[2, at + k] = mean, state[2, k], rstd[k]
    along = job[AFFINE, ALONG]
    coefficients = np.empty((3, width), weight.dtype)
    fill_coefficients(state, rstd, weight, bias, start(job, AFFINE, b, 0) + low * along, along, coefficients)
    apply_rows(source, arrays[3], weight, bias, job, array, b, ZERO, rows, low, width, coefficients)


@step
def _forward_phase(phase, i, arrays, pair, memory, job, eps):
    x, residual, total, y = arrays
    weight, bias = pair
    statistics, partial, result = memory
    source, array = (total, Y) if residual.size > 0 else (x, X)
    if phase == ALL_AT_ONCE:
        _forward_slab(arrays, pair, statistics, job, eps, i)
    elif phase == ADD:
        _add_residual(arrays, job, i)
    elif phase == CHUNKS:
        _store_chunk(source, partial, job, array, i, weight)
    elif phase == MERGE:
        _merge_chunks(partial, result, job, i)
    else:
        _apply_task(source, array, y, weight, bias, result[0], result[1], result[2], job, eps, i)


@kernel
def forward(x, residual, total, y, weight, bias, statistics, job, eps, threads):
    """Statistics and result of every slab: in one trip where its rows stay in the cache, chunk by chunk in two where not.

    x, y: flat. residual, and total like y, for x + residual: flat, or both of size 0. weight, bias: flat, or of size 0.
    statistics: (3, B·length) float64 for mean, variance, rstd, each repeated for the columns that share it; or of size 0.
    """
    x, residual, total, y = borrow(x), borrow(residual), borrow(total), borrow(y)
    weight, bias, statistics, job = borrow(weight), borrow(bias), borrow(statistics), borrow(job)
    slabs = kept(job) * slabs_of(job)
    first, last = ALL_AT_ONCE, ALL_AT_ONCE
    chunks = 0
    if not is_local(job):
        first, last = ADD if residual.size > 0 else CHUNKS, APPLY
        chunks = chunks_of(job)
    columns = job[COUNTS, LENGTH] if chunks > 0 else 0
    partial = np.empty((kept(job) * chunks, 3, columns))
    result = np.empty((3, kept(job) * columns))
    tasks = (slabs, slabs, slabs * chunks, slabs, tasks_of(job))
    for phase in range(first, last + 1):
        if threads == 1:
            for i in range(tasks[phase]):
                _forward_phase(
                    phase,
                    np.int64(i),
                    (x, residual, total, y),
                    (weight, bias),
                    (statistics, partial, result),
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
                    (statistics, partial, result),
                    job,
                    eps,
                )
    if chunks > 0 and statistics.size > 0:
        for k in range(result.shape[1]):
            statistics[0, k], statistics[1, k] = result[0, k] + result[1, k], result[2, k]
            statistics[2, k] = 1.0 / np.sqrt(result[2, k] + eps)

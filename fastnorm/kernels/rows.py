"""Rows, forward: the run is reduced. Statistics, inference, and both in one trip."""

import numpy as np
from numba import prange

from .._jit import kernel, step
from .activations import NONE, activate
from .blocks import (
    BLOCK,
    add,
    apply_affine,
    apply_plain,
    apply_weight,
    block_moments,
    block_square,
    cast,
    copy,
    merge,
    split,
)
from .floats import borrow, stream
from .job import (
    ACTIVATION,
    AFFINE,
    ALONG,
    BESIDE,
    COUNTS,
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

# Elements of a chunk: the fixed unit of merging, and of parallel work inside one group.
CHUNK = 32768
# Elements of a group that stay in the L2 cache of a core between its statistics and its result.
LOCAL = 131072
# Elements a thread should take at a time where groups are smaller than that.
TASK = 16384

# The phases of a forward call: the first alone, or the others in turn.
ALL_AT_ONCE, ADD, CHUNKS, MERGE, APPLY = range(5)


# -- Statistics ----------------------------------------------------------------------------------------------------


@step
def chunking(job, array):
    """(segments, length, segments gathered into a block, segments per chunk, chunks) of every group of `array`."""
    segments, length = reduced(job), job[COUNTS, LENGTH]
    if job[COUNTS, M0] == 1 and job[array, M1] == length:
        segments, length = 1, segments * length
    if segments > 1 and 2 * length <= BLOCK:
        per_chunk = CHUNK // length
        return segments, length, BLOCK // length, per_chunk, (segments + per_chunk - 1) // per_chunk
    return segments, length, 0, 1, segments * ((length + CHUNK - 1) // CHUNK)


@step
def one_block(block, second_moment):
    """(mean, tail, M2) of a block, or its second moment."""
    if second_moment != 0:
        return block_square(block)
    return block_moments(block)


@step
def chunk_moments(x, job, array, b, chunk, like):
    """(count, (mean, tail, M2)) of one chunk of group b: blocks of a long run, or short segments gathered into blocks."""
    segments, length, gathered, per_chunk, _ = chunking(job, array)
    second_moment = job[OPTIONS, SECOND_MOMENT]
    count = np.int64(0)
    state = (0.0, 0.0, 0.0)
    if gathered > 0:
        buffer = np.empty(BLOCK, like.dtype)
        last = min((chunk + 1) * per_chunk, segments)
        for m in range(chunk * per_chunk, last, gathered):
            filled = 0
            for segment in range(m, min(m + gathered, last)):
                at = start(job, array, b, segment)
                copy(x[at : at + length], buffer[filled : filled + length])
                filled += length
            block = one_block(buffer[:filled], second_moment)
            state = block if count == 0 else merge(count, state, filled, block)
            count += filled
        return count, state
    per_segment = (length + CHUNK - 1) // CHUNK
    low = (chunk % per_segment) * CHUNK
    high = min(low + CHUNK, length)
    at = start(job, array, b, chunk // per_segment)
    for i in range(low, high, BLOCK):
        size = min(BLOCK, high - i)
        block = one_block(x[at + i : at + i + size], second_moment)
        state = block if count == 0 else merge(count, state, size, block)
        count += size
    return count, state


@step
def group_moments(x, job, array, b, like):
    """(mean, tail, variance) of group b: its chunks, merged in order."""
    chunks = chunking(job, array)[4]
    count = np.int64(0)
    state = (0.0, 0.0, 0.0)
    for chunk in range(chunks):
        more, block = chunk_moments(x, job, array, b, chunk, like)
        state = block if count == 0 else merge(count, state, more, block)
        count += more
    return state[0], state[1], state[2] / count


@step
def _store_chunk(x, partial, job, array, i, like):
    """Phase 1 of 3: count, mean, tail and M2 of chunk i."""
    chunks = chunking(job, array)[4]
    count, state = chunk_moments(x, job, array, i // chunks, i % chunks, like)
    partial[i, 0], partial[i, 1], partial[i, 2], partial[i, 3] = count, state[0], state[1], state[2]


@step
def _merge_chunks(partial, result, b):
    """Phase 2 of 3: mean, tail and variance of group b, in the order and so to the bit of `group_moments`."""
    chunks = partial.shape[0] // result.shape[1]
    count = np.int64(0)
    state = (0.0, 0.0, 0.0)
    for line in partial[b * chunks : (b + 1) * chunks]:
        more, block = np.int64(line[0]), (line[1], line[2], line[3])
        state = block if count == 0 else merge(count, state, more, block)
        count += more
    result[0, b], result[1, b], result[2, b] = state[0], state[1], state[2] / count


# -- Applying ------------------------------------------------------------------------------------------------------


@step
def coefficients(statistic, weight, bias, affine, along):
    """(high, scale, shift) of y = (x - high)·scale + shift, with the affine pair where the whole run shares one."""
    mean, tail, rstd = statistic
    high, low = split(weight, mean, tail)
    offset = 0.0
    if along == 0 and weight.size > 0:
        rstd *= weight[affine]
        if bias.size > 0:
            offset = np.float64(bias[affine])
    return high, cast(weight, rstd), cast(weight, offset - low * rstd)


@step
def apply_block(x, y, weight, bias, high, scale, shift):
    """One block of y, with the weight and bias of each element where they are not of size 0."""
    if weight.size == 0:
        apply_plain(x, y, high, scale, shift)
    elif bias.size == 0:
        apply_weight(x, y, weight, high, scale, shift)
    else:
        apply_affine(x, y, weight, bias, high, scale, shift)


@step
def apply_run(x, y, weight, bias, high, scale, shift, job, buffer):
    """A run of y, block by block: standardize, weight and bias, activation, store."""
    for i in range(0, y.size, BLOCK):
        size = min(BLOCK, y.size - i)
        out = y[i : i + size]
        target = buffer[:size] if buffer.size > 0 else out
        apply_block(x[i : i + size], target, weight[i : i + size], bias[i : i + size], high, scale, shift)
        activate(target, job[OPTIONS, ACTIVATION])
        if buffer.size > 0:
            stream(target, out)


@step
def store_buffer(job, like):
    """An L1 buffer where results are stored past the cache, else an empty one."""
    return np.empty(BLOCK if job[OPTIONS, STREAMING] != 0 else 0, like.dtype)


@step
def apply_group(x, y, weight, bias, job, array, b, first, last, low, high, statistic, buffer):
    """Segments first to last of group b, elements low to high of each; statistic is (mean, tail, rstd)."""
    along = job[AFFINE, ALONG]
    by_segment = job[AFFINE, M0] != 0 or job[AFFINE, M1] != 0
    affine = start(job, AFFINE, b, first)
    centre, scale, shift = coefficients(statistic, weight, bias, affine, along)
    for m in range(first, last):
        if by_segment and m > first:
            affine = start(job, AFFINE, b, m)
            centre, scale, shift = coefficients(statistic, weight, bias, affine, along)
        at, to = start(job, array, b, m), start(job, Y, b, m)
        w, c = weight[:0], bias[:0]
        if along != 0:
            w, c = weight[affine + low : affine + high], bias[affine + low : affine + high]
        apply_run(x[at + low : at + high], y[to + low : to + high], w, c, centre, scale, shift, job, buffer)


@step
def _apply_task(x, array, y, weight, bias, mean, tail, variance, job, eps, i):
    """One band of short segments, or one chunk of a long one."""
    pieces, band, bands = apply_pieces(job)
    b, rest = i // (bands * pieces), i % (bands * pieces)
    low = (rest % pieces) * CHUNK
    first = (rest // pieces) * band
    index = b if mean.size == kept(job) else start(job, AFFINE, b, 0)
    statistic = (
        np.float64(mean[index]),
        np.float64(tail[index]) if tail.size > 0 else 0.0,
        1.0 / np.sqrt(np.float64(variance[index]) + eps),
    )
    high = min(low + CHUNK, job[COUNTS, LENGTH])
    last = min(first + band, reduced(job))
    apply_group(
        x, y, weight, bias, job, array, b, first, last, low, high, statistic, store_buffer(job, weight)
    )


@step
def apply_pieces(job):
    """(chunks of a segment, segments of a band, bands)."""
    length, segments = job[COUNTS, LENGTH], reduced(job)
    band = max(1, TASK // length)
    return (length + CHUNK - 1) // CHUNK, band, (segments + band - 1) // band


@step
def apply_tasks(job):
    pieces, _, bands = apply_pieces(job)
    return kept(job) * bands * pieces


@kernel
def apply(x, y, weight, bias, mean, tail, variance, job, eps, threads):
    """y from x and given statistics, in inference.

    x, y: flat. weight, bias: flat, or of size 0. mean, variance: (B,), or one per channel where B counts samples too;
    tail: as mean, or of size 0.
    """
    x, y, weight, bias, job = borrow(x), borrow(y), borrow(weight), borrow(bias), borrow(job)
    mean, tail, variance = borrow(mean), borrow(tail), borrow(variance)
    tasks = apply_tasks(job)
    if threads == 1:
        for i in range(tasks):
            _apply_task(x, X, y, weight, bias, mean, tail, variance, job, eps, np.int64(i))
    else:
        for i in prange(tasks):
            _apply_task(x, X, y, weight, bias, mean, tail, variance, job, eps, np.int64(i))


# -- Forward -------------------------------------------------------------------------------------------------------


@step
def is_local(job):
    """Whether a group stays in one core's L2 between its statistics and its result, and no core stays idle for it."""
    size = reduced(job) * job[COUNTS, LENGTH]
    return size <= LOCAL and (kept(job) >= 8 or size <= CHUNK)


@step
def _add_residual(arrays, job, b):
    """total = x + residual, for group b."""
    x, residual, total, _ = arrays
    length = job[COUNTS, LENGTH]
    for m in range(reduced(job)):
        at, more, to = start(job, X, b, m), start(job, BESIDE, b, m), start(job, Y, b, m)
        add(x[at : at + length], residual[more : more + length], total[to : to + length])


@step
def _forward_groups(arrays, pair, statistics, job, eps, first, last):
    """Groups first to last in one trip."""
    weight, bias = pair
    buffer = store_buffer(job, weight)
    zero, segments, length = np.int64(0), reduced(job), job[COUNTS, LENGTH]
    for b in range(first, last):
        source, array = arrays[0], X
        if arrays[1].size > 0:
            _add_residual(arrays, job, b)
            source, array = arrays[2], Y
        mean, tail, variance = group_moments(source, job, array, b, weight)
        rstd = 1.0 / np.sqrt(variance + eps)
        if statistics.size > 0:
            statistics[0, b], statistics[1, b], statistics[2, b] = mean + tail, variance, rstd
        statistic = (mean, tail, rstd)
        apply_group(
            source, arrays[3], weight, bias, job, array, b, zero, segments, zero, length, statistic, buffer
        )


@step
def _forward_blocks(arrays, pair, statistics, job, eps, first, last):
    """`_forward_groups` where every group is one block. A row of 64 takes 15 ns here and 200 there, of 768 90 and 290."""
    x, residual, total, y = arrays
    weight, bias = pair
    buffer = store_buffer(job, weight)
    length, along = job[COUNTS, LENGTH], job[AFFINE, ALONG]
    second_moment, code = job[OPTIONS, SECOND_MOMENT], job[OPTIONS, ACTIVATION]
    zero = np.int64(0)
    for b in range(first, last):
        at, to, affine = start(job, X, b, zero), start(job, Y, b, zero), start(job, AFFINE, b, zero)
        block = x[at : at + length]
        if residual.size > 0:
            more = start(job, BESIDE, b, zero)
            add(block, residual[more : more + length], total[to : to + length])
            block = total[to : to + length]
        mean, tail, m2 = one_block(block, second_moment)
        variance = m2 / length
        rstd = 1.0 / np.sqrt(variance + eps)
        if statistics.size > 0:
            statistics[0, b], statistics[1, b], statistics[2, b] = mean + tail, variance, rstd
        centre, scale, shift = coefficients((mean, tail, rstd), weight, bias, affine, along)
        out = y[to : to + length]
        target = buffer[:length] if buffer.size > 0 else out
        if along == 0 or weight.size == 0:
            apply_plain(block, target, centre, scale, shift)
        elif bias.size == 0:
            apply_weight(block, target, weight[affine : affine + length], centre, scale, shift)
        else:
            w, c = weight[affine : affine + length], bias[affine : affine + length]
            apply_affine(block, target, w, c, centre, scale, shift)
        if code != NONE:
            activate(target, code)
        if buffer.size > 0:
            stream(target, out)


@step
def _forward_phase(phase, i, arrays, pair, memory, job, eps):
    x, residual, total, y = arrays
    weight, bias = pair
    statistics, partial, result = memory
    source, array = (total, Y) if residual.size > 0 else (x, X)
    if phase == ALL_AT_ONCE:
        band = groups_per_task(job)
        first, last = i * band, min((i + 1) * band, kept(job))
        if reduced(job) == 1 and job[COUNTS, LENGTH] <= BLOCK:
            _forward_blocks(arrays, pair, statistics, job, eps, first, last)
        else:
            _forward_groups(arrays, pair, statistics, job, eps, first, last)
    elif phase == ADD:
        _add_residual(arrays, job, i)
    elif phase == CHUNKS:
        _store_chunk(source, partial, job, array, i, weight)
    elif phase == MERGE:
        _merge_chunks(partial, result, i)
    else:
        _apply_task(source, array, y, weight, bias, result[0], result[1], result[2], job, eps, i)


@step
def groups_per_task(job):
    return max(1, TASK // (reduced(job) * job[COUNTS, LENGTH]))


@kernel
def forward(x, residual, total, y, weight, bias, statistics, job, eps, threads):
    """Statistics and result of every group: in one trip where it stays in the cache, chunk by chunk in two where not.

    x, y: flat. residual, and total like y, for x + residual: flat, or both of size 0. weight, bias: flat, or of size 0.
    statistics: (3, B) float64 for mean, variance, rstd, or of size 0 where nobody asks.
    """
    x, residual, total, y = borrow(x), borrow(residual), borrow(total), borrow(y)
    weight, bias, statistics, job = borrow(weight), borrow(bias), borrow(statistics), borrow(job)
    groups = kept(job)
    band = groups_per_task(job)
    first, last = ALL_AT_ONCE, ALL_AT_ONCE
    chunks = 0
    if not is_local(job):
        first, last = ADD if residual.size > 0 else CHUNKS, APPLY
        chunks = chunking(job, X if residual.size == 0 else Y)[4]
    partial = np.empty((groups * chunks, 4))
    result = np.empty((3, groups if chunks > 0 else 0))
    tasks = ((groups + band - 1) // band, groups, groups * chunks, groups, apply_tasks(job))
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
        for b in range(groups):
            statistics[0, b], statistics[1, b] = result[0, b] + result[1, b], result[2, b]
            statistics[2, b] = 1.0 / np.sqrt(result[2, b] + eps)

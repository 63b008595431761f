"""Rows, forward: the run is reduced. Statistics, inference, and both in one trip."""

import numpy as np
from numba import prange

from .._jit import kernel, routine, step
from .apply import apply_run, coefficients, shared_pair
from .job import (
    AFFINE,
    ALONG,
    BESIDE,
    COUNTS,
    LENGTH,
    M0,
    M1,
    OPTIONS,
    SECOND_MOMENT,
    X,
    Y,
    kept,
    place,
    reduced,
    start,
    walk,
)
from .memory import given, moved, nothing, pointer, stack
from .sums import BLOCK, inverse_root, merge_all, moment_sums, moments
from .vectors import lanes, load, load_part, store, store_part

# Elements of a chunk: the fixed unit of merging, and of parallel work inside one group.
CHUNK = 32768
# Elements of a group that stay in the L2 cache of a core between its statistics and its result.
LOCAL = 131072
# Elements a thread should take at a time where groups are smaller than that.
TASK = 16384
# Elements of groups whose statistics are finished together, while they are in L1: at most a vector of groups.
_BATCH = 4096
_GROUPS = 16

# Space for the moments of its chunks, which are more than half full.
_PARTIAL = 4 * (LOCAL // (CHUNK // 2))

# The phases of a forward call: the first alone, or the others in turn.
ALL_AT_ONCE, ADD, CHUNKS, MERGE, APPLY = range(5)


# -- Statistics ----------------------------------------------------------------------------------------------------


@step
def chunking(job, array):
    """(length, segments of a chunk, elements of each, chunks) of every group of `array`, segments that touch being one."""
    segments, length = reduced(job), job[COUNTS + LENGTH]
    if job[COUNTS + M0] == 1 and job[array + M1] == length:
        segments, length = 1, segments * length
    if 2 * length <= CHUNK:
        per_chunk = CHUNK // length
        return length, per_chunk, length, (segments + per_chunk - 1) // per_chunk
    return length, 1, CHUNK, segments * ((length + CHUNK - 1) // CHUNK)


@step
def chunk_of(job, chunks, i):
    """(first segment, last, first element, last) of chunk i of a group."""
    length, per_chunk, size, _ = chunks
    pieces = (length + size - 1) // size
    segments = reduced(job) * job[COUNTS + LENGTH] // length
    first = (i // pieces) * per_chunk
    low = (i % pieces) * size
    return first, min(first + per_chunk, segments), low, min(low + size, length)


@routine
def store_chunk(x, where, job, chunks, b, i, line):
    """Count, mean, tail and M2 of chunk i of group b, into a line of four."""
    first, last, low, high = chunk_of(job, chunks, i)
    count = np.float64((last - first) * (high - low))
    sums = moment_sums(x, where, b, first, last, low, high, job[OPTIONS + SECOND_MOMENT])
    line[0] = count
    line[1], line[2], line[3] = moments(sums, count)


@step
def _group_sums(x, where, job, chunks, b, partial):
    """(centre, Σ d, Σ d²) of group b: of its only chunk, or such that they say what all chunks merged say."""
    if chunks[3] == 1:
        first, last, low, high = chunk_of(job, chunks, 0)
        return moment_sums(x, where, b, first, last, low, high, job[OPTIONS + SECOND_MOMENT])
    for i in range(chunks[3]):
        store_chunk(x, where, job, chunks, b, i, moved(partial, 4 * i))
    merge_all(partial, 0, chunks[3])
    count, mean, tail, m2 = partial[0], partial[1], partial[2], partial[3]
    return mean, tail * count, m2 + tail * tail * count


# Lines of a batch: what `moment_sums` found of each group, in their place then what its result is made of.
_CENTRE, _FIRST, _SECOND = 0, _GROUPS, 2 * _GROUPS
_MEAN, _TAIL, _RSTD, _VARIANCE = 0, _GROUPS, 2 * _GROUPS, 3 * _GROUPS
_SPACE = 4 * _GROUPS


@step
def _finish_batch(batch, count, eps):
    """Mean, tail, rstd and variance of a whole batch, a vector of groups at a time: division and root take their time."""
    for i in range(0, _GROUPS, lanes(batch)):
        sums = (load(batch, _CENTRE + i), load(batch, _FIRST + i), load(batch, _SECOND + i))
        mean, tail, m2 = moments(sums, count)
        variance = m2 / count
        store(batch, _MEAN + i, mean)
        store(batch, _TAIL + i, tail)
        store(batch, _RSTD + i, inverse_root(variance + eps))
        store(batch, _VARIANCE + i, variance)


# -- Applying ------------------------------------------------------------------------------------------------------


@step
def apply_group(x, xs, y, ys, pair, pairs, job, b, first, last, low, high, statistic, buffer):
    """Segments first to last of group b, elements low to high of each; statistic is (mean, tail, rstd)."""
    weight, bias = pair
    along_run = job[AFFINE + ALONG] != 0
    by_segment = not along_run and (job[AFFINE + M0] != 0 or job[AFFINE + M1] != 0)
    each = pair if along_run else (nothing(weight), nothing(bias))
    affine = place(pairs, b, first)
    w, c = (1.0, 0.0) if along_run else shared_pair(weight, bias, affine)
    known = coefficients(y, statistic, w, c)
    for m in range(first, last):
        if along_run:
            affine = place(pairs, b, m) + low
        elif by_segment and m > first:
            w, c = shared_pair(weight, bias, place(pairs, b, m))
            known = coefficients(y, statistic, w, c)
        at, to = place(xs, b, m) + low, place(ys, b, m) + low
        apply_run(x, at, y, to, high - low, each, affine, known, job, buffer)


@step
def apply_pieces(job):
    """(chunks of a segment, segments of a band, bands)."""
    length, segments = job[COUNTS + LENGTH], reduced(job)
    band = max(1, TASK // length)
    return (length + CHUNK - 1) // CHUNK, band, (segments + band - 1) // band


@step
def apply_tasks(job):
    pieces, _, bands = apply_pieces(job)
    return kept(job) * bands * pieces


@routine
def _apply_task(x, array, y, pair, mean, tail, variance, own, job, eps, i):
    """One band of short segments, or one chunk of a long one; statistics are of b's `own`, or where its affine pair is."""
    pieces, band, bands = apply_pieces(job)
    b, rest = i // (bands * pieces), i % (bands * pieces)
    low = (rest % pieces) * CHUNK
    first = (rest // pieces) * band
    index = b if own else start(job, AFFINE, b, 0)
    statistic = (
        np.float64(mean[index]),
        np.float64(tail[index]) if given(tail) else 0.0,
        1.0 / np.sqrt(np.float64(variance[index]) + eps),
    )
    high = min(low + CHUNK, job[COUNTS + LENGTH])
    last = min(first + band, reduced(job))
    xs, ys, pairs = walk(job, array), walk(job, Y), walk(job, AFFINE)
    buffer = stack(y, BLOCK)
    apply_group(x, xs, y, ys, pair, pairs, job, b, first, last, low, high, statistic, buffer)


@routine
def _apply_phase(x, y, pair, statistics, job, eps, i):
    own = statistics[0].size == kept(pointer(job))
    mean, tail, variance = pointer(statistics[0]), pointer(statistics[1]), pointer(statistics[2])
    job, pair = pointer(job), (pointer(pair[0]), pointer(pair[1]))
    _apply_task(pointer(x), X, pointer(y), pair, mean, tail, variance, own, job, eps, i)


@kernel
def apply(x, y, weight, bias, mean, tail, variance, job, eps, threads):
    """y from x and given statistics, in inference.

    x, y: flat. weight, bias: flat, or of size 0. mean, variance: (B,), or one per channel where B counts samples too;
    tail: as mean, or of size 0.
    """
    tasks = apply_tasks(pointer(job))
    if threads == 1:
        for i in range(tasks):
            _apply_phase(x, y, (weight, bias), (mean, tail, variance), job, eps, np.int64(i))
    else:
        for i in prange(tasks):
            _apply_phase(x, y, (weight, bias), (mean, tail, variance), job, eps, np.int64(i))


# -- Forward -------------------------------------------------------------------------------------------------------


@step
def is_local(job):
    """Whether a group stays in one core's L2 between its statistics and its result, and no core stays idle for it."""
    size = reduced(job) * job[COUNTS + LENGTH]
    return size <= LOCAL and (kept(job) >= 8 or size <= CHUNK)


@step
def add_run(x, at, residual, more, total, to, size):
    """total = x + residual."""
    n = lanes(x)
    whole = size - size % n
    for i in range(0, whole, n):
        store(total, to + i, load(x, at + i) + load(residual, more + i))
    rest = size - whole
    if rest > 0:
        i = whole
        value = load_part(x, at + i, rest) + load_part(residual, more + i, rest)
        store_part(total, to + i, value, rest)


@routine
def _add_residual(arrays, job, b):
    """total = x + residual, for group b."""
    x, residual, total, _ = arrays
    xs, more, to = walk(job, X), walk(job, BESIDE), walk(job, Y)
    for m in range(reduced(job)):
        size = job[COUNTS + LENGTH]
        add_run(x, place(xs, b, m), residual, place(more, b, m), total, place(to, b, m), size)


@routine
def _forward_groups(arrays, pair, statistics, job, eps, first, last):
    """Groups first to last in one trip, a batch of them at a time."""
    x, residual, total, y = arrays
    source, array = (total, Y) if given(residual) else (x, X)
    where, ys, pairs = walk(job, array), walk(job, Y), walk(job, AFFINE)
    chunks = chunking(job, array)
    count = reduced(job) * job[COUNTS + LENGTH]
    per_batch = max(1, min(_GROUPS, _BATCH // count))
    buffer = stack(y, BLOCK)
    batch = stack(statistics, _SPACE)
    partial = stack(statistics, _PARTIAL)
    for i in range(_SPACE):
        batch[i] = 1.0
    for low in range(first, last, per_batch):
        groups = min(per_batch, last - low)
        for i in range(groups):
            if given(residual):
                _add_residual(arrays, job, low + i)
            sums = _group_sums(source, where, job, chunks, low + i, partial)
            batch[_CENTRE + i], batch[_FIRST + i], batch[_SECOND + i] = sums
        _finish_batch(batch, np.float64(count), eps)
        for i in range(groups):
            b = low + i
            mean, tail, rstd = batch[_MEAN + i], batch[_TAIL + i], batch[_RSTD + i]
            if given(statistics):
                all_groups = kept(job)
                statistics[b], statistics[all_groups + b] = mean + tail, batch[_VARIANCE + i]
                statistics[2 * all_groups + b] = rstd
            statistic = (mean, tail, rstd)
            size = job[COUNTS + LENGTH]
            apply_group(
                source, where, y, ys, pair, pairs, job, b, 0, reduced(job), 0, size, statistic, buffer
            )


@step
def _merge_chunks(partial, result, groups, chunks, b):
    """Phase 2 of 3: mean, tail and variance of group b, to the bit of `_group_sums`."""
    merge_all(partial, b * chunks, chunks)
    line = moved(partial, 4 * b * chunks)
    result[b], result[groups + b], result[2 * groups + b] = line[1], line[2], line[3] / line[0]


@routine
def _forward_phase(phase, i, arrays, pair, memory, job, eps):
    job = pointer(job)
    arrays = (pointer(arrays[0]), pointer(arrays[1]), pointer(arrays[2]), pointer(arrays[3]))
    pair = (pointer(pair[0]), pointer(pair[1]))
    x, residual, total, y = arrays
    statistics, partial, result = pointer(memory[0]), pointer(memory[1]), pointer(memory[2])
    groups = kept(job)
    source, array = (total, Y) if given(residual) else (x, X)
    if phase == ALL_AT_ONCE:
        band = groups_per_task(job)
        _forward_groups(arrays, pair, statistics, job, eps, i * band, min((i + 1) * band, kept(job)))
    elif phase == ADD:
        _add_residual(arrays, job, i)
    elif phase == CHUNKS:
        chunks = chunking(job, array)
        line = moved(partial, 4 * i)
        store_chunk(source, walk(job, array), job, chunks, i // chunks[3], i % chunks[3], line)
    elif phase == MERGE:
        _merge_chunks(partial, result, groups, chunking(job, array)[3], i)
    else:
        tail, variance = moved(result, groups), moved(result, 2 * groups)
        _apply_task(source, array, y, pair, result, tail, variance, True, job, eps, i)


@step
def groups_per_task(job):
    return max(1, TASK // (reduced(job) * job[COUNTS + LENGTH]))


@kernel
def forward(x, residual, total, y, weight, bias, statistics, job, eps, threads):
    """Statistics and result of every group: in one trip where it stays in the cache, chunk by chunk in two where not.

    x, y: flat. residual, and total like y, for x + residual: flat, or both of size 0. weight, bias: flat, or of size 0.
    statistics: (3, B) float64 for mean, variance, rstd, or of size 0 where nobody asks.
    """
    counts = pointer(job)
    groups = kept(counts)
    band = groups_per_task(counts)
    first, last = ALL_AT_ONCE, ALL_AT_ONCE
    chunks = 0
    if not is_local(counts):
        first, last = ADD if residual.size > 0 else CHUNKS, APPLY
        chunks = chunking(counts, X if residual.size == 0 else Y)[3]
    partial = np.empty((groups * chunks, 4))
    result = np.empty((3, groups if chunks > 0 else 0))
    tasks = ((groups + band - 1) // band, groups, groups * chunks, groups, apply_tasks(counts))
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

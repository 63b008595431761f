"""Rows, forward: the run is reduced. Statistics, inference, and both in one trip."""

import numpy as np

from ..._jit import routine, step
from ..activations import NONE
from ..apply import (
    STAGED,
    apply_run,
    coefficients,
    is_plain,
    pair_along,
    pair_of,
    plain_run,
    run_given,
    shared_pair,
)
from ..coefficients import fill_given, store_coefficients
from ..job import (
    ACTIVATION,
    AFFINE,
    ALONG,
    B0,
    B1,
    BESIDE,
    COUNTS,
    LENGTH,
    M1,
    OPTIONS,
    PARAMETERS,
    STREAMING,
    UNCENTRED,
    X,
    Y,
    are_even,
    by_segment,
    centre_of,
    count_of,
    kept,
    place,
    reduced,
    sums_squares,
    touch,
    walk,
)
from ..language.loads import clear, load, store
from ..language.memory import given, keep, moved, nothing, numbers_like, padded, pointer, stack, stage
from ..language.past import flush, new_sink, room
from ..language.vectors import lanes, splat, spread
from ..phases import Phase, kernel, listed, run_all, run_one, table
from ..residual import ADD, ALL_AT_ONCE, APPLY, CHUNKS, MERGE, add_run, factor_of, source_of
from ..sums import is_short, statistic_from, statistic_of_sums
from .groups import (
    PARTIAL,
    apply_tasks,
    chunking,
    group_sums,
    groups_per_task,
    is_local,
    merged_sums,
    pieces_of_task,
    store_chunk,
)
from .short import known_of, short_results, short_sums
from .touching import RUNS, RUNS_LINE, RUNS_SPACE, apply_touching, lengths_of, suit

# Elements of groups whose statistics are finished together, while they are in L1: of an even number, a vector at most.
_BATCH = 6144
_GROUPS = 16

# Fewer channels take less one by one: three of 49 elements each a fifth.
_FEWEST = 8
# Affine pairs that a task makes coefficients of.
_FILL = 1024

# Lines of a batch: what `moment_sums` found of each group, in their place then what its result is made of.
_CENTRE, _FIRST, _SECOND = 0, _GROUPS, 2 * _GROUPS
_MEAN, _TAIL, _RSTD, _VARIANCE = 0, _GROUPS, 2 * _GROUPS, 3 * _GROUPS
_SPACE = 4 * _GROUPS


# -- Applying ------------------------------------------------------------------------------------------------------


@step
def _apply_short(x, xs, y, ys, pair, affine, job, b, piece, statistic, known):
    """`apply_group` for segments that are short, evenly spaced, share a pair each and are stored as they are computed.

    `affine` is where the first one's pair lies, for the next ones' to lie behind it; `known` is what all have where they
    share a pair. Of 8192 segments of 49 each took 18 ns in the loop of `apply_group`, where LLVM does not see that all have
    one size, 14 with that said, and 9 with coefficients for sixteen at once.
    """
    first, last, low, high = piece
    mean, tail, rstd = statistic
    at, to = place(xs, b, first) + low, place(ys, b, first) + low
    lines = stack(y, RUNS_SPACE)
    for k in range(RUNS):
        lines[k], lines[RUNS_LINE + k], lines[2 * RUNS_LINE + k] = known
    for m in range(0, last - first, RUNS):
        count = min(RUNS, last - first - m)
        if by_segment(job):
            found = spread(mean), spread(tail), spread(rstd)
            store_coefficients(y, found[0], found[1], found[2], pair, affine + m, count, lines, RUNS_LINE)
        for j in range(count):
            terms = known_of(y, lines, j)
            more_x, more_y = (m + j) * job[X + M1], (m + j) * job[Y + M1]
            plain_run(x, at + more_x, y, to + more_y, high - low, terms[0], terms[1], terms[2])


@step
def _apply_touching(x, xs, y, ys, pair, affine, job, b, piece, statistic, beside):
    """`apply_group` for short segments that touch, and have neighbouring pairs from `affine` on."""
    (first, last, _, size), lines = piece, stack(y, RUNS_SPACE)
    found = spread(statistic[0]), spread(statistic[1]), spread(statistic[2])
    for m in range(first, last, RUNS):
        count = min(RUNS, last - m)
        store_coefficients(y, found[0], found[1], found[2], pair, affine + m - first, count, lines, RUNS_LINE)
        runs = x, place(xs, b, m), lines, RUNS_LINE, lengths_of(size)
        apply_touching(runs, y, place(ys, b, m), count * size, job[OPTIONS + ACTIVATION], beside)


@step
def apply_group(x, xs, y, ys, pair, pairs, job, b, piece, statistic, beside):
    """A piece of group b, segments first to last, elements low to high of each; its statistic is (mean, tail, rstd).

    beside: a buffer and a sink.
    """
    weight, bias = pair
    first, last, low, high = piece
    along_run, own = job[AFFINE + ALONG] != 0, by_segment(job)
    each = pair_along(pair, job)
    affine = place(pairs, b, first)
    w, c = (1.0, 0.0) if along_run else shared_pair(weight, bias, affine)
    known = coefficients(y, statistic, w, c)
    if own and are_even(job) and suit(high) and touch(xs[1], high) and touch(ys[1], high):
        _apply_touching(x, xs, y, ys, pair, affine, job, b, piece, statistic, beside)
        return
    if not along_run and is_plain(y, high - low, job) and are_even(job):
        _apply_short(x, xs, stage(y, beside[0], False), ys, pair, affine, job, b, piece, statistic, known)
        return
    for m in range(first, last):
        if along_run:
            affine = place(pairs, b, m) + low
        elif own and m > first:
            w, c = shared_pair(weight, bias, place(pairs, b, m))
            known = coefficients(y, statistic, w, c)
        at, to = place(xs, b, m) + low, place(ys, b, m) + low
        apply_run(x, at, y, to, high - low, each, affine, known, job, beside)


@step
def _pairs(job):
    """How many affine pairs there are, and statistics with them."""
    outer = job[COUNTS + B0] if job[AFFINE + B0] != 0 else 1
    return outer * (job[COUNTS + B1] if job[AFFINE + B1] != 0 else 1)


@Phase
def _fill_known(i, arrays, numbers, job, eps):
    """What becomes of some given statistics and their pairs: high, scale and shift, a line of each."""
    pair, known, line = pair_of(arrays, 2), numbers_like(arrays[4], arrays[0]), padded(arrays[0], _pairs(job))
    first, tails = i * _FILL, job[OPTIONS + PARAMETERS]
    width = min(_FILL, _pairs(job) - first)
    fill_given(
        arrays[0], (numbers[0], numbers[1], tails), True, eps, pair, first, width, moved(known, first), line
    )


@step
def _neighbours(y, job, last, b):
    """How many groups from b on, and before `last`, are short runs that touch and have neighbouring pairs; 0 if none."""
    size, inner = job[COUNTS + LENGTH], job[COUNTS + B1]
    touching = job[X + B1] == size and job[Y + B1] == size and job[AFFINE + B1] == 1
    if not touching or reduced(job) > 1 or inner < _FEWEST or not suit(size):
        return np.int64(0)
    return min(last - b, inner - b % inner)


@Phase
def _apply_known(i, arrays, numbers, job, eps):
    """A task of inference, once these are known."""
    x, y = listed(arrays, 2)
    known, line = numbers_like(arrays[4], x), padded(x, _pairs(job))
    none = (nothing(known), nothing(known))
    xs, ys, pairs = walk(job, X), walk(job, Y), walk(job, AFFINE)
    beside = stack(y, STAGED), new_sink(job[OPTIONS + STREAMING] != 0, room(y, job))
    first, last, (begin, end, low, high) = pieces_of_task(job, i)
    size = high - low
    plain, direct = is_plain(y, size, job), stage(y, beside[0], False)
    count = _neighbours(y, job, last, first)
    while first < last and count > 0:
        runs = x, place(xs, first, 0), moved(known, place(pairs, first, 0)), line, lengths_of(size)
        apply_touching(runs, y, place(ys, first, 0), count * size, job[OPTIONS + ACTIVATION], beside)
        first += count
        count = _neighbours(y, job, last, first)
    for group in range(first, last):
        own = place(pairs, group, 0)
        found = known[own], known[line + own], known[2 * line + own]
        terms = splat(y, found[0]), splat(y, found[1]), splat(y, found[2])
        for m in range(begin, end):
            at, to = place(xs, group, m) + low, place(ys, group, m) + low
            if plain:
                plain_run(x, at, direct, to, size, terms[0], terms[1], terms[2])
            else:
                apply_run(x, at, y, to, size, none, np.int64(0), found, job, beside)
    flush(y, beside[1])


@kernel(_fill_known, _apply_known, arrays=4)
def apply(threads, arrays, numbers, job, eps):
    """y from x and given statistics, in inference.

    arrays: x, y; weight and bias, flat, or null. numbers: mean and variance, (channels,), or as many as there are pairs;
    twice as many means where tails follow, of which the job then says how many they are.
    """
    pairs = _pairs(job)
    space = np.empty(3 * padded(arrays[0], pairs) + lanes(arrays[0]))
    more = table((arrays[0], arrays[1], arrays[2], arrays[3], pointer(space)))
    tasks = (pairs + _FILL - 1) // _FILL
    run_one(0, tasks, more, numbers, job, eps, min(tasks, threads), False)
    run_given(1, apply_tasks(job), more, numbers, job, eps, threads)
    keep(space)


# -- Forward -------------------------------------------------------------------------------------------------------


@routine
def _add(x, residual, total, job, b, factor):
    """total = factor·x + residual, for group b."""
    xs, more, to = walk(job, X), walk(job, BESIDE), walk(job, Y)
    for m in range(reduced(job)):
        size = job[COUNTS + LENGTH]
        at, beside = place(xs, b, m), place(more, b, m)
        add_run(x, at, residual, beside, total, place(to, b, m), size, factor)


@step
def _finish_batch(batch, count, eps, least):
    """Mean, tail, rstd and variance of a whole batch, a vector of groups at a time: division and root take their time."""
    for i in range(0, _GROUPS, lanes(batch)):
        sums = (load(batch, _CENTRE + i), load(batch, _FIRST + i), load(batch, _SECOND + i))
        mean, tail, rstd, variance = statistic_from(sums, count, eps, least)
        store(batch, _MEAN + i, mean)
        store(batch, _TAIL + i, tail)
        store(batch, _RSTD + i, rstd)
        store(batch, _VARIANCE + i, variance)


@step
def store_statistic(statistics, found, groups, b):
    """Mean, variance and rstd of group b, each in a line of all groups; found is mean, tail, rstd, variance."""
    statistics[b] = found[0] + found[1]
    statistics[groups + b] = found[3]
    statistics[2 * groups + b] = found[2]


@step
def store_moments(statistics, found, groups, b, alone):
    """The same, or where the statistics `alone` are wanted, the mean's tail in the place of rstd."""
    store_statistic(statistics, found, groups, b)
    if alone:
        statistics[b], statistics[2 * groups + b] = found[0], found[1]


@Phase
def _forward_groups(i, arrays, numbers, job, eps):
    """Some groups in one trip, a batch of them at a time."""
    (x, residual, total, y), pair = listed(arrays, 4), pair_of(arrays, 4)
    statistics = numbers[0]
    source, array = source_of(arrays)
    where, ys, pairs = walk(job, array), walk(job, Y), walk(job, AFFINE)
    chunks = chunking(job, array)
    segments, length = reduced(job), job[COUNTS + LENGTH]
    count = segments * length
    whole = (np.int64(0), segments, np.int64(0), length)
    per_batch = max(1, min(_GROUPS, _BATCH // count // 2 * 2))
    beside = stack(y, STAGED), new_sink(job[OPTIONS + STREAMING] != 0, room(y, job))
    batch = stack(statistics, _SPACE)
    partial = stack(statistics, PARTIAL)
    for k in range(_SPACE):
        batch[k] = 1.0
    short = chunks[0] == count and is_short(source, count)
    plain = short and segments == 1 and job[OPTIONS + ACTIVATION] == NONE
    band = groups_per_task(job)
    last = min((i + 1) * band, kept(job))
    for low in range(i * band, last, per_batch):
        groups = min(per_batch, last - low)
        for j in range(groups):
            if given(residual):
                _add(x, residual, total, job, low + j, factor_of(job, batch))
            if not short:
                sums = group_sums(source, where, job, chunks, low + j, partial)
                batch[_CENTRE + j], batch[_FIRST + j], batch[_SECOND + j] = sums
        if short:
            short_sums(source, where, job, low, groups, count, batch)
        _finish_batch(batch, count_of(job), eps, sums_squares(job))
        if given(statistics):
            for j in range(groups):
                found = (batch[_MEAN + j], batch[_TAIL + j], batch[_RSTD + j], batch[_VARIANCE + j])
                store_moments(statistics, found, kept(job), low + j, not given(y))
        if job[UNCENTRED] != 0:
            clear(batch, _RSTD)
        if given(y) and plain:
            short_results(source, where, y, ys, pair, pairs, job, low, groups, count, batch, beside)
        elif given(y):
            for j in range(groups):
                statistic = (batch[_MEAN + j], batch[_TAIL + j], batch[_RSTD + j])
                apply_group(source, where, y, ys, pair, pairs, job, low + j, whole, statistic, beside)
    if given(y):
        flush(y, beside[1])


@Phase
def _add_residual(i, arrays, numbers, job, eps):
    """The sum of x and residual, for group i."""
    x, residual, total = listed(arrays, 3)
    _add(x, residual, total, job, i, factor_of(job, numbers[0]))


@Phase
def _sum_chunk(i, arrays, numbers, job, eps):
    """Moments of one chunk of a group."""
    source, array = source_of(arrays)
    chunks = chunking(job, array)
    store_chunk(
        source, walk(job, array), job, chunks, i // chunks[3], i % chunks[3], moved(numbers[1], 4 * i)
    )


@Phase
def _merge_chunks(i, arrays, numbers, job, eps):
    """Mean, tail, rstd and variance of group i, to the bit of `_forward_groups`."""
    statistics, partial, result = listed(numbers, 3)
    chunks = chunking(job, source_of(arrays)[1])[3]
    sums = merged_sums(moved(partial, 4 * i * chunks), chunks)
    line = moved(result, 4 * i)
    found = statistic_of_sums(sums, count_of(job), eps, sums_squares(job))
    line[0], line[1], line[2], line[3] = found
    if given(statistics):
        store_moments(statistics, line, kept(job), i, not given(arrays[3]))
    line[0], line[1] = centre_of(job, found[0], found[1])


@Phase
def _apply_found(i, arrays, numbers, job, eps):
    """A task of the result, once the statistics of all groups, of several tasks each, are known."""
    source, array = source_of(arrays)
    y, pair = arrays[3], pair_of(arrays, 4)
    beside = stack(y, STAGED), new_sink(job[OPTIONS + STREAMING] != 0, room(y, job))
    xs, ys, pairs = walk(job, array), walk(job, Y), walk(job, AFFINE)
    b, _, piece = pieces_of_task(job, i)
    line = moved(numbers[2], 4 * b)
    statistic = line[0], line[1], line[2]
    apply_group(source, xs, y, ys, pair, pairs, job, b, piece, statistic, beside)
    flush(y, beside[1])


@kernel(_forward_groups, _add_residual, _sum_chunk, _merge_chunks, _apply_found, arrays=6)
def forward(threads, arrays, numbers, job, eps):
    """Statistics and result of every group: in one trip where it stays in the cache, chunk by chunk in two where not.

    arrays: x; residual, and total like y, for factor·x + residual, or both null; y, null where only statistics are wanted;
    weight and bias, flat, or null. numbers: (3, B) for mean, variance, rstd (the mean's tail where y is null), or null where
    nobody asks.
    """
    groups, band = kept(job), groups_per_task(job)
    if is_local(job):
        tasks = ((groups + band - 1) // band,)
        run_all(ALL_AT_ONCE, ALL_AT_ONCE, tasks, arrays, numbers, job, eps, threads)
        return
    first, source = (ADD, Y) if given(arrays[1]) else (CHUNKS, X)
    chunks = chunking(job, source)[3]
    partial, result = np.empty(groups * chunks * 4), np.empty(groups * 4)
    tasks = (0, groups, groups * chunks, groups, apply_tasks(job))
    more = table((numbers[0], pointer(partial), pointer(result)))
    run_all(first, APPLY if given(arrays[3]) else MERGE, tasks, arrays, more, job, eps, threads)
    keep(partial)
    keep(result)

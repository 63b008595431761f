"""Rows, backward: groups whole, or in parts by several tasks."""

import numpy as np

from ..._jit import step
from ..apply import coefficients
from ..gradients import ALL_AT_ONCE, APPLY, SUMS, line_of, of_backward
from ..job import (
    AFFINE,
    ALONG,
    COUNTS,
    GRADIENTS,
    LENGTH,
    OPTIONS,
    STREAMING,
    apart,
    by_segment,
    kept,
    reduced,
    walks_of,
)
from ..language.memory import given, keep, moved, pointer, stack
from ..language.past import flush, new_sink, room
from ..phases import Phase, kernel, run_all, run_one, table
from ..sums import BLOCK
from .gather import (
    gather,
    groups_together,
    has_short_segments,
    is_short,
    keep_line,
    row_gradients,
    short_lines,
    short_segments,
)
from .gradient import (
    HIGH,
    LINE,
    OF_1,
    OF_G,
    OF_X,
    SCALE,
    SHIFT,
    SPACE,
    band_sums,
    fill_line,
    group_gradient,
    group_means,
    statistic_of,
)
from .groups import CHUNK, apply_pieces, apply_tasks, groups_per_task, pieces_of_task

# Fewer groups than this are not left to a core each.
_FEW = 8


@step
def gathers(gradients, job):
    """Whether each element's own parameters want their gradients."""
    return job[AFFINE + ALONG] != 0 and given(gradients[0])


@step
def parts_per_task(job):
    """Parts that one task takes the sums of: a band of segments, each with its own."""
    return apply_pieces(job)[1] if by_segment(job) else np.int64(1)


@step
def groups_per_line(job):
    """Groups of a task: with a pair per element, so many that each task has a line of parameter gradients to itself.

    Or if samples have pairs of their own, all groups of a sample: then one line is enough.
    """
    if job[AFFINE + ALONG] == 0:
        return groups_per_task(job)
    if apart(job) > 0:
        return apart(job)
    lines = job[OPTIONS + GRADIENTS]
    return (kept(job) + lines - 1) // lines


@step
def _cut(job):
    """(parts, pieces of a segment, segments of a part): how a group's sums are taken apart, for one task as for many."""
    pieces, band, bands = apply_pieces(job)
    own = by_segment(job)
    return pieces * (reduced(job) if own else bands), pieces, np.int64(1) if own else band


@step
def _store_sums(arrays, pair, walks, statistic, sums, cut, job, b, part, buffer):
    """The sums of one part of group b, into three lines of all parts."""
    parts, pieces, band = cut
    segments, length = reduced(job), job[COUNTS + LENGTH]
    first, last, low, high = np.int64(0), segments, np.int64(0), length
    if parts > 1:
        first, low = (part // pieces) * band, (part % pieces) * CHUNK
        last, high = min(first + band, segments), min(low + CHUNK, length)
    s1, s2, s3 = band_sums(arrays, pair, walks, statistic, job, b, first, last, low, high, buffer)
    sums[part], sums[parts + part], sums[2 * parts + part] = s1, s2, s3


# -- Phases --------------------------------------------------------------------------------------------------------


@Phase
def _whole_groups(i, arrays, numbers, job, eps):
    """Some groups, a batch of them at a time, in two trips while they are in the cache."""
    arrays, pair, statistics, gradients = of_backward(arrays, numbers, job)
    walks, cut = walks_of(job), _cut(job)
    parts = cut[0]
    if job[AFFINE + ALONG] != 0:
        gradients = line_of(gradients, i if apart(job) == 0 else 0)
    length, segments = job[COUNTS + LENGTH], reduced(job)
    whole = (np.int64(0), segments, np.int64(0), length)
    buffer, line, known = stack(arrays[1], BLOCK), stack(statistics[1], LINE), stack(arrays[1], SPACE)
    sink = new_sink(job[OPTIONS + STREAMING] != 0, room(arrays[2], job))
    sums = moved(numbers[3], 3 * parts * i)
    short, segmented = is_short(arrays[1], job), has_short_segments(arrays[1], job)
    together = short or gathers(gradients, job)
    per_batch = groups_together(job) if together else np.int64(1)
    band = groups_per_line(job)
    last = min((i + 1) * band, kept(job))
    for low in range(i * band, last, per_batch):
        groups = min(per_batch, last - low)
        if short:
            short_lines(arrays, pair, walks, statistics, gradients, job, low, groups, known)
        for j in range(0 if short else groups):
            statistic = statistic_of(statistics, low + j)
            if segmented:
                short_segments(arrays, pair, walks, statistic, job, low + j, sums)
            for part in range(0 if segmented else parts):
                _store_sums(arrays, pair, walks, statistic, sums, cut, job, low + j, part, buffer)
            means = group_means(sums, parts, pair, walks, statistic, gradients, job, low + j)
            fill_line(line, statistic, means, job, arrays[1])
            if together:
                keep_line(known, line, j)
        if gathers(gradients, job):
            gather(arrays, pair, walks, statistics, known, gradients, job, low, groups, whole, sink)
        elif given(arrays[2]) and short:
            row_gradients(arrays, pair, walks, known, job, low, groups, sink)
        elif given(arrays[2]):
            statistic = statistic_of(statistics, low)
            group_gradient(arrays, pair, walks, statistic, line, job, low, whole, (buffer, sink))
    flush(arrays[2], sink)


@Phase
def _sum_parts(i, arrays, numbers, job, eps):
    """The sums of some parts of one group."""
    arrays, pair, statistics, _ = of_backward(arrays, numbers, job)
    cut, per_task = _cut(job), parts_per_task(job)
    parts = cut[0]
    tasks = (parts + per_task - 1) // per_task
    b, low = i // tasks, (i % tasks) * per_task
    walks, statistic = walks_of(job), statistic_of(statistics, b)
    buffer, sums = stack(arrays[1], BLOCK), moved(numbers[3], 3 * parts * b)
    for part in range(low, min(low + per_task, parts)):
        _store_sums(arrays, pair, walks, statistic, sums, cut, job, b, part, buffer)


@Phase
def _merge_parts(i, arrays, numbers, job, eps):
    """The line of group i, from the sums of its parts."""
    arrays, pair, statistics, gradients = of_backward(arrays, numbers, job)
    parts = _cut(job)[0]
    statistic, sums = statistic_of(statistics, i), moved(numbers[3], 3 * parts * i)
    means = group_means(sums, parts, pair, walks_of(job), statistic, gradients, job, i)
    fill_line(moved(numbers[4], i * LINE), statistic, means, job, arrays[1])


@Phase
def _gradient_parts(i, arrays, numbers, job, eps):
    """One band of segments, or one piece of each, of all groups in turn: no other task adds to the same parameters."""
    arrays, pair, statistics, gradients = of_backward(arrays, numbers, job)
    pieces, band, _ = apply_pieces(job)
    low, first = (i % pieces) * CHUNK, (i // pieces) * band
    high, last = min(low + CHUNK, job[COUNTS + LENGTH]), min(first + band, reduced(job))
    walks, one, piece = walks_of(job), np.int64(1), (first, last, low, high)
    buffer, known = stack(arrays[1], BLOCK), stack(arrays[1], SPACE)
    sink = new_sink(job[OPTIONS + STREAMING] != 0, room(arrays[2], job))
    for b in range(kept(job)):
        line = moved(numbers[4], b * LINE)
        if gathers(gradients, job):
            keep_line(known, line, 0)
            gather(arrays, pair, walks, statistics, known, gradients, job, b, one, piece, sink)
        elif given(arrays[2]):
            statistic = statistic_of(statistics, b)
            group_gradient(arrays, pair, walks, statistic, line, job, b, piece, (buffer, sink))
    flush(arrays[2], sink)


@Phase
def _gradient_of_terms(i, arrays, numbers, job, eps):
    """A task of dx, the terms of all groups being given."""
    arrays, pair, statistics, _ = of_backward(arrays, numbers, job)
    terms, groups = numbers[2], kept(job)
    walks, buffer, line = walks_of(job), stack(arrays[1], BLOCK), stack(statistics[1], LINE)
    sink = new_sink(job[OPTIONS + STREAMING] != 0, room(arrays[2], job))
    first, last, piece = pieces_of_task(job, i)
    for b in range(first, last):
        statistic = statistic_of(statistics, b)
        line[HIGH], line[SCALE], line[SHIFT] = coefficients(arrays[1], statistic, 1.0, 0.0)
        line[OF_G], line[OF_X], line[OF_1] = terms[b], terms[groups + b], terms[2 * groups + b]
        group_gradient(arrays, pair, walks, statistic, line, job, b, piece, (buffer, sink))
    flush(arrays[2], sink)


@kernel(_gradient_of_terms, arrays=5)
def gradient(threads, arrays, numbers, job, eps):
    """dx = terms[0]·weight·g + terms[1]·x_hat + terms[2], where g = dy·act'(z).

    arrays: dy, x, dx, weight, bias. numbers: mean, rstd, and terms, (3, B).
    """
    # After the sums, whose trip over memory ended where this one begins.
    run_one(0, apply_tasks(job), arrays, numbers, job, eps, threads, True)


@kernel(_whole_groups, _sum_parts, _merge_parts, _gradient_parts, arrays=5)
def backward(threads, arrays, numbers, job, eps):
    """Gradients from a norm's input and statistics.

    arrays: dy, x; dx, null where nobody asks; weight and bias, flat, or null. numbers: mean and rstd, (B,), mean null for
    RMS; gradients, (2, lines, parameters) for weight and bias, zeros to add to, or null where nobody asks: a line for each
    slot of the job, or where elements have their own pairs, for each task that shares the groups.
    """
    groups, parts, per_task = kept(job), _cut(job)[0], parts_per_task(job)
    pieces, _, bands = apply_pieces(job)
    whole = groups >= _FEW or reduced(job) * job[COUNTS + LENGTH] <= CHUNK
    first, last = (ALL_AT_ONCE, ALL_AT_ONCE) if whole else (SUMS, APPLY)
    band = groups_per_line(job)
    summing = groups * ((parts + per_task - 1) // per_task)
    tasks = ((groups + band - 1) // band, summing, groups, pieces * bands)
    sums = np.empty(3 * parts * (tasks[0] if whole else groups))
    lines = np.empty(LINE * (0 if whole else groups))
    more = table((numbers[0], numbers[1], numbers[2], pointer(sums), pointer(lines)))
    run_all(first, last, tasks, arrays, more, job, eps, threads)
    keep(sums)
    keep(lines)

"""Rows, backward: groups whole, or in parts by several tasks."""

import numpy as np
from numba import prange

from .._jit import kernel, routine, step
from .job import (
    AFFINE,
    ALONG,
    B0,
    B1,
    COUNTS,
    LENGTH,
    kept,
    reduced,
)
from .memory import given, moved, pointer, stack
from .rows import CHUNK, apply_pieces, apply_tasks, groups_per_task
from .rows_gradient import (
    BATCH,
    GROUPS,
    LINE,
    SPACE,
    TWO_BLOCKS,
    band_sums,
    by_segment,
    fill_line,
    gather_segment,
    group_means,
    segment_gradient,
    statistic_of,
    walks_of,
)
from .sums import BLOCK

# Fewer groups than this are not left to a core each.
_FEW = 8
# The phases of a backward call: the first alone, or the others in turn.
ALL_AT_ONCE, SUMS, MERGE, APPLY = range(4)

# -- Groups, whole or in parts -------------------------------------------------------------------------------------


@step
def own_line(gradients, i, job):
    """The parameter gradients that task i adds to: a line of its own where each element has its own pair."""
    dweight, dbias, line = gradients
    if job[AFFINE + ALONG] == 0 or not given(dweight):
        return gradients
    return moved(dweight, i * line), moved(dbias, i * line), line


@step
def gathers(gradients, job):
    """Whether each element's own parameters want their gradients."""
    return job[AFFINE + ALONG] != 0 and given(gradients[0])


@step
def _group_line(arrays, pair, walks, statistic, gradients, sums, job, b, buffer, line):
    """The line of group b, from its sums."""
    segments, length = reduced(job), job[COUNTS + LENGTH]
    parts = segments if by_segment(job) else np.int64(1)
    for part in range(parts):
        first, last = (part, part + 1) if parts > 1 else (np.int64(0), segments)
        s1, s2, s3 = band_sums(
            arrays, pair, walks, statistic, job, b, first, last, np.int64(0), length, buffer
        )
        sums[3 * part], sums[3 * part + 1], sums[3 * part + 2] = s1, s2, s3
    means = group_means(sums, parts, pair, walks, gradients, job, b)
    fill_line(line, statistic, means, job, arrays[1])


@routine
def _whole_groups(arrays, pair, statistics, gradients, sums, job, first, last):
    """Groups first to last, a batch of them at a time, in two trips while they are in the cache."""
    walks = walks_of(job)
    length, segments, zero = job[COUNTS + LENGTH], reduced(job), np.int64(0)
    buffer, lines = stack(arrays[1], TWO_BLOCKS), stack(sums, SPACE)
    per_batch = 1
    if gathers(gradients, job) and job[AFFINE + B0] == 0 and job[AFFINE + B1] == 0:
        per_batch = max(1, min(GROUPS, BATCH // (length * segments)))
    for low in range(first, last, per_batch):
        groups = min(per_batch, last - low)
        for j in range(groups):
            b, line = low + j, moved(lines, j * LINE)
            statistic = statistic_of(statistics, b)
            _group_line(arrays, pair, walks, statistic, gradients, sums, job, b, buffer, line)
            if given(arrays[2]):
                for m in range(segments):
                    segment_gradient(arrays, pair, walks, statistic, line, job, b, m, zero, length, buffer)
        if gathers(gradients, job):
            for m in range(segments):
                gather_segment(
                    arrays, pair, walks, statistics, lines, gradients, job, low, groups, m, zero, length
                )


@step
def groups_per_line(job, lines):
    """Groups of a task: with a pair per element, so many that each task has a line of parameter gradients to itself."""
    if job[AFFINE + ALONG] == 0:
        return groups_per_task(job)
    return (kept(job) + lines - 1) // lines


@step
def parts_of(job):
    """Parts of a group whose sums are taken apart: pieces of segments, or of bands of them."""
    pieces, _, bands = apply_pieces(job)
    return pieces * (reduced(job) if by_segment(job) else bands)


@routine
def _band_task(arrays, pair, statistics, sums, job, i):
    """The sums of one band of segments, or of one piece of each, of one group."""
    pieces, band, bands = apply_pieces(job)
    length, segments = job[COUNTS + LENGTH], reduced(job)
    b, rest = i // (pieces * bands), i % (pieces * bands)
    piece = rest % pieces
    low, first = piece * CHUNK, (rest // pieces) * band
    high, last = min(low + CHUNK, length), min(first + band, segments)
    walks, statistic = walks_of(job), statistic_of(statistics, b)
    buffer = stack(arrays[1], BLOCK)
    per_part = 1 if by_segment(job) else last - first
    for m in range(first, last, per_part):
        s1, s2, s3 = band_sums(arrays, pair, walks, statistic, job, b, m, m + per_part, low, high, buffer)
        part = i if per_part > 1 or not by_segment(job) else (b * segments + m) * pieces + piece
        sums[3 * part], sums[3 * part + 1], sums[3 * part + 2] = s1, s2, s3


@routine
def _gradient_task(arrays, pair, statistics, gradients, lines, job, i):
    """One band of segments, or one piece of each, of all groups in turn: no other task adds to the same parameters."""
    pieces, band, _ = apply_pieces(job)
    low, first = (i % pieces) * CHUNK, (i // pieces) * band
    high, last = min(low + CHUNK, job[COUNTS + LENGTH]), min(first + band, reduced(job))
    walks = walks_of(job)
    buffer = stack(arrays[1], TWO_BLOCKS)
    for b in range(kept(job)):
        statistic, line = statistic_of(statistics, b), moved(lines, b * LINE)
        for m in range(first, last):
            if given(arrays[2]):
                segment_gradient(arrays, pair, walks, statistic, line, job, b, m, low, high, buffer)
            if gathers(gradients, job):
                gather_segment(
                    arrays, pair, walks, statistics, line, gradients, job, b, np.int64(1), m, low, high
                )


@routine
def _backward_phase(phase, i, arrays, pair, statistics, gradients, memory, job):
    job = pointer(job)
    arrays = (pointer(arrays[0]), pointer(arrays[1]), pointer(arrays[2]))
    pair, statistics = (pointer(pair[0]), pointer(pair[1])), (pointer(statistics[0]), pointer(statistics[1]))
    lines_given, parameters = gradients[0].shape
    gradients = (pointer(gradients[0]), pointer(gradients[1]), parameters)
    groups, parts = kept(job), parts_of(job)
    if phase == ALL_AT_ONCE:
        band = groups_per_line(job, lines_given)
        sums = pointer(memory[0])
        _whole_groups(
            arrays,
            pair,
            statistics,
            own_line(gradients, i, job),
            moved(sums, 3 * reduced(job) * i),
            job,
            i * band,
            min((i + 1) * band, groups),
        )
        return
    sums, lines = pointer(memory[0]), pointer(memory[1])
    if phase == SUMS:
        _band_task(arrays, pair, statistics, sums, job, i)
    elif phase == MERGE:
        means = group_means(moved(sums, 3 * parts * i), parts, pair, walks_of(job), gradients, job, i)
        fill_line(moved(lines, i * LINE), statistic_of(statistics, i), means, job, arrays[1])
    else:
        _gradient_task(arrays, pair, statistics, gradients, lines, job, i)


@kernel
def backward(dy, x, dx, weight, bias, mean, rstd, dweight, dbias, job, threads):
    """Gradients from a norm's input and statistics.

    dy, x, dx: flat, dx of size 0 where nobody asks. weight, bias: flat, or of size 0. mean, rstd: (B,) float64, mean of size
    0 for RMS. dweight, dbias: (lines, parameters) float64, zeros to add to, or (lines, 0) where nobody asks; a line for each
    slot of the job, or where each element has its own pair, for each of the tasks that share the groups.
    """
    counts = pointer(job)
    groups, segments = kept(counts), reduced(counts)
    pieces, _, bands = apply_pieces(counts)
    whole = groups >= _FEW or segments * counts[COUNTS + LENGTH] <= CHUNK
    first, last = (ALL_AT_ONCE, ALL_AT_ONCE) if whole else (SUMS, APPLY)
    band = groups_per_line(counts, dweight.shape[0])
    tasks = ((groups + band - 1) // band, apply_tasks(counts), groups, pieces * bands)
    sums = np.empty(3 * (tasks[0] * segments if whole else groups * parts_of(counts)))
    lines = np.empty(LINE * (0 if whole else groups))
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
                    (sums, lines),
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
                    (sums, lines),
                    job,
                )

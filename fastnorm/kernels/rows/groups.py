"""How a rows problem is cut, into groups, chunks and bands of segments; and the moments of a chunk."""

import numpy as np

from ..._jit import routine, step
from ..job import COUNTS, LENGTH, M0, M1, OPTIONS, SECOND_MOMENT, kept, reduced
from ..language.memory import moved
from ..sums import merge_all, moment_sums, moments

# Elements of a chunk: the fixed unit of merging, and of parallel work inside one group.
CHUNK = 32768
# Elements of a group that stay in a core's share of the last cache between its statistics and its result. (Of 64 groups of
# 401408, batch norm took 12.0 ms so, 14.9 when all of them were read before the first was written.)
LOCAL = 1048576
# Space for the moments of the chunks of such a group, which are more than half full.
PARTIAL = 4 * (LOCAL // (CHUNK // 2))
# Elements a thread should take at a time where groups are smaller than that.
TASK = 16384


@step
def is_local(job):
    """Whether a group stays in one core's cache between its statistics and its result, and no core stays idle for it."""
    size = reduced(job) * job[COUNTS + LENGTH]
    return size <= LOCAL and (kept(job) >= 8 or size <= CHUNK)


@step
def groups_per_task(job):
    """Groups of a task: so many that the tasks, if there are some, are a multiple of four, for threads to have the same."""
    groups, fit = kept(job), max(1, TASK // (reduced(job) * job[COUNTS + LENGTH]))
    if groups <= fit:
        return groups
    tasks = ((groups + fit - 1) // fit + 3) // 4 * 4
    return (groups + tasks - 1) // tasks


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
def merged_sums(partial, chunks):
    """(centre, Σ d, Σ d²) such that they say what all chunks of a group merged say."""
    merge_all(partial, 0, chunks)
    count, mean, tail, m2 = partial[0], partial[1], partial[2], partial[3]
    return mean, tail * count, m2 + tail * tail * count


@step
def group_sums(x, where, job, chunks, b, partial):
    """(centre, Σ d, Σ d²) of group b: of its only chunk, or of all merged."""
    if chunks[3] == 1:
        first, last, low, high = chunk_of(job, chunks, np.int64(0))
        return moment_sums(x, where, b, first, last, low, high, job[OPTIONS + SECOND_MOMENT])
    for i in range(chunks[3]):
        store_chunk(x, where, job, chunks, b, i, moved(partial, 4 * i))
    return merged_sums(partial, chunks[3])


@step
def apply_pieces(job):
    """(chunks of a segment, segments of a band, bands)."""
    length, segments = job[COUNTS + LENGTH], reduced(job)
    band = max(1, TASK // length)
    return (length + CHUNK - 1) // CHUNK, band, (segments + band - 1) // band


@step
def _groups_to_apply_to(job):
    """Groups of a task that applies, several where each is one piece: 512 of 4 elements take 8 µs so, one by one 24."""
    pieces, _, bands = apply_pieces(job)
    return groups_per_task(job) if pieces * bands == 1 else np.int64(1)


@step
def apply_tasks(job):
    pieces, _, bands = apply_pieces(job)
    groups = _groups_to_apply_to(job)
    return (kept(job) + groups - 1) // groups * bands * pieces


@step
def pieces_of_task(job, i):
    """(first group, last, piece): what the i-th task applies to, segments first to last, elements low to high of each."""
    pieces, band, bands = apply_pieces(job)
    groups = _groups_to_apply_to(job)
    rest, group = i % (bands * pieces), i // (bands * pieces) * groups
    low, first = (rest % pieces) * CHUNK, (rest // pieces) * band
    piece = first, min(first + band, reduced(job)), low, min(low + CHUNK, job[COUNTS + LENGTH])
    return group, min(group + groups, kept(job)), piece

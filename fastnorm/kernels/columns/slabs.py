"""How a columns problem is cut, into slabs of columns and chunks of rows; and the moments of a slab."""

import numpy as np

from ..._jit import routine, step
from ..job import (
    COUNTS,
    FOLD,
    LENGTH,
    M0,
    M1,
    OPTIONS,
    SECOND_MOMENT,
    kept,
    reduced,
    sums_squares,
)
from ..language.loads import clear, store_part
from ..language.memory import moved, stack
from ..language.vectors import lanes
from ..sums import is_sound
from .tiles import (
    FAR,
    TILE,
    careful_column,
    finish_sums,
    fold_columns,
    merge_columns,
    pilot_columns,
    repeat,
    rows_of,
    sample_rows,
    sum_of_places,
    tile_sums,
    unsound,
)

# The most rows and elements of a chunk, the fixed unit of merging and of parallel work, but where these would be too many;
# elements that narrow rows have at the least: 50176 rows of 3 spent half of the time between chunks of 1024 rows.
_CHUNK, _OF_CHUNK, _OF_NARROW = 1024, 131072, 16384
# Elements of a slab that stay in the L2 cache of a core; of one that no second core is asked for; enough for all.
_LOCAL, _SMALL, _MANY = 262144, 32768, 16
# Elements of a wide row: narrow ones that touch are walked several at once, in long loops. Space for some is a literal;
# as a length of line, which may be another, it is none: a function that takes it would be compiled once for either.
WIDE = np.int64(512)
THREE_WIDE, FOUR_WIDE = 3 * 512, 4 * 512
# As few rows are not joined: to bring their columns together again takes 0.6 µs, of which 20 rows of 64 took 1.1 in all.
_WORTH = 96
# Columns of a task, where there are many (of 4096 rows of 768 columns 512 and then 256 took twice as long as all); and space
# for some lines of them.
SLAB = np.int64(1024)
FOUR_SLABS = 4 * 1024
# Elements of a task at the most and at the least, and tasks for all cores between.
_TASK, _LEAST, _TASKS = 65536, 32768, 8
# Rows that fill whole lines of 64 bytes, of 16 bits or more a column.
_IN_LINES = 32

# Lines of a slab's state: Σ d, Σ d² and the centre they are about; then mean, tail and M2, or the variance.
LINES = 3


@step
def _rows_together(length):
    """How many successive rows of so many elements are one wide row, where rows touch: whole vectors, or lines, if they can.

    One by one, 333333 rows of 24 took half as long again as of 32.
    """
    for unit in (32, 16):
        step = unit // min(unit, length & -length)
        if step * length <= WIDE:
            return int(WIDE) // length // step * step
    return max(1, int(WIDE) // length)


@step
def widening(job, array, rows, width):
    """The same of an array, of which `width` elements of so many rows are walked."""
    length = job[COUNTS + LENGTH]
    if rows >= _WORTH and width == length and job[COUNTS + M0] == 1 and job[array + M1] == length:
        return _rows_together(length)
    return 1


@step
def _share(job):
    """Elements of a task: as many as are worth a task, and no more than leave enough of them for all cores."""
    elements = kept(job) * reduced(job) * job[COUNTS + LENGTH]
    return min(_TASK, max(_LEAST, elements // _TASKS))


@step
def rows_per_chunk(job):
    """Rows of a chunk: so many that the moments of a slab's chunks stay near 100 KiB; one, two, four, or eight chunks …."""
    rows, most = reduced(job), max(4, 4096 // (job[COUNTS + LENGTH] + 31))
    width = width_of(job)
    size = max(min(_CHUNK, _OF_CHUNK // width), _OF_NARROW // width, (rows + most - 1) // most)
    if rows <= size:
        return size
    chunks = 2 if rows <= 2 * size else ((rows + size - 1) // size + 3) // 4 * 4
    return (rows + chunks - 1) // chunks


@step
def chunks_of(job):
    per_chunk = rows_per_chunk(job)
    return (reduced(job) + per_chunk - 1) // per_chunk


@step
def width_of(job):
    """Columns of a task, whole folds; half as many where these stay in L2 between two trips, and all do not."""
    fold, size = job[COUNTS + FOLD], reduced(job) * SLAB
    most = SLAB // 2 if _LOCAL // 2 < size <= 2 * _LOCAL else SLAB
    return min(job[COUNTS + LENGTH], fold * max(1, most // fold))


@step
def slabs_of(job):
    width = width_of(job)
    return (job[COUNTS + LENGTH] + width - 1) // width


@step
def slab_of(job, i):
    """(b, first column, columns) of slab i."""
    width, slabs = width_of(job), slabs_of(job)
    low = (i % slabs) * width
    return i // slabs, low, min(width, job[COUNTS + LENGTH] - low)


@step
def _band(job):
    """Rows of a task, if many, then so many that they fill whole lines whatever their width."""
    rows = max(1, _share(job) // width_of(job))
    return rows // _IN_LINES * _IN_LINES if rows > _IN_LINES else rows


@step
def task_of(job, i):
    """(b, first row, last row, first column, columns) of the i-th task that applies."""
    width, slabs, band = width_of(job), slabs_of(job), _band(job)
    bands = (reduced(job) + band - 1) // band
    low = (i % slabs) * width
    first = ((i // slabs) % bands) * band
    last = min(first + band, reduced(job))
    return i // (slabs * bands), first, last, low, min(width, job[COUNTS + LENGTH] - low)


@step
def tasks_of(job):
    band = _band(job)
    return kept(job) * ((reduced(job) + band - 1) // band) * slabs_of(job)


@step
def is_whole(job):
    """Whether a slab is one core's, from its statistics to its result: it stays in L2, or there are many, or it is small."""
    size, slabs = reduced(job) * width_of(job), kept(job) * slabs_of(job)
    return slabs >= _MANY or (size <= _LOCAL and slabs >= 8) or size <= _SMALL


# -- Statistics ----------------------------------------------------------------------------------------------------


@step
def _store_places(parts, wide, width, state, line):
    """The sums of all places of each column in a wide row, and what Σ d² rounds away, into the lines of `state`."""
    n = lanes(state)
    for k in range(0, width, n):
        size = min(n, width - k)
        first, left = sum_of_places(parts, wide, width, k, size)
        second, rest = sum_of_places(moved(parts, WIDE), wide, width, k, size)
        more = sum_of_places(moved(parts, 2 * WIDE), wide, width, k, size)[0]
        store_part(state, k, first + left, size)
        store_part(state, line + k, second, size)
        store_part(state, 2 * line + k, rest + more, size)


@step
def _chunk_sums(x, where, walk, job, array, span, low, width, lines, state, line):
    """Σ d and Σ d² of some rows, `width` columns from `low` on, about their centres, into the first lines of `state`.

    lines: the centres, then two of zeros.
    """
    b, first, rows = span
    clear(state, 3 * line)
    wide = widening(job, array, rows, width)
    whole = rows // wide if wide > 1 else 0
    if whole > 0:
        # A place in the wide row is a column of its own, until the end.
        about, parts = stack(x, THREE_WIDE), stack(state, THREE_WIDE)
        clear(about, THREE_WIDE)
        clear(parts, THREE_WIDE)
        repeat(lines, width, wide, about)
        for row in range(0, whole, TILE):
            count = min(TILE, whole - row)
            rows_of(where, walk, b, first + row * wide, count, wide, low)
            tile_sums(x, where, count, width * wide, about, WIDE, parts)
        _store_places(parts, wide, width, state, line)
    for row in range(whole * wide, rows, TILE):
        count = min(TILE, rows - row)
        rows_of(where, walk, b, first + row, count, 1, low)
        tile_sums(x, where, count, width, lines, line, state)
    for k in range(line):
        state[line + k] += state[2 * line + k]


@routine
def chunk_moments(x, walk, job, array, b, chunk, low, width, lines, state, line):
    """Mean, tail and M2 of one chunk's columns, `width` of them from `low` on, into `state`. lines: scratch, three."""
    per_chunk = rows_per_chunk(job)
    first = chunk * per_chunk
    rows = min(per_chunk, reduced(job) - first)
    second_moment = job[OPTIONS + SECOND_MOMENT]
    where = stack(job, TILE)
    clear(lines, 3 * line)
    if second_moment == 0:
        count = sample_rows(where, walk, b, first, rows, low)
        pilot_columns(x, where, count, width, lines)
    sound = False
    for turn in range(2):
        if turn > 0:
            for k in range(width):
                if not is_sound(x, state[k], state[line + k], rows, FAR):
                    lines[k] = np.float64(lines[k]) + state[k] / rows
        _chunk_sums(x, where, walk, job, array, (b, first, rows), low, width, lines, state, line)
        if second_moment != 0:
            clear(state, line)
        sound = unsound(x, state, moved(state, line), rows, width) == 0
        if sound or second_moment != 0:
            break
    for k in range(0 if sound else width):
        lines[line + k] = 0 if is_sound(x, state[k], state[line + k], rows, FAR) else 1
    finish_sums(lines, state, line, np.float64(rows))
    for k in range(0 if sound else width):
        if lines[line + k] != 0:
            found = careful_column(x, walk, b, first, rows, low + k, second_moment)
            state[k], state[line + k], state[2 * line + k] = found


@step
def merge_chunks(partial, chunks, rows, per_chunk, line):
    """Merge the moments of all chunks, `LINES` lines each, into the first: neighbours, then pairs of them …"""
    step = 1
    while step < chunks:
        for i in range(0, chunks - step, 2 * step):
            count_a = np.float64(min((i + step) * per_chunk, rows) - i * per_chunk)
            count_b = np.float64(min((i + 2 * step) * per_chunk, rows) - (i + step) * per_chunk)
            a, b = moved(partial, i * LINES * line), moved(partial, (i + step) * LINES * line)
            merge_columns(count_a, a, count_b, b, line)
        step *= 2


@step
def finish_moments(state, job, width, line):
    """Fold neighbouring columns into one statistic each, and turn M2 into the variance."""
    fold = job[COUNTS + FOLD]
    if fold > 1:
        for k in range(0, width, fold):
            fold_columns(state, line, k, fold, np.float64(reduced(job)))
    count = 1.0 if sums_squares(job) else np.float64(reduced(job)) * fold
    for k in range(2 * line, 3 * line):
        state[k] /= count


@routine
def slab_moments(x, walk, job, array, b, low, width, lines, state, line):
    """Mean, tail and variance of a slab into the first lines of `state`, which has three for each chunk. lines: scratch."""
    chunks = chunks_of(job)
    for chunk in range(chunks):
        of_chunk = moved(state, chunk * LINES * line)
        chunk_moments(x, walk, job, array, b, chunk, low, width, lines, of_chunk, line)
    merge_chunks(state, chunks, reduced(job), rows_per_chunk(job), line)
    finish_moments(state, job, width, line)

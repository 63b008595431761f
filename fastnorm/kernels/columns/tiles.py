"""Columns, a tile of rows at a time: their sums, and what is done to a row once the statistics are known."""

import numpy as np

from ..._jit import routine, step
from ..apply import standardize
from ..job import place
from ..language.loads import (
    add_to,
    load,
    load_part,
    load_some,
    load_wide,
    number,
    store,
    store_part,
)
from ..language.memory import cast, is_double, moved
from ..language.reductions import added_up
from ..language.vectors import fma, head, in_vectors, lanes, splat, spread, wide, without_nan
from ..sums import add_exactly, is_sound, merge, moments

# Rows whose sums are taken in the precision of the input before they are carried over to float64.
TILE = 64
# Rows that are added up in registers.
FEW = 8
# A centre more than half a standard deviation from the mean: of _SAMPLE rows of noise, one column in 16000.
FAR = 0.25
# Columns whose moments are added up at a time.
_BLOCK = 1024
# Rows that tell where the mean of a column lies.
_SAMPLE = 48


@step
def rows_of(where, walk, b, first, rows, step_m, low):
    """where[r] = the index at which row first + r·step_m of position b begins, `low` columns in."""
    for r in range(rows):
        where[r] = place(walk, b, first + r * step_m) + low


# -- Sums ----------------------------------------------------------------------------------------------------------


@step
def _sampled(x, where, rows, k, count):
    """Σ of `rows` rows, columns k to k + count."""
    total = splat(x, 0.0)
    for r in range(rows):
        total = total + load_part(x, where[r] + k, count)
    return total


@step
def pilot_columns(x, where, rows, width, centre):
    """centre[k] = the mean of column k over some rows, which lies near that of all."""
    n = lanes(x)
    share = splat(x, 1.0) / cast(x, rows)
    for k in range(0, in_vectors(width, n), n):
        store(centre, k, _sampled(x, where, rows, k, n) * share)
    rest = width - in_vectors(width, n)
    if rest > 0:
        k = width - rest
        store(centre, k, _sampled(x, where, rows, k, rest) * share)


@step
def sample_rows(where, walk, b, first, rows, low):
    """Rows spread over rows first to first + rows, into where; how many."""
    count = min(rows, _SAMPLE)
    for r in range(count):
        where[r] = place(walk, b, first + r * rows // count) + low
    return count


@step
def _column_sums(x, where, rows, k, count, centre, t1, t2):
    """t1 += Σ d, t2 += Σ d² over a few rows, of columns k to k + count, d = x - centre."""
    about, zero = load(centre, k), splat(x, 0.0)
    a1, a2, b1, b2 = zero, zero, zero, zero
    for r in range(0, rows - rows % 2, 2):
        d, e = load_part(x, where[r] + k, count) - about, load_part(x, where[r + 1] + k, count) - about
        a1, a2 = a1 + d, fma(d, d, a2)
        b1, b2 = b1 + e, fma(e, e, b2)
    if rows % 2 > 0:
        d = load_part(x, where[rows - 1] + k, count) - about
        a1, a2 = a1 + d, fma(d, d, a2)
    add_to(t1, k, a1 + b1)
    add_to(t2, k, a2 + b2)


@step
def carry_over(tile, total, line):
    """total += tile, in float64, and tile = 0."""
    for k in range(0, line, lanes(tile)):
        add_to(total, k, wide(load(tile, k)))
        store(tile, k, splat(tile, 0.0))


@step
def _carry_over_exactly(tile, total, rest, line):
    """The same where the tile is float64 itself; what is rounded away goes to `rest`."""
    for k in range(0, line, lanes(total)):
        value, left = add_exactly(load(total, k), load(rest, k), load_wide(tile, k))
        store(total, k, value)
        store(rest, k, left)
    for k in range(line):
        tile[k] = 0


@routine
def tile_sums(x, where, rows, width, lines, line, state):
    """Σ d and Σ d² over a tile's rows, added to the first lines of `state`, in float64; what Σ d² rounds away to the third.

    lines: the centres, then two of zeros.

    A few rows at a time, for as many streams of memory as a core can read ahead.
    """
    n = lanes(x)
    t1, t2 = moved(lines, line), moved(lines, 2 * line)
    for r in range(0, rows, FEW):
        few, there = min(FEW, rows - r), moved(where, r)
        for k in range(0, in_vectors(width, n), n):
            _column_sums(x, there, few, k, n, lines, t1, t2)
        rest = width - in_vectors(width, n)
        if rest > 0:
            _column_sums(x, there, few, width - rest, rest, lines, t1, t2)
    carry_over(t1, state, line)
    if is_double(x):
        _carry_over_exactly(t2, moved(state, line), moved(state, 2 * line), line)
    else:
        carry_over(t2, moved(state, line), line)


@step
def unsound(x, s1, s2, rows, width):
    """How many columns lost digits: see `sums.is_sound`."""
    count = 0
    for k in range(width):
        count += 0 if is_sound(x, s1[k], s2[k], rows, FAR) else 1
    return count


@step
def finish_sums(centre, state, line, rows):
    """Σ d and Σ d² about `centre`, in the first lines of `state`, become mean, tail and M2."""
    n = lanes(state)
    for k in range(0, line, n):
        mean, tail, m2 = moments((load_wide(centre, k), load(state, k), load(state, line + k)), rows)
        store(state, k, mean)
        store(state, line + k, tail)
        store(state, 2 * line + k, m2)


@step
def _careful_sums(x, walk, b, first, rows, at, centre):
    """(Σ d, Σ d²) of one column in float64, what the sums round away being kept beside them."""
    s1, s1_rest, s2, s2_rest = 0.0, 0.0, 0.0, 0.0
    for r in range(rows):
        d = np.float64(number(x, place(walk, b, first + r) + at)) - centre
        s1, s1_rest = add_exactly(s1, s1_rest, d)
        s2, s2_rest = add_exactly(s2, s2_rest, d * d)
    # The rest of an infinity is NaN.
    return s1 + (s1_rest if s1_rest == s1_rest else 0.0), s2 + (s2_rest if s2_rest == s2_rest else 0.0)


@routine
def careful_column(x, walk, b, first, rows, at, second_moment):
    """(mean, tail, M2) of one column in float64: exact for constants, and where squares overflow float32."""
    centre = 0.0
    if second_moment == 0:
        for _ in range(2):
            centre += _careful_sums(x, walk, b, first, rows, at, centre)[0] / rows
    s1, s2 = _careful_sums(x, walk, b, first, rows, at, centre)
    return moments((centre, 0.0 if second_moment != 0 else s1, s2), np.float64(rows))


@step
def merge_columns(count_a, a, count_b, b, line):
    """a = Chan's merge of a and b, moments of `line` columns each."""
    n = lanes(a)
    for k in range(0, line, n):
        state_a = (load(a, k), load(a, line + k), load(a, 2 * line + k))
        state_b = (load(b, k), load(b, line + k), load(b, 2 * line + k))
        mean, tail, m2 = merge(count_a, state_a, count_b, state_b)
        store(a, k, mean)
        store(a, line + k, tail)
        store(a, 2 * line + k, m2)


@step
def _fold_block(state, line, at, size, mean, tail, sums):
    """sums + (Σ e, Σ e², Σ M2) of `size` neighbouring columns, e = their distance from (mean, tail), lane by lane."""
    first, second, within = sums
    n = lanes(state)
    for i in range(0, size, n):
        count = min(n, size - i)
        k = at + i
        e = (load_part(state, k, count) - mean) + (load_part(state, line + k, count) - tail)
        e = head(e, count)
        first, second = first + e, fma(e, e, second)
        within = within + load_part(state, 2 * line + k, count)
    return first, second, within


@step
def _fold_sums(state, line, at, fold, mean, tail):
    """The same of a whole fold, by blocks, for the rounding."""
    zero = splat(state, 0.0)
    total = (zero, zero, zero)
    for i in range(0, fold, _BLOCK):
        part = _fold_block(state, line, at + i, min(_BLOCK, fold - i), mean, tail, (zero, zero, zero))
        total = (total[0] + part[0], total[1] + part[1], total[2] + part[2])
    return added_up(total[0]), added_up(total[1]), added_up(total[2])


@step
def fold_columns(state, line, at, fold, rows):
    """Merge `fold` neighbouring columns of `rows` rows each: all of them get the moments of all."""
    centre = state[at]
    shift = _fold_sums(state, line, at, fold, centre, 0.0)[0] / fold
    mean = centre + shift
    tail = (centre - mean) + shift
    first, second, within = _fold_sums(state, line, at, fold, mean, tail)
    m2 = within + rows * (second - first * first / fold)
    tail += first / fold
    for k in range(at, at + fold):
        state[k], state[line + k], state[2 * line + k] = mean, tail, m2


@routine
def repeat(line, width, times, result):
    """The first `width` numbers of a line, `times` times in a row: what is there is doubled until they are enough."""
    n, done = lanes(line), width
    for k in range(0, width, n):
        store_part(result, k, load_part(line, k, width - k), width - k)
    while done < width * times:
        more = min(done, width * times - done)
        whole = in_vectors(more, n)
        for k in range(0, whole, n):
            store(result, done + k, load(result, k))
        if whole < more:
            store_part(result, done + whole, load_part(result, whole, more - whole), more - whole)
        done += more


@step
def sum_of_places(parts, wide, width, k, size):
    """Σ of `size` columns from the k-th on over all their places in a wide row, and what it rounds away."""
    total, rest = spread(0.0), spread(0.0)
    for i in range(wide):
        total, rest = add_exactly(total, rest, load_part(parts, i * width + k, size))
    return total, without_nan(rest)


# -- Applying to a row ---------------------------------------------------------------------------------------------


@step
def known_columns(lines, line, k):
    """High, scale and shift of a vector of columns, from the k-th on."""
    return load(lines, k), load(lines, line + k), load(lines, 2 * line + k)


@step
def row_vector(row, k, first, last):
    """A vector of y = (x - high)·scale + shift, each per column, for `written` and `poured`.

    row: x and where it begins; lines of high, scale and shift, and how far they lie apart; and what the next one takes.
    """
    x, at, (lines, line), _ = row
    high, scale = load_some(lines, k, first, last), load_some(lines, line + k, first, last)
    return standardize(
        load_some(x, at + k, first, last), high, scale, load_some(lines, 2 * line + k, first, last)
    )


@step
def paired_row_vector(row, k, first, last):
    """The same, then ·weight + bias, one pair for the row."""
    weight, bias = row[3]
    return fma(row_vector(row, k, first, last), weight, bias)

"""The arithmetic of one tile: some rows of a columns problem, few enough to stay in L1, and its statistics per column."""

import numpy as np

from .._jit import step
from .blocks import HUGE, TINY, cast, clear, copy, distance, least, merge, standardize
from .job import start

# Rows of a tile and columns of a slab: 64 KiB of float32, so that the second pass reads L2; slabs of 128 fit L1, and spend
# more on starting their loops than that saves.
TILE, SLAB = 64, 256


# -- Eight rows at a time, for one load and store of the running sums ------------------------------------------------


@step
def _add_rows(total, x0, x1, x2, x3, x4, x5, x6, x7):
    for k in range(total.size):
        total[k] += ((x0[k] + x1[k]) + (x2[k] + x3[k])) + ((x4[k] + x5[k]) + (x6[k] + x7[k]))


@step
def _add_row(total, x0):
    for k in range(total.size):
        total[k] += x0[k]


@step
def _centred_rows(first, second, centre, x0, x1, x2, x3):
    for k in range(first.size):
        d0, d1 = distance(x0[k], centre[k]), distance(x1[k], centre[k])
        d2, d3 = distance(x2[k], centre[k]), distance(x3[k], centre[k])
        first[k] += (d0 + d1) + (d2 + d3)
        second[k] += (d0 * d0 + d1 * d1) + (d2 * d2 + d3 * d3)


@step
def _centred_row(first, second, centre, x0):
    for k in range(first.size):
        d = distance(x0[k], centre[k])
        first[k] += d
        second[k] += d * d


@step
def _add_distances(spread, centre, x0):
    for k in range(spread.size):
        spread[k] += abs(distance(x0[k], centre[k]))


@step
def row_at(x, where, r, width):
    """The slab of row r."""
    return x[where[r] : where[r] + width]


@step
def _column_totals(x, where, rows, total):
    """total[k] = Σ over the rows."""
    n = total.size
    clear(total)
    even = rows - rows % 8
    for r in range(0, even, 8):
        x0, x1, x2, x3 = (
            row_at(x, where, r, n),
            row_at(x, where, r + 1, n),
            row_at(x, where, r + 2, n),
            row_at(x, where, r + 3, n),
        )
        x4, x5, x6, x7 = (
            row_at(x, where, r + 4, n),
            row_at(x, where, r + 5, n),
            row_at(x, where, r + 6, n),
            row_at(x, where, r + 7, n),
        )
        _add_rows(total, x0, x1, x2, x3, x4, x5, x6, x7)
    for r in range(even, rows):
        _add_row(total, row_at(x, where, r, n))


@step
def _column_sums(x, where, rows, centre, first, second):
    """first[k], second[k] = Σ d, Σ d² over the rows, d = x - centre[k]."""
    n = first.size
    clear(first)
    clear(second)
    even = rows - rows % 4
    for r in range(0, even, 4):
        x0, x1, x2, x3 = (
            row_at(x, where, r, n),
            row_at(x, where, r + 1, n),
            row_at(x, where, r + 2, n),
            row_at(x, where, r + 3, n),
        )
        _centred_rows(first, second, centre, x0, x1, x2, x3)
    for r in range(even, rows):
        _centred_row(first, second, centre, row_at(x, where, r, n))


# -- Moments of a tile ---------------------------------------------------------------------------------------------


@step
def _unsound(rows, first, second, spread):
    """How many columns lost digits in the arithmetic of the input: see `blocks.block_moments`."""
    count = 0
    for k in range(first.size):
        s1, s2 = first[k], second[k]
        # `spread` is Σ |d|: with it at 0 the column is constant, else its squares were too small.
        constant = (s2 == 0) & (spread[k] == 0)
        sound = (s2 > TINY) & (s2 < HUGE) & (s1 * s1 <= s2 * (0.5 * rows))
        count += 0 if constant | sound else 1
    return count


@step
def _repair(x, where, rows, first, second, block, second_moment):
    """Recompute the unsound columns of a tile in float64, with the mean refined once."""
    width = first.size
    centre = np.zeros(width)
    s1 = np.zeros(width)
    s2 = np.zeros(width)
    if second_moment == 0:
        for _ in range(2):
            clear(s1)
            for r in range(rows):
                row = x[where[r] : where[r] + width]
                for k in range(width):
                    s1[k] += distance(np.float64(row[k]), centre[k])
            for k in range(width):
                centre[k] += s1[k] / rows
        clear(s1)
    for r in range(rows):
        row = x[where[r] : where[r] + width]
        for k in range(width):
            d = distance(np.float64(row[k]), centre[k])
            s1[k] += d
            s2[k] += d * d
    for k in range(width):
        if not (TINY < second[k] < HUGE and first[k] * first[k] <= 0.5 * rows * second[k]):
            shift = 0.0 if second_moment != 0 else s1[k] / rows
            block[0, k], block[1, k] = centre[k], shift
            block[2, k] = s2[k] if second_moment != 0 else s2[k] - s1[k] * shift


@step
def tile_moments(x, where, rows, width, sums, block, second_moment):
    """Moments of a tile's columns into block (3, SLAB) float64: mean, tail, M2.

    x: flat. where: (TILE,) int64, where each row's slab begins. sums: (4, SLAB) of the arithmetic's dtype, scratch.
    """
    centre, first, second = sums[0, :width], sums[1, :width], sums[2, :width]
    clear(centre)
    if second_moment == 0:
        _column_totals(x, where, rows, centre)
        for k in range(width):
            centre[k] = cast(centre, centre[k] / rows)
    _column_sums(x, where, rows, centre, first, second)
    if second_moment != 0:
        clear(first)
    for k in range(width):
        base, s1 = np.float64(centre[k]), np.float64(first[k])
        shift = s1 / rows
        mean = base + shift
        block[0, k] = mean
        block[1, k] = (base - mean) + shift
        block[2, k] = np.float64(second[k]) - s1 * shift
    spread = sums[3, :width]
    clear(spread)
    if least(second) == 0:
        for r in range(rows):
            _add_distances(spread, centre, row_at(x, where, r, width))
    if _unsound(rows, first, second, spread) > 0:
        _repair(x, where, rows, first, second, block, second_moment)


@step
def merge_columns(count, state, at, more, block, origin, width):
    """state = Chan's merge of state (count elements a column) and block (more), `width` columns of each.

    state, block: (3, …) float64, read from column `at` and `origin` on.
    """
    mean, tail, m2 = state[0, at : at + width], state[1, at : at + width], state[2, at : at + width]
    end = origin + width
    mean_b, tail_b, m2_b = block[0, origin:end], block[1, origin:end], block[2, origin:end]
    if count == 0:
        copy(mean_b, mean)
        copy(tail_b, tail)
        copy(m2_b, m2)
        return
    for k in range(mean.size):
        mean[k], tail[k], m2[k] = merge(
            count, (mean[k], tail[k], m2[k]), more, (mean_b[k], tail_b[k], m2_b[k])
        )


# -- Applying to a row ---------------------------------------------------------------------------------------------


@step
def apply_columns(x, y, high, scale, shift):
    """y = (x - high)·scale + shift, each per column."""
    for k in range(y.size):
        y[k] = standardize(x[k], high[k], scale[k], shift[k])


@step
def apply_columns_affine(x, y, high, scale, shift, weight, bias):
    """The same, then ·weight + bias, one pair for the row."""
    for k in range(y.size):
        y[k] = standardize(x[k], high[k], scale[k], shift[k]) * weight + bias


@step
def rows_of(where, job, array, b, first, rows, step_m, low):
    """where[r] = the index at which row first + r·step_m of position b begins, `low` columns in."""
    for r in range(rows):
        where[r] = start(job, array, b, first + r * step_m) + low

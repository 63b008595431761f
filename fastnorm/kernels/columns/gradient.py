"""Columns, backward, below the phases: the sums over the rows of a slab, then dx and the gradients of parameters."""

import numpy as np

from ..._jit import routine, step
from ..activations import NONE, activate_backward
from ..apply import shared_pair, standardize
from ..job import (
    ACTIVATION,
    AFFINE,
    ALONG,
    BESIDE,
    OPTIONS,
    UNCENTRED,
    X,
    Y,
    by_segment,
    goes_past,
    place,
    reduced,
    walks_of,
)
from ..language.loads import add_part_to, add_to, clear, load, load_part, put, put_part
from ..language.memory import given, is_double, is_staged, moved, stack, stage
from ..language.past import before_line, flush, new_sink, pour, room, written
from ..language.reductions import added_up
from ..language.vectors import fma, head, lanes, splat
from .slabs import FOUR_WIDE, THREE_WIDE, WIDE, rows_per_chunk, widening
from .tiles import (
    FEW,
    TILE,
    carry_over,
    known_columns,
    paired_row_vector,
    repeat,
    row_vector,
    sum_of_places,
)

# Lines of a slab: x_hat = (x - HIGH)·SCALE + SHIFT, and z likewise of Z_HIGH, Z_SCALE, Z_SHIFT …
HIGH, SCALE, SHIFT, Z_HIGH, Z_SCALE, Z_SHIFT = range(6)
# … dx = OF_G·g·weight + OF_X·x_hat + OF_1; three of sums; a few rows of g behind an activation, and of dx before a store
# past the cache.
OF_G, OF_X, OF_1, SUM, G, DX = 6, 7, 8, 9, 12, 12 + FEW
LINES = DX + FEW
_WIDE_LINES = LINES * FOUR_WIDE // 4
# Rows of dx that are made together in the cache: with dy and x, eight are too many streams of memory for a core to foresee.
# Batch norm of 8×56×56×64 took 1035 µs so, now 830; but of 32×112×112×64, past the cache, 36.8 ms, and 38.4 by four.
_TOGETHER = 4


@step
def has_row_pair(pair, job):
    """Whether each row has a weight of its own."""
    return job[AFFINE + ALONG] == 0 and given(pair[0])


@step
def row_weight(pair, walks, job, b, m):
    """The weight and bias of a row, 1 and 0 where it has none of its own."""
    if has_row_pair(pair, job):
        return shared_pair(pair[0], pair[1], place(walks[3], b, m))
    return 1.0, 0.0


@step
def row_gradient(dy, beside, x, at, width, lines, line, pair, row_pair, job, g):
    """g = dy·act'(z) of one row, z recomputed from x; dy where there is no activation."""
    of_z = moved(lines, Z_HIGH * line)
    row, none = (x, at, (of_z, line), (splat(x, row_pair[0]), splat(x, row_pair[1]))), np.int64(0)
    if job[OPTIONS + ACTIVATION] == NONE:
        pass
    elif has_row_pair(pair, job):
        written(paired_row_vector, row, none, width, g, none)
    else:
        written(row_vector, row, none, width, g, none)
    activate_backward(dy, beside, g, width, job[OPTIONS + ACTIVATION])


@step
def few_rows(arrays, pair, walks, job, b, first, rows, wide, low, width, lines, line, places):
    """Where a few rows begin, their weights, and g = dy·act'(z) of them behind an activation; returns g's memory."""
    dy, x, _ = arrays
    x_at, g_at, weights = places
    activates, own = job[OPTIONS + ACTIVATION] != NONE, by_segment(job)
    beside = is_staged(dy, activates)
    for r in range(rows):
        m = first + r * wide
        x_at[r], g_at[r] = place(walks[0], b, m) + low, place(walks[1], b, m) + low
        row_pair = row_weight(pair, walks, job, b, m)
        weights[r] = row_pair[0] if own else 1.0
        if beside:
            g = moved(lines, (G + r) * line)
            row_gradient(dy, g_at[r], x, x_at[r], width, lines, line, pair, row_pair, job, g)
            g_at[r] = (G + r) * line
    return stage(dy, lines, activates)


@step
def x_hat_of(x, at, k, count, known):
    """x_hat of a row, columns k to k + count."""
    return standardize(load_part(x, at + k, count), known[0], known[1], known[2])


# -- Sums ----------------------------------------------------------------------------------------------------------


@step
def _column_sums(g, g_at, x, x_at, weights, rows, k, count, lines, line):
    """SUM += Σ gw, Σ gw·x_hat, Σ x_hat of a few rows, columns k to k + count; gw = g·weight of the row."""
    known, zero = known_columns(lines, line, k), splat(x, 0.0)
    first, second, drift = zero, zero, zero
    for r in range(rows):
        x_hat = x_hat_of(x, x_at[r], k, count, known)
        gw = load_part(g, g_at[r] + k, count) * weights[r]
        first, second = first + gw, fma(gw, x_hat, second)
        if is_double(x):
            drift = drift + x_hat
    add_to(lines, SUM * line + k, first)
    add_to(lines, (SUM + 1) * line + k, second)
    if is_double(x):
        add_to(lines, (SUM + 2) * line + k, drift)


@routine
def band_sums(arrays, pair, walks, job, b, first, count, wide, low, width, lines, line, state):
    """Σ gw, Σ gw·x_hat, Σ x_hat of each column over `count` rows of `wide` rows each, added to the lines of `state`."""
    x = arrays[1]
    n, rest = lanes(x), width % lanes(x)
    places = stack(job, FEW), stack(job, FEW), stack(x, FEW)
    x_at, g_at, weights = places
    clear(moved(lines, SUM * line), 3 * line)
    for row in range(0, count, FEW):
        rows = min(FEW, count - row)
        start = first + row * wide
        g = few_rows(arrays, pair, walks, job, b, start, rows, wide, low, width, lines, line, places)
        for k in range(0, width - rest, n):
            _column_sums(g, g_at, x, x_at, weights, rows, k, n, lines, line)
        if rest > 0:
            k = width - rest
            _column_sums(g, g_at, x, x_at, weights, rows, k, rest, lines, line)
        if (row + FEW) % TILE == 0 or row + FEW >= count:
            for i in range(3):
                carry_over(moved(lines, (SUM + i) * line), moved(state, i * line), line)


@step
def rows_at_once(job, rows, width, paired):
    """How many successive ones of so many rows are one wide row; one where each is `paired` with its own parameters."""
    if by_segment(job) and paired:
        return 1
    return min(
        widening(job, X, rows, width), widening(job, BESIDE, rows, width), widening(job, Y, rows, width)
    )


@step
def _add_wide_sums(parts, wide, width, state, line):
    """The sums of each column, in all its places in a wide row, added to the lines of `state`."""
    n = lanes(state)
    for j in range(3):
        for k in range(0, width, n):
            size = min(n, width - k)
            total, rest = sum_of_places(moved(parts, j * WIDE), wide, width, k, size)
            add_part_to(state, j * line + k, total + rest, size)


@routine
def chunk_sums(arrays, pair, job, b, chunk, low, width, lines, line, state):
    """The sums of one chunk's columns, from `low` on, added to the three lines of `state`."""
    per_chunk = rows_per_chunk(job)
    first = chunk * per_chunk
    rows = min(per_chunk, reduced(job) - first)
    walks = walks_of(job)
    wide = rows_at_once(job, rows, width, given(pair[0]))
    whole = rows // wide if wide > 1 else 0
    if whole > 0:
        repeated, parts = stack(arrays[1], _WIDE_LINES), stack(state, THREE_WIDE)
        for i in range(OF_G):
            repeat(moved(lines, i * line), width, wide, moved(repeated, i * WIDE))
        clear(parts, THREE_WIDE)
        band_sums(arrays, pair, walks, job, b, first, whole, wide, low, width * wide, repeated, WIDE, parts)
        _add_wide_sums(parts, wide, width, state, line)
    done = whole * wide
    one = np.int64(1)
    band_sums(arrays, pair, walks, job, b, first + done, rows - done, one, low, width, lines, line, state)


# -- Gradients -----------------------------------------------------------------------------------------------------


@step
def _gradient_columns(g, g_at, x, x_at, dx, to, weights, rows, k, count, lines, line, past):
    """dx = OF_G·g·weight + OF_X·x_hat + OF_1 of a few rows, columns k to k + count."""
    known = known_columns(lines, line, k)
    of_g, of_x = load(lines, OF_G * line + k), load(lines, OF_X * line + k)
    of_1 = load(lines, OF_1 * line + k)
    for r in range(rows):
        terms = fma(of_x, x_hat_of(x, x_at[r], k, count, known), of_1)
        value = fma(of_g * weights[r], load_part(g, g_at[r] + k, count), terms)
        if count == lanes(x):
            put(dx, to[r] + k, value, past)
        else:
            put_part(dx, to[r] + k, value, count, past)


@step
def _row_products(g, g_at, x, at, width, lines, line):
    """(Σ g·x_hat, Σ g) over a row; or of x·rstd in the place of x_hat, if the lines say so."""
    n = lanes(x)
    second = splat(x, 0.0)
    first = second
    for k in range(0, width, n):
        count = min(n, width - k)
        gradient = load_part(g, g_at + k, count)
        x_hat = head(x_hat_of(x, at, k, count, known_columns(lines, line, k)), count)
        first, second = first + gradient, fma(gradient, x_hat, second)
    return added_up(second), added_up(first)


@routine
def gradient_band(arrays, pair, walks, gradients, job, band, low, width, known, sink):
    """dx of a band of rows, (b, first, how many, of how many rows each), and the gradients of a row's own pair.

    known: lines of what dx is made of, and how long they are.
    """
    b, first, count, wide = band
    lines, line = known
    _, x, dx = arrays
    dweight, dbias, _ = gradients
    n, rest = lanes(x), width % lanes(x)
    streaming, by_row = given(sink[0]), by_segment(job) and given(dweight)
    places, to = (stack(job, FEW), stack(job, FEW), stack(x, FEW)), stack(job, FEW)
    x_at, g_at, weights = places
    together = FEW if streaming else _TOGETHER
    for row in range(0, count, together):
        rows = min(together, count - row)
        start = first + row * wide
        g = few_rows(arrays, pair, walks, job, b, start, rows, wide, low, width, lines, line, places)
        loose = False
        for r in range(rows):
            to[r] = place(walks[2], b, start + r * wide) + low
            loose = loose or (streaming and before_line(dx, to[r]) != 0)
            if by_row:
                affine = place(walks[3], b, start + r * wide)
                own = moved(lines, (Z_HIGH if job[UNCENTRED] != 0 else HIGH) * line)
                second, first_sum = _row_products(g, g_at[r], x, x_at[r], width, own, line)
                dweight[affine] += second
                dbias[affine] += first_sum
        if not given(dx):
            continue
        beside = is_staged(dx, loose)
        target, past = stage(dx, lines, loose), streaming and not beside
        for r in range(rows if beside else 0):
            to[r] = (DX + r) * line
        for k in range(0, width - rest, n):
            _gradient_columns(g, g_at, x, x_at, target, to, weights, rows, k, n, lines, line, past)
        if rest > 0:
            k = width - rest
            _gradient_columns(g, g_at, x, x_at, target, to, weights, rows, k, rest, lines, line, past)
        if beside:
            for r in range(rows):
                at = place(walks[2], b, start + r * wide) + low
                pour(moved(lines, to[r]), dx, at, width, sink)


@routine
def gradient_rows(arrays, pair, gradients, job, b, first, last, low, width, lines, line):
    """dx of rows first to last of a slab, and the gradients of their own affine pairs."""
    walks, dx = walks_of(job), arrays[2]
    sink = new_sink(goes_past(job, width), room(dx, job))
    wide = rows_at_once(job, last - first, width, given(pair[0]) or given(gradients[0]))
    whole = (last - first) // wide if wide > 1 else 0
    if whole > 0:
        repeated = stack(arrays[1], _WIDE_LINES)
        for i in range(SUM):
            repeat(moved(lines, i * line), width, wide, moved(repeated, i * WIDE))
        band = b, first, whole, wide
        gradient_band(arrays, pair, walks, gradients, job, band, low, width * wide, (repeated, WIDE), sink)
    first += whole * wide
    band = b, first, last - first, np.int64(1)
    gradient_band(arrays, pair, walks, gradients, job, band, low, width, (lines, line), sink)
    flush(dx, sink)

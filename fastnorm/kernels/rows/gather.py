"""Rows, backward, some groups together: the sums of short ones; dx, and the gradients of pairs of elements, in one trip."""

import numpy as np

from ..._jit import routine, step, strict
from ..activations import NONE
from ..apply import coefficients, pair_along, standardize
from ..coefficients import store_coefficients
from ..job import (
    ACTIVATION,
    AFFINE,
    ALONG,
    B0,
    B1,
    CONSTANT,
    COUNTS,
    LENGTH,
    OPTIONS,
    SECOND_MOMENT,
    STREAMING,
    UNCENTRED,
    WHOLE_LINES,
    apart,
    by_segment,
    count_of,
    place,
    reduced,
    slot,
    touch,
)
from ..language.loads import (
    add_part_to,
    add_to,
    clear,
    load,
    load_part,
    load_wide_part,
    put,
    put_part,
    store,
    store_part,
)
from ..language.memory import given, is_double, is_staged, moved, nothing, stack, stage
from ..language.past import START, before_line, deliver, pour, poured
from ..language.reductions import EACH, added_up_each, folded
from ..language.vectors import fma, in_vectors, lanes, narrow, splat, spread, wide
from ..sums import BLOCK
from .gradient import (
    BATCH,
    BEYOND,
    GROUPS,
    HIGH,
    LINE,
    OF_1,
    OF_G,
    OF_X,
    SCALE,
    SHIFT,
    SPACE,
    gradient_vector,
    plain_sums,
    statistic_of,
    through_activation,
    weighted_sums,
)
from .touching import lengths_of, suit, touching_gradients

# A block of the sums: in the precision of the input up to here. Rows of 2048 gain a tenth by it, of 64 two thirds.
_SHORT = 2048
# Space for half a vector of each group, and for two sums of each.
_HALVES, _SUMS = 16 * GROUPS, 2 * GROUPS
# Elements of a row that are done before those of the next one.
STRIP, _SUMS_OF_STRIP = 256, 2 * 256


# -- The lines of some groups: all HIGHs, then all SCALEs …, as numbers of x's kind ---------------------------------


@step
def keep_line(known, line, j):
    """The line of one group among those of all."""
    for k in range(LINE):
        known[k * GROUPS + j] = line[k]


@step
def groups_together(job):
    """How many groups share a trip to the gradients of their elements' pairs, which have to be the same for all."""
    along = job[AFFINE + ALONG] != 0
    if along and (job[AFFINE + B1] != 0 or (job[AFFINE + B0] != 0 and apart(job) == 0)):
        return np.int64(1)
    return max(1, min(GROUPS, BATCH // (job[COUNTS + LENGTH] * reduced(job))))


@step
def is_short(x, job):
    """Whether groups are short rows, whose lines are found together: what each would wait for alone is done for all."""
    plain = job[OPTIONS + ACTIVATION] == NONE and job[OPTIONS + CONSTANT] == 0 and job[UNCENTRED] == 0
    return plain and reduced(job) == 1 and 1 < job[COUNTS + LENGTH] <= _SHORT and not is_double(x)


@strict
def _store_terms(known, x, sums, rstd, weight, count, second_moment):
    """OF_G, OF_X and OF_1 of all groups, from Σ g and Σ g·x_hat of each, and the weight that its elements share."""
    mean = spread(0.0) if second_moment else weight * load(sums, 0) / count
    product = weight * load(sums, GROUPS) / count
    store(known, OF_G * GROUPS, narrow(x, rstd * weight))
    store(known, OF_X * GROUPS, narrow(x, -rstd * product))
    store(known, OF_1 * GROUPS, narrow(x, -rstd * mean))
    store(known, BEYOND * GROUPS, narrow(x, spread(0.0)))


@step
def _sum_runs(dy, x, weight, walks, job, b, m, step, runs, known, sums):
    """Σ g and Σ g·x_hat of some short runs from (b, m) on, of successive groups or, by a `step` of 1, segments.

    g is dy·weight where each element has its own.
    """
    half, length, zero = lanes(x) // 2, job[COUNTS + LENGTH], splat(x, 0.0)
    firsts, seconds = stack(x, _HALVES), stack(x, _HALVES)
    for j in range(runs):
        group, segment = b + j * (1 - step), m + j * step
        at, beside = place(walks[0], group, segment), place(walks[1], group, segment)
        own = splat(x, known[j]), splat(x, known[GROUPS + j]), splat(x, known[2 * GROUPS + j])
        if given(weight):
            affine = place(walks[3], group, segment)
            s1, s2, _ = weighted_sums(dy, beside, x, at, length, weight, affine, own, (zero, zero, zero))
        else:
            s1, s2, _ = plain_sums(dy, beside, x, at, length, own, (zero, zero, zero))
        store(firsts, j * half, folded(s1))
        store(seconds, j * half, folded(s2))
    for j in range(runs, GROUPS):
        store(firsts, j * half, folded(zero))
        store(seconds, j * half, folded(zero))
    for j in range(0, GROUPS, EACH):
        store(sums, j, added_up_each(moved(firsts, j * half)))
        store(sums, GROUPS + j, added_up_each(moved(seconds, j * half)))


@step
def has_short_segments(x, job):
    """Whether the segments of a group have sums of their own, and are short."""
    plain = job[OPTIONS + ACTIVATION] == NONE and not is_double(x)
    return plain and by_segment(job) and job[COUNTS + LENGTH] <= _SHORT


@routine
def short_segments(arrays, pair, walks, statistic, job, b, sums):
    """Σ g and Σ g·x_hat of each segment of group b, into a line of each."""
    dy, x, _ = arrays
    known, found, none = stack(x, SPACE), stack(sums, _SUMS), nothing(pair[0])
    high, scale, shift = coefficients(x, statistic, 1.0, 0.0)
    for j in range(GROUPS):
        known[j], known[GROUPS + j], known[2 * GROUPS + j] = high, scale, shift
    segments = reduced(job)
    for m in range(0, segments, GROUPS):
        runs = min(GROUPS, segments - m)
        _sum_runs(dy, x, none, walks, job, b, m, 1, runs, known, found)
        store_part(sums, m, load(found, 0), runs)
        store_part(sums, segments + m, load(found, GROUPS), runs)


@step
def _share_pairs(weights, pair, walks, gradients, job, first, groups, sums):
    """The weights of rows that share one each, into `weights`; and the gradients of their pairs."""
    dweight, dbias, line = gradients
    for j in range(groups):
        affine = place(walks[3], first + j, 0)
        if given(pair[0]):
            weights[j] = pair[0][affine]
        if given(dweight):
            to = slot(job, first + j) * line + affine
            dweight[to] += sums[GROUPS + j]
            dbias[to] += sums[j]


@routine
def short_lines(arrays, pair, walks, statistics, gradients, job, first, groups, known):
    """The lines of some groups of a short row each; and the gradients of pairs that a row shares.

    65536 rows of 64 took 4.7 ms backward when each row had its line found alone.
    """
    dy, x, _ = arrays
    mean = load_wide_part(statistics[0], first, groups) if given(statistics[0]) else spread(0.0)
    rstd = load_wide_part(statistics[1], first, groups)
    none = nothing(pair[0]), nothing(pair[1])
    store_coefficients(x, mean, spread(0.0), rstd, none, 0, GROUPS, known, GROUPS)
    sums, weights = stack(statistics[1], _SUMS), stack(statistics[1], GROUPS)
    _sum_runs(dy, x, pair_along(pair, job)[0], walks, job, first, 0, 0, groups, known, sums)
    store(weights, 0, spread(1.0))
    if job[AFFINE + ALONG] == 0:
        _share_pairs(weights, pair, walks, gradients, job, first, groups, sums)
    _store_terms(known, x, sums, rstd, load(weights, 0), count_of(job), job[OPTIONS + SECOND_MOMENT] != 0)


# -- Gradients -----------------------------------------------------------------------------------------------------


@step
def _gather_vector(g, x, dx, weight, i, count, terms, sums, past):
    """dx of the `count` elements from the i-th on of a row; what they add to the gradients of their pairs, into `sums`."""
    centre, scale, shift, of_g, of_x, of_1, beyond = terms
    gradient, x_hat = load_part(g, i, count), standardize(load_part(x, i, count), centre, scale, shift)
    store(sums, i, fma(gradient, x_hat + beyond, load(sums, i)))
    store(sums, STRIP + i, load(sums, STRIP + i) + gradient)
    if given(dx):
        if given(weight):
            gradient = gradient * load_part(weight, i, count)
        value = fma(of_g, gradient, fma(of_x, x_hat, of_1))
        if count == lanes(x):
            put(dx, i, value, past)
        else:
            store_part(dx, i, value, count)


@step
def _terms_of(x, known, j):
    """The line of row j, a vector of each number."""
    return (
        splat(x, known[HIGH * GROUPS + j]),
        splat(x, known[SCALE * GROUPS + j]),
        splat(x, known[SHIFT * GROUPS + j]),
        splat(x, known[OF_G * GROUPS + j]),
        splat(x, known[OF_X * GROUPS + j]),
        splat(x, known[OF_1 * GROUPS + j]),
        splat(x, known[BEYOND * GROUPS + j]),
    )


@routine
def row_gradients(arrays, pair, walks, known, job, first, groups, sink):
    """dx of some groups of a row each."""
    (dy, x, dx), (xs, gs, ys, ps), size = arrays, walks, job[COUNTS + LENGTH]
    weight = pair_along(pair, job)[0]
    touching = touch(xs[0], size) and touch(gs[0], size) and touch(ys[0], size)
    if touching and suit(size) and not given(weight):
        runs = dy, place(gs, first, 0), x, place(xs, first, 0), known, GROUPS, lengths_of(size)
        poured(touching_gradients, runs, START, groups * size, dx, place(ys, first, 0), sink)
        return
    for j in range(groups):
        terms, b = _terms_of(x, known, j), first + j
        run = dy, place(gs, b, 0), x, place(xs, b, 0), weight, place(ps, b, 0), terms[:3], terms[3:6]
        poured(gradient_vector, run, START, size, dx, place(ys, b, 0), sink)


@step
def _gather_row(g, x, dx, weight, size, known, j, sums, past):
    """The same of all elements of a strip of row j."""
    terms, n = _terms_of(x, known, j), lanes(x)
    whole = in_vectors(size, n)
    for i in range(0, whole, n):
        _gather_vector(g, x, dx, weight, i, n, terms, sums, past)
    if whole < size:
        _gather_vector(g, x, dx, weight, whole, size - whole, terms, sums, False)


@routine
def _gather_narrow(arrays, weight, walks, known, sums, first, groups, m, size, streams):
    """The same of rows of a vector at the most, whose sums stay in registers.

    20000 of 16 took 189 µs on two threads, and take 124.
    """
    dy, x, dx = arrays
    w = load_part(weight, place(walks[3], first, m), size) if given(weight) else splat(x, 1.0)
    products, gradients = splat(x, 0.0), splat(x, 0.0)
    for j in range(groups):
        centre, scale, shift, of_g, of_x, of_1, beyond = _terms_of(x, known, j)
        gradient = load_part(dy, place(walks[1], first + j, m), size)
        x_hat = standardize(load_part(x, place(walks[0], first + j, m), size), centre, scale, shift)
        products, gradients = fma(gradient, x_hat + beyond, products), gradients + gradient
        if given(dx):
            to = place(walks[2], first + j, m)
            value = fma(of_g, gradient * w, fma(of_x, x_hat, of_1))
            put_part(dx, to, value, size, streams and before_line(dx, to) == 0)
    store(sums, 0, products)
    store(sums, STRIP, gradients)


@step
def _add_sums(sums, gradients, to, size):
    """The sums of a strip, added to the gradients from the to-th pair on."""
    dweight, dbias, _ = gradients
    n = lanes(sums)
    whole = in_vectors(size, n)
    for i in range(0, whole, n):
        add_to(dweight, to + i, wide(load(sums, i)))
        add_to(dbias, to + i, wide(load(sums, STRIP + i)))
    if whole < size:
        add_part_to(dweight, to + whole, wide(load(sums, whole)), size - whole)
        add_part_to(dbias, to + whole, wide(load(sums, STRIP + whole)), size - whole)


@routine
def _gather_segment(arrays, pair, walks, statistics, known, gradients, job, band, strip, sink):
    """dx of some groups and the gradients of each element's own pair, in one trip.

    band: (first group, groups); strip: (segment, elements low to high of it).

    A strip of each row at a time: an element of 16 rows of 4 KiB at a time were too many lines for one set of L1. Short
    rows that share lines go past the cache together.
    """
    (dy, x, dx), (xs, gs, ys, ps) = arrays, walks
    (first, groups), (m, low, high) = band, strip
    affine, begin, streams = place(ps, first, m), place(ys, first, m), job[OPTIONS + STREAMING] == WHOLE_LINES
    in_turn = place(ys, first + groups - 1, m) - begin == (groups - 1) * high
    joined = given(dx) and given(sink[0]) and not streams and in_turn and low == 0 and groups * high <= BLOCK
    activates = job[OPTIONS + ACTIVATION] != NONE
    g_space, dx_space, sums = stack(x, STRIP), stack(x, BLOCK), stack(x, _SUMS_OF_STRIP)
    weight = pair[0]
    if not activates and not joined and low == 0 and high <= lanes(x):
        _gather_narrow(arrays, weight, walks, known, sums, first, groups, m, high, streams)
        _add_sums(sums, gradients, affine, high)
        return
    for i in range(low, high, STRIP):
        size, own = min(STRIP, high - i), affine + i
        weights = moved(weight, own) if given(weight) else weight
        clear(sums, _SUMS_OF_STRIP)
        for j in range(groups):
            beside, at, to = (
                place(gs, first + j, m) + i,
                place(xs, first + j, m) + i,
                place(ys, first + j, m) + i,
            )
            if is_staged(dy, activates):
                statistic = statistic_of(statistics, first + j)
                through_activation(dy, beside, x, at, size, statistic, pair, own, job, g_space)
            loose = joined or (streams and before_line(dx, to) != 0)
            past = streams and not is_staged(dx, loose)
            own_space = moved(dx_space, j * high + i if joined else 0)
            g, target = stage(moved(dy, beside), g_space, activates), stage(moved(dx, to), own_space, loose)
            target = target if given(dx) else nothing(target)
            _gather_row(g, moved(x, at), target, weights, size, known, j, sums, past)
            if is_staged(dx, loose) and given(dx) and not joined:
                deliver(dx_space, dx, to, size, streams)
        _add_sums(sums, gradients, own, size)
    if joined:
        pour(dx_space, dx, begin, groups * high, sink)


@step
def gather(arrays, pair, walks, statistics, known, gradients, job, first, groups, piece, sink):
    """The same of segments first to last, elements low to high of each."""
    for m in range(piece[0], piece[1]):
        band, strip = (first, groups), (m, piece[2], piece[3])
        _gather_segment(arrays, pair, walks, statistics, known, gradients, job, band, strip, sink)

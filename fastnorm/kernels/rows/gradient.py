"""Rows, backward, below the phases: the sums over a group, and dx; gradients of the pairs that runs share."""

import numpy as np

from ..._jit import routine, step
from ..activations import NONE, activate_backward
from ..apply import coefficients, pair_along, paired_run, shared_pair, standardize
from ..coefficients import numbers_of
from ..job import (
    ACTIVATION,
    AFFINE,
    ALONG,
    BESIDE,
    CONSTANT,
    COUNTS,
    LENGTH,
    M1,
    OPTIONS,
    SECOND_MOMENT,
    UNCENTRED,
    X,
    Y,
    are_even,
    beyond,
    by_segment,
    centre_of,
    count_of,
    place,
    reduced,
    slot,
    touch,
)
from ..language.loads import add_part_to, load, load_part, load_some, store
from ..language.memory import given, is_double, is_staged, moved, nothing, stack, stage
from ..language.past import START, poured, written
from ..language.reductions import added_up
from ..language.vectors import DOUBLES, fma, head, in_vectors, lanes, narrow, splat, spread, wide
from ..sums import BLOCK, add_exactly
from .touching import RUNS, RUNS_LINE, lengths_of, suit, touching_segments

# Elements of groups that are finished together, for one trip to the parameters' gradients; and the most of them.
BATCH = 65536
GROUPS = 16

# The line of a group: x_hat = (x - HIGH)·SCALE + SHIFT, dx = OF_G·g·weight + OF_X·x_hat + OF_1, and what x_hat lacks of
# what the weight multiplies.
HIGH, SCALE, SHIFT, OF_G, OF_X, OF_1, BEYOND = range(7)
LINE = 7
SPACE = LINE * GROUPS


@routine
def through_activation(dy, beside, x, at, size, statistic, pair, affine, job, buffer):
    """buffer = dy·act'(z) of at most a block, z recomputed from x; dy where there is no activation."""
    w, c = (1.0, 0.0) if job[AFFINE + ALONG] != 0 else shared_pair(pair[0], pair[1], affine)
    mean, tail = centre_of(job, statistic[0], statistic[1])
    high, scale, shift = coefficients(buffer, (mean, tail, statistic[2]), w, c)
    known = (splat(buffer, high), splat(buffer, scale), splat(buffer, shift))
    if job[OPTIONS + ACTIVATION] != NONE:
        each = pair_along(pair, job)
        paired_run(x, at, buffer, np.int64(0), size, each, affine, known)
    activate_backward(dy, beside, buffer, size, job[OPTIONS + ACTIVATION])


@step
def statistic_of(statistics, b):
    """(mean, tail, rstd) of group b."""
    mean, rstd = statistics
    return mean[b] if given(mean) else 0.0, 0.0, rstd[b]


# -- Sums ----------------------------------------------------------------------------------------------------------


@step
def _drifted(drift, x_hat, x):
    """Σ x_hat, which nobody asks of float32: a float64 mean has no rounding there."""
    return drift + x_hat if is_double(x) else drift


@step
def plain_sums(g, g_at, x, at, size, known, sums):
    """sums + (Σ g, Σ g·x_hat, Σ x_hat) of a run, lane by lane."""
    first, second, drift = sums
    high, scale, shift = known
    n = lanes(x)
    whole = in_vectors(size, n)
    for i in range(0, whole, n):
        gradient, x_hat = load(g, g_at + i), standardize(load(x, at + i), high, scale, shift)
        first, second = first + gradient, fma(gradient, x_hat, second)
        drift = _drifted(drift, x_hat, x)
    rest = size - whole
    if rest > 0:
        gradient = load_part(g, g_at + whole, rest)
        x_hat = head(standardize(load_part(x, at + whole, rest), high, scale, shift), rest)
        first, second = first + gradient, fma(gradient, x_hat, second)
        drift = _drifted(drift, x_hat, x)
    return first, second, drift


@step
def weighted_sums(g, g_at, x, at, size, weight, affine, known, sums):
    """The same of g·weight, for a weight per element."""
    first, second, drift = sums
    high, scale, shift = known
    n = lanes(x)
    whole = in_vectors(size, n)
    for i in range(0, whole, n):
        gradient = load(g, g_at + i) * load(weight, affine + i)
        x_hat = standardize(load(x, at + i), high, scale, shift)
        first, second = first + gradient, fma(gradient, x_hat, second)
        drift = _drifted(drift, x_hat, x)
    rest = size - whole
    if rest > 0:
        gradient = load_part(g, g_at + whole, rest) * load_part(weight, affine + whole, rest)
        x_hat = head(standardize(load_part(x, at + whole, rest), high, scale, shift), rest)
        first, second = first + gradient, fma(gradient, x_hat, second)
        drift = _drifted(drift, x_hat, x)
    return first, second, drift


@step
def _carried(totals, sums):
    """Sums in float64, and more of them."""
    return totals[0] + wide(sums[0]), totals[1] + wide(sums[1]), totals[2] + wide(sums[2])


@routine
def band_sums(arrays, pair, walks, statistic, job, b, first, last, low, high, buffer):
    """(Σ g, Σ g·x_hat, Σ x_hat) over segments first to last of group b, elements low to high of each, in float64.

    g is dy·weight where each element has its own. Σ x_hat is the rounding of a float64 mean, nothing where x is float32.
    """
    dy, x, _ = arrays
    xs, gs, _, ps = walks
    weight = pair_along(pair, job)[0]
    centre, scale, shift = coefficients(x, statistic, 1.0, 0.0)
    known = (splat(x, centre), splat(x, scale), splat(x, shift))
    zero = splat(x, 0.0)
    sums, totals = (zero, zero, zero), (wide(zero), wide(zero), wide(zero))
    activates, none = job[OPTIONS + ACTIVATION] != NONE, np.int64(0)
    filled = 0
    if high - low <= BLOCK and not is_staged(dy, activates) and not given(weight):
        # As below, where a size that stays the same would not be seen to: 8192 runs of 196 took a quarter longer.
        size = high - low
        for m in range(first, last):
            if filled + size > BLOCK:
                totals, sums, filled = _carried(totals, sums), (zero, zero, zero), 0
            sums = plain_sums(dy, place(gs, b, m) + low, x, place(xs, b, m) + low, size, known, sums)
            filled += size
        first = last
    for m in range(first, last):
        at, beside, affine = place(xs, b, m), place(gs, b, m), place(ps, b, m)
        for i in range(low, high, BLOCK):
            size = min(BLOCK, high - i)
            if filled + size > BLOCK:
                totals, sums, filled = _carried(totals, sums), (zero, zero, zero), 0
            along = affine + i * job[AFFINE + ALONG]
            g = stage(moved(dy, beside + i), buffer, activates)
            if is_staged(dy, activates):
                through_activation(dy, beside + i, x, at + i, size, statistic, pair, along, job, buffer)
            if given(weight):
                sums = weighted_sums(g, none, x, at + i, size, weight, along, known, sums)
            else:
                sums = plain_sums(g, none, x, at + i, size, known, sums)
            filled += size
    totals = _carried(totals, sums)
    return added_up(totals[0]), added_up(totals[1]), added_up(totals[2])


@step
def _drift_of(sums, parts, weight, job):
    """The mean of x_hat, which is not 0 where a float64 mean was rounded; x_hat is then corrected by it."""
    drift = 0.0
    if is_double(weight) and job[OPTIONS + CONSTANT] == 0 and job[OPTIONS + SECOND_MOMENT] == 0:
        for i in range(parts):
            drift += sums[2 * parts + i] / count_of(job)
    return drift


@step
def _weighted_segments(sums, weight, affine, lines, less, job):
    """Σ gw and Σ gw·x_hat of segments with neighbouring pairs of their own, sixteen at a time; they have a part each.

    lines: of dweight and dbias, from the first pair on, which get their gradients. One by one 16384 took 5 ns more each.
    """
    dweight, dbias = lines
    segments, zero = reduced(job), spread(0.0)
    first, first_rest, second, second_rest = zero, zero, zero, zero
    for m in range(0, segments, DOUBLES):
        count = segments - m
        plain = load_part(sums, m, count)
        product = load_part(sums, segments + m, count) - plain * less
        if given(dweight):
            add_part_to(dweight, m, product, count)
            add_part_to(dbias, m, plain, count)
        w = numbers_of(weight, affine + m, count, 1.0)
        first, first_rest = add_exactly(first, first_rest, w * plain)
        second, second_rest = add_exactly(second, second_rest, w * product)
    return added_up(first) + added_up(first_rest), added_up(second) + added_up(second_rest)


@step
def _weighted_parts(sums, parts, weight, pairs, lines, less, job, b):
    """The same of all parts of group b, of which several may belong to a segment."""
    dweight, dbias = lines
    shared = job[AFFINE + ALONG] == 0
    per_segment = parts // reduced(job) if by_segment(job) else parts
    mean, mean_rest, product, product_rest = 0.0, 0.0, 0.0, 0.0
    for segment in range(parts // per_segment):
        first, first_rest, second, second_rest = 0.0, 0.0, 0.0, 0.0
        for i in range(segment * per_segment, (segment + 1) * per_segment):
            first, first_rest = add_exactly(first, first_rest, sums[i])
            second, second_rest = add_exactly(second, second_rest, sums[parts + i])
        first += first_rest
        second = (second + second_rest) - less * first
        affine = place(pairs, b, segment)
        if shared and given(dweight):
            dweight[affine] += second
            dbias[affine] += first
        w = np.float64(weight[affine]) if shared and given(weight) else 1.0
        mean, mean_rest = add_exactly(mean, mean_rest, w * first)
        product, product_rest = add_exactly(product, product_rest, w * second)
    return mean + mean_rest, product + product_rest


@routine
def group_means(sums, parts, pair, walks, statistic, gradients, job, b):
    """(mean of gw, mean of gw·x_hat, mean of x_hat) over group b, from the sums of its parts, a line of each kind.

    Where a run shares one affine pair, this is where its gradient is complete.
    """
    weight, pairs = pair[0], walks[3]
    dweight, dbias, line = gradients
    drift = _drift_of(sums, parts, weight, job)
    less = drift if job[UNCENTRED] == 0 else -beyond(job, statistic[0], statistic[2])
    lines = moved(dweight, slot(job, b) * line), moved(dbias, slot(job, b) * line)
    if not given(dweight):
        lines = dweight, dbias
    if by_segment(job) and are_even(job) and parts == reduced(job) and not is_double(weight):
        affine = place(pairs, b, 0)
        own = (moved(lines[0], affine), moved(lines[1], affine)) if given(dweight) else lines
        first, second = _weighted_segments(sums, weight, affine, own, less, job)
    else:
        first, second = _weighted_parts(sums, parts, weight, pairs, lines, less, job, b)
    if job[OPTIONS + CONSTANT] != 0:
        return 0.0, 0.0, 0.0
    if job[OPTIONS + SECOND_MOMENT] != 0 or job[UNCENTRED] != 0:
        first = 0.0
    return first / count_of(job), second / count_of(job), drift


# -- Gradients -----------------------------------------------------------------------------------------------------


@step
def fill_line(line, statistic, means, job, like):
    """The line of a group from its statistic and means; OF_G is for a weight of 1."""
    rstd = statistic[2]
    mean, product, drift = means
    line[HIGH], line[SCALE], line[SHIFT] = coefficients(like, statistic, 1.0, 0.0)
    line[SHIFT] -= drift
    alone = reduced(job) * job[COUNTS + LENGTH] == 1
    if alone and job[OPTIONS + CONSTANT] == 0 and job[OPTIONS + SECOND_MOMENT] == 0 and job[UNCENTRED] == 0:
        rstd = 0.0  # dx is exactly 0: a single element always normalizes to 0
    line[OF_G], line[OF_X], line[OF_1] = rstd, -rstd * product, -rstd * mean
    line[BEYOND] = beyond(job, statistic[0], statistic[2])


@step
def gradient_vector(run, i, first, last):
    """A vector of dx = OF_G·g·weight + OF_X·x_hat + OF_1, of a run; a weight per element, or null."""
    g, g_at, x, at, weight, affine, (high, scale, shift), (of_g, of_x, of_1) = run
    x_hat = standardize(load_some(x, at + i, first, last), high, scale, shift)
    gradient = load_some(g, g_at + i, first, last)
    if given(weight):
        gradient = gradient * load_some(weight, affine + i, first, last)
    return fma(of_g, gradient, fma(of_x, x_hat, of_1))


@step
def _even_gradients(arrays, walks, weight, affine, line, job, b, piece, known):
    """`group_gradient` for segments that are short and evenly spaced, and share a pair each: terms for sixteen at once.

    `affine` is where the first one's pair lies.
    """
    g, x, dx = arrays
    xs, gs, ys, _ = walks
    first, last, low, high = piece
    at, beside, to = place(xs, b, first) + low, place(gs, b, first) + low, place(ys, b, first) + low
    own, constant, of_g = by_segment(job), (splat(x, line[OF_X]), splat(x, line[OF_1])), stack(x, DOUBLES)
    store(of_g, 0, narrow(x, spread(line[OF_G] * (np.float64(weight[affine]) if given(weight) else 1.0))))
    for m in range(0, last - first, DOUBLES):
        count = min(DOUBLES, last - first - m)
        if own:
            store(of_g, 0, narrow(x, spread(line[OF_G]) * numbers_of(weight, affine + m, count, 1.0)))
        for j in range(count):
            more_x, more_g, more_y = (m + j) * job[X + M1], (m + j) * job[BESIDE + M1], (m + j) * job[Y + M1]
            terms = (splat(x, of_g[j]), constant[0], constant[1])
            run = g, beside + more_g, x, at + more_x, nothing(weight), affine, known, terms
            written(gradient_vector, run, START, high - low, dx, to + more_y)


@step
def _touching_gradients(arrays, walks, weight, affine, line, b, piece, known, sink):
    """The same where they touch, also of dy in 16 bits, and past the cache."""
    dy, x, dx = arrays
    (xs, gs, ys, _), (first, last, _, size) = walks, piece
    of_g, terms = stack(x, RUNS_LINE), (splat(x, line[OF_X]), splat(x, line[OF_1]))
    for m in range(first, last, RUNS):
        count = min(RUNS, last - m)
        own = numbers_of(weight, affine + m - first, count, 1.0)
        store(of_g, 0, narrow(x, spread(line[OF_G]) * own))
        runs = dy, place(gs, b, m), x, place(xs, b, m), of_g, lengths_of(size), known, terms
        poured(touching_segments, runs, START, count * size, dx, place(ys, b, m), sink)


@routine
def group_gradient(arrays, pair, walks, statistic, line, job, b, piece, beside):
    """dx of a piece of group b: segments first to last, elements low to high of each; beside: space for a block, a sink."""
    dy, x, dx = arrays
    first, last, low, high = piece
    buffer, sink = beside
    xs, gs, ys, ps = walks
    weight, own, along_run = pair_along(pair, job)[0], by_segment(job), job[AFFINE + ALONG]
    known = (splat(x, line[HIGH]), splat(x, line[SCALE]), splat(x, line[SHIFT]))
    w = 1.0 if along_run != 0 else shared_pair(pair[0], pair[1], place(ps, b, first))[0]
    terms = (splat(x, line[OF_G] * w), splat(x, line[OF_X]), splat(x, line[OF_1]))
    activates, even = job[OPTIONS + ACTIVATION] != NONE, are_even(job)
    touching = touch(xs[1], high) and touch(gs[1], high) and touch(ys[1], high)
    if own and even and touching and suit(high) and not activates:
        affine = place(ps, b, first)
        _touching_gradients(arrays, walks, pair[0], affine, line, b, piece, known, sink)
        return
    staged = is_staged(dy, activates)
    if high - low <= BLOCK and not staged and not given(sink[0]) and along_run == 0 and even:
        plain = stage(dy, buffer, staged), x, dx
        _even_gradients(plain, walks, pair[0], place(ps, b, first), line, job, b, piece, known)
        return
    for m in range(first, last):
        at, gradient, to, affine = place(xs, b, m), place(gs, b, m), place(ys, b, m), place(ps, b, m)
        if own and m > first:
            w = shared_pair(pair[0], pair[1], affine)[0]
            terms = (splat(x, line[OF_G] * w), terms[1], terms[2])
        for i in range(low, high, BLOCK):
            size, along = min(BLOCK, high - i), affine + i * along_run
            g, j = stage(dy, buffer, staged), 0 if staged else gradient + i
            if staged:
                through_activation(dy, gradient + i, x, at + i, size, statistic, pair, along, job, buffer)
            run = g, j, x, at + i, weight, along, known, terms
            poured(gradient_vector, run, START, size, dx, to + i, sink)

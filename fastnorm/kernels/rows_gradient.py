"""Rows, backward, below the phases: the sums over a group, then dx and the gradients of parameters."""

import numpy as np

from .._jit import routine, step
from .activations import NONE, activate_backward
from .apply import coefficients, pair_along, paired_run, shared_pair, standardize
from .job import (
    ACTIVATION,
    AFFINE,
    ALONG,
    CONSTANT,
    COUNTS,
    LENGTH,
    OPTIONS,
    SECOND_MOMENT,
    STREAMING,
    by_segment,
    place,
    reduced,
    slot,
)
from .loads import add_part_to, add_to, load, load_part, store, store_part
from .memory import given, is_double, moved, stack, stream
from .sums import BLOCK, add_exactly
from .vectors import added_up, fma, head, lanes, splat, wide

# Elements of groups that are finished together, for one trip to the parameters' gradients; and the most of them.
BATCH = 8192
GROUPS = 16

# The line of a group: x_hat = (x - HIGH)·SCALE + SHIFT, dx = OF_G·g·weight + OF_X·x_hat + OF_1.
HIGH, SCALE, SHIFT, OF_G, OF_X, OF_1 = range(6)
LINE = 6
SPACE, TWO_BLOCKS = LINE * GROUPS, 2 * BLOCK


@routine
def through_activation(dy, beside, x, at, size, statistic, pair, affine, job, buffer):
    """buffer = dy·act'(z) of at most a block, z recomputed from x."""
    w, c = (1.0, 0.0) if job[AFFINE + ALONG] != 0 else shared_pair(pair[0], pair[1], affine)
    high, scale, shift = coefficients(buffer, statistic, w, c)
    known = (splat(buffer, high), splat(buffer, scale), splat(buffer, shift))
    paired_run(x, at, buffer, np.int64(0), size, pair_along(pair, job), affine, known[0], known[1], known[2])
    activate_backward(dy, beside, buffer, size, job[OPTIONS + ACTIVATION])


@step
def statistic_of(statistics, b):
    """(mean, tail, rstd) of group b."""
    mean, rstd = statistics
    return mean[b] if given(mean) else 0.0, 0.0, rstd[b]


# -- Sums ----------------------------------------------------------------------------------------------------------


@step
def _plain_sums(g, g_at, x, at, size, known, sums):
    """sums + (Σ g, Σ g·x_hat, Σ x_hat) of a run, lane by lane."""
    first, second, drift = sums
    high, scale, shift = known
    n = lanes(x)
    whole = size - size % n
    for i in range(0, whole, n):
        gradient, x_hat = load(g, g_at + i), standardize(load(x, at + i), high, scale, shift)
        first, second, drift = first + gradient, fma(gradient, x_hat, second), drift + x_hat
    rest = size - whole
    if rest > 0:
        gradient = load_part(g, g_at + whole, rest)
        x_hat = head(standardize(load_part(x, at + whole, rest), high, scale, shift), rest)
        first, second, drift = first + gradient, fma(gradient, x_hat, second), drift + x_hat
    return first, second, drift


@step
def _weighted_sums(g, g_at, x, at, size, weight, affine, known, sums):
    """The same of g·weight, for a weight per element."""
    first, second, drift = sums
    high, scale, shift = known
    n = lanes(x)
    whole = size - size % n
    for i in range(0, whole, n):
        gradient = load(g, g_at + i) * load(weight, affine + i)
        x_hat = standardize(load(x, at + i), high, scale, shift)
        first, second, drift = first + gradient, fma(gradient, x_hat, second), drift + x_hat
    rest = size - whole
    if rest > 0:
        gradient = load_part(g, g_at + whole, rest) * load_part(weight, affine + whole, rest)
        x_hat = head(standardize(load_part(x, at + whole, rest), high, scale, shift), rest)
        first, second, drift = first + gradient, fma(gradient, x_hat, second), drift + x_hat
    return first, second, drift


@step
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
    sums = (zero, zero, zero)
    total1, total2, total3 = wide(zero), wide(zero), wide(zero)
    filled = 0
    for m in range(first, last):
        at, beside, affine = place(xs, b, m), place(gs, b, m), place(ps, b, m)
        for i in range(low, high, BLOCK):
            size = min(BLOCK, high - i)
            if filled + size > BLOCK:
                total1, total2, total3 = (
                    total1 + wide(sums[0]),
                    total2 + wide(sums[1]),
                    total3 + wide(sums[2]),
                )
                sums = (zero, zero, zero)
                filled = 0
            along = affine + i * job[AFFINE + ALONG]
            g, g_at = dy, beside + i
            if job[OPTIONS + ACTIVATION] != NONE:
                through_activation(dy, beside + i, x, at + i, size, statistic, pair, along, job, buffer)
                g, g_at = buffer, np.int64(0)
            if given(weight):
                sums = _weighted_sums(g, g_at, x, at + i, size, weight, along, known, sums)
            else:
                sums = _plain_sums(g, g_at, x, at + i, size, known, sums)
            filled += size
    return (
        added_up(total1 + wide(sums[0])),
        added_up(total2 + wide(sums[1])),
        added_up(total3 + wide(sums[2])),
    )


@routine
def group_means(sums, parts, pair, walks, gradients, job, b):
    """(mean of gw, mean of gw·x_hat, mean of x_hat) over group b, from the sums of its parts, three numbers each.

    Where a run shares one affine pair, this is where its gradient is complete. The mean of x_hat is not 0 where a float64
    mean was rounded; x_hat is then corrected by it.
    """
    weight = pair[0]
    dweight, dbias, line = gradients
    shared = job[AFFINE + ALONG] == 0
    count = np.float64(reduced(job) * job[COUNTS + LENGTH])
    per_segment = parts // reduced(job) if by_segment(job) else parts
    drift = 0.0
    if is_double(weight) and job[OPTIONS + CONSTANT] == 0 and job[OPTIONS + SECOND_MOMENT] == 0:
        for i in range(parts):
            drift += sums[3 * i + 2] / count
    dweight, dbias = moved(dweight, slot(job, b) * line), moved(dbias, slot(job, b) * line)
    mean, mean_rest, product, product_rest = 0.0, 0.0, 0.0, 0.0
    for low in range(0, parts, per_segment):
        first, first_rest, second, second_rest = 0.0, 0.0, 0.0, 0.0
        for i in range(low, low + per_segment):
            first, first_rest = add_exactly(first, first_rest, sums[3 * i])
            second, second_rest = add_exactly(second, second_rest, sums[3 * i + 1])
        first += first_rest
        second = (second + second_rest) - drift * first
        affine = place(walks[3], b, low // per_segment)
        if shared and given(gradients[0]):
            dweight[affine] += second
            dbias[affine] += first
        w = np.float64(weight[affine]) if shared and given(weight) else 1.0
        mean, mean_rest = add_exactly(mean, mean_rest, w * first)
        product, product_rest = add_exactly(product, product_rest, w * second)
    if job[OPTIONS + CONSTANT] != 0:
        return 0.0, 0.0, 0.0
    if job[OPTIONS + SECOND_MOMENT] != 0:
        mean, mean_rest = 0.0, 0.0
    return (mean + mean_rest) / count, (product + product_rest) / count, drift


# -- Gradients -----------------------------------------------------------------------------------------------------


@step
def fill_line(line, statistic, means, job, like):
    """The line of a group from its statistic and means; OF_G is for a weight of 1."""
    rstd = statistic[2]
    mean, product, drift = means
    line[HIGH], line[SCALE], line[SHIFT] = coefficients(like, statistic, 1.0, 0.0)
    line[SHIFT] -= drift
    alone = reduced(job) * job[COUNTS + LENGTH] == 1
    if alone and job[OPTIONS + CONSTANT] == 0 and job[OPTIONS + SECOND_MOMENT] == 0:
        rstd = 0.0  # dx is exactly 0: a single element always normalizes to 0
    line[OF_G], line[OF_X], line[OF_1] = rstd, -rstd * product, -rstd * mean


@step
def _gradient_run(g, g_at, x, at, dx, to, size, weight, affine, known, terms):
    """dx = OF_G·g·weight + OF_X·x_hat + OF_1, for a weight per element, or of size 0."""
    high, scale, shift = known
    of_g, of_x, of_1 = terms
    n = lanes(dx)
    whole = size - size % n
    if given(weight):
        for i in range(0, whole, n):
            x_hat = standardize(load(x, at + i), high, scale, shift)
            gradient = load(g, g_at + i) * load(weight, affine + i)
            store(dx, to + i, fma(of_g, gradient, fma(of_x, x_hat, of_1)))
    else:
        for i in range(0, whole, n):
            x_hat = standardize(load(x, at + i), high, scale, shift)
            store(dx, to + i, fma(of_g, load(g, g_at + i), fma(of_x, x_hat, of_1)))
    rest = size - whole
    if rest > 0:
        x_hat = standardize(load_part(x, at + whole, rest), high, scale, shift)
        gradient = load_part(g, g_at + whole, rest)
        if given(weight):
            gradient = gradient * load_part(weight, affine + whole, rest)
        store_part(dx, to + whole, fma(of_g, gradient, fma(of_x, x_hat, of_1)), rest)


@step
def segment_gradient(arrays, pair, walks, statistic, line, job, b, m, low, high, buffer):
    """dx of a piece of a run; buffer is space for two blocks."""
    dy, x, dx = arrays
    z, target = buffer, moved(buffer, BLOCK)
    xs, gs, ys, ps = walks
    at, beside, to, affine = place(xs, b, m), place(gs, b, m), place(ys, b, m), place(ps, b, m)
    weight = pair_along(pair, job)[0]
    w = 1.0 if job[AFFINE + ALONG] != 0 else shared_pair(pair[0], pair[1], affine)[0]
    known = (splat(dx, line[HIGH]), splat(dx, line[SCALE]), splat(dx, line[SHIFT]))
    terms = (splat(dx, line[OF_G] * w), splat(dx, line[OF_X]), splat(dx, line[OF_1]))
    for i in range(low, high, BLOCK):
        size = min(BLOCK, high - i)
        along = affine + i * job[AFFINE + ALONG]
        g, g_at = dy, beside + i
        if job[OPTIONS + ACTIVATION] != NONE:
            through_activation(dy, beside + i, x, at + i, size, statistic, pair, along, job, z)
            g, g_at = z, 0
        if job[OPTIONS + STREAMING] != 0:
            _gradient_run(g, g_at, x, at + i, target, np.int64(0), size, weight, along, known, terms)
            stream(target, dx, to + i, size)
        else:
            _gradient_run(g, g_at, x, at + i, dx, to + i, size, weight, along, known, terms)


@step
def _gather_vector(g, g_at, x, x_at, lines, groups, i, count):
    """(Σ g·x_hat, Σ g) over some groups, of the `count` elements from the i-th on."""
    n = lanes(x)
    second = splat(x, 0.0)
    first = second
    for j in range(groups):
        line = moved(lines, j * LINE)
        known = (splat(x, line[HIGH]), splat(x, line[SCALE]), splat(x, line[SHIFT]))
        if count == n:
            gradient, value = load(g, g_at[j] + i), load(x, x_at[j] + i)
        else:
            gradient, value = load_part(g, g_at[j] + i, count), load_part(x, x_at[j] + i, count)
        first = first + gradient
        second = fma(gradient, standardize(value, known[0], known[1], known[2]), second)
    return second, first


@step
def _gather(g, g_at, x, x_at, lines, groups, size, dweight, dbias, to):
    """dweight += Σ g·x_hat, dbias += Σ g over some groups, whose runs begin at g_at[j] and x_at[j], element by element."""
    n = lanes(x)
    whole = size - size % n
    for i in range(0, whole, n):
        second, first = _gather_vector(g, g_at, x, x_at, lines, groups, i, n)
        add_to(dweight, to + i, wide(second))
        add_to(dbias, to + i, wide(first))
    rest = size - whole
    if rest > 0:
        second, first = _gather_vector(g, g_at, x, x_at, lines, groups, whole, rest)
        add_part_to(dweight, to + whole, wide(second), rest)
        add_part_to(dbias, to + whole, wide(first), rest)


@routine
def gather_segment(arrays, pair, walks, statistics, lines, gradients, job, first, groups, m, low, high):
    """The gradients of each element's own pair, from segment m of `groups` groups, elements low to high."""
    dy, x, _ = arrays
    xs, gs, _, ps = walks
    dweight, dbias, _ = gradients
    affine = place(ps, first, m)
    g_at, x_at, buffer = stack(job, GROUPS), stack(job, GROUPS), stack(x, BLOCK)
    if job[OPTIONS + ACTIVATION] == NONE:
        for j in range(groups):
            g_at[j], x_at[j] = place(gs, first + j, m) + low, place(xs, first + j, m) + low
        _gather(dy, g_at, x, x_at, lines, groups, high - low, dweight, dbias, affine + low)
        return
    for j in range(groups):
        b = first + j
        for i in range(low, high, BLOCK):
            size = min(BLOCK, high - i)
            at, beside = place(xs, b, m) + i, place(gs, b, m) + i
            through_activation(
                dy, beside, x, at, size, statistic_of(statistics, b), pair, affine + i, job, buffer
            )
            g_at[0], x_at[0] = 0, at
            line = moved(lines, j * LINE)
            _gather(buffer, g_at, x, x_at, line, np.int64(1), size, dweight, dbias, affine + i)

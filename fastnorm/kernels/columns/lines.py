"""Columns, backward: what dx is made of, a number for each column of a slab, from its statistics and then from its sums."""

import numpy as np

from ..._jit import routine, step
from ..apply import pair_along
from ..coefficients import fill_coefficients
from ..job import (
    AFFINE,
    ALONG,
    CONSTANT,
    COUNTS,
    FOLD,
    LENGTH,
    OPTIONS,
    SECOND_MOMENT,
    UNCENTRED,
    by_segment,
    kept,
    reduced,
    slot,
    start,
    sums_squares,
)
from ..language.loads import add_part_to, clear, load, load_part, load_wide, load_wide_part, store
from ..language.memory import given, is_double, moved, nothing
from ..language.vectors import lanes, narrow, spread
from ..sums import add_exactly
from .gradient import OF_1, OF_G, OF_X, SHIFT, Z_HIGH

# Lines of scratch: what x_hat is too large by; and the sums of gw and of gw·x_hat, of a column and then of all in its fold.
_BEYOND, _MEAN, _PRODUCT = range(3)


@routine
def start_lines(like, pair, statistics, job, b, low, width, lines, line, state):
    """The lines that x_hat and z are made of, from the slab's mean and rstd; state: two lines of scratch."""
    mean, rstd = statistics
    at = b * job[COUNTS + LENGTH] + low
    clear(state, 3 * line)
    for k in range(width):
        state[2 * line + k] = rstd[at + k]
    if given(mean):
        for k in range(width):
            state[k] = mean[at + k]
    affine = start(job, AFFINE, b, 0) + low * job[AFFINE + ALONG]
    none = (nothing(pair[0]), nothing(pair[1]))
    scales = moved(state, 2 * line)
    fill_coefficients(like, state, scales, width, none, affine, lines, line)
    if job[UNCENTRED] != 0:
        clear(state, line)
    fill_coefficients(
        like, state, scales, width, pair_along(pair, job), affine, moved(lines, Z_HIGH * line), line
    )


@step
def _is_centred(job):
    """Whether dx has terms of the mean."""
    return job[OPTIONS + SECOND_MOMENT] == 0 and job[UNCENTRED] == 0


@step
def _weights(weight, own, along, affine, k, count):
    """The weights of some columns: each its own, or one for all, or 1."""
    if own and along != 0:
        return load_wide_part(weight, affine + k, count)
    return spread(np.float64(weight[affine]) if own else 1.0)


@step
def _fill_beyond(statistics, sums, job, at, width, lines, line, state):
    """How far x_hat, as it was summed, lies above what the gradient of a weight is made of.

    By its own mean, where a float64 mean was rounded: from now on x_hat is without it. And where a norm only divides, x·rstd
    takes the place of x_hat.
    """
    n, count = lanes(state), np.float64(reduced(job) * job[COUNTS + FOLD])
    clear(state, line)
    if is_double(lines) and job[OPTIONS + CONSTANT] == 0 and job[OPTIONS + SECOND_MOMENT] == 0:
        for k in range(0, width, n):
            store(state, k, load(sums, 2 * line + k) / count)
        _add_folds(state, width, job[COUNTS + FOLD])
        for k in range(0, width, n):
            store(lines, SHIFT * line + k, narrow(lines, load_wide(lines, SHIFT * line + k) - load(state, k)))
    if job[UNCENTRED] != 0:
        for k in range(0, width, n):
            size = min(n, width - k)
            mean, rstd = load_part(statistics[0], at + k, size), load_part(statistics[1], at + k, size)
            store(state, k, mean * rstd * -1.0)


@step
def _add_folds(values, width, fold):
    """Every column gets the sum of all columns that share its statistic."""
    for k in range(0, width if fold > 1 else 0, fold):
        total = 0.0
        for j in range(k, k + fold):
            total += values[j]
        for j in range(k, k + fold):
            values[j] = total


@routine
def _add_one_pair(sums, state, width, line, dweight, dbias, to):
    """The gradients of the one pair that all columns of a slab share."""
    total1, rest1, total2, rest2 = 0.0, 0.0, 0.0, 0.0
    for k in range(width):
        total1, rest1 = add_exactly(total1, rest1, sums[k])
        total2, rest2 = add_exactly(total2, rest2, sums[line + k] - state[_BEYOND * line + k] * sums[k])
    dweight[to] += total2 + (rest2 if rest2 == rest2 else 0.0)
    dbias[to] += total1 + (rest1 if rest1 == rest1 else 0.0)


@routine
def finish_lines(pair, statistics, sums, job, b, low, width, lines, line, gradients, state):
    """The lines of dx from a slab's sums over all rows, and the gradients of the columns' pairs, or of the slab's one.

    state: three lines of scratch.
    """
    weight, (dweight, dbias, parameters) = pair[0], gradients
    along, by_row, n = job[AFFINE + ALONG], by_segment(job), lanes(state)
    constant, at = job[OPTIONS + CONSTANT] != 0, b * job[COUNTS + LENGTH] + low
    count = 1.0 if sums_squares(job) else np.float64(reduced(job) * job[COUNTS + FOLD])
    # A single element always normalizes to 0, and its dx is exactly 0.
    alone = count == 1 and not constant and _is_centred(job)
    affine = start(job, AFFINE, b, 0) + low * along
    to = slot(job, b) * parameters + affine if along != 0 else affine
    own = given(weight) and not by_row
    _fill_beyond(statistics, sums, job, at, width, lines, line, state)
    for k in range(0, width, n):
        size = min(n, width - k)
        first = load(sums, k)
        second = load(sums, line + k) - load(state, _BEYOND * line + k) * first
        w = _weights(weight, own, along, affine, k, size)
        store(state, _MEAN * line + k, w * first)
        store(state, _PRODUCT * line + k, w * second)
        if along != 0 and given(dweight):
            add_part_to(dweight, to + k, second, size)
            add_part_to(dbias, to + k, first, size)
    if along == 0 and not by_row and given(dweight):
        _add_one_pair(sums, state, width, line, dweight, dbias, to)
    if constant or not _is_centred(job):
        clear(moved(state, _MEAN * line), line)
    if constant:
        clear(moved(state, _PRODUCT * line), line)
    for i in (_MEAN, _PRODUCT):
        _add_folds(moved(state, i * line), width, job[COUNTS + FOLD])
    for k in range(0, width, n):
        size = min(n, width - k)
        w = _weights(weight, own, along, affine, k, size)
        rstd = spread(0.0) if alone else load_part(statistics[1], at + k, size)
        product, mean = load(state, _PRODUCT * line + k), load(state, _MEAN * line + k)
        store(lines, OF_G * line + k, narrow(lines, rstd * w))
        store(lines, OF_X * line + k, narrow(lines, rstd * product / count * -1.0))
        store(lines, OF_1 * line + k, narrow(lines, rstd * mean / count * -1.0))


@step
def fill_terms(pair, terms, job, b, low, width, lines, line):
    """The lines of dx from given terms, a line of all columns each; the columns have a weight each, or none."""
    columns, at = kept(job) * job[COUNTS + LENGTH], b * job[COUNTS + LENGTH] + low
    affine, own = start(job, AFFINE, b, 0) + low, given(pair[0])
    for k in range(width):
        w = np.float64(pair[0][affine + k]) if own else 1.0
        lines[OF_G * line + k] = terms[at + k] * w
        lines[OF_X * line + k] = terms[columns + at + k]
        lines[OF_1 * line + k] = terms[2 * columns + at + k]

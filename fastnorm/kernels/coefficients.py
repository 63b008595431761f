"""What a result is made of, for several columns or runs at once: high, scale and shift of each, in a line of all."""

import numpy as np

from .._jit import step, strict
from .language.loads import load, load_wide_part, store
from .language.memory import given, moved, padded
from .language.vectors import DOUBLES, lanes, narrow, spread, wide
from .sums import inverse_root


@step
def numbers_of(parameter, at, count, missing):
    """A number for each of some columns or runs, in float64: its own, or the same everywhere where there are none."""
    if given(parameter):
        return load_wide_part(parameter, at, count)
    return spread(missing)


@strict
def store_coefficients(like, mean, tail, rstd, pair, affine, count, lines, line):
    """High, scale and shift of a vector of them, from float64 ones; pair: their weights and biases, or null."""
    w, c = numbers_of(pair[0], affine, count, 1.0), numbers_of(pair[1], affine, count, 0.0)
    high = narrow(like, mean)
    low = (mean - wide(high)) + tail
    scale = rstd * w
    store(lines, 0, high)
    store(lines, line, narrow(like, scale))
    store(lines, 2 * line, narrow(like, c - low * scale))


@step
def fill_coefficients(like, state, rstd, width, pair, affine, lines, line):
    """High, scale and shift of every column into `lines`, with the affine pair where it goes along the run.

    state: mean and tail of every column, `line` apart. pair: null where the columns have none of their own.
    """
    for k in range(0, padded(like, width), lanes(state)):
        mean, tail, found = load(state, k), load(state, line + k), load(rstd, k)
        store_coefficients(like, mean, tail, found, pair, affine + k, width - k, moved(lines, k), line)


@step
def _given_columns(memory, at, k, count, own):
    """A statistic of the columns from the k-th on, each with its `own`, or one for all."""
    if own:
        return load_wide_part(memory, at + k, count)
    return spread(np.float64(memory[at]))


@step
def fill_given(like, statistics, own, eps, pair, at, width, lines, line):
    """The same from a given mean and variance: each column's `own` from `at` on, or the one that lies there for all.

    The mean's tail lies so many numbers behind it as the third of `statistics` says, or is 0.
    """
    mean, variance, tails = statistics
    for k in range(0, padded(like, width), DOUBLES):
        count = width - k
        centre = _given_columns(mean, at, k, count, own)
        tail = _given_columns(mean, tails + at, k, count, own) if tails > 0 else spread(0.0)
        rstd = inverse_root(_given_columns(variance, at, k, count, own) + eps)
        store_coefficients(like, centre, tail, rstd, pair, at + k, count, moved(lines, k), line)

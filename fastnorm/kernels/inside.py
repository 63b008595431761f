"""A row or a matrix at a time, for a user's own compiled code: no checks, no threads, the bits of the public functions."""

import numpy as np

from .._jit import inside, step
from .apply import coefficients, paired_run
from .columns.forward import apply_state, rstd_of
from .columns.slabs import LINES, chunks_of, slab_moments, slab_of, slabs_of, width_of
from .job import (
    AFFINE,
    ALONG,
    BESIDE,
    COUNTS,
    FOLD,
    LENGTH,
    M1,
    OPTIONS,
    SECOND_MOMENT,
    X,
    Y,
    reduced,
    walk,
)
from .language.memory import keep, moved, numbers_like, padded, pointer
from .language.vectors import splat
from .rows.groups import chunking, group_sums
from .sums import statistic_of_sums


@step
def _job(rows, length):
    """The job of a run, or of some that lie one behind the other, each element with its own affine pair."""
    job = np.zeros(BESIDE, np.int64)
    job[COUNTS : COUNTS + FOLD + 1] = 1
    job[COUNTS + LENGTH], job[COUNTS + M1] = length, rows
    job[X + ALONG], job[Y + ALONG], job[AFFINE + ALONG] = 1, 1, 1
    job[X + M1], job[Y + M1] = length, length
    return job


@step
def _statistic(x, second_moment, eps):
    """(mean, tail, rstd, variance) of an array."""
    space = _job(1, x.size)
    job = pointer(space)
    job[OPTIONS + SECOND_MOMENT] = second_moment
    chunks = chunking(job, X)
    partial = np.empty(4 * chunks[3])
    sums = group_sums(pointer(x), walk(job, X), job, chunks, 0, pointer(partial))
    keep(partial)
    keep(space)
    return statistic_of_sums(sums, x.size, eps, False)


@step
def _norm_row(x, weight, bias, eps, y, second_moment):
    mean, tail, rstd, _ = _statistic(x, second_moment, eps)
    to, none = pointer(y), np.int64(0)
    high, scale, shift = coefficients(to, (mean, tail, rstd), 1.0, 0.0)
    pair = pointer(weight), pointer(bias)
    known = splat(to, high), splat(to, scale), splat(to, shift)
    paired_run(pointer(x), none, to, none, x.size, pair, none, known)


@inside
def moments(x):
    """The mean and the biased variance of x, in float64.

    x: a contiguous array of float32 or float64, not empty.
    """
    mean, tail, _, variance = _statistic(x, 0, 0.0)
    return mean + tail, variance


@inside
def layer_norm_row(x, weight, bias, eps, y):
    """y = layer norm of x, to the bit of `fastnorm.layer_norm`; y may be x.

    x, y: contiguous arrays of one size and dtype, float32 or float64, not empty. weight, bias: likewise, or of size 0; no
    bias without a weight.
    """
    _norm_row(x, weight, bias, eps, y, 0)


@inside
def rms_norm_row(x, weight, bias, eps, y):
    """y = RMS norm of x; the arrays as in `layer_norm_row`."""
    _norm_row(x, weight, bias, eps, y, 1)


@step
def _norm_columns(x, weight, bias, eps, y, mean, variance, applies):
    """Mean and variance of each column; and y, where it is asked for."""
    space = _job(x.shape[0], x.shape[1])
    job, source, to = pointer(space), pointer(x), pointer(y)
    line = padded(source, width_of(job))
    doubles, scratch = np.empty((LINES * chunks_of(job) + 1) * line), np.zeros(4 * line)
    state, lines = pointer(doubles), numbers_like(pointer(scratch), source)
    for i in range(slabs_of(job)):
        b, low, width = slab_of(job, i)
        slab_moments(source, walk(job, X), job, X, b, low, width, lines, state, line)
        if applies:
            rstd = moved(state, LINES * chunks_of(job) * line)
            rstd_of(state, job, eps, line, rstd)
            pair, span = (pointer(weight), pointer(bias)), (b, np.int64(0), reduced(job))
            apply_state(source, X, to, pair, job, span, low, width, state, rstd, lines, line)
        else:
            for k in range(width):
                mean[low + k], variance[low + k] = state[k] + state[line + k], state[2 * line + k]
    keep(doubles)
    keep(scratch)
    keep(space)


@inside
def moments_of_columns(x, mean, variance):
    """The mean and the biased variance of each column of a matrix.

    x: (rows, columns), C-contiguous, of float32 or float64, not empty. mean, variance: (columns,) float64, to be written.
    """
    none = x[:0, 0]
    _norm_columns(x, none, none, 0.0, x, mean, variance, False)


@inside
def norm_columns(x, weight, bias, eps, y):
    """y = each column of a matrix normalized, as `fastnorm.batch_norm` does in training with layout "NC", to the bit.

    x, y: (rows, columns), C-contiguous, of one dtype, float32 or float64, not empty; y may be x. weight, bias: (columns,) of
    the same dtype, or of size 0; no bias without a weight.
    """
    none = np.empty(0)
    _norm_columns(x, weight, bias, eps, y, none, none, True)

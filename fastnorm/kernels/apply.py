"""What is done to a run once its statistics are known: standardize, weight and bias, activation, store."""

import numpy as np

from .._jit import routine, step, strict
from .activations import NONE, activate
from .job import ACTIVATION, AFFINE, ALONG, OPTIONS, PARAMETERS, STREAMING
from .loads import load, load_part, put, store, store_part
from .memory import cast, given, is_staged, nothing, numbers_like, stage
from .past import pour, poured
from .phases import run_one
from .sums import BLOCK
from .vectors import fma, in_vectors, lanes, splat


@strict
def split(like, mean, tail):
    """(high, low): high in the dtype of `like`, high + low = mean + tail to twice that dtype's precision."""
    high = np.float64(cast(like, mean))
    return high, (mean - high) + tail


@strict
def coefficients(like, statistic, weight, bias):
    """(high, scale, shift) of y = (x - high)·scale + shift, for a statistic (mean, tail, rstd) and one affine pair."""
    mean, tail, rstd = statistic
    high, low = split(like, mean, tail)
    scale = rstd * weight
    return cast(like, high), cast(like, scale), cast(like, bias - low * scale)


@step
def pair_of(arrays, at):
    """Weight and bias, from the at-th entry of a table of memory like x on; they are stored as they are computed on."""
    return numbers_like(arrays[at], arrays[0]), numbers_like(arrays[at + 1], arrays[0])


@step
def pair_along(pair, job):
    """The affine pair where it goes along the run, an element for an element; null where a run shares one."""
    weight, bias = pair
    if job[AFFINE + ALONG] == 0:
        return nothing(weight), nothing(bias)
    return pair


@step
def shared_pair(weight, bias, affine):
    """The weight and bias that a run shares, 1 and 0 where there are none."""
    w = np.float64(weight[affine]) if given(weight) else 1.0
    return w, np.float64(bias[affine]) if given(bias) else 0.0


@step
def standardize(x, high, scale, shift):
    """x_hat, or a number in its place, of a vector."""
    return fma(x - high, scale, shift)


@step
def plain_run(x, at, y, to, size, high, scale, shift, past):
    """y = (x - high)·scale + shift."""
    n = lanes(y)
    whole = in_vectors(size, n)
    rest = size - whole
    if rest > 0 and whole > 0 and not past:
        # The last vector overlaps the one before, and is read first, for y may be x; masked, 8192 segments of 196 took a
        # tenth longer.
        end = size - n
        last = load(x, at + end)
        for i in range(0, whole, n):
            store(y, to + i, standardize(load(x, at + i), high, scale, shift))
        store(y, to + end, standardize(last, high, scale, shift))
        return
    for i in range(0, whole, n):
        put(y, to + i, standardize(load(x, at + i), high, scale, shift), past)
    if rest > 0:
        store_part(y, to + whole, standardize(load_part(x, at + whole, rest), high, scale, shift), rest)


@step
def weight_run(x, at, y, to, size, weight, affine, high, scale, shift, past):
    """y = ((x - high)·scale + shift)·weight."""
    n = lanes(y)
    whole = in_vectors(size, n)
    for i in range(0, whole, n):
        put(y, to + i, standardize(load(x, at + i), high, scale, shift) * load(weight, affine + i), past)
    rest = size - whole
    if rest > 0:
        x_hat = standardize(load_part(x, at + whole, rest), high, scale, shift)
        store_part(y, to + whole, x_hat * load_part(weight, affine + whole, rest), rest)


@step
def affine_run(x, at, y, to, size, weight, bias, affine, high, scale, shift, past):
    """y = ((x - high)·scale + shift)·weight + bias."""
    n = lanes(y)
    whole = in_vectors(size, n)
    for i in range(0, whole, n):
        x_hat = standardize(load(x, at + i), high, scale, shift)
        put(y, to + i, fma(x_hat, load(weight, affine + i), load(bias, affine + i)), past)
    rest = size - whole
    if rest > 0:
        i = affine + whole
        x_hat = standardize(load_part(x, at + whole, rest), high, scale, shift)
        store_part(y, to + whole, fma(x_hat, load_part(weight, i, rest), load_part(bias, i, rest)), rest)


@step
def paired_run(x, at, y, to, size, pair, affine, known, past):
    """One of the three; a pair is given where each element has its own, and null where not; known: high, scale, shift."""
    weight, bias = pair
    high, scale, shift = known
    if not given(weight):
        plain_run(x, at, y, to, size, high, scale, shift, past)
    elif not given(bias):
        weight_run(x, at, y, to, size, weight, affine, high, scale, shift, past)
    else:
        affine_run(x, at, y, to, size, weight, bias, affine, high, scale, shift, past)


@step
def write_run(run, first, count, y, to, past):
    """A part of a run for `poured`."""
    x, at, pair, affine, known = run
    paired_run(x, at + first, y, to, count, pair, affine + first, known, past)


@routine
def _staged_run(x, at, y, to, size, pair, affine, known, code, beside):
    """A run of at most a block by way of a buffer: with an activation."""
    buffer, sink = beside
    known = splat(buffer, known[0]), splat(buffer, known[1]), splat(buffer, known[2])
    paired_run(x, at, buffer, np.int64(0), size, pair, affine, known, False)
    activate(buffer, np.int64(0), size, code)
    pour(buffer, y, to, size, sink)


@step
def apply_run(x, at, y, to, size, pair, affine, known, job, beside):
    """A run of y, with its activation; known is (high, scale, shift), beside a buffer and a sink."""
    code, sink = job[OPTIONS + ACTIVATION], beside[1]
    staged = code != NONE and is_staged(y, given(sink[0]))
    vectors = splat(y, known[0]), splat(y, known[1]), splat(y, known[2])
    for i in range(0, size, BLOCK):
        count = min(BLOCK, size - i)
        if staged:
            _staged_run(x, at + i, y, to + i, count, pair, affine + i, known, code, beside)
            continue
        poured(write_run, (x, at + i, pair, affine + i, vectors), y, to + i, count, sink)
        if code != NONE:
            activate(stage(y, beside[0], staged), to + i, count, code)


@step
def is_plain(y, size, job):
    """Whether a run is short, and stored as it is computed."""
    past = job[OPTIONS + ACTIVATION] != NONE or job[OPTIONS + STREAMING] != 0
    return size <= BLOCK and not is_staged(y, past)


@step
def run_given(phase, tasks, arrays, numbers, job, eps, threads):
    """The phase of an inference call that applies, with its tasks: y from x and statistics that the caller has given.

    Those with tails are of this x, which has just been read: it is read again from its end.
    """
    run_one(phase, tasks, arrays, numbers, job, eps, threads, job[OPTIONS + PARAMETERS] > 0)

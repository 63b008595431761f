"""What is done to a run once its statistics are known: standardize, weight and bias, activation, store."""

import numpy as np

from .._jit import routine, step, strict
from .activations import NONE, activate
from .job import ACTIVATION, AFFINE, ALONG, OPTIONS, PARAMETERS, STREAMING
from .language.loads import load, load_part, load_some, store, store_part
from .language.memory import cast, given, is_staged, moved, nothing, numbers_like, stage
from .language.past import START, pour, poured, waiting, written
from .language.vectors import BYTES, fma, in_vectors, lanes, splat
from .phases import run_one
from .sums import BLOCK

# Space for what passes through a buffer: a block, behind what waits before it.
STAGED = BLOCK + BYTES // 4


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
def plain_run(x, at, y, to, size, high, scale, shift):
    """y = (x - high)·scale + shift."""
    n = lanes(y)
    whole = in_vectors(size, n)
    if whole < size and whole > 0:
        # The last vector overlaps the one before, and is read first, for y may be x; masked, 8192 segments of 196 took a
        # tenth longer.
        end = size - n
        last = load(x, at + end)
        for i in range(0, whole, n):
            store(y, to + i, standardize(load(x, at + i), high, scale, shift))
        store(y, to + end, standardize(last, high, scale, shift))
        return
    for i in range(0, whole, n):
        store(y, to + i, standardize(load(x, at + i), high, scale, shift))
    if whole < size:
        store_part(y, to, standardize(load_part(x, at, size), high, scale, shift), size)


@step
def run_vector(run, i, first, last):
    """A vector of y = ((x - high)·scale + shift)·weight + bias, for `written` and `poured`.

    run: x and where it begins, the pair and where it does, null where no element has its own; high, scale and shift.
    """
    x, at, (weight, bias), affine, (high, scale, shift) = run
    value = standardize(load_some(x, at + i, first, last), high, scale, shift)
    if not given(weight):
        return value
    w = load_some(weight, affine + i, first, last)
    return fma(value, w, load_some(bias, affine + i, first, last)) if given(bias) else value * w


@step
def paired_run(x, at, y, to, size, pair, affine, known):
    """Such a run of y; known: high, scale, shift."""
    if given(pair[0]):
        written(run_vector, (x, at, pair, affine, known), START, size, y, to)
    else:
        plain_run(x, at, y, to, size, known[0], known[1], known[2])


@routine
def _staged_run(vector, run, first, last, y, to, code, beside):
    """A part of a run, at most a block, by way of a buffer: with an activation.

    It lies in the buffer as in the vectors of y. Otherwise each would be read there from two that have just been stored,
    for which a core waits.
    """
    buffer, sink = beside
    before, begun, size = waiting(y, to, sink) if given(sink[0]) else 0, first, last - first
    if before > 0:
        filled = min(lanes(y), before + size)
        store(buffer, 0, vector(run, begun - before, before, filled))
        first = begun + filled - before
    written(vector, run, first, last, buffer, before + first - begun)
    activate(buffer, np.int64(0), before + size, code)
    pour(moved(buffer, before), y, to, size, sink)


@step
def apply_vectors(vector, run, y, to, size, code, beside):
    """A run of y as `vector` makes it, with an activation; beside: a buffer and a sink."""
    sink = beside[1]
    staged = code != NONE and is_staged(y, given(sink[0]))
    for i in range(0, size, BLOCK):
        last = min(i + BLOCK, size)
        if staged:
            _staged_run(vector, run, i, last, y, to + i, code, beside)
            continue
        poured(vector, run, i, last, y, to + i, sink)
        if code != NONE:
            activate(stage(y, beside[0], staged), to + i, last - i, code)


@step
def apply_run(x, at, y, to, size, pair, affine, known, job, beside):
    """A run of y, with its activation; known is (high, scale, shift), beside a buffer and a sink."""
    vectors = splat(y, known[0]), splat(y, known[1]), splat(y, known[2])
    run, code = (x, at, pair, affine, vectors), job[OPTIONS + ACTIVATION]
    apply_vectors(run_vector, run, y, to, size, code, beside)


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

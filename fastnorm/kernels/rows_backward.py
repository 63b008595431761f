"""Rows, backward: the sums over each group, then dx and the parameters' gradients."""

import numpy as np
from numba import prange

from .._jit import kernel, step
from .activations import NONE, activate_backward
from .blocks import (
    BLOCK,
    cast,
    gather_parameters,
    gradient_plain,
    gradient_sums,
    gradient_weight,
    weighted_gradient_sums,
)
from .floats import borrow, stream
from .job import (
    ACTIVATION,
    AFFINE,
    ALONG,
    BESIDE,
    CONSTANT,
    COUNTS,
    LENGTH,
    OPTIONS,
    SECOND_MOMENT,
    STREAMING,
    X,
    Y,
    kept,
    reduced,
    slot,
    start,
)
from .rows import CHUNK, apply_block, apply_pieces, apply_tasks, coefficients, groups_per_task

# Fewer groups than this are not left to a core each.
_FEW = 8

# The phases of a backward call: the first alone, or the others in turn.
ALL_AT_ONCE, SUMS, MERGE, APPLY = range(4)


@step
def through_activation(dy, x, weight, bias, coefficient, code, buffer):
    """g = dy·act'(z), with z recomputed from x: dy itself where there is no activation."""
    if code == NONE:
        return dy
    z = buffer[: x.size]
    apply_block(x, z, weight, bias, coefficient[0], coefficient[1], coefficient[2])
    activate_backward(dy, z, code)
    return z


@step
def element_pair(pair, affine, along, low, high):
    """Weight and bias of each element of a run, of size 0 where the whole run shares one pair."""
    weight, bias = pair
    if along == 0:
        return weight[:0], bias[:0]
    return weight[affine + low : affine + high], bias[affine + low : affine + high]


@step
def segment_sums(arrays, pair, statistic, job, b, m, low, high, buffer, sums):
    """Σ g, Σ g·x_hat (both of g·weight where each element has its own) and Σ x_hat of a piece of a run, into sums (3,)."""
    dy, x, _ = arrays
    along = job[AFFINE, ALONG]
    affine, at, beside = start(job, AFFINE, b, m), start(job, X, b, m), start(job, BESIDE, b, m)
    none = pair[0][:0]
    centre, scale, shift = coefficients(statistic, none, none, affine, along)
    activated = coefficients(statistic, pair[0], pair[1], affine, along)
    sums[0], sums[1], sums[2] = 0.0, 0.0, 0.0
    for i in range(low, high, BLOCK):
        last = min(i + BLOCK, high)
        block = x[at + i : at + last]
        weight, bias = element_pair(pair, affine, along, i, last)
        code = job[OPTIONS, ACTIVATION]
        g = through_activation(dy[beside + i : beside + last], block, weight, bias, activated, code, buffer)
        if weight.size > 0:
            first, second, drift = weighted_gradient_sums(g, block, weight, centre, scale, shift)
        else:
            first, second, drift = gradient_sums(g, block, centre, scale, shift)
        sums[0] += first
        sums[1] += second
        sums[2] += drift


@step
def group_means(sums, pair, gradients, job, b):
    """(mean of gw, mean of gw·x_hat, mean of x_hat) over group b, from the sums of its pieces, (M·pieces, 3).

    Where a run shares one affine pair, this is where its gradient is complete. The mean of x_hat is not 0 where a float64
    mean was rounded; x_hat is then corrected by it.
    """
    weight = pair[0]
    dweight, dbias = gradients
    shared = job[AFFINE, ALONG] == 0
    count = np.float64(reduced(job) * job[COUNTS, LENGTH])
    pieces = sums.shape[0] // reduced(job)
    drift = 0.0
    if weight.itemsize == 8 and job[OPTIONS, CONSTANT] == 0 and job[OPTIONS, SECOND_MOMENT] == 0:
        for i in range(sums.shape[0]):
            drift += sums[i, 2]
        drift /= count
    mean, product = 0.0, 0.0
    line = slot(job, b)
    for i in range(sums.shape[0]):
        affine = start(job, AFFINE, b, i // pieces)
        first, second = sums[i, 0], sums[i, 1] - drift * sums[i, 0]
        if shared and dweight.size > 0:
            dweight[line, affine] += second
            dbias[line, affine] += first
        w = np.float64(weight[affine]) if shared and weight.size > 0 else 1.0
        mean += w * first
        product += w * second
    if job[OPTIONS, CONSTANT] != 0:
        return 0.0, 0.0, 0.0
    if job[OPTIONS, SECOND_MOMENT] != 0:
        mean = 0.0
    return mean / count, product / count, drift


@step
def segment_gradient(arrays, pair, statistic, means, gradients, line, job, b, m, low, high, buffer):
    """dx of a piece of a run, and the gradients of the pair where each element has its own, added to their `line`."""
    dy, x, dx = arrays
    along = job[AFFINE, ALONG]
    mean, product, drift = means
    rstd = statistic[2]
    affine, at = start(job, AFFINE, b, m), start(job, X, b, m)
    beside, to = start(job, BESIDE, b, m), start(job, Y, b, m)
    none = pair[0][:0]
    centre, scale, shift = coefficients(statistic, none, none, affine, along)
    shift -= cast(none, drift)
    activated = coefficients(statistic, pair[0], pair[1], affine, along)
    w = np.float64(pair[0][affine]) if along == 0 and pair[0].size > 0 else 1.0
    alone = reduced(job) * job[COUNTS, LENGTH] == 1
    if alone and job[OPTIONS, CONSTANT] == 0 and job[OPTIONS, SECOND_MOMENT] == 0:
        rstd = 0.0  # dx is exactly 0: a single element always normalizes to 0
    of_g, of_x, of_1 = cast(none, rstd * w), cast(none, -rstd * product), cast(none, -rstd * mean)
    streaming = job[OPTIONS, STREAMING] != 0
    for i in range(low, high, BLOCK):
        last = min(i + BLOCK, high)
        block = x[at + i : at + last]
        weight, bias = element_pair(pair, affine, along, i, last)
        code = job[OPTIONS, ACTIVATION]
        g = through_activation(
            dy[beside + i : beside + last], block, weight, bias, activated, code, buffer[0]
        )
        if along != 0 and gradients[0].size > 0:
            dweight = gradients[0][line, affine + i : affine + last]
            dbias = gradients[1][line, affine + i : affine + last]
            gather_parameters(g, block, dweight, dbias, centre, scale, shift)
        if dx.size > 0:
            out = dx[to + i : to + last]
            target = buffer[1, : out.size] if streaming else out
            if weight.size > 0:
                gradient_weight(g, block, target, weight, centre, scale, shift, of_g, of_x, of_1)
            else:
                gradient_plain(g, block, target, centre, scale, shift, of_g, of_x, of_1)
            if streaming:
                stream(target, out)


@step
def statistic_of(mean, rstd, b):
    """(mean, tail, rstd) of group b."""
    return np.float64(mean[b]) if mean.size > 0 else 0.0, 0.0, np.float64(rstd[b])


@step
def _whole_groups(arrays, pair, statistics, gradients, job, first, last, line):
    """Groups first to last, each in two trips while it is in the cache."""
    length, segments = job[COUNTS, LENGTH], reduced(job)
    buffer = np.empty((2, BLOCK), pair[0].dtype)
    sums = np.empty((segments, 3))
    for b in range(first, last):
        statistic = statistic_of(statistics[0], statistics[1], b)
        for m in range(segments):
            segment_sums(arrays, pair, statistic, job, b, m, np.int64(0), length, buffer[0], sums[m])
        means = group_means(sums, pair, gradients, job, b)
        for m in range(segments):
            segment_gradient(
                arrays, pair, statistic, means, gradients, line, job, b, m, np.int64(0), length, buffer
            )


@step
def groups_per_line(job, lines):
    """Groups of a task: with a pair per element, so many that each task has a line of parameter gradients to itself."""
    if job[AFFINE, ALONG] == 0:
        return groups_per_task(job)
    return (kept(job) + lines - 1) // lines


@step
def _backward_phase(phase, i, arrays, pair, statistics, gradients, memory, job):
    sums, means = memory
    groups, segments, length = kept(job), reduced(job), job[COUNTS, LENGTH]
    if phase == ALL_AT_ONCE:
        band = groups_per_line(job, gradients[0].shape[0])
        _whole_groups(arrays, pair, statistics, gradients, job, i * band, min((i + 1) * band, groups), i)
        return
    pieces, band, bands = apply_pieces(job)
    low = (i % pieces) * CHUNK
    high = min(low + CHUNK, length)
    first = ((i // pieces) % bands) * band
    buffer = np.empty((2, BLOCK), pair[0].dtype)
    if phase == SUMS:
        b = i // (pieces * bands)
        statistic = statistic_of(statistics[0], statistics[1], b)
        for m in range(first, min(first + band, segments)):
            at = (b * segments + m) * pieces + i % pieces
            segment_sums(arrays, pair, statistic, job, b, m, low, high, buffer[0], sums[at])
    elif phase == MERGE:
        per_group = segments * pieces
        found = group_means(sums[i * per_group : (i + 1) * per_group], pair, gradients, job, i)
        means[i, 0], means[i, 1], means[i, 2] = found
    else:
        # All groups of one piece in turn: no other task adds to the same parameters.
        for b in range(groups):
            statistic = statistic_of(statistics[0], statistics[1], b)
            found = (means[b, 0], means[b, 1], means[b, 2])
            for m in range(first, min(first + band, segments)):
                segment_gradient(
                    arrays, pair, statistic, found, gradients, np.int64(0), job, b, m, low, high, buffer
                )


@kernel
def backward(dy, x, dx, weight, bias, mean, rstd, dweight, dbias, job, threads):
    """Gradients from a norm's input and statistics.

    dy, x, dx: flat, dx of size 0 where nobody asks. weight, bias: flat, or of size 0. mean, rstd: (B,) float64, mean of size
    0 for RMS. dweight, dbias: (lines, parameters) float64, zeros to add to, or (lines, 0) where nobody asks; a line for each
    slot of the job, or where each element has its own pair, for each of the tasks that share the groups.
    """
    dy, x, dx, weight, bias = borrow(dy), borrow(x), borrow(dx), borrow(weight), borrow(bias)
    mean, rstd, dweight, dbias, job = borrow(mean), borrow(rstd), borrow(dweight), borrow(dbias), borrow(job)
    groups = kept(job)
    pieces, _, bands = apply_pieces(job)
    whole = groups >= _FEW or reduced(job) * job[COUNTS, LENGTH] <= CHUNK
    first, last = (ALL_AT_ONCE, ALL_AT_ONCE) if whole else (SUMS, APPLY)
    sums = np.empty((0 if whole else groups * reduced(job) * pieces, 3))
    means = np.empty((0 if whole else groups, 3))
    band = groups_per_line(job, dweight.shape[0])
    tasks = ((groups + band - 1) // band, apply_tasks(job), groups, pieces * bands)
    for phase in range(first, last + 1):
        if threads == 1:
            for i in range(tasks[phase]):
                _backward_phase(
                    phase, i, (dy, x, dx), (weight, bias), (mean, rstd), (dweight, dbias), (sums, means), job
                )
        else:
            for i in prange(tasks[phase]):
                _backward_phase(
                    phase,
                    np.int64(i),
                    (dy, x, dx),
                    (weight, bias),
                    (mean, rstd),
                    (dweight, dbias),
                    (sums, means),
                    job,
                )

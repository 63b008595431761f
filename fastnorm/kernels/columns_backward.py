"""Columns, backward: the sums over the rows of each column, then dx and the parameters' gradients."""

import numpy as np
from numba import prange

from .._jit import kernel, step
from .activations import NONE, activate_backward
from .blocks import cast, clear, copy, dot_standardized, standardize, total
from .columns import (
    ONE,
    ZERO,
    chunks_of,
    fill_coefficients,
    is_local,
    rows_per_chunk,
    slab_of,
    slabs_of,
    task_of,
    tasks_of,
    widening,
)
from .floats import borrow, stream
from .job import (
    ACTIVATION,
    AFFINE,
    ALONG,
    BESIDE,
    CONSTANT,
    COUNTS,
    FOLD,
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
from .tiles import TILE, apply_columns, apply_columns_affine

# Elements of a wide row.
_WIDE = 512

# The phases of a backward call: the first alone, or the others in turn.
ALL_AT_ONCE, SUMS, MERGE, APPLY = range(4)

# Lines of the coefficients of a slab: x_hat = (x - HIGH)·SCALE + SHIFT; z the same with Z_SCALE, Z_SHIFT;
# dx = OF_G·g + OF_X·x_hat + OF_1.
HIGH, SCALE, SHIFT, Z_SCALE, Z_SHIFT, OF_G, OF_X, OF_1 = range(8)


@step
def _sum_row(g, x, high, scale, shift, weight, first, second, drift):
    """first += Σ gw, second += Σ gw·x_hat, drift += Σ x_hat, gw = g·weight."""
    for k in range(g.size):
        x_hat = standardize(x[k], high[k], scale[k], shift[k])
        gw = g[k] * weight
        first[k] += gw
        second[k] += gw * x_hat
        drift[k] += x_hat


@step
def _gradient_row(g, x, dx, lines, weight):
    """dx = OF_G·g·weight + OF_X·x_hat + OF_1."""
    high, scale, shift = lines[HIGH], lines[SCALE], lines[SHIFT]
    of_g, of_x, of_1 = lines[OF_G], lines[OF_X], lines[OF_1]
    for k in range(dx.size):
        x_hat = standardize(x[k], high[k], scale[k], shift[k])
        dx[k] = of_g[k] * (g[k] * weight) + (of_x[k] * x_hat + of_1[k])


@step
def _row_gradient(dy, x, lines, pair, affine, by_row, code, z):
    """g = dy·act'(z) of one row, z recomputed from x: dy itself where there is no activation."""
    if code == NONE:
        return dy
    if by_row:
        bias = pair[1][affine] if pair[1].size > 0 else cast(z, 0)
        apply_columns_affine(x, z, lines[HIGH], lines[SCALE], lines[SHIFT], pair[0][affine], bias)
    else:
        apply_columns(x, z, lines[HIGH], lines[Z_SCALE], lines[Z_SHIFT])
    activate_backward(dy, z, code)
    return z


@step
def slab_lines(pair, statistics, job, b, low, width):
    """(8, width): the lines that x_hat and z are made of; those of dx are still to be filled."""
    weight, bias = pair
    along = job[AFFINE, ALONG]
    at = b * job[COUNTS, LENGTH] + low
    state = np.zeros((2, width))
    rstd = statistics[1][at : at + width]
    if statistics[0].size > 0:
        copy(statistics[0][at : at + width], state[0])
    affine = start(job, AFFINE, b, 0) + low * along
    lines = np.zeros((8, width), weight.dtype)
    filled = np.empty((3, width), weight.dtype)
    fill_coefficients(state, rstd, weight, bias, affine, along, filled)
    copy(filled[1], lines[Z_SCALE])
    copy(filled[2], lines[Z_SHIFT])
    fill_coefficients(state, rstd, weight[:0], bias[:0], affine, along, filled)
    for line in range(3):
        copy(filled[line], lines[line])
    return lines


@step
def spread(lines, wide):
    """Each line repeated `wide` times, for as many successive rows at once."""
    width = lines.shape[1]
    result = np.empty((lines.shape[0], width * wide), lines.dtype)
    for line in range(lines.shape[0]):
        for i in range(wide):
            copy(lines[line], result[line, i * width : (i + 1) * width])
    return result


@step
def rows_at_once(job, width, paired):
    """How many successive rows are one wide row of x, dy and dx: one where each is `paired` with its own parameters."""
    if job[AFFINE, ALONG] == 0 and paired:
        return 1
    wide = widening(job, X, width, _WIDE)
    return min(wide, widening(job, BESIDE, width, _WIDE), widening(job, Y, width, _WIDE))


@step
def band_sums(arrays, pair, lines, job, b, first, count, wide, low, state):
    """Σ gw, Σ gw·x_hat, Σ x_hat of each column over `count` rows of `wide` rows each, added to state (3, width)."""
    dy, x, _ = arrays
    width = state.shape[1]
    by_row = job[AFFINE, ALONG] == 0
    sums = np.empty((3, width), lines.dtype)
    z = np.empty(width, lines.dtype)
    for row in range(0, count, TILE):
        for i in range(3):
            clear(sums[i])
        for r in range(row, min(row + TILE, count)):
            m = first + r * wide
            affine = start(job, AFFINE, b, m)
            at, beside = start(job, X, b, m) + low, start(job, BESIDE, b, m) + low
            block = x[at : at + width]
            has_pair = by_row and pair[0].size > 0
            code = job[OPTIONS, ACTIVATION]
            g = _row_gradient(dy[beside : beside + width], block, lines, pair, affine, has_pair, code, z)
            weight = pair[0][affine] if has_pair else cast(z, 1)
            _sum_row(g, block, lines[HIGH], lines[SCALE], lines[SHIFT], weight, sums[0], sums[1], sums[2])
        for i in range(3):
            for k in range(width):
                state[i, k] += sums[i, k]


@step
def chunk_sums(arrays, pair, lines, job, b, chunk, low, state):
    """The sums of one chunk's columns, from `low` on, into state (3, width) float64."""
    per_chunk = rows_per_chunk(job)
    first = chunk * per_chunk
    rows = min(per_chunk, reduced(job) - first)
    width = state.shape[1]
    wide = rows_at_once(job, width, pair[0].size > 0)
    whole = rows // wide if wide > 1 else 0
    for i in range(3):
        clear(state[i])
    if whole > 0:
        parts = np.zeros((3, width * wide))
        band_sums(arrays, pair, spread(lines, wide), job, b, first, whole, wide, low, parts)
        for i in range(3):
            for k in range(width * wide):
                state[i, k % width] += parts[i, k]
    done = whole * wide
    band_sums(arrays, pair, lines, job, b, first + done, rows - done, ONE, low, state)


@step
def finish_lines(lines, sums, pair, rstd, job, b, low, gradients, wanted):
    """Fill the lines of dx from a slab's sums over all rows, and where `wanted`, give each column's pair its gradient."""
    weight = pair[0]
    width = lines.shape[1]
    along = job[AFFINE, ALONG]
    fold = job[COUNTS, FOLD]
    count = np.float64(reduced(job) * fold)
    constant, second_moment = job[OPTIONS, CONSTANT] != 0, job[OPTIONS, SECOND_MOMENT] != 0
    # A single element always normalizes to 0, and its dx is exactly 0.
    alone = count == 1 and not constant and not second_moment
    affine = start(job, AFFINE, b, 0) + low * along
    line = slot(job, b)
    for k in range(0, width, fold):
        drift, mean, product = 0.0, 0.0, 0.0
        if weight.itemsize == 8 and not constant and not second_moment:
            for j in range(k, k + fold):
                drift += sums[2, j] / count
        for j in range(k, k + fold):
            w = np.float64(weight[affine + j]) if along != 0 and weight.size > 0 else 1.0
            second = sums[1, j] - drift * sums[0, j]
            mean += w * sums[0, j]
            product += w * second
            if wanted != 0 and along != 0 and gradients[0].size > 0:
                gradients[0][line, affine + j] += second
                gradients[1][line, affine + j] += sums[0, j]
        if constant:
            mean, product = 0.0, 0.0
        if second_moment:
            mean = 0.0
        for j in range(k, k + fold):
            w = np.float64(weight[affine + j]) if along != 0 and weight.size > 0 else 1.0
            lines[SHIFT, j] -= cast(weight, drift)
            inverse = 0.0 if alone else rstd[j]
            lines[OF_G, j] = cast(weight, inverse * w)
            lines[OF_X, j] = cast(weight, -inverse * product / count)
            lines[OF_1, j] = cast(weight, -inverse * mean / count)


@step
def gradient_rows(arrays, pair, lines, gradients, line, job, b, first, last, low):
    """dx of rows first to last of a slab, and the gradients of their own affine pairs, added to their `line`."""
    wide = rows_at_once(job, lines.shape[1], pair[0].size > 0 or gradients[0].size > 0)
    whole = (last - first) // wide if wide > 1 else 0
    if whole > 0:
        _gradient_band(arrays, pair, spread(lines, wide), gradients, line, job, b, first, whole, wide, low)
    done = whole * wide
    _gradient_band(arrays, pair, lines, gradients, line, job, b, first + done, last - first - done, ONE, low)


@step
def _gradient_band(arrays, pair, lines, gradients, line, job, b, first, count, wide, low):
    dy, x, dx = arrays
    width = lines.shape[1]
    by_row = job[AFFINE, ALONG] == 0 and pair[0].size > 0
    streaming = job[OPTIONS, STREAMING] != 0
    z = np.empty(width, lines.dtype)
    buffer = np.empty(width if streaming else 0, lines.dtype)
    for r in range(count):
        m = first + r * wide
        affine = start(job, AFFINE, b, m)
        at, beside, to = start(job, X, b, m) + low, start(job, BESIDE, b, m) + low, start(job, Y, b, m) + low
        block = x[at : at + width]
        code = job[OPTIONS, ACTIVATION]
        g = _row_gradient(dy[beside : beside + width], block, lines, pair, affine, by_row, code, z)
        weight = pair[0][affine] if by_row else cast(z, 1)
        if job[AFFINE, ALONG] == 0 and gradients[0].size > 0:
            gradients[0][line, affine] += dot_standardized(g, block, lines[HIGH], lines[SCALE], lines[SHIFT])
            gradients[1][line, affine] += total(g)
        if dx.size == 0:
            continue
        out = dx[to : to + width]
        target = buffer if streaming else out
        _gradient_row(g, block, target, lines, weight)
        if streaming:
            stream(target, out)


@step
def _whole_slab(arrays, pair, statistics, gradients, job, i, line):
    """Slab i in two trips while it is in the cache."""
    b, low, width = slab_of(job, i)
    lines = slab_lines(pair, statistics, job, b, low, width)
    sums = np.zeros((3, width))
    part = np.empty((3, width))
    for chunk in range(chunks_of(job)):
        chunk_sums(arrays, pair, lines, job, b, chunk, low, part)
        for j in range(3):
            for k in range(width):
                sums[j, k] += part[j, k]
    at = b * job[COUNTS, LENGTH] + low
    finish_lines(lines, sums, pair, statistics[1][at : at + width], job, b, low, gradients, ONE)
    gradient_rows(arrays, pair, lines, gradients, line, job, b, ZERO, reduced(job), low)


@step
def _backward_phase(phase, i, arrays, pair, statistics, gradients, partial, job):
    slabs, chunks = slabs_of(job), chunks_of(job)
    if phase == ALL_AT_ONCE:
        band = slabs_per_line(job, gradients[0].shape[0])
        for slab in range(i * band, min((i + 1) * band, kept(job) * slabs)):
            _whole_slab(arrays, pair, statistics, gradients, job, slab, i)
    elif phase == SUMS:
        at = (i // (slabs * chunks)) * slabs + i % slabs
        b, low, width = slab_of(job, at)
        chunk = (i // slabs) % chunks
        lines = slab_lines(pair, statistics, job, b, low, width)
        state = np.empty((3, width))
        chunk_sums(arrays, pair, lines, job, b, chunk, low, state)
        for j in range(3):
            copy(state[j], partial[b * chunks + chunk, j, low : low + width])
    elif phase == MERGE:
        b, low, width = slab_of(job, i)
        for chunk in range(1, chunks):
            for j in range(3):
                for k in range(low, low + width):
                    partial[b * chunks, j, k] += partial[b * chunks + chunk, j, k]
        _finished_lines(pair, statistics, gradients, partial[b * chunks], job, b, low, width, ONE)
    elif job[AFFINE, ALONG] != 0:
        b, first_row, last_row, low, width = task_of(job, i)
        lines = _finished_lines(pair, statistics, gradients, partial[b * chunks], job, b, low, width, ZERO)
        gradient_rows(arrays, pair, lines, gradients, ZERO, job, b, first_row, last_row, low)
    else:
        # Whole slabs, so that no other task adds to the same line.
        band = slabs_per_line(job, gradients[0].shape[0])
        for slab in range(i * band, min((i + 1) * band, kept(job) * slabs)):
            b, low, width = slab_of(job, slab)
            lines = _finished_lines(
                pair, statistics, gradients, partial[b * chunks], job, b, low, width, ZERO
            )
            gradient_rows(arrays, pair, lines, gradients, i, job, b, ZERO, reduced(job), low)


@step
def _finished_lines(pair, statistics, gradients, merged, job, b, low, width, wanted):
    """The lines of a slab from the sums of all chunks, (3, length)."""
    sums = np.empty((3, width))
    for j in range(3):
        copy(merged[j, low : low + width], sums[j])
    at = b * job[COUNTS, LENGTH] + low
    lines = slab_lines(pair, statistics, job, b, low, width)
    finish_lines(lines, sums, pair, statistics[1][at : at + width], job, b, low, gradients, wanted)
    return lines


@step
def slabs_per_line(job, lines):
    """Slabs of a task: with a pair per row, so many that each task has a line of parameter gradients to itself."""
    if job[AFFINE, ALONG] != 0:
        return 1
    return (kept(job) * slabs_of(job) + lines - 1) // lines


@kernel
def backward(dy, x, dx, weight, bias, mean, rstd, dweight, dbias, job, threads):
    """Gradients from a norm's input and statistics.

    dy, x, dx: flat, dx of size 0 where nobody asks. weight, bias: flat, or of size 0. mean, rstd: (B·length,) float64, mean
    of size 0 for RMS. dweight, dbias: (lines, parameters) float64, zeros to add to, or (lines, 0) where nobody asks; a line
    for each slot of the job, or where each row has its own pair, for each of the tasks that share the slabs.
    """
    dy, x, dx, weight, bias = borrow(dy), borrow(x), borrow(dx), borrow(weight), borrow(bias)
    mean, rstd, dweight, dbias, job = borrow(mean), borrow(rstd), borrow(dweight), borrow(dbias), borrow(job)
    slabs = kept(job) * slabs_of(job)
    whole = is_local(job)
    chunks = 0 if whole else chunks_of(job)
    first, last = (ALL_AT_ONCE, ALL_AT_ONCE) if whole else (SUMS, APPLY)
    partial = np.empty((kept(job) * chunks, 3, job[COUNTS, LENGTH]))
    band = slabs_per_line(job, dweight.shape[0])
    lines = (slabs + band - 1) // band
    applying = lines if job[AFFINE, ALONG] == 0 else tasks_of(job)
    tasks = (lines, slabs * chunks, slabs, applying)
    for phase in range(first, last + 1):
        if threads == 1:
            for i in range(tasks[phase]):
                _backward_phase(
                    phase, i, (dy, x, dx), (weight, bias), (mean, rstd), (dweight, dbias), partial, job
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
                    partial,
                    job,
                )

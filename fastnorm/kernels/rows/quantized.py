"""Rows, quantized: y is made block by block in L1, and only its signed bytes are stored."""

import numpy as np

from ..._jit import routine, step, strict
from ..apply import coefficients, pair_along, pair_of, paired_run
from ..job import AFFINE, CONSTANT, COUNTS, LENGTH, OPTIONS, X, Y, kept, place, reduced, walk
from ..language.loads import load, load_part, store_bytes
from ..language.memory import as_bytes, keep, pointer, stack
from ..language.reductions import greatest
from ..language.vectors import farther, in_vectors, lanes, rounded, splat, within, without_nan
from ..phases import Phase, kernel, listed, run_one
from ..sums import BLOCK, statistic_of_sums
from .groups import chunking, group_sums, groups_per_task

# The largest byte whose negative is one too.
_MOST = 127.0


@step
def _greatest_of_block(block, size):
    """max |y| of a block."""
    n = lanes(block)
    most = splat(block, 0.0)
    whole = in_vectors(size, n)
    for i in range(0, whole, n):
        most = farther(most, load(block, i))
    if whole < size:
        most = farther(most, load_part(block, whole, size - whole))
    return greatest(most)


@strict
def _store_block(block, scale, q, to, size):
    """q = y / scale, rounded to the nearest byte, of two to the even one."""
    n = lanes(block)
    by = splat(block, scale)
    for i in range(0, size, n):
        count = min(n, size - i)
        quotient = without_nan(load_part(block, i, count) / by)
        store_bytes(q, to + i, rounded(within(quotient, -128.0, 127.0)), count)


@routine
def _quantize_row(x, at, q, to, size, pair, affine, known, scale, buffer):
    """The bytes of a row; its scale is given, or 0.0 for max |y| / 127. Returns the scale."""
    known = splat(x, known[0]), splat(x, known[1]), splat(x, known[2])
    none, dynamic = np.int64(0), scale == 0.0
    if dynamic:
        most = 0.0
        for i in range(0, size, BLOCK):
            count = min(BLOCK, size - i)
            paired_run(x, at + i, buffer, none, count, pair, affine + i, known)
            most = max(most, np.float64(_greatest_of_block(buffer, count)))
        scale = np.float64(np.float32(most / _MOST))
    for i in range(0, size, BLOCK):
        count = min(BLOCK, size - i)
        if not dynamic or size > BLOCK:  # else y is still in the buffer
            paired_run(x, at + i, buffer, none, count, pair, affine + i, known)
        _store_block(buffer, scale, q, to + i, count)
    return scale


@Phase
def _quantize_rows(i, arrays, numbers, job, eps):
    """Some rows, each while it is in the cache."""
    (x, y), pair = listed(arrays, 2), pair_of(arrays, 2)
    q, scales = as_bytes(y), numbers[0]
    xs, ys, pairs, chunks = walk(job, X), walk(job, Y), walk(job, AFFINE), chunking(job, X)
    count = reduced(job) * job[COUNTS + LENGTH]
    buffer, partial = stack(x, BLOCK), np.empty(4 * chunks[3])
    band = groups_per_task(job)
    for b in range(i * band, min((i + 1) * band, kept(job))):
        sums = group_sums(x, xs, job, chunks, b, pointer(partial))
        statistic = statistic_of_sums(sums, count, eps, False)
        known = coefficients(x, (statistic[0], statistic[1], statistic[2]), 1.0, 0.0)
        scale = scales[b] if job[OPTIONS + CONSTANT] != 0 else 0.0
        scales[b] = _quantize_row(
            x,
            place(xs, b, 0),
            q,
            place(ys, b, 0),
            count,
            pair_along(pair, job),
            place(pairs, b, 0),
            known,
            scale,
            buffer,
        )
    keep(partial)


@kernel(_quantize_rows, arrays=4)
def quantize(threads, arrays, numbers, job, eps):
    """The bytes of every row's norm, and their scales.

    arrays: x; the bytes; weight and bias, flat, or null. numbers: scales, (B,), numbers of float32: read where they are
    constants of the job, else written.
    """
    band = groups_per_task(job)
    run_one(0, (kept(job) + band - 1) // band, arrays, numbers, job, eps, threads, False)

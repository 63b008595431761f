"""Windows over the channels of each position: local response norm, forward and backward, each in one trip.

A block is all channels of one position, which lie in a run; or of a piece of a run of positions, channel behind channel. In
either, neighbours in a window lie a fixed step apart. It is gathered between zeros, for windows at its ends.
"""

import numpy as np

from .._jit import kernel, routine, step
from .job import BESIDE, COUNTS, LENGTH, OPTIONS, PHASES, STREAMING, X, Y, kept, place, reduced, walk
from .loads import load, load_part, load_wide_part, store, store_part
from .memory import cast, deliver, given, keep, moved, nothing, numbers_like, pointer
from .phases import Phase, address, listed, run, table
from .vecmath import inverse_power
from .vectors import DOUBLES, fma, lanes, narrow, splat, spread

# What a kernel is told beside its job: channels of a window; whether they lie in a run; and of (k + alpha·Σ x²)^-beta the
# rest, beta in the precision of the input and what that lacks.
SIZE, IN_RUN, K, ALPHA, BETA, BETA_LOW = range(6)
# Elements of a block that is a piece of a run; and of the blocks of a task.
_BLOCK, _TASK = 32768, 16384
# More than a vector has: space behind a block for what its last vector writes.
_BEYOND = 64


# -- Blocks ----------------------------------------------------------------------------------------------------------


@step
def width_of(job, options):
    """Elements of a run in a block."""
    if options[IN_RUN] != 0:
        return job[COUNTS + LENGTH]
    fit = _BLOCK // (reduced(job) + np.int64(options[SIZE])) // DOUBLES * DOUBLES
    return min(max(DOUBLES, fit), job[COUNTS + LENGTH])


@step
def pieces_of(job, options):
    width = width_of(job, options)
    return (job[COUNTS + LENGTH] + width - 1) // width


@step
def blocks_per_task(job, options):
    return max(1, _TASK // (width_of(job, options) * reduced(job)))


@step
def block_of(job, options, i):
    """(b, first element of the run, elements, runs, step between neighbours in a window) of the i-th block."""
    pieces, width = pieces_of(job, options), width_of(job, options)
    low = i % pieces * width
    width = min(width, job[COUNTS + LENGTH] - low)
    return i // pieces, low, width, reduced(job), 1 if options[IN_RUN] != 0 else width


@step
def clear(memory, count):
    for i in range(0, count, lanes(memory)):
        store(memory, i, splat(memory, 0.0))


@step
def window(memory, i, size, step):
    """A vector of sums over `size` neighbours, the first of which begin at memory[i]."""
    total = load(memory, i)
    for j in range(1, size):
        total = total + load(memory, i + j * step)
    return total


# -- What is done to one ---------------------------------------------------------------------------------------------


@routine
def fill_squares(x, walk, block, before, after, squares):
    """Σ x² is taken in float64, whose range has them all: between zeros for `before` and `after` neighbours."""
    b, low, width, runs, step = block
    clear(squares, before * step)
    own = moved(squares, before * step)
    for m in range(runs):
        at = place(walk, b, m) + low
        for k in range(0, width, DOUBLES):
            value = load_wide_part(x, at + k, min(DOUBLES, width - k))
            store(own, m * width + k, value * value)
    clear(moved(own, runs * width), after * step)


@routine
def fill_powers(squares, block, options, powers, slopes):
    """t^-beta for t = k + alpha·Σ x², and where slopes are asked for t^(-beta - 1)."""
    _, _, width, runs, step = block
    size, high, low = np.int64(options[SIZE]), cast(powers, options[BETA]), cast(powers, options[BETA_LOW])
    for i in range(0, runs * width, DOUBLES):
        t = fma(window(squares, i, size, step), spread(options[ALPHA]), spread(options[K]))
        power = inverse_power(powers, t, high, low)
        store(powers, i, power)
        if given(slopes):
            store(slopes, i, power / narrow(powers, t))


@routine
def fill_products(dy, dys, x, xs, block, before, after, slopes, products):
    """dy·x·t^(-beta - 1), between zeros."""
    b, low, width, runs, step = block
    clear(products, before * step)
    own, n = moved(products, before * step), lanes(x)
    for m in range(runs):
        at, beside = place(xs, b, m) + low, place(dys, b, m) + low
        for k in range(0, width, n):
            count = min(n, width - k)
            value = load_part(dy, beside + k, count) * load_part(x, at + k, count)
            store(own, m * width + k, value * load(slopes, m * width + k))
    clear(moved(own, runs * width), after * step)


@routine
def scale_run(x, at, width, powers):
    """powers = x·powers."""
    n = lanes(x)
    for k in range(0, width, n):
        count = min(n, width - k)
        store_part(powers, k, load_part(x, at + k, count) * load(powers, k), count)


@routine
def gradient_run(dy, beside, x, at, width, factor, sums, powers):
    """powers = dy·powers + factor·x·sums."""
    n = lanes(x)
    for k in range(0, width, n):
        count = min(n, width - k)
        indirect = load_part(x, at + k, count) * splat(x, factor) * load(sums, k)
        store_part(powers, k, fma(load_part(dy, beside + k, count), load(powers, k), indirect), count)


# -- Phases ----------------------------------------------------------------------------------------------------------


@Phase
def _forward(i, arrays, numbers, job, eps):
    """Some blocks of y."""
    (x, y), options = listed(arrays, 2), numbers[0]
    xs, ys, streaming = walk(job, X), walk(job, Y), job[OPTIONS + STREAMING] != 0
    size, many = np.int64(options[SIZE]), blocks_per_task(job, options)
    most = width_of(job, options) * reduced(job)
    step = block_of(job, options, 0)[4]
    space, low_space = np.empty(most + size * step + _BEYOND), np.empty(most + _BEYOND)
    squares, powers = pointer(space), numbers_like(pointer(low_space), x)
    for j in range(i * many, min((i + 1) * many, kept(job) * pieces_of(job, options))):
        block = block_of(job, options, j)
        b, low, width, runs, _ = block
        fill_squares(x, xs, block, size // 2, (size - 1) // 2, squares)
        fill_powers(squares, block, options, powers, nothing(powers))
        for m in range(runs):
            own = moved(powers, m * width)
            scale_run(x, place(xs, b, m) + low, width, own)
            deliver(own, y, place(ys, b, m) + low, width, streaming)
    keep(space)
    keep(low_space)


@Phase
def _backward(i, arrays, numbers, job, eps):
    """Some blocks of dx: an element is in the windows of as many as are in its own, mirrored."""
    (dy, x, dx), options = listed(arrays, 3), numbers[0]
    xs, dys, dxs, streaming = walk(job, X), walk(job, BESIDE), walk(job, Y), job[OPTIONS + STREAMING] != 0
    size, many = np.int64(options[SIZE]), blocks_per_task(job, options)
    most = width_of(job, options) * reduced(job)
    step = block_of(job, options, 0)[4]
    line = most + size * step + _BEYOND
    space, low_space = np.empty(line), np.empty(3 * line)
    squares, powers = pointer(space), numbers_like(pointer(low_space), x)
    slopes, products = moved(powers, line), moved(powers, 2 * line)
    factor = -2 * options[ALPHA] * (options[BETA] + options[BETA_LOW])
    for j in range(i * many, min((i + 1) * many, kept(job) * pieces_of(job, options))):
        block = block_of(job, options, j)
        b, low, width, runs, apart = block
        fill_squares(x, xs, block, size // 2, (size - 1) // 2, squares)
        fill_powers(squares, block, options, powers, slopes)
        fill_products(dy, dys, x, xs, block, (size - 1) // 2, size // 2, slopes, products)
        for k in range(0, runs * width, lanes(x)):
            store(slopes, k, window(products, k, size, apart))
        for m in range(runs):
            own, at, beside = moved(powers, m * width), place(xs, b, m) + low, place(dys, b, m) + low
            gradient_run(dy, beside, x, at, width, factor, moved(slopes, m * width), own)
            deliver(own, dx, place(dxs, b, m) + low, width, streaming)
    keep(space)
    keep(low_space)


@step
def run_blocks(arrays, options, job, threads):
    blocks, many = kept(job) * pieces_of(job, options), blocks_per_task(job, options)
    run(
        job[PHASES], (blocks + many - 1) // many, arrays, table((options,)), address(job), 0.0, threads, False
    )


@kernel(_forward)
def forward(x, y, options, job, threads):
    """y = x·(k + alpha·Σ x²)^-beta, the sum being over the channels around each.

    x, y: flat. options: (6,) float64, in the order of the names above.
    """
    run_blocks(table((pointer(x), pointer(y))), pointer(options), pointer(job), threads)


@kernel(_backward)
def backward(dy, x, dx, options, job, threads):
    """dx of the same; dy, x, dx: flat."""
    run_blocks(table((pointer(dy), pointer(x), pointer(dx))), pointer(options), pointer(job), threads)

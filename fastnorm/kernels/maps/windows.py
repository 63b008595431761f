"""Windows over the channels of each position: local response norm, forward and backward, each in one trip.

Where the channels of a position lie in a run, it is a line, with zeros before it and behind. Where positions do, a piece of
the runs of all channels goes through a ring of as many lines as a window has channels, one after the other.
"""

import numpy as np

from ..._jit import routine, step
from ..job import BESIDE, COUNTS, LENGTH, OPTIONS, STREAMING, WHOLE_LINES, X, Y, kept, place, reduced, walk
from ..language.loads import clear, load, load_part, load_wide_part, store, store_part
from ..language.memory import cast, given, keep, moved, nothing, numbers_like, pointer
from ..language.past import deliver
from ..language.vecmath import inverse_power
from ..language.vectors import DOUBLES, fma, lanes, narrow, splat, spread
from ..phases import Phase, kernel, listed, run_one

# What a kernel is told beside its job: channels of a window; whether they lie in a run; and of (k + alpha·Σ x²)^-beta the
# rest, beta in the precision of the input and what that lacks.
SIZE, IN_RUN, K, ALPHA, BETA, BETA_LOW = range(6)
# The most elements of a piece; elements of a task; and what a line is a multiple of, for whole vectors.
_PIECE, _TASK, _LINE = 512, 16384, 32


@step
def around(options):
    """The channels of a window, and how many of them lie before its own and behind it."""
    size = np.int64(options[SIZE])
    return size, size // 2, (size - 1) // 2


@step
def window(memory, i, size, step):
    """A vector of sums over `size` neighbours, the first of which begin at memory[i]."""
    total = load(memory, i)
    for j in range(1, size):
        total = total + load(memory, i + j * step)
    return total


# -- Of one run ------------------------------------------------------------------------------------------------------


@routine
def fill_squares(x, at, width, squares):
    """x² in float64, whose range has them all."""
    for k in range(0, width, DOUBLES):
        value = load_wide_part(x, at + k, min(DOUBLES, width - k))
        store(squares, k, value * value)


@routine
def fill_powers(squares, step, width, options, powers, slopes):
    """t^-beta for t = k + alpha·Σ x², and where slopes are asked for t^(-beta - 1)."""
    size, high, low = np.int64(options[SIZE]), cast(powers, options[BETA]), cast(powers, options[BETA_LOW])
    for k in range(0, width, DOUBLES):
        t = fma(window(squares, k, size, step), spread(options[ALPHA]), spread(options[K]))
        power = inverse_power(powers, t, high, low)
        store(powers, k, power)
        if given(slopes):
            store(slopes, k, power / narrow(powers, t))


@routine
def scale_run(x, at, width, powers):
    """powers = x·powers."""
    n = lanes(x)
    for k in range(0, width, n):
        count = min(n, width - k)
        store_part(powers, k, load_part(x, at + k, count) * load(powers, k), count)


@routine
def fill_products(dy, beside, x, at, width, slopes, products):
    """dy·x·t^(-beta - 1)."""
    n = lanes(x)
    for k in range(0, width, n):
        count = min(n, width - k)
        value = load_part(dy, beside + k, count) * load_part(x, at + k, count)
        store(products, k, value * load(slopes, k))


@routine
def gradient_run(dy, beside, x, at, width, options, products, step, powers):
    """powers = dx = dy·powers - 2·alpha·beta·x·Σ products: an element is in as many windows as are in its own."""
    n, size = lanes(x), np.int64(options[SIZE])
    factor = splat(x, -2 * options[ALPHA] * (options[BETA] + options[BETA_LOW]))
    for k in range(0, width, n):
        count = min(n, width - k)
        indirect = load_part(x, at + k, count) * factor * window(products, k, size, step)
        store_part(powers, k, fma(load_part(dy, beside + k, count), load(powers, k), indirect), count)


# -- Of all channels -------------------------------------------------------------------------------------------------


@step
def line_of(job, options):
    """Elements of a line: a piece of a run, or all channels and what is around them."""
    length = job[COUNTS + LENGTH]
    if options[IN_RUN] != 0:
        length += np.int64(options[SIZE])
    else:
        length = min(length, _PIECE)
    return (length + _LINE - 1) // _LINE * _LINE


@step
def pieces_of(job, options):
    return 1 if options[IN_RUN] != 0 else (job[COUNTS + LENGTH] + _PIECE - 1) // _PIECE


@step
def blocks_per_task(job, options):
    return max(1, _TASK // (line_of(job, options) * reduced(job)))


@step
def space_of(job, options):
    """Rings of squares and of products, powers, and what is computed of one line."""
    size, before, _ = around(options)
    line, rings = line_of(job, options), 1 if options[IN_RUN] != 0 else size
    return np.empty((rings + 1) * line), np.empty((rings + before + 3) * line), line


# They are given the arrays of a kernel and a walk for each; a position b, or `width` from the low-th of its run on; and
# space for squares, and for powers and what else is computed of a line, with the elements of one.


@routine
def line_forward(arrays, walks, job, options, b, space):
    """y of position b, whose channels lie in a run."""
    (x, y), (xs, ys) = arrays, walks
    squares, powers, _ = space
    _, before, after = around(options)
    channels, at, one = job[COUNTS + LENGTH], place(xs, b, 0), np.int64(1)
    clear(squares, before)
    fill_squares(x, at, channels, moved(squares, before))
    clear(moved(squares, before + channels), after)
    fill_powers(squares, one, channels, options, powers, nothing(powers))
    scale_run(x, at, channels, powers)
    deliver(powers, y, place(ys, b, 0), channels, job[OPTIONS + STREAMING] == WHOLE_LINES)


@routine
def ring_forward(arrays, walks, job, options, b, piece, space):
    """y of some positions, channel by channel."""
    (x, y), (xs, ys) = arrays, walks
    (low, width), (squares, powers, line) = piece, space
    size, _, after = around(options)
    channels = reduced(job)
    clear(squares, size * line)
    for i in range(channels + after):
        entering, c = moved(squares, i % size * line), i - after
        if i < channels:
            fill_squares(x, place(xs, b, i) + low, width, entering)
        else:
            clear(entering, line)
        if c >= 0:
            fill_powers(squares, line, width, options, powers, nothing(powers))
            scale_run(x, place(xs, b, c) + low, width, powers)
            deliver(powers, y, place(ys, b, c) + low, width, job[OPTIONS + STREAMING] == WHOLE_LINES)


@routine
def line_backward(arrays, walks, job, options, b, space):
    """dx of position b, whose channels lie in a run."""
    (dy, x, dx), (dys, xs, dxs) = arrays, walks
    squares, powers, line = space
    _, before, after = around(options)
    channels, at, beside, one = job[COUNTS + LENGTH], place(xs, b, 0), place(dys, b, 0), np.int64(1)
    slopes, products = moved(powers, line), moved(powers, 2 * line)
    clear(squares, before)
    fill_squares(x, at, channels, moved(squares, before))
    clear(moved(squares, before + channels), after)
    fill_powers(squares, one, channels, options, powers, slopes)
    clear(products, after)
    fill_products(dy, beside, x, at, channels, slopes, moved(products, after))
    clear(moved(products, after + channels), before)
    gradient_run(dy, beside, x, at, channels, options, products, one, powers)
    deliver(powers, dx, place(dxs, b, 0), channels, job[OPTIONS + STREAMING] == WHOLE_LINES)


@routine
def ring_backward(arrays, walks, job, options, b, piece, space):
    """dx of some positions, channel by channel: it follows the powers as far behind as its windows reach ahead."""
    (dy, x, dx), (dys, xs, dxs) = arrays, walks
    (low, width), (squares, powers, line) = piece, space
    size, before, after = around(options)
    channels, waiting = reduced(job), before + 1
    slopes = moved(powers, waiting * line)
    products = moved(slopes, line)
    clear(squares, size * line)
    clear(products, size * line)
    for i in range(channels + after + before):
        entering, c, d = moved(squares, i % size * line), i - after, i - after - before
        if i < channels:
            fill_squares(x, place(xs, b, i) + low, width, entering)
        else:
            clear(entering, line)
        if c >= 0:
            product = moved(products, c % size * line)
            if c < channels:
                fill_powers(squares, line, width, options, moved(powers, c % waiting * line), slopes)
                at, beside = place(xs, b, c) + low, place(dys, b, c) + low
                fill_products(dy, beside, x, at, width, slopes, product)
            else:
                clear(product, line)
        if d >= 0:
            own, at, beside = moved(powers, d % waiting * line), place(xs, b, d) + low, place(dys, b, d) + low
            gradient_run(dy, beside, x, at, width, options, products, line, own)
            deliver(own, dx, place(dxs, b, d) + low, width, job[OPTIONS + STREAMING] == WHOLE_LINES)


# -- Phases ----------------------------------------------------------------------------------------------------------


@Phase
def _forward(i, arrays, numbers, job, eps):
    """Some lines, or pieces."""
    arrays, walks, options = listed(arrays, 2), (walk(job, X), walk(job, Y)), numbers[0]
    pieces, many = pieces_of(job, options), blocks_per_task(job, options)
    of_squares, of_lines, line = space_of(job, options)
    space = pointer(of_squares), numbers_like(pointer(of_lines), arrays[0]), line
    for j in range(i * many, min((i + 1) * many, kept(job) * pieces)):
        b, low = j // pieces, j % pieces * _PIECE
        if options[IN_RUN] != 0:
            line_forward(arrays, walks, job, options, b, space)
        else:
            width = min(_PIECE, job[COUNTS + LENGTH] - low)
            ring_forward(arrays, walks, job, options, b, (low, width), space)
    keep(of_squares)
    keep(of_lines)


@Phase
def _backward(i, arrays, numbers, job, eps):
    """Some lines, or pieces."""
    arrays, options = listed(arrays, 3), numbers[0]
    walks = walk(job, BESIDE), walk(job, X), walk(job, Y)
    pieces, many = pieces_of(job, options), blocks_per_task(job, options)
    of_squares, of_lines, line = space_of(job, options)
    space = pointer(of_squares), numbers_like(pointer(of_lines), arrays[0]), line
    for j in range(i * many, min((i + 1) * many, kept(job) * pieces)):
        b, low = j // pieces, j % pieces * _PIECE
        if options[IN_RUN] != 0:
            line_backward(arrays, walks, job, options, b, space)
        else:
            width = min(_PIECE, job[COUNTS + LENGTH] - low)
            ring_backward(arrays, walks, job, options, b, (low, width), space)
    keep(of_squares)
    keep(of_lines)


@step
def _run_blocks(arrays, numbers, job, eps, threads):
    blocks, many = kept(job) * pieces_of(job, numbers[0]), blocks_per_task(job, numbers[0])
    run_one(0, (blocks + many - 1) // many, arrays, numbers, job, eps, threads, False)


@kernel(_forward, arrays=2)
def forward(threads, arrays, numbers, job, eps):
    """y = x·(k + alpha·Σ x²)^-beta, the sum being over the channels around each.

    arrays: x, y. numbers: options, (6,), in the order of the names above.
    """
    _run_blocks(arrays, numbers, job, eps, threads)


@kernel(_backward, arrays=3)
def backward(threads, arrays, numbers, job, eps):
    """dx of the same. arrays: dy, x, dx. numbers: options."""
    _run_blocks(arrays, numbers, job, eps, threads)

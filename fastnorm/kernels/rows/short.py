"""Short rows, a batch of them at a time: what each of them would wait for alone is done for all at once."""

import numpy as np

from ..._jit import routine, step
from ..apply import pair_along, paired_run, run_vector, shared_pair, standardize
from ..coefficients import store_coefficients
from ..job import ACTIVATION, AFFINE, ALONG, B0, B1, OPTIONS, SECOND_MOMENT, place, touch
from ..language.loads import load, load_part, put, put_part, store
from ..language.memory import cast, given, moved, nothing, stack
from ..language.past import START, before_line, per_line, poured
from ..language.reductions import EACH, added_up, added_up_each, folded
from ..language.vectors import DOUBLES, fma, in_vectors, lanes, splat, spread
from ..sums import FAR, checked_sums, pilot, run_sums, soundness
from .touching import RUNS_LINE, RUNS_SPACE, apply_touching, fill_vectors, lengths_of, suit, touching_rows

# Rows of a batch, a vector of float64's; and space for half a vector of each.
ROWS = DOUBLES
_HALVES = 16 * 16


@step
def _centre(x, at, size, second_moment):
    """What the sums of a row are taken about."""
    return cast(x, 0) if second_moment != 0 else pilot(x, at, at + size, size)


@step
def _two_sums(x, at, size, centres):
    """`run_sums` of two rows, a vector of either in turn: one alone waits half of the time for the additions before.

    In L2 rows of 384 to 1024 took up to a tenth longer one by one.
    """
    n = lanes(x)
    whole = in_vectors(size, n)
    rest = size - whole
    first1, second1 = splat(x, 0.0), splat(x, 0.0)
    first2, second2 = first1, second1
    for i in range(0, whole, n):
        d, e = load(x, at[0] + i) - centres[0], load(x, at[1] + i) - centres[1]
        first1, second1 = first1 + d, fma(d, d, second1)
        first2, second2 = first2 + e, fma(e, e, second2)
    one = run_sums(x, at[0] + whole, rest, centres[0], first1, second1)
    return one, run_sums(x, at[1] + whole, rest, centres[1], first2, second2)


@routine
def short_sums(x, walk, job, first, groups, size, batch):
    """`moment_sums` of some groups of one short run each, to the bit: into three lines of `batch`."""
    zero, none, one = splat(x, 0.0), np.int64(0), np.int64(1)
    half, second_moment = lanes(x) // 2, job[OPTIONS + SECOND_MOMENT]
    firsts, seconds = stack(x, _HALVES), stack(x, _HALVES)
    for j in range(groups):
        batch[j] = _centre(x, place(walk, first + j, 0), size, second_moment)
    for j in range(0, groups, 2):
        k = min(j + 1, groups - 1)  # an odd last row is taken twice, in hardly more time than once
        at = place(walk, first + j, 0), place(walk, first + k, 0)
        sums = _two_sums(x, at, size, (splat(x, batch[j]), splat(x, batch[k])))
        store(firsts, j * half, folded(sums[0][0]))
        store(seconds, j * half, folded(sums[0][1]))
        store(firsts, k * half, folded(sums[1][0]))
        store(seconds, k * half, folded(sums[1][1]))
    for j in range(groups, ROWS):  # rows that are not there are sound
        store(firsts, j * half, folded(zero))
        store(seconds, j * half, folded(splat(x, 1.0)))
    store(batch, ROWS, spread(0.0))
    for j in range(0, groups, EACH):
        store(batch, 2 * ROWS + j, added_up_each(moved(seconds, j * half)))
        if second_moment == 0:
            store(batch, ROWS + j, added_up_each(moved(firsts, j * half)))
    s1, s2 = load(batch, ROWS), load(batch, 2 * ROWS)
    if added_up(soundness(x, s1, s2, np.float64(size), FAR)) == ROWS:
        return
    for j in range(groups):
        found = batch[ROWS + j], batch[2 * ROWS + j]
        centre = cast(x, batch[j])
        sums = checked_sums(x, walk, first + j, none, one, none, size, centre, found, second_moment)
        batch[j], batch[ROWS + j], batch[2 * ROWS + j] = sums


@step
def _pair_at(y, pair, at):
    """The weights and biases of the vector from `at` on; where there are none, those that change no bit."""
    weight, bias = pair
    w = load(weight, at) if given(weight) else splat(y, 1.0)
    return w, load(bias, at) if given(bias) else splat(y, -0.0)


@step
def known_of(y, known, j):
    """High, scale and shift of the j-th of a batch, from a line of each."""
    return splat(y, known[j]), splat(y, known[RUNS_LINE + j]), splat(y, known[2 * RUNS_LINE + j])


@step
def _two_vectors(x, at, y, to, pairs, known, past):
    high, scale, shift = known
    first = standardize(load(x, at), high, scale, shift)
    second = standardize(load(x, at + lanes(x)), high, scale, shift)
    put(y, to, fma(first, pairs[0][0], pairs[0][1]), past)
    put(y, to + lanes(x), fma(second, pairs[1][0], pairs[1][1]), past)


@step
def _two_rows(x, at, y, to, size, pair, affine, known):
    """y of two rows that have the same pairs, which are read once; at, to and known of either."""
    n = lanes(y)
    whole = in_vectors(size, n)
    for i in range(0, whole, n):
        w, c = _pair_at(y, pair, affine + i)
        for k in range(2):
            high, scale, shift = known[k]
            store(y, to[k] + i, fma(standardize(load(x, at[k] + i), high, scale, shift), w, c))
    if size > whole:
        for k in range(2):
            paired_run(x, at[k] + whole, y, to[k] + whole, size - whole, pair, affine + whole, known[k])


@step
def _few_vectors(x, xs, y, ys, pair, affine, first, groups, size, known, streams):
    """y of rows of two or four vectors that have the same pairs: they stay in registers.

    25088 rows of 64 took 610 µs where each row read them again, and take 480.
    """
    n, upper = lanes(y), size - 2 * lanes(y)
    pairs = _pair_at(y, pair, affine), _pair_at(y, pair, affine + n)
    others = _pair_at(y, pair, affine + upper), _pair_at(y, pair, affine + upper + n)
    for j in range(groups):
        at, to = place(xs, first + j, 0), place(ys, first + j, 0)
        found, past = known_of(y, known, j), streams and before_line(y, to) == 0
        _two_vectors(x, at, y, to, pairs, found, past)
        if upper > 0:
            _two_vectors(x, at + upper, y, to + upper, others, found, past)


@step
def _one_vector(x, xs, y, ys, pair, affine, first, groups, size, known, streams):
    """y of rows of one vector at the most that have the same pairs, which stay in a register, as does the mask.

    Lines go past the cache as they are: 200000 rows of 16 took 2.2 ms by way of a sink, on two threads, and take 1.2.
    """
    weight, bias = pair
    w = load_part(weight, affine, size) if given(weight) else splat(y, 1.0)
    c = load_part(bias, affine, size) if given(bias) else splat(y, -0.0)
    for j in range(groups):
        high, scale, shift = known_of(y, known, j)
        to = place(ys, first + j, 0)
        x_hat = standardize(load_part(x, place(xs, first + j, 0), size), high, scale, shift)
        put_part(y, to, fma(x_hat, w, c), size, streams and before_line(y, to) == 0)


@routine
def _poured_results(x, xs, y, ys, pair, pairs, first, groups, size, known, sink):
    """y of some groups, past the cache. (As an arm of the loop below, it took that 2 of 25 ns a row of 49.)"""
    for j in range(groups):
        at, to, affine = place(xs, first + j, 0), place(ys, first + j, 0), place(pairs, first + j, 0)
        poured(run_vector, (x, at, pair, affine, known_of(y, known, j)), START, size, y, to, sink)


@routine
def short_results(x, xs, y, ys, pair, pairs, job, first, groups, size, batch, beside):
    """y of some groups of a short run each, without activation; batch: mean, tail, rstd; beside: a buffer, a sink."""
    each, own = pair_along(pair, job), (nothing(pair[0]), nothing(pair[1]))
    sink, streams = beside[1], given(beside[1][0])
    weights, biases, known = stack(y, ROWS), stack(y, ROWS), stack(y, RUNS_SPACE)
    if job[AFFINE + ALONG] == 0:
        own = weights, biases
        for j in range(groups):
            weights[j], biases[j] = shared_pair(pair[0], pair[1], place(pairs, first + j, 0))
    statistic = load(batch, 0), load(batch, ROWS), load(batch, 2 * ROWS)
    store_coefficients(y, statistic[0], statistic[1], statistic[2], own, 0, ROWS, known, RUNS_LINE)
    alike = not given(each[0]) or (job[AFFINE + B0] == 0 and job[AFFINE + B1] == 0)
    touching = suit(size) and touch(xs[0], size) and touch(ys[0], size)
    runs = x, place(xs, first, 0), known, RUNS_LINE, lengths_of(size)
    if touching and not given(each[0]):
        apply_touching(runs, y, place(ys, first, 0), groups * size, job[OPTIONS + ACTIVATION], beside)
        return
    if touching and alike and streams and fill_vectors(y, size):
        rows = each, place(pairs, first, 0), runs
        poured(touching_rows, rows, START, groups * size, y, place(ys, first, 0), sink)
        return
    if alike and (size == 2 * lanes(y) or size == 4 * lanes(y)):
        _few_vectors(x, xs, y, ys, each, place(pairs, first, 0), first, groups, size, known, streams)
        return
    if alike and size <= lanes(y) and (not streams or size % per_line(y) == 0):
        _one_vector(x, xs, y, ys, each, place(pairs, first, 0), first, groups, size, known, streams)
        return
    if streams:
        _poured_results(x, xs, y, ys, each, pairs, first, groups, size, known, sink)
        return
    paired = in_vectors(groups, 2) if alike and given(each[0]) else 0
    for j in range(0, paired, 2):
        where = place(xs, first + j, 0), place(xs, first + j + 1, 0)
        both = place(ys, first + j, 0), place(ys, first + j + 1, 0)
        found = known_of(y, known, j), known_of(y, known, j + 1)
        _two_rows(x, where, y, both, size, each, place(pairs, first, 0), found)
    for j in range(paired, groups):
        at, to, affine = place(xs, first + j, 0), place(ys, first + j, 0), place(pairs, first + j, 0)
        paired_run(x, at, y, to, size, each, affine, known_of(y, known, j))

"""The sums of some runs, a vector at a time: Σ d and Σ d² about a centre, in the precision of the input and in float64."""

import numpy as np

from .._jit import routine, step, strict
from .job import place
from .language.loads import load, load_part
from .language.memory import cast, is_double
from .language.reductions import added_up
from .language.vectors import (
    at_least,
    first_of,
    fma,
    head,
    if_less,
    in_vectors,
    lanes,
    number_like,
    root,
    splat,
    spread,
    wide,
    without_nan,
)

# Elements of a block: at most as many are added up in the precision of the input before they are carried over to float64.
BLOCK = 2048

# A sum of squares outside these limits has lost digits to overflow or to subnormals, in float32 and in float64.
_TINY, _TINIEST = 1e-30, 1e-290
_HUGE, _HUGEST = 1e37, 1e300
# A centre a third of a standard deviation from the mean: of rows of noise, one in a hundred.
FAR = 0.1


@step
def ends(x, at, end, size):
    """A vector from either end of elements that lie from `at` to `end`, in runs of `size`, added up."""
    n = lanes(x)
    if size >= n:
        return load(x, at) + load(x, end - n)
    return load_part(x, at, size) + load_part(x, end - size, size)


@step
def share_of(x, size):
    """What the sum of both ends is multiplied by for their mean."""
    return 0.5 / min(size, lanes(x))


@step
def pilot(x, at, end, size):
    """A number near the mean of such elements: the mean of their two ends.

    Sums about it need not know the mean: where it lies within a third of a standard deviation, they lose nothing.
    """
    return cast(x, added_up(ends(x, at, end, size)) * share_of(x, size))


@step
def run_sums(x, at, size, centre, first, second):
    """(first + Σ d, second + Σ d²) of a run, lane by lane."""
    n = lanes(x)
    whole = in_vectors(size, n)
    end = at + whole
    for i in range(at, end, n):
        d = load(x, i) - centre
        first, second = first + d, fma(d, d, second)
    rest = size - whole
    if rest > 0:
        d = head(load_part(x, end, rest) - centre, rest)
        first, second = first + d, fma(d, d, second)
    return first, second


@step
def centred_sums(x, walk, b, first, last, low, high, centre):
    """(Σ d, Σ d²) of the same elements in float64, d = x - centre being in the precision of x."""
    zero, about = splat(x, 0.0), splat(x, centre)
    s1, s2 = zero, zero
    total1, total2 = wide(zero), wide(zero)
    # Twice as many vectors as lanes have numbers: 64 of float32, whose sum is then right to about a rounding.
    used = min(lanes(x), high - low)
    filled, block = 0, 2 * used * used
    for m in range(first, last):
        at = place(walk, b, m)
        for i in range(low, high, block):
            size = min(block, high - i)
            if filled > 0 and filled + size > block:
                total1, total2 = total1 + wide(s1), total2 + wide(s2)
                s1, s2 = zero, zero
                filled = 0
            s1, s2 = run_sums(x, at + i, size, about, s1, s2)
            filled += size
    if filled == (last - first) * (high - low):
        return added_up(s1), added_up(s2)
    return added_up(total1 + wide(s1)), added_up(total2 + wide(s2))


@step
def _wide_run_sums(x, at, size, centre, first, second):
    """`run_sums` with d in float64."""
    n = lanes(x)
    for i in range(0, size, n):
        count = min(n, size - i)
        d = head(wide(load_part(x, at + i, count)) - centre, count)
        first, second = first + d, fma(d, d, second)
    return first, second


@step
def _wide_sums(x, walk, b, first, last, low, high, centre):
    s1 = wide(splat(x, 0.0))
    s2 = s1
    for m in range(first, last):
        s1, s2 = _wide_run_sums(x, place(walk, b, m) + low, high - low, centre, s1, s2)
    return added_up(s1), added_up(s2)


@step
def soundness(x, s1, s2, count, far):
    """1 where (Σ d, Σ d²) have lost nothing, neither to the range of x's dtype nor to a centre far from the mean; else 0.

    Of numbers or of vectors. `far` is the share of its squared distance in a mean square that loses too much.
    """
    least, most = (_TINIEST, _HUGEST) if is_double(x) else (_TINY, _HUGE)
    no, yes = number_like(s2, 0.0), number_like(s2, 1.0)
    near = if_less(far * s2 * count, s1 * s1, no, yes)
    return if_less(least, s2, if_less(s2, most, near, no), no)


@step
def is_sound(x, s1, s2, count, far):
    """The same of numbers, as an answer."""
    return soundness(x, s1, s2, count, far) > 0.0


@routine
def _careful_sums(x, walk, b, first, last, low, high, centre, s1, second_moment):
    """(centre, Σ d, Σ d²) where a first try about `centre` gave s1: about the mean it tells, else in float64.

    Exact for constants, and where squares overflow float32.
    """
    count = np.float64(last - first) * (high - low)
    if second_moment == 0:
        centre = cast(x, centre + s1 / count)
        s1, s2 = centred_sums(x, walk, b, first, last, low, high, centre)
        if is_sound(x, s1, s2, count, FAR):
            return np.float64(centre), s1, s2
    middle = 0.0
    if second_moment == 0:
        for _ in range(2):
            middle += _wide_sums(x, walk, b, first, last, low, high, middle)[0] / count
    s1, s2 = _wide_sums(x, walk, b, first, last, low, high, middle)
    return middle, 0.0 if second_moment != 0 else s1, s2


@step
def checked_sums(x, walk, b, first, last, low, high, centre, found, second_moment):
    """(centre, Σ d, Σ d²), as it was found about `centre` if that is sound."""
    s1, s2 = 0.0 if second_moment != 0 else found[0], found[1]
    if is_sound(x, s1, s2, np.float64((last - first) * (high - low)), FAR):
        return np.float64(centre), s1, s2
    return _careful_sums(x, walk, b, first, last, low, high, centre, s1, second_moment)


@step
def moment_sums(x, walk, b, first, last, low, high, second_moment):
    """(centre, Σ d, Σ d²) of segments first to last of group b, elements low to high of each; about 0 for RMS.

    x: flat. The mean is centre + Σ d/count, M2 is Σ d² - (Σ d)²/count; `moments` says so.
    """
    centre = cast(x, 0)
    if second_moment == 0:
        at, end = place(walk, b, first) + low, place(walk, b, last - 1) + high
        centre = pilot(x, at, end, high - low)
    found = centred_sums(x, walk, b, first, last, low, high, centre)
    return checked_sums(x, walk, b, first, last, low, high, centre, found, second_moment)


@step
def is_short(x, size):
    """Whether a run is so short that a core has it in L1, and its sums need not be carried over to float64."""
    return size <= 2 * lanes(x) * lanes(x)


# -- Moments: (mean, tail, M2), the mean being mean + tail ---------------------------------------------------------


@strict
def moments(sums, count):
    """(mean, tail, M2) of `count` elements from (centre, Σ d, Σ d²)."""
    centre, first, second = sums
    shift = first / count
    mean = centre + shift
    return mean, (centre - mean) + shift, second - first * shift


@strict
def inverse_root(v):
    """1/√v of a vector, correct to its last bit but for a few: 1/root(v), corrected by how far v·r² is from 1."""
    r = 1.0 / root(v)
    product = v * r
    rest = fma(v, r, product * -1.0)
    gap = fma(product * -1.0, r, 1.0) - rest * r
    return r + without_nan(r * gap * 0.5)


@strict
def rstd_with(variance, eps, least):
    """1/√(variance + eps) of a vector; or eps is the least that a variance counts for."""
    return inverse_root(at_least(variance, eps) if least else variance + eps)


@strict
def statistic_from(sums, count, eps, least):
    """(mean, tail, rstd, variance) of `count` elements from (centre, Σ d, Σ d²), all of them vectors."""
    mean, tail, m2 = moments(sums, count)
    variance = m2 / count
    return mean, tail, rstd_with(variance, eps, least), variance


@step
def statistic_of_sums(sums, count, eps, least):
    """The same of numbers, for the bits that a vector of them would have."""
    centre, first, second = sums
    mean, tail, rstd, variance = statistic_from(
        (spread(centre), spread(first), spread(second)), np.float64(count), eps, least
    )
    return first_of(mean), first_of(tail), first_of(rstd), first_of(variance)


@step
def add_exactly(total, rest, value):
    """(total, rest) + value, what `total` rounds away being kept in `rest`; not for infinities."""
    result = total + value
    back = result - total
    return result, rest + ((total - (result - back)) + (value - back))


@strict
def merge(count_a, a, count_b, b):
    """Chan's merge of two (mean, tail, M2); the mean's rounding is kept in the tail."""
    mean_a, tail_a, m2_a = a
    mean_b, tail_b, m2_b = b
    count = count_a + count_b
    delta = (mean_b - mean_a) + (tail_b - tail_a)
    move = delta * (count_b / count)
    mean = mean_a + move
    back = mean - mean_a
    error = (mean_a - (mean - back)) + (move - back)
    return mean, tail_a + error, m2_a + (m2_b + delta * move * count_a)


@routine
def merge_all(lines, first, count):
    """Merge lines first to first + count of (count, mean, tail, M2) into the first: neighbours, then pairs of them …"""
    step = 1
    while step < count:
        for i in range(first, first + count - step, 2 * step):
            a, b = 4 * i, 4 * (i + step)
            state = (lines[a + 1], lines[a + 2], lines[a + 3])
            mean, tail, m2 = merge(lines[a], state, lines[b], (lines[b + 1], lines[b + 2], lines[b + 3]))
            lines[a], lines[a + 1], lines[a + 2], lines[a + 3] = lines[a] + lines[b], mean, tail, m2
        step *= 2

"""The arithmetic of one block: a 1-D contiguous piece of an array, small enough to stay in L1 while it is read again."""

import numpy as np

from .._jit import reduction, step

# Elements in a block: 8 KiB of float32, so that x, y, weight and bias blocks share a 32 KiB L1. 1024 costs 4 % more
# on rows of 4096, 4096 no less.
BLOCK = 2048

# A block's sum of squares outside these limits has lost digits to overflow or to subnormals in float32.
TINY = 1e-30
HUGE = 1e37


@step
def cast(like, value):
    """`value` in the dtype of the array `like`."""
    return like.dtype.type(value)


@step
def split(like, mean, tail):
    """(high, low) in the dtype of `like` whose sum is mean + tail to twice that dtype's precision."""
    high = cast(like, mean)
    return high, cast(like, (mean - np.float64(high)) + tail)


@step
def standardize(value, high, scale, shift):
    """x_hat of one value. No reassociation may reach this: it would add `high` and `shift` up first."""
    return (value - high) * scale + shift


@step
def distance(value, centre):
    """value - centre, kept as it is inside the reductions."""
    return value - centre


# -- Sums of one block ---------------------------------------------------------------------------------------------


@reduction
def total(block):
    """Σ x."""
    result = block.dtype.type(0)
    for i in range(block.size):
        result += block[i]
    return result


@reduction
def centred_sums(block, centre):
    """(Σ d, Σ d²) with d = x - centre."""
    first = block.dtype.type(0)
    second = block.dtype.type(0)
    for i in range(block.size):
        d = distance(block[i], centre)
        first += d
        second += d * d
    return first, second


@reduction
def wide_total(block):
    """Σ x in float64."""
    result = 0.0
    for i in range(block.size):
        result += np.float64(block[i])
    return result


@reduction
def wide_centred_sums(block, centre):
    """(Σ d, Σ d²) with d = x - centre, in float64."""
    first = 0.0
    second = 0.0
    for i in range(block.size):
        d = distance(np.float64(block[i]), centre)
        first += d
        second += d * d
    return first, second


@reduction
def is_constant(block, value):
    """Whether every element is `value`: squares may be 0 for being too small."""
    others = 0
    for i in range(block.size):
        others += block[i] != value
    return others == 0


@reduction
def least(block):
    """The least element, of none that are NaN."""
    result = block[0]
    for i in range(block.size):
        result = min(result, block[i])
    return result


@reduction
def squares(block):
    """Σ x²."""
    result = block.dtype.type(0)
    for i in range(block.size):
        result += block[i] * block[i]
    return result


@reduction
def gradient_sums(g, x, high, scale, shift):
    """(Σ g, Σ g·x_hat, Σ x_hat); the last is the rounding of a float64 mean, and nothing where x is float32."""
    first = g.dtype.type(0)
    second = g.dtype.type(0)
    drift = g.dtype.type(0)
    for i in range(g.size):
        x_hat = standardize(x[i], high, scale, shift)
        first += g[i]
        second += g[i] * x_hat
        drift += x_hat
    return first, second, drift


@reduction
def weighted_gradient_sums(g, x, weight, high, scale, shift):
    """`gradient_sums` of g·weight, for a weight per element."""
    first = g.dtype.type(0)
    second = g.dtype.type(0)
    drift = g.dtype.type(0)
    for i in range(g.size):
        x_hat = standardize(x[i], high, scale, shift)
        gw = g[i] * weight[i]
        first += gw
        second += gw * x_hat
        drift += x_hat
    return first, second, drift


@reduction
def dot_standardized(g, x, high, scale, shift):
    """Σ g·x_hat, with coefficients of each element's own."""
    result = g.dtype.type(0)
    for i in range(g.size):
        result += g[i] * standardize(x[i], high[i], scale[i], shift[i])
    return result


# -- Moments: (mean, tail, M2), the mean being mean + tail ---------------------------------------------------------


@step
def block_moments(block):
    """(mean, tail, M2) of a block: its mean, then the sums about it; the first of them corrects the mean's own rounding."""
    count = block.size
    centre = cast(block, total(block) / count)
    first, second = centred_sums(block, centre)
    if second == 0 and is_constant(block, centre):
        return np.float64(centre), 0.0, 0.0
    # Also where the centre misses the mean by more than the spread, as it does in a constant block.
    if not (TINY < second < HUGE) or np.float64(first) * first > 0.5 * count * second:
        return wide_block_moments(block)
    shift = np.float64(first) / count
    mean = np.float64(centre) + shift
    return mean, (np.float64(centre) - mean) + shift, second - first * shift


@step
def wide_block_moments(block):
    """`block_moments` in float64 with the mean refined once: exact for constants, and for values whose squares overflow."""
    count = block.size
    centre = wide_total(block) / count
    first, second = wide_centred_sums(block, centre)
    centre += first / count
    first, second = wide_centred_sums(block, centre)
    shift = first / count
    return centre, shift, second - first * shift


@step
def block_square(block):
    """(0, 0, Σ x²): the second moment, in the place of M2."""
    second = np.float64(squares(block))
    if not (TINY < second < HUGE) and not (second == 0 and is_constant(block, block.dtype.type(0))):
        _, second = wide_centred_sums(block, 0.0)
    return 0.0, 0.0, second


@step
def merge(count_a, a, count_b, b):
    """Chan's merge of two (mean, tail, M2); the mean's rounding is kept in the tail."""
    mean_a, tail_a, m2_a = a
    mean_b, tail_b, m2_b = b
    count = count_a + count_b
    delta = (mean_b - mean_a) + (tail_b - tail_a)
    move = delta * (np.float64(count_b) / count)
    mean = mean_a + move
    back = mean - mean_a
    error = (mean_a - (mean - back)) + (move - back)
    return mean, tail_a + error, m2_a + (m2_b + delta * move * count_a)


@reduction
def fold_sums(means, tails, mean, tail):
    """(Σ e, Σ e²), e = the distance of each (mean, tail) from one."""
    first = 0.0
    second = 0.0
    for i in range(means.size):
        e = distance(means[i], mean) + distance(tails[i], tail)
        first += e
        second += e * e
    return first, second


# -- Applying ------------------------------------------------------------------------------------------------------


@step
def apply_plain(x, y, high, scale, shift):
    """y = (x - high)·scale + shift."""
    for i in range(y.size):
        y[i] = standardize(x[i], high, scale, shift)


@step
def apply_weight(x, y, weight, high, scale, shift):
    """y = ((x - high)·scale + shift)·weight."""
    for i in range(y.size):
        y[i] = standardize(x[i], high, scale, shift) * weight[i]


@step
def apply_affine(x, y, weight, bias, high, scale, shift):
    """y = ((x - high)·scale + shift)·weight + bias."""
    for i in range(y.size):
        y[i] = standardize(x[i], high, scale, shift) * weight[i] + bias[i]


@step
def gradient_plain(g, x, dx, high, scale, shift, a, b, c):
    """dx = a·g + b·x_hat + c."""
    for i in range(dx.size):
        dx[i] = a * g[i] + (b * standardize(x[i], high, scale, shift) + c)


@step
def gradient_weight(g, x, dx, weight, high, scale, shift, a, b, c):
    """dx = a·g·weight + b·x_hat + c."""
    for i in range(dx.size):
        dx[i] = a * (g[i] * weight[i]) + (b * standardize(x[i], high, scale, shift) + c)


@step
def gather_parameters(g, x, dweight, dbias, high, scale, shift):
    """dweight += g·x_hat, dbias += g."""
    for i in range(g.size):
        dweight[i] += g[i] * standardize(x[i], high, scale, shift)
        dbias[i] += g[i]


@step
def clear(block):
    """block = 0. A loop, as in `copy`: Numba's slice assignment compiles for 2 s, for an error it never raises."""
    for i in range(block.size):
        block[i] = 0


@step
def copy(block, out):
    """out = block."""
    for i in range(out.size):
        out[i] = block[i]


@step
def add(x, residual, out):
    """out = x + residual."""
    for i in range(out.size):
        out[i] = x[i] + residual[i]

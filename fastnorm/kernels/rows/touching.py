"""Short runs that touch, as one long run: a vector that several of them share has the numbers of each.

One by one each took a masked vector for what fills none, and a dozen instructions before its first. Inference of 4×512 of 49
took 10.8 µs so, with relu 23, and takes 9.1 and 9.7; of 64×2048 of 49, past the cache, 1100, and takes 800.
"""

from ..._jit import routine, step
from ..apply import apply_vectors, standardize
from ..language.loads import load_some
from ..language.memory import given, moved
from ..language.vectors import continued, fma, lanes, splat

# Longer runs take less one by one: of 784 a tenth, of 256 a twentieth, while those of 196 take as long.
_LONG = 224
# How many runs have their numbers found at once; how far lines of these lie apart, for a vector may read more; three lines.
RUNS, RUNS_LINE, RUNS_SPACE = 16, 48, 3 * 48


@step
def suit(length):
    """Whether runs of a length are better taken together."""
    return length <= _LONG


@step
def lengths_of(length):
    """A length, and what a product with an index is shifted for the quotient: a division takes 18 cycles."""
    return length, (1 << 32) // length + 1


@step
def _shared(lengths, i):
    """Which run the i-th number belongs to, how many numbers are left of it, and how many all have."""
    length, inverse = lengths
    r = (max(i, 0) * inverse) >> 32
    return r, (r + 1) * length - i, length


@step
def _each(like, line, shared):
    """A vector of the number of the first run that shares it, then of that of the next one, and so on."""
    r, k, length = shared
    value = continued(splat(like, line[r]), splat(like, line[r + 1]), k)
    while k + length < lanes(like):
        r, k = r + 1, k + length
        value = continued(value, splat(like, line[r + 1]), k)
    return value


@step
def touching_runs(runs, i, first, last):
    """A vector of y for `poured`; known: high, scale and shift of each run, lines that lie `line` apart."""
    x, at, known, line, lengths = runs
    shared = _shared(lengths, i)
    high, scale = _each(x, known, shared), _each(x, moved(known, line), shared)
    return standardize(
        load_some(x, at + i, first, last), high, scale, _each(x, moved(known, 2 * line), shared)
    )


@routine
def apply_touching(runs, y, to, size, code, beside):
    """y[to …] = `size` numbers of such runs, with an activation; beside: a buffer and a sink."""
    apply_vectors(touching_runs, runs, y, to, size, code, beside)


# -- Where each element of a run has a weight of its own, as the same one of all other runs has --------------------------


@step
def fill_vectors(y, length):
    """Whether no vector is shared by more than two runs."""
    return length >= lanes(y)


@step
def _along(parameter, at, i, shared):
    """A vector of what begins at parameter[at] in every run."""
    r, k, length = shared
    n, begun = lanes(parameter), i - r * length
    first = load_some(parameter, at + begun, max(0, -begun), min(k, n))
    return continued(first, load_some(parameter, at - k, k, n), k) if k < n else first


@step
def touching_rows(rows, i, first, last):
    """The same, times a weight for an element; and a bias, if there are any."""
    (weight, bias), affine, runs = rows
    value, shared = touching_runs(runs, i, first, last), _shared(runs[4], i)
    w = _along(weight, affine, i, shared)
    return fma(value, w, _along(bias, affine, i, shared)) if given(bias) else value * w


# -- Backward ------------------------------------------------------------------------------------------------------------


@step
def touching_gradients(runs, i, first, last):
    """A vector of dx; known: high, scale, shift, and what g, x_hat and 1 are multiplied by, of each run."""
    g, g_at, x, at, known, line, lengths = runs
    shared = _shared(lengths, i)
    x_hat = touching_runs((x, at, known, line, lengths), i, first, last)
    of_g, of_x = _each(x, moved(known, 3 * line), shared), _each(x, moved(known, 4 * line), shared)
    return fma(
        of_g, load_some(g, g_at + i, first, last), fma(of_x, x_hat, _each(x, moved(known, 5 * line), shared))
    )


@step
def touching_segments(runs, i, first, last):
    """The same where all but what g is multiplied by is one for all runs."""
    g, g_at, x, at, of_g, lengths, (high, scale, shift), (of_x, of_1) = runs
    x_hat = standardize(load_some(x, at + i, first, last), high, scale, shift)
    return fma(
        _each(x, of_g, _shared(lengths, i)), load_some(g, g_at + i, first, last), fma(of_x, x_hat, of_1)
    )

"""Short runs that touch and are taken as one, as the channels of small images are: the bits of those that do not touch."""

import numpy as np
import pytest

import fastnorm

from .checks import DTYPES, assert_exact
from .norms import widen

# Of one number, of less than a vector of 16 or 32, of one and its neighbours, of some; and the longest, and one more.
LENGTHS = [1, 2, 3, 5, 15, 16, 17, 25, 31, 32, 33, 49, 64, 65, 196, 224, 225]


def _apart(x):
    """The same numbers, with three more behind each run."""
    space = np.full((*x.shape[:-1], x.shape[-1] + 3), np.nan, x.dtype)
    space[..., :-3] = x
    return space[..., :-3]


def _data(dtype, length, rng, channels=70):
    """More channels than have their numbers found at once, and no multiple of that."""
    x, dy = rng.standard_normal((2, 3, channels, length)).astype(dtype)
    return x, dy, rng.standard_normal((2, channels)).astype(dtype)


def _agree(call, *arrays):
    """Whether a call's results have the same bits for arrays whose runs touch and for those whose runs do not."""
    expected = call(*arrays)
    apart = [_apart(a) for a in arrays]
    found = call(*apart)
    assert all(map(np.array_equal, found, expected))


@pytest.mark.parametrize("activation", [None, "relu", "silu"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("length", LENGTHS)
def test_inference(length, dtype, activation, rng):
    x, _, (weight, bias) = _data(dtype, length, rng)
    mean = rng.standard_normal(70).astype(dtype)

    def call(x):
        given = mean, 0.5 + mean**2, weight, bias
        out = np.empty_like(_apart(x))
        fastnorm.batch_norm(x, *given, activation=activation, out=out)
        return fastnorm.batch_norm(x, *given, activation=activation), out

    _agree(call, x)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("length", LENGTHS)
def test_instance_norm(length, dtype, rng):
    x, dy, pair = _data(dtype, length, rng)

    def call(x, dy):
        y, *statistics = fastnorm.instance_norm(x, None, None, *pair, return_stats=True)
        return y, *statistics, *fastnorm.instance_norm_backward(dy, x, *statistics, *pair)

    _agree(call, x, dy)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("length", LENGTHS)
def test_group_norm(length, dtype, rng):
    """Of more channels than have their numbers found at once. The statistics are those of runs that touch."""
    x, dy, pair = _data(dtype, length, rng, 42)
    y, *statistics = fastnorm.group_norm(x, 2, *pair, return_stats=True)

    def call(x, dy):
        return fastnorm.group_norm_backward(dy, x, 2, *statistics, *pair)

    _agree(call, x, dy)
    again = np.empty_like(_apart(x))
    fastnorm.group_norm(x, 2, *pair, out=again)
    assert np.array_equal(again, y)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("length", LENGTHS[1:])
def test_rows(length, dtype, rng):
    """Without weights, and with those that all rows have."""
    x, _, _ = _data(dtype, length, rng)
    weight, bias = rng.standard_normal((2, length)).astype(dtype)

    def call(x):
        return fastnorm.layer_norm(x), fastnorm.layer_norm(x, weight, bias), fastnorm.rms_norm(x, weight)

    _agree(call, x)


@pytest.mark.parametrize("activation", [None, "silu"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", ["NCL", "NCHW", "CNL", "NHWC"])
def test_inference_equals_the_definition(layout, dtype, activation, rng):
    """Statistics of x's dtype and of float64; recalled or not."""
    x = rng.standard_normal([{"N": 3, "C": 70, "H": 2, "W": 3, "L": 5}[letter] for letter in layout]).astype(
        dtype
    )
    mean, weight, bias = rng.standard_normal((3, 70))
    variance = 0.5 + mean**2
    along = [-1 if letter == "C" else 1 for letter in layout]
    for kept in (dtype, np.float64):
        given = [a.astype(kept) for a in (mean, variance)] + [a.astype(dtype) for a in (weight, bias)]
        m, v, w, b = (widen(a).reshape(along) for a in given)
        z = (widen(x) - m) / np.sqrt(v + 1e-5) * w + b
        for _ in range(2):
            y = fastnorm.batch_norm(x, *given, layout=layout, activation=activation)
            assert_exact(y, z if activation is None else z / (1 + np.exp(-z)), dtype)

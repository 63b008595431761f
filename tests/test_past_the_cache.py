"""Results stored past the cache, as large ones are, which no test has time for: the bits of those stored into it."""

import numpy as np
import pytest

import fastnorm
from fastnorm import _layout
from fastnorm.functional._flow import recall as _recall
from fastnorm.functional._flow import results as _results

from .checks import DTYPES
from .norms import NORMS, affine, one_of_each


@pytest.fixture
def past(monkeypatch):
    """From now on results go past the cache: all, those that follow each other too, those in whole lines, or none."""

    def switch(what):
        monkeypatch.setattr(_results, "_ALIGNED", 0 if what else 1 << 40)
        for limit in ("_TWO_INPUTS", "_ONE", "_ONE_READ_ONCE"):
            monkeypatch.setattr(_results, limit, 0 if what else 1 << 40)
        monkeypatch.setattr(_layout, "_LONG", 0 if what == "all" else 256)
        monkeypatch.setattr(_layout, "_SHORT", 0 if what == "in turn" else 1 << 40)
        monkeypatch.setattr(_recall, "_calls", {})
        _layout.plan.cache_clear()

    yield switch
    _layout.plan.cache_clear()  # of what is no plan of the next test's


def _unaligned(like):
    """An array like another that begins one element beyond the start of a line."""
    space = np.empty(like.nbytes + 64 + like.itemsize, np.uint8)
    start = -space.__array_interface__["data"][0] % 64 + like.itemsize
    return np.ndarray(like.shape, like.dtype, space, start, like.strides)


def _all_of(norm, x, dy, pair, **options):
    """Everything there is, of a call that is recalled: from its second time on results begin on a line."""
    for _ in range(2):
        y, *statistics = norm(x, *pair, **options)
        gradients = norm.backward(dy, x, statistics, *pair, **options)
        alone = norm.backward(dy, x, statistics, *pair, needs=(True, False, False), **options)
    written = norm(x, *pair, out=_unaligned(y), **options)
    return y, *statistics, *gradients, alone.dx, *written


def _data(norm, shape, dtype, rng):
    x, dy = (1 + rng.standard_normal((2, *shape))).astype(dtype)
    return x, dy, affine(norm, shape, rng, dtype)


# A line of float32 has 16 numbers: less than a line, some lines, and odd rests; more than a block.
@pytest.mark.parametrize("count", [5, 64, 97, 2100])
@pytest.mark.parametrize("norm", NORMS, ids=str)
def test_the_same_bits(norm, count, past, rng):
    arguments = _data(norm, norm.sized(count), np.float32, rng)
    past(None)
    expected = _all_of(norm, *arguments)
    for what in ("all", "in turn", "lines"):
        past(what)
        for one, other in zip(_all_of(norm, *arguments), expected, strict=True):
            assert np.array_equal(one, other)


@pytest.mark.parametrize("activation", [None, "silu"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("norm", one_of_each(NORMS), ids=str)
def test_in_other_dtypes_and_with_an_activation(norm, dtype, activation, past, rng):
    arguments = _data(norm, norm.sized(200), dtype, rng)
    past(None)
    expected = _all_of(norm, *arguments, activation=activation)
    past("all")
    for one, other in zip(_all_of(norm, *arguments, activation=activation), expected, strict=True):
        assert np.array_equal(one, other)


@pytest.mark.parametrize("length", [16, 32, 48, 64, 128, 200, 512, 544])
def test_short_rows(length, past, rng):
    x, residual = rng.standard_normal((2, 77, length), dtype=np.float32)
    weight, bias = rng.standard_normal((2, length), dtype=np.float32)
    calls = (
        lambda: (fastnorm.layer_norm(x, weight, bias), fastnorm.layer_norm(x), fastnorm.rms_norm(x, weight)),
        lambda: fastnorm.add_layer_norm(x, residual, weight, bias),
    )
    for call in calls:
        past(None)
        expected = call()
        past("all")
        for _ in range(2):
            assert all(map(np.array_equal, call(), expected))


def _framed(shape, dtype, offset):
    """An array that begins so many elements beyond the start of a line; and what lies before and behind it: sevens."""
    size = int(np.prod(shape))
    space = np.full(size + 64, 7, dtype)
    start = -space.__array_interface__["data"][0] % 64 // space.itemsize + offset
    return space[start : start + size].reshape(shape), (space[:start], space[start + size :])


# Runs that share lines, and vectors; 64 fill lines, if they begin on one.
@pytest.mark.parametrize("activation", [None, "relu"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("offset", [0, 4, 15])
@pytest.mark.parametrize("size", [5, 36, 49, 64, 96, 97, 196])
def test_short_images(size, offset, dtype, activation, past, rng):
    """Some hundreds, of which what waits has to be stored many times."""
    x = rng.standard_normal((3, 101, size)).astype(dtype)
    mean, weight, bias = rng.standard_normal((3, 101)).astype(dtype)
    given = mean, 1 + mean**2, weight, bias
    past(None)
    expected = fastnorm.batch_norm(x, *given, activation=activation)
    past("all")
    out, around = _framed(x.shape, dtype, offset)
    fastnorm.batch_norm(x, *given, activation=activation, out=out)
    assert np.array_equal(out, expected)
    assert all((a == 7).all() for a in around)


@pytest.mark.parametrize("offset", [0, 1, 15])
@pytest.mark.parametrize("length", [8, 33, 137, 2049])
def test_nothing_beside_the_result_is_written(length, offset, past, rng):
    """Lines that rows share are put together from both; the first and the last are the result's in part."""
    x = rng.standard_normal((301, length), dtype=np.float32)
    weight = rng.standard_normal(length, dtype=np.float32)
    past(None)
    expected = [fastnorm.layer_norm(x, weight), fastnorm.layer_norm(x, weight, activation="silu")]
    past("in turn")
    for y, activation in zip(expected, (None, "silu"), strict=True):
        out, around = _framed(x.shape, np.float32, offset)
        fastnorm.layer_norm(x, weight, activation=activation, out=out)
        assert np.array_equal(out, y)
        assert all((a == 7).all() for a in around)
        np.copyto(out, x)
        fastnorm.layer_norm(out, weight, activation=activation, out=out)
        assert np.array_equal(out, y)

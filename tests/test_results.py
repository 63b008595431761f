"""Memory for results: large ones take what earlier ones have left, and nothing that is still in use."""

import gc
import mmap
import sys

import numpy as np
import pytest

import fastnorm
from fastnorm.functional import _results

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="MADV_FREE is Linux's")

_ROWS = 1200  # of 8192 float32: 37.5 MiB


@pytest.fixture(autouse=True)
def nothing_left(monkeypatch):
    monkeypatch.setattr(_results, "_left", {})
    monkeypatch.setattr(_results, "_unmarked", [])


@pytest.fixture
def x(rng):
    x = rng.standard_normal((_ROWS, 8192), dtype=np.float32)
    fastnorm.rms_norm(x)  # from now on the call is recalled
    return x


def _address(array):
    return array.__array_interface__["data"][0]


def test_memory_of_a_result_that_is_gone_is_used_again(x):
    y = fastnorm.rms_norm(x)
    first, expected = _address(y), y.copy()
    del y
    gc.collect()
    y = fastnorm.rms_norm(x)
    assert _address(y) == first
    assert np.array_equal(y, expected)
    assert y.flags.writeable
    assert y.flags.c_contiguous
    assert y.dtype == x.dtype


def test_a_result_that_is_kept_stays_as_it_is(x):
    kept = [fastnorm.rms_norm(x * (i + 1), eps=0.5) for i in range(3)]
    copies = [y.copy() for y in kept]
    fastnorm.rms_norm(-x, eps=0.5)
    assert all(map(np.array_equal, kept, copies))


@pytest.mark.parametrize("view", [lambda y: y[5:7], lambda y: y.T, lambda y: memoryview(y), lambda y: y.base])
def test_a_view_keeps_the_memory(x, view):
    y = fastnorm.rms_norm(x)
    part = view(y)
    before = np.array(part)
    del y
    gc.collect()
    assert not _results._left
    fastnorm.rms_norm(x + 1)
    assert np.array_equal(np.asarray(part), before)


def test_order_of_memory_is_kept(rng):
    x = rng.standard_normal((8192, _ROWS), dtype=np.float32).T
    for _ in range(2):
        y = fastnorm.layer_norm(x)
        assert y.strides == x.strides
    assert np.abs(y.mean(1)).max() < 1e-4


def test_gradients(x, rng):
    _, rstd = fastnorm.rms_norm(x, return_stats=True)
    dy = rng.standard_normal(x.shape, dtype=np.float32)
    first = fastnorm.rms_norm_backward(dy, x, rstd).dx.copy()
    for _ in range(2):
        assert np.array_equal(fastnorm.rms_norm_backward(dy, x, rstd).dx, first)


def test_no_more_is_kept_than_said(monkeypatch, rng):
    monkeypatch.setattr(_results, "_MOST", 80 << 20)
    for rows in (_ROWS, _ROWS + 8, _ROWS + 16, 3 * _ROWS):
        x = rng.standard_normal((rows, 8192), dtype=np.float32)
        for _ in range(2):
            fastnorm.rms_norm(x)
    gc.collect()
    assert list(_results._left) == [(_ROWS + 8) * 32768, (_ROWS + 16) * 32768]


def test_all_but_the_last_are_marked_as_free(monkeypatch, rng):
    marked = []

    class Memory(mmap.mmap):
        def madvise(self, advice):
            marked.extend([len(self)] if advice == mmap.MADV_FREE else [])
            return super().madvise(advice)

    monkeypatch.setattr(_results.mmap, "mmap", Memory)
    first, other, large = (
        rng.standard_normal((rows, 8192), dtype=np.float32) for rows in (_ROWS + 24, _ROWS + 32, 2100)
    )
    for x in (first, other, large):
        fastnorm.rms_norm(x, eps=0.25)  # from now on the call is recalled
    marked.clear()
    y = fastnorm.rms_norm(first, eps=0.25)
    expected = y.copy()
    fastnorm.rms_norm(other, eps=0.25)
    assert marked == []  # what is in use is not marked, nor what was left last
    assert np.array_equal(y, expected)
    del y
    assert marked == [other.nbytes]
    fastnorm.rms_norm(large, eps=0.25)
    assert marked == [other.nbytes, first.nbytes, large.nbytes]


def test_small_results_are_numpys_own(rng):
    x = rng.standard_normal((64, 768), dtype=np.float32)
    for _ in range(2):
        y = fastnorm.rms_norm(x)
    assert y.flags.owndata

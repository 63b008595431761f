"""Memory for results: large ones take what earlier ones have left, and nothing that is still in use."""

import gc
import mmap
import subprocess
import sys

import numpy as np
import pytest

import fastnorm
from fastnorm.functional._flow import results as _results

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="MADV_FREE is Linux's")

_ROWS = 1200  # of 8192 float32: 37.5 MiB


@pytest.fixture(autouse=True)
def nothing_left(monkeypatch):
    monkeypatch.setattr(_results, "_left", {})
    monkeypatch.setattr(_results, "_marked", {})


@pytest.fixture
def x(rng):
    x = rng.standard_normal((_ROWS, 8192), dtype=np.float32)
    fastnorm.rms_norm(x)  # from now on the call is recalled
    return x


def _address(array):
    return array.__array_interface__["data"][0]


def _kept(blocks):
    """Their sizes, the first left first."""
    gc.collect()
    return [size for size, same in blocks.items() for _ in same]


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
    assert _kept(_results._left) == []
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


def test_two_at_once(rng):
    """glibc gives the memory of two results back that are freed together."""
    x = rng.standard_normal((300, 1024), dtype=np.float32)
    addresses = []
    for _ in range(4):
        both = fastnorm.rms_norm(x), fastnorm.rms_norm(x)
        addresses.append({_address(y) for y in both})
        del both
    assert len(addresses[-1]) == 2
    assert addresses[-1] == addresses[-2]


def _leave(rng, *rows, calls=1):
    """Results of so many rows, one after the other."""
    for count in rows:
        x = rng.standard_normal((count, 8192), dtype=np.float32)
        for _ in range(calls):
            fastnorm.rms_norm(x, eps=0.25)


def test_no_more_is_kept_than_said(monkeypatch, rng):
    monkeypatch.setattr(_results, "_MOST", 6 << 20)
    monkeypatch.setattr(_results, "_WARM", 8 << 20)
    _leave(rng, 100, 101, 300, 102, 103, calls=2)
    assert _kept(_results._left) == [102 * 32768, 103 * 32768]
    assert _kept(_results._marked) == [101 * 32768]  # of 6 MiB at the most
    _leave(rng, 101)
    assert _kept(_results._left) == [103 * 32768, 101 * 32768]
    assert _kept(_results._marked) == [102 * 32768]


def test_of_so_many_sizes(monkeypatch, rng):
    monkeypatch.setattr(_results, "_SIZES", 3)
    _leave(rng, *range(64, 72), calls=2)
    assert _kept(_results._left) == [rows * 32768 for rows in (69, 70, 71)]
    assert _kept(_results._marked) == [rows * 32768 for rows in (66, 67, 68)]


def test_what_is_left_before_64_mib_is_marked_as_free(monkeypatch, rng):
    marked = []

    class Memory(mmap.mmap):
        def madvise(self, advice):
            marked.extend([len(self)] if advice == mmap.MADV_FREE else [])
            return super().madvise(advice)

    monkeypatch.setattr(_results.mmap, "mmap", Memory)
    first, other, large = (rng.standard_normal((rows, 8192), dtype=np.float32) for rows in (1020, 1030, 2100))
    for x in (first, other, large):
        fastnorm.rms_norm(x, eps=0.25)  # from now on the call is recalled
    marked.clear()
    y = fastnorm.rms_norm(first, eps=0.25)
    expected = y.copy()
    fastnorm.rms_norm(other, eps=0.25)
    fastnorm.rms_norm(other, eps=0.25)
    assert marked == []  # what is in use is not marked, nor the last 64 MiB
    assert np.array_equal(y, expected)
    del y
    assert marked == [other.nbytes]
    fastnorm.rms_norm(large, eps=0.25)
    assert marked == [other.nbytes, large.nbytes]
    assert fastnorm.rms_norm(other, eps=0.25).shape == other.shape
    assert _kept(_results._marked) == [large.nbytes, first.nbytes]


def test_no_word_at_the_end():
    """Results outlive the module that would keep their memory."""
    code = "import numpy, fastnorm; y = fastnorm.rms_norm(numpy.ones((600, 1024), 'f4')); z = fastnorm.rms_norm(y)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == found.stderr == ""


def test_small_results_are_numpys_own(rng):
    x = rng.standard_normal((64, 768), dtype=np.float32)
    for _ in range(2):
        y = fastnorm.rms_norm(x)
    assert y.flags.owndata

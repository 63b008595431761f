"""Kernels in a user's own compiled code: the bits of the public functions, from every way there is to compile."""

import ctypes
import threading

import numba
import numpy as np
import pytest
from numba import carray, cfunc, njit, prange, types

import fastnorm
from fastnorm.kernels import layer_norm_row, moments, moments_of_columns, norm_columns, rms_norm_row

NONE = {dtype: np.empty(0, dtype) for dtype in (np.float32, np.float64)}
# A vector ± 1, beyond a block and beyond a chunk.
SIZES = [1, 31, 33, 768, 2049, 40_001]


@njit
def _each_row(x, weight, bias, y, z):
    for i in range(len(x)):
        layer_norm_row(x[i], weight, bias, 1e-5, y[i])
        rms_norm_row(x[i], weight, bias, 1e-5, z[i])


@njit(parallel=True)
def _rows_at_once(x, weight, bias, y, z):
    for i in prange(len(x)):
        layer_norm_row(x[i], weight, bias, 1e-5, y[i])
        rms_norm_row(x[i], weight, bias, 1e-5, z[i])


def _from_c(x, weight, bias, y, z):
    single = types.CPointer(types.float32)

    @cfunc(types.void(single, types.int64, single, single, single))
    def row(x, size, weight, y, z):
        given, w = carray(x, size), carray(weight, size)
        layer_norm_row(given, w, w[:0], 1e-5, carray(y, size))
        rms_norm_row(given, w, w[:0], 1e-5, carray(z, size))

    def at(array):
        return array.ctypes.data_as(ctypes.POINTER(ctypes.c_float))

    for i in range(len(x)):
        row.ctypes(at(x[i]), x.shape[1], at(weight), at(y[i]), at(z[i]))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("compiled", [_each_row, _rows_at_once])
def test_rows(compiled, dtype, size, rng):
    x = (3 + rng.standard_normal((5, size))).astype(dtype)
    weight, bias = rng.standard_normal((2, size)).astype(dtype)
    for w, b in ((NONE[dtype], NONE[dtype]), (weight, NONE[dtype]), (weight, bias)):
        y, z = np.empty_like(x), np.empty_like(x)
        compiled(x, w, b, y, z)
        given = [a if a.size else None for a in (w, b)]
        assert np.array_equal(y, fastnorm.layer_norm(x, *given))
        assert np.array_equal(z, fastnorm.rms_norm(x, *given))


def test_rows_from_c(rng):
    x = rng.standard_normal((3, 100), np.float32)
    weight = rng.standard_normal(100, np.float32)
    y, z = np.empty_like(x), np.empty_like(x)
    _from_c(x, weight, None, y, z)
    assert np.array_equal(y, fastnorm.layer_norm(x, weight))
    assert np.array_equal(z, fastnorm.rms_norm(x, weight))


def test_in_place(rng):
    x = rng.standard_normal((4, 50), np.float32)
    y, none = fastnorm.layer_norm(x), NONE[np.float32]
    _each_row(x, none, none, x, np.empty_like(x))
    assert np.array_equal(x, y)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_moments(dtype, size, rng):
    """Within the roundings of the contract: of the standard deviation, and of the variance."""
    x = (1e3 + rng.standard_normal(size)).astype(dtype)
    mean, variance = moments(x)
    wide = x.astype(np.longdouble)
    eps = 4 * np.finfo(dtype).eps
    assert abs(mean - wide.mean()) <= eps * wide.std() + 4 * np.finfo(np.float64).eps * 1e3
    assert abs(variance - wide.var()) <= 2 * eps * wide.var()


@pytest.mark.parametrize("shape", [(1, 1), (5, 3), (1000, 7), (2000, 33), (40, 600)], ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_columns(dtype, shape, rng):
    x = (3 + rng.standard_normal(shape)).astype(dtype)
    weight, bias = rng.standard_normal((2, shape[1])).astype(dtype)
    y, mean, variance = np.empty_like(x), np.empty(shape[1]), np.empty(shape[1])
    norm_columns(x, weight, bias, 1e-5, y)
    moments_of_columns(x, mean, variance)
    wide = x.astype(np.float64)
    eps = 4 * np.finfo(np.float32).eps
    assert np.allclose(mean, wide.mean(0), rtol=1e-14, atol=eps * wide.std(0).max())
    assert np.allclose(variance, wide.var(0), rtol=2 * eps, atol=1e-14)
    if shape[0] > 1:  # else batch norm refuses
        expected, found, _ = fastnorm.batch_norm(
            x, weight=weight, bias=bias, training=True, layout="NC", return_stats=True
        )
        assert np.array_equal(y, expected) and np.array_equal(mean, found)


def test_the_gil_is_released_and_no_object_is_touched(rng):
    x = rng.standard_normal(50_000_000, np.float32)
    moments(x[:10])
    counted, done = 0, threading.Event()

    def work():
        moments(x)
        done.set()

    thread = threading.Thread(target=work)
    thread.start()
    while not done.is_set():
        counted += 1
    thread.join()
    assert counted > 100, "another thread got nowhere meanwhile"
    for function in (layer_norm_row, moments):
        assert function.targetoptions["nogil"]
        assert numba.core.registry.CPUDispatcher is type(function)

"""The assertions that the tests of results share, and the lists they run over."""

import numpy as np

from .oracle import FORWARD_ROUNDINGS, GRADIENT_ROUNDINGS, gradient_roundings, roundings

DTYPES = [np.float32, np.float64]
ACTIVATIONS = ["relu", "gelu", "gelu_tanh", "silu", "sigmoid", "tanh"]


def assert_exact(y, exact, dtype):
    assert y.dtype == dtype
    assert roundings(y, exact, dtype) <= FORWARD_ROUNDINGS


def assert_statistics(statistics, exact, dtype):
    """The mean to roundings of the spread it is subtracted from, or its own in float64; rstd to its own."""
    eps = FORWARD_ROUNDINGS * np.finfo(dtype).eps
    *mean, rstd = statistics
    *exact_mean, exact_rstd = exact
    assert rstd.dtype == np.float64 and rstd.shape == exact_rstd.shape
    assert np.all(np.abs(rstd - exact_rstd) <= eps * exact_rstd)
    for found, wanted in zip(mean, exact_mean, strict=True):
        assert found.dtype == np.float64 and found.shape == wanted.shape
        own = FORWARD_ROUNDINGS * np.finfo(np.float64).eps * np.abs(wanted)
        assert np.all(np.abs(found - wanted) <= eps / exact_rstd + own)


def assert_like(y, x):
    """y has the dtype, shape and memory order that np.empty_like gives."""
    expected = np.empty_like(x, subok=False)
    assert type(y) is np.ndarray
    assert (y.dtype, y.shape, y.strides) == (x.dtype, x.shape, expected.strides)


def assert_sum(found, terms, dtype):
    """The gradient of one number, to roundings of the terms whose sum it is: they may cancel."""
    error, size = np.abs(found - np.sum(terms)), np.sum(np.abs(terms))
    assert error <= GRADIENT_ROUNDINGS * np.finfo(dtype).eps * size


def assert_gradients(found, exact, dtype):
    for name, gradient, wanted in zip(("dx", "dweight", "dbias"), found, exact, strict=True):
        assert gradient.shape == wanted.shape, name
        assert gradient_roundings(gradient, wanted, dtype) <= GRADIENT_ROUNDINGS, name

"""Residual addition and norm in one trip: add_layer_norm and add_rms_norm."""

import numpy as np
import pytest

import fastnorm

from .checks import DTYPES, assert_exact, assert_like
from .norms import BY_AXIS, affine, one_of_each
from .oracle import ZOO


def add_norm(norm, x, residual, weight=None, bias=None, **options):
    return getattr(fastnorm, f"add_{norm.name}")(x, residual, weight, bias, axis=norm.axis, **options)


@pytest.mark.parametrize("parameters", ["neither", "weight", "bias", "both"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("norm", BY_AXIS, ids=str)
def test_is_the_norm_of_the_sum(norm, dtype, parameters, rng):
    for count in (8, 2049):
        x, residual = rng.standard_normal((2, *norm.sized(count))).astype(dtype)
        weight, bias = affine(norm, x.shape, rng, dtype)
        weight = weight if parameters in ("weight", "both") else None
        bias = bias if parameters in ("bias", "both") else None
        y, total = add_norm(norm, x, residual, weight, bias)
        assert np.array_equal(total, x + residual), "the sum is a result too, rounded once"
        assert_exact(y, norm.exact(x + residual, weight, bias)[0], dtype)
        assert_like(y, x)
        assert_like(total, x)


@pytest.mark.parametrize("norm", BY_AXIS, ids=str)
def test_eps(norm, rng):
    x, residual = rng.standard_normal((2, *norm.sized(8))).astype(np.float32)
    y, _ = add_norm(norm, x, residual, eps=2.0)
    assert_exact(y, norm.exact(x + residual, eps=2.0)[0], np.float32)


@pytest.mark.parametrize("written", ["both", "out is x", "sum_out is x", "sum_out is residual", "swapped"])
@pytest.mark.parametrize("norm", BY_AXIS, ids=str)
def test_outputs_may_be_the_inputs(norm, written, rng):
    x, residual = rng.standard_normal((2, *norm.sized(40))).astype(np.float32)
    total = x + residual
    exact = norm.exact(total)[0]
    out, sum_out = {
        "both": (np.empty_like(x), np.empty_like(x)),
        "out is x": (x, None),
        "sum_out is x": (None, x),
        "sum_out is residual": (None, residual),
        "swapped": (residual, x),
    }[written]
    y, found = add_norm(norm, x, residual, out=out, sum_out=sum_out)
    assert out is None or y is out
    assert sum_out is None or found is sum_out
    assert np.array_equal(found, total)
    assert_exact(y, exact, np.float32)


@pytest.mark.parametrize("norm", one_of_each(BY_AXIS), ids=str)
def test_residual_stream_over_layers(norm, rng):
    """The use it is made for: the stream is updated in place, layer after layer."""
    stream = rng.standard_normal(norm.shape).astype(np.float32)
    expected = stream.copy()
    for _ in range(3):
        update = rng.standard_normal(norm.shape).astype(np.float32)
        expected = update + expected
        y, total = add_norm(norm, update, stream, sum_out=stream)
        assert total is stream
        assert np.array_equal(stream, expected)
        assert_exact(y, norm.exact(expected)[0], np.float32)


@pytest.mark.parametrize("memory", ZOO)
@pytest.mark.parametrize("norm", one_of_each(BY_AXIS), ids=str)
def test_any_memory(norm, memory, rng):
    x, residual = rng.standard_normal((2, *norm.shape)).astype(np.float32)
    exact = norm.exact(x + residual)[0]
    for some_x, some_residual in ((ZOO[memory](x), residual), (x, ZOO[memory](residual))):
        y, total = add_norm(norm, some_x, some_residual)
        assert np.array_equal(total, x + residual)
        assert_exact(y.astype(np.float32, copy=False), exact, np.float32)


def test_empty_batch():
    x = np.empty((0, 5), np.float32)
    for add in (fastnorm.add_layer_norm, fastnorm.add_rms_norm):
        y, total = add(x, x.copy())
        assert y.shape == total.shape == (0, 5)


@pytest.mark.parametrize("name", ["add_layer_norm", "add_rms_norm"])
def test_wrong_arguments_name_themselves(name):
    add = getattr(fastnorm, name)
    x = np.ones((4, 6), np.float32)
    for residual in (np.ones((4, 5), np.float32), np.ones(6, np.float32), np.ones((4, 6)), x.astype(int)):
        with pytest.raises((TypeError, ValueError), match="residual"):
            add(x, residual)
    for sum_out in (np.ones((4, 5), np.float32), np.ones((4, 6))):
        with pytest.raises((TypeError, ValueError), match="sum_out"):
            add(x, x, sum_out=sum_out)
    with pytest.raises((TypeError, ValueError), match="out"):
        add(x, x, out=x, sum_out=x)


@pytest.mark.parametrize("name", ["add_layer_norm", "add_rms_norm"])
@pytest.mark.parametrize("which", ["out", "sum_out"])
def test_overlap_is_handled_or_refused(name, which, rng):
    store = rng.standard_normal((9, 6)).astype(np.float32)
    x, residual = store[:-1], rng.standard_normal((8, 6)).astype(np.float32)
    before = store.copy()
    expected = getattr(fastnorm, name)(x.copy(), residual)
    try:
        found = getattr(fastnorm, name)(x, residual, **{which: store[1:]})
    except ValueError as error:
        assert which in str(error)
        assert np.array_equal(store, before)
    else:
        assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))

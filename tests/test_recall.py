"""Calls that were seen before: recalled for arrays that pass as they are, checked anew for all others."""

import gc
import pickle
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import fastnorm
from fastnorm.functional._flow import recall as _recall
from fastnorm.functional._flow.roles import LAYER

from .norms import NORMS, affine, one_of_each
from .oracle import ZOO

f32 = np.float32
CHOSEN = one_of_each(NORMS)


@pytest.fixture
def calls(monkeypatch):
    """The calls remembered from here on."""
    fresh = {}
    monkeypatch.setattr(_recall, "_calls", fresh)
    return fresh


def _plain(norm, rng):
    x = rng.standard_normal(norm.shape).astype(f32)
    return x, *affine(norm, x.shape, rng, f32)


def _same(found, expected):
    pairs = zip(found, expected, strict=True)
    return all(np.array_equal(a, b) and a.dtype == b.dtype and a.shape == b.shape for a, b in pairs)


# -- The same as the first time ----------------------------------------------------------------------------


@pytest.mark.parametrize("norm", NORMS, ids=str)
def test_the_second_call_gives_what_the_first_gave(norm, calls, rng):
    x, weight, bias = _plain(norm, rng)
    pairs = (None, None), (weight, None), (None, bias), (weight, bias)
    for pair in pairs:
        calls.clear()
        expected = norm(x, *pair)
        gradients = norm.backward(x, x, expected[1:], *pair)
        assert calls
        known = len(calls)
        found = norm(x, *pair)
        assert _same(found, expected) and found[0].strides == expected[0].strides
        assert _same(norm.backward(x, x, found[1:], *pair), gradients)
        assert len(calls) == known


@pytest.mark.parametrize("memory", ZOO)
@pytest.mark.parametrize("norm", CHOSEN, ids=str)
def test_x_and_parameters_of_any_memory_after_plain_ones(norm, memory, calls, rng):
    x, weight, bias = _plain(norm, rng)
    other = ZOO[memory]
    expected = norm(x, weight, bias)
    gradients = norm.backward(x, x, expected[1:], weight, bias)
    for _ in range(2):
        y = norm(other(x), weight, bias)[0]
        assert np.allclose(y, expected[0], rtol=1e-5, atol=1e-5)
        assert _same(norm(x, other(weight), other(bias)), expected)
        out = other(np.zeros_like(x))
        if out.dtype == f32 and out.flags.writeable:
            assert norm(x, weight, bias, out=out)[0] is out
            assert np.allclose(out, expected[0], rtol=1e-5, atol=1e-5)
        found = norm.backward(other(x), x, expected[1:], other(weight), other(bias))
        assert all(np.allclose(a, b, rtol=1e-4, atol=1e-4) for a, b in zip(found, gradients, strict=True))


def test_parameters_of_another_dtype_after_plain_ones(calls):
    x, weight = np.array([[1, 2, 4]], f32), np.array([1, 2, 3], f32)
    expected = fastnorm.layer_norm(x, weight)
    y, mean, rstd = fastnorm.layer_norm(x, weight.astype(float), return_stats=True)
    assert y.dtype == f32 and np.array_equal(y, expected)
    fastnorm.layer_norm_backward(x, x, mean, rstd, weight)
    assert fastnorm.layer_norm_backward(x, x, mean, rstd, weight.astype(float)).dweight.dtype == np.float64


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
@pytest.mark.parametrize("norm", NORMS, ids=str)
def test_parameters_of_another_dtype_are_recalled(norm, dtype, calls, rng, monkeypatch):
    x, weight, bias = _plain(norm, rng)
    pair = weight.astype(dtype), bias.astype(dtype)
    expected = norm(x, *pair)
    gradients = norm.backward(x, x, expected[1:], *pair)
    monkeypatch.setattr(_recall, "new_call", None)
    found = norm(x, *pair)
    assert _same(found, expected)
    assert _same(norm.backward(x, x, found[1:], *pair), gradients)
    mixed = norm(x, weight, pair[1])
    assert np.array_equal(mixed[0], norm(x, weight, pair[1].astype(f32))[0])


def test_a_recalled_parameter_too_large_becomes_an_infinity_without_a_word(calls):
    x, weight = np.array([[1, 2, 4]], f32), np.array([1, 1, 1e300])
    for _ in range(2):
        assert np.isposinf(fastnorm.layer_norm(x, weight)[0, 2])


class Rows(np.ndarray):
    """A subclass, which results are not of."""


def test_a_subclass_after_a_plain_array(calls):
    x = np.array([[1, 2, 4]], f32)
    expected = fastnorm.rms_norm(x)
    y = fastnorm.rms_norm(x.view(Rows), x[0].view(Rows) * 0 + 1)
    assert type(y) is np.ndarray and np.array_equal(y, expected)


def test_pickled_arrays_are_recalled(calls):
    """Their dtype equals NumPy's own, but is another object."""
    x, weight = np.array([[1, 2, 4]], f32), np.array([1, 2, 3], f32)
    expected = fastnorm.layer_norm(x, weight)
    for array in (x, weight):
        assert pickle.loads(pickle.dumps(array)).dtype is not array.dtype
    assert _recall.recall("forward", LAYER, -1, 1e-5, None, *pickle.loads(pickle.dumps((x, weight))))[1]
    assert np.array_equal(fastnorm.layer_norm(*pickle.loads(pickle.dumps((x, weight)))), expected)


@pytest.mark.parametrize("norm", CHOSEN, ids=str)
def test_in_place_and_into_parameters(norm, calls, rng):
    """A recalled call writes to x if it is asked to, and to a parameter's memory as if that had been read before."""
    x, weight, bias = _plain(norm, rng)
    expected = norm(x, weight, bias)[0]
    for _ in range(2):
        again = x.copy()
        assert norm(again, weight, bias, out=again)[0] is again
        assert np.array_equal(again, expected)
        store = np.zeros(x.size, f32)
        inside = store[: weight.size].reshape(weight.shape)
        inside[...] = weight
        assert np.array_equal(norm(x, inside, bias, out=store.reshape(x.shape))[0], expected)


# -- Options -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", CHOSEN, ids=str)
def test_options_are_told_apart(norm, calls, rng):
    x, weight, bias = _plain(norm, rng)
    options = [dict(eps=eps) for eps in (1e-5, 1, 1.0, 0.5, np.float32(0.5))]
    options += [dict(activation=name) for name in ("relu", "silu", None)]
    expected = []
    for option in options:
        calls.clear()
        expected.append(norm(x, weight, bias, **option))
    for _ in range(2):
        for option, wanted in zip(options, expected, strict=True):
            assert _same(norm(x, weight, bias, **option), wanted)


def test_axis_as_a_list_and_eps_as_an_array(calls):
    x = np.arange(24, dtype=f32).reshape(2, 3, 4)
    expected = fastnorm.layer_norm(x, axis=(1, 2))
    for _ in range(2):
        assert np.array_equal(fastnorm.layer_norm(x, axis=[1, 2]), expected)
        assert np.array_equal(fastnorm.layer_norm(x, axis=(1, 2), eps=np.array(1e-5)), expected)


def test_axes_and_groups_that_equal_a_right_one():
    """True == 1 == 1.0, and they have one hash: a cache may take one for the other."""
    x = np.ones((2, 4, 6), f32)
    for right in (1, (0, 1)):
        fastnorm.layer_norm(x, axis=right)
        fastnorm.rms_norm(x, axis=right)
        fastnorm.add_rms_norm(x, x, axis=right)
    fastnorm.group_norm(x, 1)
    fastnorm.group_norm(x, 2)
    mean, rstd = np.zeros((2, 1)), np.ones((2, 1))
    fastnorm.group_norm_backward(x, x, 1, mean, rstd)
    for wrong in (True, 1.0, 1 + 0j, np.True_, (0, True), (False, 1), (0, 1.0), [0, True], "1", "(0, 1)"):
        for norm in (fastnorm.layer_norm, fastnorm.rms_norm):
            with pytest.raises(TypeError, match="axis is"):
                norm(x, axis=wrong)
        with pytest.raises(TypeError, match="axis is"):
            fastnorm.add_rms_norm(x, x, axis=wrong)
    for wrong in (True, 1.0, 2.0, np.True_, "1", (1,)):
        with pytest.raises(TypeError, match="num_groups is"):
            fastnorm.group_norm(x, wrong)
        with pytest.raises(TypeError, match="num_groups is"):
            fastnorm.group_norm_backward(x, x, wrong, mean, rstd)


def test_an_eps_that_equals_a_right_one():
    x = np.ones((2, 3), f32)
    fastnorm.layer_norm(x, eps=1)
    fastnorm.layer_norm(x, eps=1.0)
    with pytest.raises(TypeError, match="eps is"):
        fastnorm.layer_norm(x, eps=1 + 0j)


# -- Errors ------------------------------------------------------------------------------------------------

_WRONG = {
    "x: a list": lambda x, w: dict(x=[1.0]),
    "x: integers": lambda x, w: dict(x=x.astype(int)),
    "weight: shape": lambda x, w: dict(weight=np.ones((*w.shape, 1), f32)),
    "weight: a list": lambda x, w: dict(weight=[1.0]),
    "weight: integers": lambda x, w: dict(weight=w.astype(int)),
    "bias: shape": lambda x, w: dict(bias=np.ones(1, f32)),
    "bias: complex": lambda x, w: dict(bias=w.astype(complex)),
    "out: shape": lambda x, w: dict(out=np.zeros((*x.shape, 1), f32)),
    "out: dtype": lambda x, w: dict(out=np.zeros_like(x, float)),
    "out: read-only": lambda x, w: dict(out=ZOO["read-only"](x)),
    "eps: a string": lambda x, w: dict(eps="small"),
    "eps: NaN": lambda x, w: dict(eps=np.nan),
    "activation: unknown": lambda x, w: dict(activation="swish"),
    "activation: unhashable": lambda x, w: dict(activation=["relu"]),
}


@pytest.mark.parametrize("what", _WRONG)
@pytest.mark.parametrize("norm", CHOSEN, ids=str)
def test_a_wrong_call_after_a_right_one_says_what_it_said_before(norm, what, calls, rng):
    x, weight, bias = _plain(norm, rng)
    arguments = dict(x=x, weight=weight, bias=bias) | _WRONG[what](x, weight)
    messages = []
    for _ in range(2):
        with pytest.raises((TypeError, ValueError)) as error:
            norm(**arguments)
        messages.append((type(error.value), str(error.value)))
        norm(x, weight, bias)
    assert messages[0] == messages[1]


def test_wrong_statistics_after_right_ones(calls, rng):
    x = rng.standard_normal((4, 6)).astype(f32)
    mean, rstd = np.zeros(4), np.ones(4)
    for right, wrong in ((mean, mean[:3]), (mean, [0.0]), (rstd, rstd.astype(int))):
        fastnorm.layer_norm_backward(x, x, mean, rstd)
        changed = [wrong if s is right else s for s in (mean, rstd)]
        with pytest.raises((TypeError, ValueError), match="mean" if right is mean else "rstd"):
            fastnorm.layer_norm_backward(x, x, *changed)
    expected = fastnorm.layer_norm_backward(x, x, mean, rstd)
    assert _same(fastnorm.layer_norm_backward(x, x, mean.astype(f32), np.repeat(rstd, 2)[::2]), expected)


def test_running_statistics_after_right_ones(calls, rng):
    x = rng.standard_normal((5, 6)).astype(f32)
    mean, var = np.zeros(6, f32), np.ones(6, f32)
    expected = fastnorm.batch_norm(x, mean, var)
    for memory in ("every other element", "byte-swapped", "misaligned", "read-only"):
        assert np.array_equal(fastnorm.batch_norm(x, ZOO[memory](mean), ZOO[memory](var)), expected)
    assert np.array_equal(fastnorm.batch_norm(x, mean.astype(float), var.astype(float)), expected)
    fastnorm.batch_norm(x, mean, var, training=True)
    before = mean.copy(), var.copy()
    for wrong in ((mean, mean), (mean, None), (mean, var[:5]), (mean, ZOO["read-only"](var)), (mean, x[0])):
        with pytest.raises((TypeError, ValueError), match="running"):
            fastnorm.batch_norm(x, *wrong, training=True)
    assert np.array_equal(mean, before[0]) and np.array_equal(var, before[1])
    with pytest.raises(ValueError, match="running_var is None"):
        fastnorm.batch_norm(x, mean, None)


@pytest.mark.parametrize("dtype", [np.float16, f32, np.float64])
def test_running_statistics_of_float64(dtype, calls, rng):
    """As NumPy makes them unless it is told: recalled too, and told apart from others."""
    x, weight = rng.standard_normal((4, 3, 5)).astype(dtype), np.array([1, 2, 3], dtype)
    mean, var = rng.standard_normal(3), rng.uniform(1, 2, 3)
    first = fastnorm.batch_norm(x, mean, var, weight)
    known = len(calls)
    assert known == 1
    assert np.array_equal(fastnorm.batch_norm(x, mean, var, weight), first)
    out = np.empty_like(x)
    assert np.array_equal(fastnorm.batch_norm(x, mean, var, weight, out=out), first)
    assert len(calls) == known
    narrow, strided = mean.astype(f32), np.repeat(var, 2)[::2]
    for other in ((narrow, var), (mean, var.astype(f32)), (mean, strided)):
        calls.clear()
        expected = fastnorm.batch_norm(x, *other, weight)
        fastnorm.batch_norm(x, mean, var, weight)
        assert np.array_equal(fastnorm.batch_norm(x, *other, weight), expected)
    with pytest.raises(TypeError, match="running_mean"):
        fastnorm.batch_norm(x, mean.tolist(), var, weight)
    with pytest.raises(ValueError, match="running_var"):
        fastnorm.batch_norm(x, mean, var[:2], weight)
    mean += 1
    assert not np.array_equal(fastnorm.batch_norm(x, mean, var, weight), first)


def test_running_statistics_of_16_bits_after_right_ones(calls):
    """Where weight and bias may have x's dtype, and statistics may not: they would be read beyond their end."""
    x = np.ones((5, 6), np.float16)
    mean, var = np.zeros(6, f32), np.ones(6, f32)
    fastnorm.batch_norm(x, mean, var)
    for wrong in ((mean.astype(np.float16), var), (mean, var.astype(np.float16))):
        with pytest.raises(TypeError, match="float16, expected float32 or float64"):
            fastnorm.batch_norm(x, *wrong)


def test_what_is_read_only_is_recalled(calls, rng):
    x, weight, mean = rng.standard_normal((4, 6)).astype(f32), np.ones(6, f32), np.zeros(6, f32)
    for array in (x, weight, mean):
        array.flags.writeable = False
    for _ in range(2):
        fastnorm.layer_norm(x, weight)
        fastnorm.layer_norm(x.T, axis=0)
        fastnorm.batch_norm(x, mean, weight)
    assert len(calls) == 3
    y = np.zeros_like(x)
    y.flags.writeable = False
    with pytest.raises(ValueError, match="out is read-only"):
        fastnorm.layer_norm(x, weight, out=y)


# -- The memory itself -------------------------------------------------------------------------------------


def test_it_is_bounded(calls, monkeypatch):
    monkeypatch.setattr(_recall, "_MOST", 8)
    for length in range(1, 30):
        fastnorm.layer_norm(np.ones((2, length), f32))
        assert 0 < len(calls) <= 8


def test_it_keeps_no_array_alive(calls):
    x, weight, dy = np.ones((2, 3, 4), f32), np.ones((3, 4), f32), np.ones((2, 3, 4), f32)
    for _ in range(2):
        y, mean, rstd = fastnorm.layer_norm(x, weight, weight, axis=(1, 2), out=dy, return_stats=True)
        fastnorm.layer_norm_backward(dy, x, mean, rstd, weight, axis=(1, 2))
    assert calls
    alive = [weakref.ref(a) for a in (x, weight, dy, mean.base, rstd)]
    del x, weight, dy, y, mean, rstd
    gc.collect()
    assert [ref() for ref in alive] == [None] * len(alive)


def test_threads_that_remember_and_forget_at_once(calls, monkeypatch, rng):
    monkeypatch.setattr(_recall, "_MOST", 3)
    arrays = [rng.standard_normal((3, length)).astype(f32) for length in range(2, 12)]
    expected = [fastnorm.layer_norm(x) for x in arrays]

    def work(i):
        return np.array_equal(fastnorm.layer_norm(arrays[i % 10]), expected[i % 10])

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(2000)))

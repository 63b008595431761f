"""How a kernel is entered: by whatever memory its arrays have, and with an exception where it runs out of memory."""

import sys

import numpy as np
import pytest

from fastnorm._floats import FLOAT32, FLOAT64
from fastnorm._layout import IN_ORDER
from fastnorm.kernels.entry import bind, fitting
from fastnorm.kernels.job import X
from fastnorm.kernels.language.memory import given, keep
from fastnorm.kernels.phases import kernel


@kernel(arrays=2)
def _told(threads, arrays, numbers, job, eps):
    """numbers[0] = (threads, eps, arrays[0][0], whether there is an arrays[1])."""
    told = numbers[0]
    told[0], told[1], told[2], told[3] = threads, eps, arrays[0][0], given(arrays[1])


@kernel(arrays=0)
def _greedy(threads, arrays, numbers, job, eps):
    keep(np.empty(1 << 59))


def _bound(kernel, eps=0.0):
    return bind(np.zeros(X, np.int64), kernel, FLOAT64, FLOAT64, eps)


def test_arrays_and_options_arrive():
    told, x = np.zeros(4), np.arange(8.0).reshape(2, 4)
    call = _bound(_told, 1e-5)
    assert call(3, x[::-1, 1:], None, told) is None
    assert told.tolist() == [3, 1e-5, 5, 0]
    call(1, x.T, x, told)
    assert told.tolist() == [1, 1e-5, 0, 1]


def test_calls_keep_their_own_jobs():
    calls = [_bound(_told, eps) for eps in range(100)]
    told, one = np.zeros(4), np.ones(1)
    for eps, call in enumerate(calls):
        call(1, one, None, told)
        assert told[1] == eps


def test_it_leaves_no_reference_behind():
    told, x = np.zeros(4), np.ones(1)
    call = _bound(_told)
    before = sys.getrefcount(x), sys.getrefcount(told), sys.getrefcount(None)
    for _ in range(10_000):
        call(1, x, None, told)
    after = sys.getrefcount(x), sys.getrefcount(told), sys.getrefcount(None)
    assert after[:2] == before[:2]
    assert abs(after[2] - before[2]) < 1000


@pytest.mark.parametrize("wrong", [np.float64(1), 1.0, [1.0], "1", object(), np.ndarray])
def test_what_is_no_array_is_refused(wrong):
    """NumPy's own functions return numbers where an array has no axes."""
    told = np.zeros(4)
    with pytest.raises(TypeError):
        _bound(_told)(1, wrong, None, told)
    assert not told.any()


_FITTING = np.arange(6.0).reshape(2, 3)
_UNALIGNED = np.zeros(49, np.uint8)[1:].view(np.float64).reshape(2, 3)
_OTHERS = {
    "another shape": np.zeros((3, 2)),
    "as many numbers": np.zeros(6),
    "one axis more": np.zeros((2, 3, 1)),
    "no axes": np.zeros(()),
    "one length less": np.zeros((2, 2)),
    "another dtype": np.zeros((2, 3), np.float16),
    "another order of bytes": np.zeros((2, 3), ">f8"),
    "integers as wide": np.zeros((2, 3), np.int64),
    "Fortran's order": np.zeros((2, 3), order="F"),
    "every second": np.zeros((2, 6))[:, ::2],
    "backwards": _FITTING[::-1],
    "not aligned": _UNALIGNED,
    "a subclass": np.ma.zeros((2, 3)),
    "a list": _FITTING.tolist(),
    "a number": 1.0,
    "a NumPy number": np.float64(1),
    "a type": np.ndarray,
}


def test_what_fits():
    fits = fitting((2, 3), FLOAT64, FLOAT32, IN_ORDER, optional=True)
    read_only = _FITTING.copy()
    read_only.flags.writeable = False
    right = _FITTING, _FITTING.astype(np.float32), read_only, np.zeros((4, 3))[1:3], None
    assert fits() is True
    assert fits(*right) is True
    assert all(fits(one) for one in right)


@pytest.mark.parametrize("wrong", _OTHERS.values(), ids=_OTHERS)
def test_what_does_not_fit(wrong):
    fits = fitting((2, 3), FLOAT64, FLOAT32, IN_ORDER, optional=True)
    assert fits(wrong) is False
    assert fits(_FITTING, None, wrong) is False
    assert fits(wrong, _FITTING) is False


def test_none_where_it_will_not_do():
    assert fitting((2, 3), FLOAT64, FLOAT64, IN_ORDER)(_FITTING, None) is False


def test_what_fits_without_an_axis():
    fits = fitting((), FLOAT64, FLOAT64, IN_ORDER)
    assert fits(np.zeros(())) is True
    assert fits(np.zeros(1)) is False


def test_looking_at_arrays_leaves_no_reference_behind():
    fits, x = fitting((2, 3), FLOAT64, FLOAT64, IN_ORDER, optional=True), _FITTING.copy()
    before = sys.getrefcount(x), sys.getrefcount(True), sys.getrefcount(False)
    for _ in range(10_000):
        fits(x, None)
        fits(x, 1)
    after = sys.getrefcount(x), sys.getrefcount(True), sys.getrefcount(False)
    assert after[0] == before[0]
    assert all(abs(a - b) < 1000 for a, b in zip(after, before, strict=True))


def test_arrays_of_a_subclass_pass(tmp_path):
    told, x = np.zeros(4), np.memmap(tmp_path / "x", float, "w+", shape=(2,))
    x[0] = 7
    _bound(_told)(1, x, None, told)
    assert told[2] == 7


def test_without_memory_it_raises(monkeypatch):
    said = []
    monkeypatch.setattr(sys, "unraisablehook", said.append)
    with pytest.raises(MemoryError):
        _bound(_greedy)(1)
    assert [what.exc_type for what in said] == [MemoryError]

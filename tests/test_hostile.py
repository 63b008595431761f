"""Hostile input: arguments of all kinds, any strides, and what is no number."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .hostile import FUNCTIONS, attempt
from .norms import NORMS, affine, one_of_each, widen

searched = settings(
    max_examples=200, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
DTYPES = [np.float32, np.float64, np.float16, ml_dtypes.bfloat16]


@searched
@given(st.data())
def test_any_arguments_pass_or_are_refused(data):
    attempt(lambda n: data.draw(st.integers(0, n - 1)))


def test_some_of_them_pass():
    """Or nothing would be tested beyond the checks."""
    rng = np.random.default_rng(0)
    outcomes = Counter(attempt(lambda n: int(rng.integers(n))) for _ in range(4000))
    assert set(outcomes) == {None, "TypeError", "ValueError"}
    assert outcomes[None] > 400
    assert len(FUNCTIONS) == 14


def _strided(draw, x):
    """A view of equal values, in memory of any order, with steps, reversed, and between other numbers."""
    order = draw(st.permutations(range(x.ndim)))
    steps = [draw(st.sampled_from([1, 1, 2, 3, -1, -2])) for _ in order]
    store = np.full(
        [x.shape[axis] * abs(s) + 2 for axis, s in zip(order, steps, strict=True)], np.nan, x.dtype
    )
    where = tuple(
        slice(1, 1 + x.shape[axis] * s, s) if s > 0 else slice(-2, -2 + x.shape[axis] * s, s)
        for axis, s in zip(order, steps, strict=True)
    )
    view = store[where].transpose(np.argsort(order))
    view[...] = x
    return view


@searched
@given(st.data(), st.sampled_from(NORMS), st.sampled_from(DTYPES), st.integers(0, 2**32 - 1))
def test_any_strides(data, norm, dtype, seed):
    rng = np.random.default_rng(seed)
    x, dy = (2 + rng.standard_normal((2, *norm.shape))).astype(dtype)
    weight, bias = affine(norm, x.shape, rng, dtype)
    y, *statistics = norm(x, weight, bias)
    dx = norm.backward(dy, x, statistics, weight, bias).dx
    laid, laid_dy = _strided(data.draw, x), _strided(data.draw, dy)
    found, *of_laid = norm(laid, weight, bias)
    assert found.shape == x.shape and found.dtype == dtype
    eps = float(ml_dtypes.finfo(dtype).eps)
    # Either is within 4 roundings of the exact result, or 16 of the largest gradient that the group's rstd lets be.
    assert np.abs(widen(found) - widen(y)).max() <= 8 * eps * max(1, np.abs(widen(y)).max())
    scale = np.abs(widen(weight)).max() * np.abs(widen(dy)).max() * max(1, statistics[-1].max())
    moved = norm.backward(laid_dy, laid, of_laid, weight, bias).dx
    assert np.abs(widen(moved) - widen(dx)).max() <= 32 * eps * scale


@searched
@given(st.data(), st.sampled_from(one_of_each(NORMS)), st.sampled_from(DTYPES), st.integers(0, 2**32 - 1))
def test_what_is_no_number_stays_in_its_group(data, norm, dtype, seed):
    """Any number of NaN and infinities: groups without any are to the bit as if there were none elsewhere."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(norm.shape).astype(dtype)
    clean, *_ = norm(x)
    spoilt = x.copy()
    bad = rng.random(norm.shape) < data.draw(st.sampled_from([0.01, 0.1, 0.5]))
    spoilt[bad] = np.array(rng.choice([np.nan, np.inf, -np.inf], bad.sum())).astype(dtype)
    y, *_ = norm(spoilt)
    split, axes = norm._split(x.shape)
    touched = np.broadcast_to(bad.reshape(split).any(axes, keepdims=True), split).reshape(x.shape)
    assert np.array_equal(widen(y)[~touched], widen(clean)[~touched])
    assert not np.isfinite(widen(y)[touched & bad]).any()


@pytest.mark.slow
def test_a_fuzzer_finds_nothing_in_a_minute(tmp_path):
    pytest.importorskip("atheris")
    target = Path(__file__).with_name("fuzz_arguments.py")
    command = [sys.executable, str(target), "-max_total_time=60", "-rss_limit_mb=4096", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Done" in done.stderr

"""Properties that hold for any shape, axes and numbers, searched for counterexamples by Hypothesis."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .checks import assert_exact, assert_statistics
from .norms import Norm, affine
from .oracle import FORWARD_ROUNDINGS, roundings

# No deadline: the first example of a kind compiles.
searched = settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))

_SPATIAL = "LHWDTUV"


@st.composite
def norms(draw):
    """Any norm over any axes of any shape of one to five axes, a few of them of length one."""
    name = draw(st.sampled_from(["layer_norm", "rms_norm", "batch_norm", "instance_norm", "group_norm"]))
    lengths = st.sampled_from([1, 2, 3, 4, 5, 7, 8, 16, 17, 33])
    if name in ("layer_norm", "rms_norm"):
        shape = tuple(draw(st.lists(lengths, min_size=1, max_size=4)))
        axes = draw(
            st.lists(st.integers(-len(shape), len(shape) - 1), min_size=1, unique_by=lambda a: a % len(shape))
        )
        return Norm(name, shape, axis=tuple(axes))
    spatial = draw(st.integers(0 if name != "instance_norm" else 1, 3))
    layout = "".join(draw(st.permutations("NC" + _SPATIAL[:spatial])))
    num_groups = draw(st.integers(1, 4)) if name == "group_norm" else None
    shape = [draw(lengths) for _ in layout]
    shape[layout.index("C")] = (num_groups or 1) * draw(st.integers(1, 9))
    if name == "batch_norm" and np.prod(shape) == shape[layout.index("C")]:
        shape[layout.index("N")] = 2
    return Norm(name, tuple(shape), layout=layout, num_groups=num_groups)


seeds = st.integers(0, 2**32 - 1)
dtypes = st.sampled_from([np.float32, np.float64])


def _values(norm, seed, dtype, mean=0.0, spread=1.0):
    rng = np.random.default_rng(seed)
    return (mean + spread * rng.standard_normal(norm.shape)).astype(dtype), rng


def _enough(norm):
    """Whether a group has elements enough for its spread to be of the size of its values."""
    return np.prod(norm.shape) >= 8 * np.prod(norm.statistics_shape(norm.shape))


@searched
@given(norms(), seeds, dtypes, st.sampled_from([0, 1, 1e4, -1e6]), st.sampled_from([1e-3, 1, 1e4]))
def test_any_norm_is_its_definition(norm, seed, dtype, mean, spread):
    x, rng = _values(norm, seed, dtype, mean, spread)
    weight, bias = affine(norm, x.shape, rng, dtype)
    y, *statistics = norm(x, weight, bias)
    exact, *exact_statistics = norm.exact(x, weight, bias)
    assert_exact(y, exact, dtype)
    assert_statistics(statistics, exact_statistics, dtype)


@searched
@given(norms().filter(_enough), seeds, dtypes)
def test_any_gradient_is_its_definition(norm, seed, dtype):
    x, rng = _values(norm, seed, dtype)
    dy = (1 + rng.standard_normal(norm.shape)).astype(dtype)
    weight, bias = affine(norm, x.shape, rng, dtype)
    _, *statistics = norm(x, weight, bias)
    found = norm.backward(dy, x, statistics, weight, bias)
    exact = norm.exact_backward(dy, x, weight, bias)
    for gradient, wanted, sums in zip(found, exact, (1, norm.shape, norm.shape), strict=True):
        assert gradient.shape == wanted.shape
        scale = max(np.abs(wanted).max(), np.sqrt(np.prod(sums) / wanted.size))
        assert np.abs(gradient - wanted).max() <= 16 * np.finfo(dtype).eps * scale


@searched
@given(
    norms().filter(lambda norm: norm.name != "rms_norm" and _enough(norm)),
    seeds,
    st.integers(-(2**12), 2**12),
)
def test_shift_invariance(norm, seed, shift):
    """For multiples of 2**-10 and a shift that keeps them exact the result does not move beyond its bound."""
    x, _ = _values(norm, seed, np.float64)
    x = (np.round(x * 2**10) / 2**10).astype(np.float32)
    assert np.array_equal((x + np.float32(shift)) - np.float32(shift), x)
    assert roundings(norm(x + np.float32(shift))[0], norm(x)[0], np.float32) <= 2 * FORWARD_ROUNDINGS


@searched
@given(norms(), seeds, st.integers(-60, 60))
def test_scale_invariance(norm, seed, exponent):
    """Without eps a power of two changes nothing, whatever it does to the squares."""
    x, _ = _values(norm, seed, np.float32)
    if not _enough(norm):
        return
    scaled = np.ldexp(x, exponent)
    assert roundings(norm(scaled, eps=0)[0], norm(x, eps=0)[0], np.float32) <= 2 * FORWARD_ROUNDINGS


@searched
@given(norms().filter(_enough), seeds, dtypes)
def test_the_result_is_normalized(norm, seed, dtype):
    """Mean 0 and second moment 1 in every group, as far as eps lets them."""
    x, _ = _values(norm, seed, dtype, mean=3)
    y, *_ = norm(x, eps=0)
    again, *moments = norm(y, eps=0)
    eps = 8 * np.finfo(dtype).eps
    assert np.allclose(moments[-1], 1, rtol=0, atol=eps)
    if norm.name != "rms_norm":
        assert np.allclose(moments[0], 0, rtol=0, atol=eps)
    assert roundings(again, y, dtype) <= 4 * FORWARD_ROUNDINGS


@searched
@given(norms(), seeds, st.randoms(use_true_random=False))
def test_permuted_axes(norm, seed, random):
    """Moving the axes of x, and with them what names them, moves the axes of the result and no more."""
    x, _ = _values(norm, seed, np.float32)
    order = random.sample(range(x.ndim), x.ndim)
    if norm.layout:
        layout = "".join(norm.layout[axis] for axis in order)
        moved = Norm(norm.name, tuple(x.shape[a] for a in order), layout=layout, num_groups=norm.num_groups)
    else:
        moved = Norm(
            norm.name, tuple(x.shape[a] for a in order), axis=tuple(order.index(a) for a in norm.axes)
        )
    y, *_ = moved(x.transpose(order))
    assert_exact(y, norm.exact(x)[0].transpose(order), np.float32)


@searched
@given(norms().filter(_enough), seeds)
def test_backward_is_linear_in_dy(norm, seed):
    x, rng = _values(norm, seed, np.float64)
    one, other = rng.standard_normal((2, *norm.shape))
    weight, bias = affine(norm, x.shape, rng, np.float64)
    _, *statistics = norm(x)
    sums = (norm.backward(dy, x, statistics, weight, bias) for dy in (one, other, 2 * one - other))
    for a, b, both in zip(*sums, strict=True):
        assert np.allclose(2 * a - b, both, rtol=1e-10, atol=1e-10 * (1 + np.abs(a).max() + np.abs(b).max()))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_shift_by_what_the_values_can_bear(dtype):
    """The classic: the variance of x + 1e5 computed as E[x²] - E[x]² has no digit left in float32."""
    rng = np.random.default_rng(0)
    x = (np.round(rng.standard_normal((16, 1000)) * 64) / 64).astype(dtype)
    norm = Norm("layer_norm", x.shape, axis=-1)
    assert roundings(norm(x + dtype(100_000))[0], norm(x)[0], dtype) <= 2 * FORWARD_ROUNDINGS

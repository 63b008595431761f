"""Normalize and scale norm: against their definitions and PyTorch, by every p, along any axes, in any memory."""

import math
import pickle

import ml_dtypes
import numpy as np
import pytest

from fastnorm.functional.vectors import normalize, normalize_backward, scale_norm, scale_norm_backward
from fastnorm.layers.vectors import Normalize, ScaleNorm
from fastnorm.reference import vectors as reference

from .checks import DTYPES, assert_exact, assert_like, assert_sum
from .norms import widen
from .oracle import FORWARD_ROUNDINGS, GRADIENT_ROUNDINGS, INPUTS, ZOO, gradient_roundings, roundings
from .slopes import assert_slopes

P = [2.0, 1.0, math.inf, 3.0, 0.5]
# Rows and columns, around a kept axis, a whole array; then several of the engine's chunks of a row, and of rows.
SHAPES = [
    ((5, 7), 1),
    ((5, 7), 0),
    ((7,), 0),
    ((3, 4, 5), (0, 2)),
    ((3, 4, 5), (0, 1, 2)),
    ((4, 5, 6), -2),
    ((3, 4, 5, 6), 1),
    ((3, 4, 5, 6), (3, 1)),
    ((2, 70001), 1),
    ((5003, 3), 0),
]
every_shape = pytest.mark.parametrize(("shape", "axis"), SHAPES)
every_p = pytest.mark.parametrize("p", P)
every_dtype = pytest.mark.parametrize("dtype", DTYPES)


def assert_norm(found, exact, dtype):
    """A statistic: float64, and right to the roundings of a result of x's dtype."""
    assert found.dtype == np.float64 and found.shape == exact.shape
    assert np.all(np.abs(found - exact) <= FORWARD_ROUNDINGS * np.finfo(dtype).eps * exact)


def assert_gradient(found, exact, dtype):
    assert gradient_roundings(found, exact, dtype) <= GRADIENT_ROUNDINGS


# Against the definitions.


@every_dtype
@every_p
@every_shape
def test_normalize(shape, axis, p, dtype, rng):
    dy, x = rng.standard_normal((2, *shape)).astype(dtype)
    y, norm = normalize(x, p, axis, return_norm=True)
    exact, exact_norm = reference.normalize(widen(x), p, axis)
    assert_exact(y, exact, dtype)
    assert_like(y, x)
    assert_norm(norm, exact_norm, dtype)
    dx = normalize_backward(dy, x, norm, p, axis)
    assert_gradient(dx, reference.normalize_backward(widen(dy), widen(x), exact_norm, p, axis), dtype)
    assert_like(dx, x)


@every_dtype
@every_shape
def test_scale_norm(shape, axis, dtype, rng):
    dy, x = rng.standard_normal((2, *shape)).astype(dtype)
    g = np.array(math.sqrt(x.size), dtype)
    y, norm = scale_norm(x, g, axis=axis, return_norm=True)
    exact, exact_norm = reference.scale_norm(widen(x), widen(g), axis=axis)
    assert_exact(y, exact, dtype)
    assert_like(y, x)
    assert_norm(norm, exact_norm, dtype)
    dx, dg = scale_norm_backward(dy, x, norm, g, axis=axis)
    wanted = reference.scale_norm_backward(widen(dy), widen(x), exact_norm, widen(g), axis=axis)
    assert dg.dtype == dtype and dg.shape == ()
    assert_gradient(dx, wanted[0], dtype)
    axes = axis if isinstance(axis, tuple) else (axis,)
    assert_sum(dg, np.sum(widen(dy) * exact, axes) / widen(g), dtype)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("name", INPUTS)
def test_no_input_breaks_a_norm(name, axis, rng):
    x = INPUTS[name]((301, 301), axis, rng)
    for p in (2.0, 1.0, math.inf, 3.0):
        y, norm = normalize(x, p, axis, return_norm=True)
        exact, exact_norm = reference.normalize(widen(x), p, axis)
        assert_exact(y, exact, np.float32)
        assert_norm(norm, exact_norm, np.float32)
        dy = rng.standard_normal(x.shape).astype(np.float32)
        wanted = reference.normalize_backward(widen(dy), widen(x), exact_norm, p, axis)
        assert_gradient(normalize_backward(dy, x, norm, p, axis), wanted, np.float32)
    assert_exact(scale_norm(x, 17.0, axis=axis), reference.scale_norm(widen(x), 17, axis=axis)[0], np.float32)


@pytest.mark.parametrize("scale", [1e-200, 1e200])
@pytest.mark.parametrize("p", [1.0, math.inf, 3.0])
def test_powers_of_float64_neither_overflow_nor_vanish(p, scale, rng):
    x = rng.standard_normal((3, 9))
    y, norm = normalize(scale * x, p, eps=0, return_norm=True)
    exact, exact_norm = reference.normalize(x, p, eps=0)
    assert_exact(y, exact, np.float64)
    assert_norm(norm / scale, exact_norm, np.float64)


# The clamp.


def _clamped(shape, rng, dtype=np.float32):
    """Rows of ordinary length, of zeros, and shorter than eps."""
    x = rng.standard_normal(shape).astype(dtype)
    x[1] = 0
    x[2] *= dtype(1e-20)
    return x


@pytest.mark.parametrize("order", ["rows", "columns"])
@every_p
def test_short_vectors_are_divided_by_eps(p, order, rng):
    dy, x = rng.standard_normal((6, 9)).astype(np.float32), _clamped((6, 9), rng)
    axis = 1
    if order == "columns":
        dy, x, axis = np.ascontiguousarray(dy.T), np.ascontiguousarray(x.T), 0
    y, norm = normalize(x, p, axis, return_norm=True)
    exact, exact_norm = reference.normalize(widen(x), p, axis)
    # Of its own size, which for a vector of 1e-20 is 1e-8.
    assert np.all(np.abs(y - exact) <= FORWARD_ROUNDINGS * np.finfo(np.float32).eps * np.abs(exact))
    dx = normalize_backward(dy, x, norm, p, axis)
    with np.errstate(all="ignore"):
        wanted = reference.normalize_backward(widen(dy), widen(x), exact_norm, p, axis)
    for i in range(6):
        assert_gradient(np.moveaxis(dx, axis, 1)[i], np.moveaxis(wanted, axis, 1)[i], np.float32)
    if p == 2:
        y, norm = scale_norm(x, 3.0, axis=axis, eps=1e-12, return_norm=True)
        assert_exact(y, 3 * exact, np.float32)
        found = scale_norm_backward(dy, x, norm, 3.0, axis=axis, eps=1e-12)
        assert_gradient(found.dx, 3 * wanted, np.float32)
        assert_sum(found.dg, np.sum(widen(dy) * exact, axis), np.float32)


@every_dtype
@every_p
def test_the_least_eps_still_keeps_zeros(p, dtype):
    x = np.zeros((2, 5), dtype)
    for eps in (np.finfo(dtype).tiny, 1e-300):
        assert not normalize(x, p if dtype == np.float64 or eps > 1e-100 else 2.0, eps=eps).any()


@every_p
def test_without_eps_a_vector_of_zeros_is_nan(p):
    x = np.array([[0, 0], [3, 4]], np.float32)
    y, norm = normalize(x, p, eps=0, return_norm=True)
    assert np.isnan(y[0]).all() and np.isfinite(y[1]).all()
    assert norm[0] == 0


def test_a_vector_as_long_as_eps_has_a_slope(rng):
    """PyTorch's clamp lets the gradient through there."""
    dy, x = rng.standard_normal((2, 1, 2)).astype(np.float32), np.array([[3, 4]], np.float32)
    _, norm = normalize(x, return_norm=True)
    dx = normalize_backward(dy[0], x, norm, eps=5.0)
    assert abs(np.sum(dx * x)) < 1e-6


@every_p
def test_agrees_with_torch(p, rng):
    torch = pytest.importorskip("torch")
    x, dy = _clamped((6, 9, 4), rng, np.float64), rng.standard_normal((6, 9, 4))
    x[3, :, 0] = 2.0  # ties, of which p = inf gives each a share
    x[4, 5] = 0
    for axis in (1, -1):
        leaf = torch.tensor(x, requires_grad=True)
        theirs = torch.nn.functional.normalize(leaf, p, axis)
        theirs.backward(torch.tensor(dy))
        y, norm = normalize(x, p, axis, return_norm=True)
        dx = normalize_backward(dy, x, norm, p, axis)
        np.testing.assert_allclose(y, theirs.detach().numpy(), rtol=1e-12, atol=1e-15)
        np.testing.assert_allclose(dx, leaf.grad.numpy(), rtol=1e-9, atol=1e-12)


# The definitions themselves.


@pytest.mark.parametrize("axis", [1, (0, 2)])
@every_p
def test_reference_gradients_against_central_differences(p, axis, rng):
    dy, x = rng.standard_normal((2, 3, 4, 5))
    _, norm = reference.normalize(x, p, axis)
    gradient = reference.normalize_backward(dy, x, norm, p, axis)
    assert_slopes(lambda x: [reference.normalize(x, p, axis)[0]], [x], [dy], [gradient], rng)
    if p == 2:
        g = np.array(1.7)
        gradients = reference.scale_norm_backward(dy, x, norm, g, axis=axis)
        assert_slopes(lambda x, g: [reference.scale_norm(x, g, axis=axis)[0]], [x, g], [dy], gradients, rng)


# Memory, dtypes, neighbours.


@pytest.mark.parametrize("memory", ZOO)
@pytest.mark.parametrize("p", [2.0, 1.0, math.inf, 3.0])
def test_any_memory(p, memory, rng):
    dy, x = rng.standard_normal((2, 3, 4, 5)).astype(np.float32)
    y, norm = normalize(x, p, return_norm=True)
    dx = normalize_backward(dy, x, norm, p)
    for some_dy, some_x in ((ZOO[memory](dy), x), (dy, ZOO[memory](x))):
        found = normalize(some_x, p)
        assert roundings(found, y, np.float32) <= 1  # sums in another order
        assert gradient_roundings(normalize_backward(some_dy, some_x, norm, p), dx, np.float32) <= 4
        native = some_x.astype(np.float32, copy=False)
        assert_like(found, native if some_x.dtype.isnative else np.empty_like(some_x, np.float32))


@pytest.mark.parametrize("p", [2.0, 1.0])
def test_out(p, rng):
    x = rng.standard_normal((9, 6)).astype(np.float32)
    expected = normalize(x, p)
    other = np.empty_like(x)
    assert normalize(x, p, out=other) is other
    assert np.array_equal(other, expected)
    store = np.concatenate([x, np.zeros((1, 6), np.float32)])
    assert np.array_equal(normalize(store[:-1], p, out=store[1:]), expected)
    assert normalize(x, p, out=x) is x
    assert np.array_equal(x, expected)
    x = rng.standard_normal((9, 6)).astype(np.float32)
    expected = scale_norm(x, 2.0)
    assert np.array_equal(scale_norm(x, 2.0, out=x), expected)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
@every_p
def test_halves_are_rounded_once(p, dtype, rng):
    """Half a unit of the last place, and what the float32 result may be off itself."""
    half = (2.0**-10 if dtype == np.float16 else 2.0**-7) / 2
    dy, x = rng.standard_normal((2, 6, 40)).astype(dtype)
    y, norm = normalize(x, p, return_norm=True)
    dx = normalize_backward(dy, x, norm, p)
    assert y.dtype == dx.dtype == dtype
    exact, exact_norm = reference.normalize(widen(x), p)
    wanted = reference.normalize_backward(widen(dy), widen(x), exact_norm, p)
    assert np.all(np.abs(widen(y) - exact) <= (half + 2.0**-21) * np.maximum(1, np.abs(exact)))
    assert np.abs(widen(dx) - wanted).max() <= (half + 2.0**-19) * np.abs(wanted).max()
    if p == 2:
        found = scale_norm(x, np.array(3, dtype))
        assert np.all(
            np.abs(widen(found) - 3 * exact) <= (half + 2.0**-21) * np.maximum(1, np.abs(3 * exact))
        )
        assert scale_norm_backward(dy, x, norm, np.array(3, dtype)).dg.dtype == dtype


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@every_p
def test_what_is_no_number_stays_in_its_vector(p, bad, rng):
    dy, x = rng.standard_normal((2, 4, 9)).astype(np.float32)
    y, norm = normalize(x, p, return_norm=True)
    dx = normalize_backward(dy, x, norm, p)
    x[1, 3] = bad
    found, norm = normalize(x, p, return_norm=True)
    back = normalize_backward(dy, x, norm, p)
    others = [0, 2, 3]
    assert np.isnan(found[1, 3])
    assert np.array_equal(found[others], y[others]) and np.array_equal(back[others], dx[others])
    assert np.isnan(back[1]).any()
    if np.isnan(bad):
        assert np.isnan(found[1]).all() and np.isnan(norm[1])


@every_p
def test_a_vector_alone_has_the_bits_that_it_has_among_others(p, rng):
    x = rng.standard_normal((50, 3001)).astype(np.float32)
    y = normalize(x, p)
    for i in (0, 49):
        assert np.array_equal(normalize(x[i : i + 1], p)[0], y[i])


@every_p
def test_empty_batch(p):
    x = np.empty((0, 4), np.float32)
    y, norm = normalize(x, p, return_norm=True)
    assert y.shape == (0, 4) and norm.shape == (0,)
    assert normalize_backward(x, x, norm, p).shape == (0, 4)
    y, norm = scale_norm(x, 2.0, return_norm=True)
    assert scale_norm_backward(x, x, norm, 2.0).dg == 0


def test_wrong_arguments_name_themselves(rng):
    x = rng.standard_normal((4, 6)).astype(np.float32)
    before, norm = x.copy(), np.ones(4)
    for call, text in (
        (lambda: normalize(x, 0, out=x), "p is 0, expected a positive number"),
        (lambda: normalize(x, np.nan, out=x), "p is nan"),
        (lambda: normalize(x, "two", out=x), "p is 'two'"),
        (lambda: normalize(x, 1, 2, out=x), "axis is 2, expected from -2 to 1"),
        (lambda: normalize(x, eps=-1, out=x), "eps is -1, expected a number of at least 0"),
        (lambda: normalize(x, 3, out=np.empty((4, 5), np.float32)), r"out has shape \(4, 5\)"),
        (lambda: normalize(x.astype(int)), "x has dtype int64"),
        (lambda: normalize_backward(x, x, norm[:3]), r"norm has shape \(3,\), expected \(4,\)"),
        (lambda: normalize_backward(x[:, :5], x, norm), r"dy has shape \(4, 5\)"),
        (lambda: normalize_backward(x, x, list(norm), 1), "norm is a list"),
        (lambda: scale_norm(x, np.ones(2), out=x), r"g has shape \(2,\), expected \(\)"),
        (lambda: scale_norm(x, np.array(1), out=x), "g has dtype int64"),
        (lambda: scale_norm(x, None, out=x), "g is None, expected a number"),
    ):
        with pytest.raises((TypeError, ValueError), match=text):
            call()
    assert np.array_equal(x, before)


# The layers.


def test_layers_go_there_and_back(rng):
    dy, x = rng.standard_normal((2, 5, 8)).astype(np.float32)
    for layer, function, backward, arguments in (
        (Normalize(3, axis=(0, 1)), normalize, normalize_backward, (3, (0, 1))),
        (ScaleNorm(8), scale_norm, scale_norm_backward, (math.sqrt(8),)),
    ):
        y, norm = function(x, *arguments, return_norm=True)
        assert roundings(layer(x), y, np.float32) <= 1
        found = backward(dy, x, norm, *arguments)
        dx = found[0] if isinstance(found, tuple) else found
        assert gradient_roundings(layer.backward(dy), dx, np.float32) <= 1
        assert np.array_equal(layer.eval()(x), layer.train()(x))
        layer.eval()(x)
        with pytest.raises(RuntimeError, match="no call in training"):
            layer.backward(dy)
    assert layer.grads.keys() == {"scale"} and layer.grads["scale"].shape == ()


def test_state_of_the_layers(rng):
    assert repr(Normalize(p=1)) == "Normalize(p=1.0, eps=1e-12, axis=1)"
    assert Normalize().state_dict() == {}
    layer = ScaleNorm(16, dtype=np.float64)
    assert repr(layer) == "ScaleNorm(16, eps=1e-05, axis=-1, dtype=float64)"
    assert layer.state_dict() == {"scale": 4.0}
    layer.parameters()["scale"][...] = 3
    x = rng.standard_normal((2, 16))
    np.testing.assert_allclose(np.linalg.norm(layer(x), axis=1), 3, rtol=1e-14)
    copy = pickle.loads(pickle.dumps(layer))
    assert np.array_equal(copy(x), layer(x))
    other = ScaleNorm(16, dtype=np.float64)
    other.load_state_dict(layer.state_dict())
    assert np.array_equal(other(x), layer(x))
    with pytest.raises(ValueError, match=r"x has shape \(2, 15\)"):
        layer(x[:, :15])
    with pytest.raises(ValueError, match="p is -1"):
        Normalize(-1)

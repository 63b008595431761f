"""The activation that deep norm, normalize and scale norm apply in the same trip, forward and backward."""

import math

import ml_dtypes
import numpy as np
import pytest

import fastnorm
from fastnorm.reference import deep as deep_reference
from fastnorm.reference import vectors as reference
from fastnorm.reference._parts import through

from .checks import ACTIVATIONS, DTYPES, assert_exact, assert_sum
from .norms import BY_AXIS, affine, widen
from .oracle import GRADIENT_ROUNDINGS, gradient_roundings, roundings
from .slopes import assert_slopes

LAYER_NORMS = [norm for norm in BY_AXIS if norm.name == "layer_norm"]
ALPHA, G = 2.213, np.array(3.5)
P = [2.0, 1.0, math.inf, 3.0]
every_activation = pytest.mark.parametrize("activation", ACTIVATIONS)
every_dtype = pytest.mark.parametrize("dtype", DTYPES)
every_p = pytest.mark.parametrize("p", P)


def assert_gradient(found, exact, dtype):
    assert found.dtype == dtype
    assert gradient_roundings(found, exact, dtype) <= GRADIENT_ROUNDINGS


# Deep norm.


@every_activation
@every_dtype
@pytest.mark.parametrize("norm", LAYER_NORMS, ids=str)
def test_deep_norm(norm, dtype, activation, rng):
    for count in (8, 2049):
        dy, x, residual = rng.standard_normal((3, *norm.sized(count))).astype(dtype)
        pair = affine(norm, x.shape, rng, dtype)
        options = {"alpha": ALPHA, "axis": norm.axis, "activation": activation}
        y, *saved = fastnorm.deep_norm(x, residual, *pair, return_stats=True, **options)
        wide = [widen(a) for a in (saved[0], *pair)]
        exact, *statistics = norm.exact(*wide, activation=activation)
        assert_exact(y, exact, dtype)
        assert np.array_equal(fastnorm.deep_norm(x, residual, *pair, **options), y)
        found = fastnorm.deep_norm_backward(dy, *saved, *pair, **options)
        wanted = deep_reference.deep_norm_backward(widen(dy), wide[0], *statistics, *wide[1:], **options)
        for gradient, exact in zip(found, wanted, strict=True):
            assert_gradient(gradient, exact, dtype)


@pytest.mark.parametrize("shape", [(3, 1500001), (40001, 3)])
def test_deep_norm_of_groups_that_several_threads_share(shape, rng):
    x, residual = rng.standard_normal((2, *shape)).astype(np.float32)
    options = {"alpha": ALPHA, "axis": int(np.argmax(shape)), "activation": "silu"}
    exact, *_ = deep_reference.deep_norm(widen(x), widen(residual), **options)
    assert_exact(fastnorm.deep_norm(x, residual, **options), exact, np.float32)


def test_calls_that_differ_in_the_activation_alone(rng):
    """Whatever is recalled of an earlier call, it is not its activation."""
    x, residual = rng.standard_normal((2, 6, 10)).astype(np.float32)
    calls = (
        lambda **o: fastnorm.deep_norm(x, residual, alpha=2, **o),
        lambda **o: fastnorm.scale_norm(x, 2.0, **o),
        lambda **o: fastnorm.normalize(x, **o),
        lambda **o: fastnorm.normalize(x, 3, **o),
        lambda **o: fastnorm.dynamic_tanh(x, 0.5, **o),
    )
    for call in calls:
        plain = call()
        for _ in range(2):
            assert np.array_equal(call(activation="relu"), np.maximum(plain, 0))
            assert np.array_equal(call(), plain)


# Normalize and scale norm.


def _rows(rng, dtype, axis):
    """dy and x, with rows along `axis` of ordinary length, of zeros, and shorter than eps."""
    dy, x = rng.standard_normal((2, 6, 40)).astype(dtype)
    x[1], x[2] = 0, x[2] * dtype(1e-20)
    return (dy, x) if axis == 1 else (np.ascontiguousarray(dy.T), np.ascontiguousarray(x.T))


@every_activation
@every_dtype
@pytest.mark.parametrize("short", [False, True])
@pytest.mark.parametrize("axis", [0, 1])
@every_p
def test_normalize(p, axis, short, dtype, activation, rng):
    dy, x = _rows(rng, dtype, axis) if short else rng.standard_normal((2, 5, 7)).astype(dtype)
    y, norm = fastnorm.normalize(x, p, axis, activation=activation, return_norm=True)
    exact, exact_norm = reference.normalize(widen(x), p, axis, activation=activation)
    assert_exact(y, exact, dtype)
    dx = fastnorm.normalize_backward(dy, x, norm, p, axis, activation=activation)
    with np.errstate(all="ignore"):  # the slope of a length of 0, which does not count
        wanted = reference.normalize_backward(widen(dy), widen(x), exact_norm, p, axis, activation=activation)
    for i in range(x.shape[1 - axis]):
        assert_gradient(np.moveaxis(dx, axis, 1)[i], np.moveaxis(wanted, axis, 1)[i], dtype)


@every_activation
@every_dtype
@pytest.mark.parametrize("short", [False, True])
@pytest.mark.parametrize("axis", [0, 1])
def test_scale_norm(axis, short, dtype, activation, rng):
    dy, x = _rows(rng, dtype, axis) if short else rng.standard_normal((2, 5, 7)).astype(dtype)
    options, g = {"axis": axis, "eps": 1e-12, "activation": activation}, G.astype(dtype)
    y, norm = fastnorm.scale_norm(x, g, return_norm=True, **options)
    exact, exact_norm = reference.scale_norm(widen(x), G, **options)
    assert_exact(y, exact, dtype)
    dx, dg = fastnorm.scale_norm_backward(dy, x, norm, g, **options)
    with np.errstate(all="ignore"):
        wanted, _ = reference.scale_norm_backward(widen(dy), widen(x), exact_norm, G, **options)
    for i in range(x.shape[1 - axis]):
        assert_gradient(np.moveaxis(dx, axis, 1)[i], np.moveaxis(wanted, axis, 1)[i], dtype)
    unit, _ = reference.normalize(widen(x), 2, axis, 1e-12)
    terms = through(widen(dy), G * unit, activation) * unit
    assert_sum(dg, terms, dtype)


@pytest.mark.parametrize("activation", ["relu", "gelu", "tanh"])
@every_p
def test_the_definitions_gradients_are_their_slopes(p, activation, rng):
    dy, x = rng.standard_normal((2, 3, 4, 5))
    options = {"activation": activation}
    _, norm = reference.normalize(x, p, 1)
    gradient = reference.normalize_backward(dy, x, norm, p, 1, **options)
    assert_slopes(lambda x: [reference.normalize(x, p, 1, **options)[0]], [x], [dy], [gradient], rng)
    if p == 2:
        options["axis"] = 1
        gradients = reference.scale_norm_backward(dy, x, norm, G, **options)
        assert_slopes(lambda x, g: [reference.scale_norm(x, g, **options)[0]], [x, G], [dy], gradients, rng)
        pair, options["alpha"] = rng.standard_normal((2, 4)), ALPHA
        _, *saved = deep_reference.deep_norm(x, x[::-1], *pair, **options)
        gradients = deep_reference.deep_norm_backward(dy, *saved, *pair, **options)
        arguments = [x, x[::-1], *pair]
        assert_slopes(
            lambda *a: [deep_reference.deep_norm(*a, **options)[0]], arguments, [dy], gradients, rng
        )


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
@every_p
def test_halves_are_rounded_once(p, dtype, rng):
    """Half a unit of the last place, and what the float32 result may be off itself."""
    half = (2.0**-10 if dtype == np.float16 else 2.0**-7) / 2
    dy, x = rng.standard_normal((2, 6, 40)).astype(dtype)
    y, norm = fastnorm.normalize(x, p, activation="silu", return_norm=True)
    dx = fastnorm.normalize_backward(dy, x, norm, p, activation="silu")
    exact, exact_norm = reference.normalize(widen(x), p, activation="silu")
    wanted = reference.normalize_backward(widen(dy), widen(x), exact_norm, p, activation="silu")
    assert y.dtype == dx.dtype == dtype
    assert np.all(np.abs(widen(y) - exact) <= (half + 2.0**-21) * np.maximum(1, np.abs(exact)))
    assert np.abs(widen(dx) - wanted).max() <= (half + 2.0**-19) * np.abs(wanted).max()


def test_same_bits_on_any_number_of_threads(rng):
    dy, x = rng.standard_normal((2, 300, 3001)).astype(np.float32)

    def all_of_them():
        y, *saved = fastnorm.deep_norm(x, dy, alpha=ALPHA, activation="gelu", return_stats=True)
        unit, norm = fastnorm.normalize(x, 3, activation="gelu", return_norm=True)
        scaled, length = fastnorm.scale_norm(x, G, activation="gelu", return_norm=True)
        tanh = fastnorm.dynamic_tanh(x, 0.7, activation="gelu")
        return (
            *(y, unit, scaled, tanh),
            *fastnorm.deep_norm_backward(dy, *saved, alpha=ALPHA, activation="gelu"),
            fastnorm.normalize_backward(dy, x, norm, 3, activation="gelu"),
            *fastnorm.scale_norm_backward(dy, x, length, G, activation="gelu"),
            *fastnorm.dynamic_tanh_backward(dy, x, 0.7, activation="gelu"),
        )

    expected = all_of_them()
    with fastnorm.num_threads(1):
        alone = all_of_them()
    assert all(np.array_equal(a, b) for a, b in zip(alone, expected, strict=True))


def test_torch_says_the_same(rng):
    torch = pytest.importorskip("torch")
    dy, x = rng.standard_normal((2, 5, 9))
    leaf, g = (torch.tensor(a, requires_grad=True) for a in (x, G))
    theirs = torch.nn.functional.silu(g * torch.nn.functional.normalize(leaf))
    theirs.backward(torch.tensor(dy))
    y, norm = fastnorm.scale_norm(x, G, eps=1e-12, activation="silu", return_norm=True)
    assert roundings(y, theirs.detach().numpy(), np.float64) <= 4
    dx, dg = fastnorm.scale_norm_backward(dy, x, norm, G, eps=1e-12, activation="silu")
    assert gradient_roundings(dx, leaf.grad.numpy(), np.float64) <= GRADIENT_ROUNDINGS
    np.testing.assert_allclose(dg, g.grad.numpy(), rtol=1e-13)


def test_an_unknown_activation_is_named(rng):
    x = rng.standard_normal((4, 6)).astype(np.float32)
    before, one, none = x.copy(), np.ones(4), np.zeros(4)
    options = {"activation": "elu"}
    for call in (
        lambda: fastnorm.deep_norm(x, x, alpha=2, out=x, **options),
        lambda: fastnorm.deep_norm_backward(x, x, none, one, alpha=2, **options),
        lambda: fastnorm.normalize(x, out=x, **options),
        lambda: fastnorm.normalize(x, 3, out=x, **options),
        lambda: fastnorm.normalize_backward(x, x, one, **options),
        lambda: fastnorm.normalize_backward(x, x, one, 3, **options),
        lambda: fastnorm.scale_norm(x, 2.0, out=x, **options),
        lambda: fastnorm.scale_norm_backward(x, x, one, 2.0, **options),
        lambda: fastnorm.dynamic_tanh(x, 2.0, out=x, **options),
        lambda: fastnorm.dynamic_tanh_backward(x, x, 2.0, **options),
    ):
        with pytest.raises(ValueError, match="activation is 'elu', expected one of"):
            call()
    assert np.array_equal(x, before)

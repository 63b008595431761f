"""Spectral norm: against its definition, singular values and PyTorch's parametrization; the state that it moves."""

import pickle
import re

import ml_dtypes
import numpy as np
import pytest

from fastnorm.functional import spectral
from fastnorm.functional.spectral import spectral_norm, spectral_norm_backward
from fastnorm.layers.spectral import SpectralNorm
from fastnorm.reference import weights as reference
from tests.checks import DTYPES, assert_like
from tests.norms import widen
from tests.oracle import FORWARD_ROUNDINGS, GRADIENT_ROUNDINGS, ZOO, gradient_roundings

f32 = np.float32
CASES = [
    ((5, 7), 0),
    ((5, 7), 1),
    ((7, 5), -1),
    ((4, 3, 5, 2), 0),
    ((4, 3, 5, 2), 1),
    ((3, 1), 0),
    ((40, 300), 0),
]
every_case = pytest.mark.parametrize(("shape", "dim"), CASES, ids=str)
every_dtype = pytest.mark.parametrize("dtype", DTYPES)


def vectors(w, dim, rng, dtype=np.float64):
    """A u and a v, not of unit length: only a first call sees those."""
    rows = w.shape[dim]
    return rng.standard_normal(rows).astype(dtype), rng.standard_normal(w.size // rows).astype(dtype)


def matrix_of(w, dim):
    return np.moveaxis(w, dim, 0).reshape(w.shape[dim], -1).astype(float)


def improved(w, v, dim, dtype):
    """How far one iteration from v may be off, relative to sigma, and to u and v of length 1.

    A product of K terms is off by K/2 roundings of |W|·|v|, whose length is ‖W‖_F·‖v‖ at most, in any order of summation.
    So u is off by K roundings of ‖W‖_F/‖Wv‖, v being 1 long, and Wᵀu by h/2 of ‖W‖_F and by ‖W‖₂ times that.
    """
    matrix, v = matrix_of(w, dim), v.astype(float)
    there = matrix @ v
    sigma = np.linalg.norm(matrix.T @ there) / np.linalg.norm(there)
    least = np.linalg.norm(there) / np.linalg.norm(v) * sigma
    condition = np.linalg.norm(matrix) * np.linalg.norm(matrix, 2) / least
    return sum(matrix.shape) * np.finfo(dtype).eps * condition


@every_dtype
@every_case
def test_training_equals_the_definition(shape, dim, dtype, rng):
    w = rng.standard_normal(shape).astype(dtype)
    u, v = vectors(w, dim, rng, dtype)
    exact, exact_sigma, *exact_vectors = reference.spectral_norm(
        widen(w), widen(u), widen(v), dim=dim, training=True
    )
    off = improved(w, v, dim, dtype)
    y, sigma = spectral_norm(w, u, v, dim=dim, training=True, return_sigma=True)
    assert_like(y, w)
    assert isinstance(sigma, float) and sigma == pytest.approx(float(exact_sigma), rel=off, abs=0)
    assert np.all(np.abs(y - exact) <= (off + FORWARD_ROUNDINGS * np.finfo(dtype).eps) * np.abs(exact))
    for found, wanted in zip((u, v), exact_vectors, strict=True):
        assert (
            found.dtype == dtype
            and np.linalg.norm((found - wanted).astype(float)) <= off + np.finfo(dtype).eps
        )


@every_dtype
@every_case
def test_evaluation_equals_the_definition_and_moves_nothing(shape, dim, dtype, rng):
    w = rng.standard_normal(shape).astype(dtype)
    u, v = vectors(w, dim, rng, dtype)
    before = u.copy(), v.copy()
    u.flags.writeable = v.flags.writeable = False
    exact, exact_sigma, *_ = reference.spectral_norm(widen(w), widen(u), widen(v), dim=dim)
    y, sigma = spectral_norm(w, u, v, dim=dim, return_sigma=True)
    # K/2 roundings of the products for each row of K, and one for those of v, at the scale of all their sizes.
    size = np.abs(u) @ np.abs(matrix_of(w, dim)) @ np.abs(v)
    off = (v.size / 2 + 1) * np.finfo(dtype).eps * size / abs(exact_sigma)
    assert sigma == pytest.approx(float(exact_sigma), rel=float(off), abs=0)
    assert np.all(np.abs(y - exact) <= (off + FORWARD_ROUNDINGS * np.finfo(dtype).eps) * np.abs(exact))
    assert np.array_equal(u, before[0]) and np.array_equal(v, before[1])
    assert np.array_equal(spectral_norm(w, u, v, dim=dim), y)


@every_dtype
@every_case
def test_backward_equals_the_definition(shape, dim, dtype, rng):
    w, dy = rng.standard_normal((2, *shape)).astype(dtype)
    u, v = vectors(w, dim, rng)
    sigma = 3 + reference.spectral_norm(w, u, v, dim=dim, training=True)[1]
    dw = spectral_norm_backward(dy, w, u, v, sigma, dim=dim)
    assert_like(dw, w)
    exact = reference.spectral_norm_backward(widen(dy), widen(w), widen(u), widen(v), sigma, dim=dim)
    assert gradient_roundings(dw, exact, dtype) <= GRADIENT_ROUNDINGS


@pytest.mark.parametrize("dim", [0, 2])
@pytest.mark.parametrize("memory", ZOO)
def test_any_memory(memory, dim, rng):
    w, dy = rng.standard_normal((2, 4, 3, 6)).astype(f32)
    u, v = vectors(w, dim, rng, f32)
    stored, other = ZOO[memory](w), ZOO[memory](dy)
    exact, sigma, *_ = reference.spectral_norm(w, u, v, dim=dim)
    y = spectral_norm(stored, ZOO[memory](u), ZOO[memory](v), dim=dim)
    assert_like(y, stored.astype(f32))
    np.testing.assert_allclose(
        y, exact, rtol=18 * np.finfo(f32).eps * 20
    )  # 18 terms, whose sum cancels a little
    dw = reference.spectral_norm_backward(dy, w, u, v, sigma, dim=dim)
    for beside in (other, dy):
        found = spectral_norm_backward(beside, stored, u, v, sigma, dim=dim)
        assert_like(found, stored.astype(f32))
        assert gradient_roundings(found, dw, f32) <= GRADIENT_ROUNDINGS
    if memory != "read-only":
        moved_u, moved_v = ZOO[memory](u), ZOO[memory](v)
        out = ZOO[memory](np.zeros_like(w))
        assert spectral_norm(stored, moved_u, moved_v, dim=dim, training=True, out=out) is out
        spectral_norm(w, u, v, dim=dim, training=True)
        np.testing.assert_allclose(moved_u, u, rtol=0, atol=18 * np.finfo(f32).eps)
        np.testing.assert_allclose(moved_v, v, rtol=0, atol=18 * np.finfo(f32).eps)


@pytest.mark.parametrize("scale", [1e-43, 1e-30, 1, 1e25, 1e37])
def test_sigma_becomes_the_largest_singular_value(scale, rng):
    """PyTorch's lengths overflow from 1e19 on; at either end the products would, were the matrix not brought near 1."""
    w = (scale * rng.uniform(0.5, 1.5, (40, 60))).astype(f32)  # one singular value far above the rest
    u, v = vectors(w, 0, rng, f32)
    for _ in range(3):
        y, sigma = spectral_norm(w, u, v, n_power_iterations=5, eps=0, training=True, return_sigma=True)
    largest = np.linalg.svd(w.astype(float), compute_uv=False)[0]
    # A product of 100 terms, ‖W‖_F being hardly more than ‖W‖₂.
    assert sigma == pytest.approx(largest, rel=100 * float(np.finfo(f32).eps), abs=0)
    np.testing.assert_allclose(y, w / largest, rtol=100 * np.finfo(f32).eps)
    dy = rng.standard_normal(w.shape).astype(f32)
    with np.errstate(over="ignore"):
        exact = reference.spectral_norm_backward(dy, w, u, v, sigma).astype(f32)
    dw = spectral_norm_backward(dy, w, u, v, sigma)
    if np.isfinite(exact).all():  # half the last place of a subnormal, besides
        error = np.max(np.abs(dw - exact.astype(float)))
        assert error <= GRADIENT_ROUNDINGS * np.finfo(f32).eps * np.max(np.abs(exact)) + 2e-45
    else:
        assert np.array_equal(np.isinf(dw), np.isinf(exact))


def test_float64_beyond_the_squares_of_its_range(rng):
    w = rng.uniform(0.5, 1.5, (4, 6)) * 1e250
    u, v = vectors(w, 0, rng)
    _, sigma = spectral_norm(w, u, v, n_power_iterations=20, training=True, return_sigma=True)
    assert sigma == pytest.approx(np.linalg.svd(w / 1e250)[1][0] * 1e250, rel=1e-14)


@pytest.mark.parametrize("scale", [1.0, 1e-33], ids=["near 1", "brought near 1"])
def test_eps_bounds_the_lengths_that_are_divided_by(scale, rng):
    w, eps = (scale * rng.standard_normal((4, 6))).astype(f32), 100 * scale
    u, v = vectors(w, 0, rng)
    exact = reference.spectral_norm(w, u, v, eps=eps, training=True)
    _, sigma = spectral_norm(w, u, v, eps=eps, training=True, return_sigma=True)
    assert sigma == pytest.approx(exact[1], rel=1e-5, abs=0) and 0 < np.linalg.norm(v) < 0.5
    np.testing.assert_allclose(u, exact[2], rtol=1e-4)
    np.testing.assert_allclose(v, exact[3], rtol=1e-4)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_16_bits_are_the_float32_result_rounded(dtype, rng):
    w, dy = rng.standard_normal((2, 6, 40)).astype(dtype)
    u, v = vectors(w, 0, rng, f32)
    single_u, single_v = u.copy(), v.copy()
    y, sigma = spectral_norm(w, u, v, training=True, return_sigma=True)
    single = spectral_norm(w.astype(f32), single_u, single_v, training=True)
    assert (
        np.array_equal(y, single.astype(dtype))
        and np.array_equal(u, single_u)
        and np.array_equal(v, single_v)
    )
    dw = spectral_norm_backward(dy.astype(f32), w.astype(f32), u, v, sigma)
    assert np.array_equal(spectral_norm_backward(dy, w, u, v, sigma), dw.astype(dtype))


def test_without_a_singular_value_as_in_torch():
    torch = pytest.importorskip("torch")
    for w in (
        np.zeros((2, 3), f32),
        np.array([[np.nan, 1], [1, 1]], f32),
        np.array([[np.inf, 1], [1, 1]], f32),
    ):
        u, v = np.ones(w.shape[0], f32), np.ones(w.shape[1], f32)
        module = torch.nn.utils.parametrizations._SpectralNorm(torch.ones(w.shape))
        module._u, module._v = torch.tensor(u), torch.tensor(v)
        np.testing.assert_array_equal(
            np.isnan(spectral_norm(w, u, v, training=True)), module(torch.tensor(w)).isnan()
        )
        np.testing.assert_array_equal(u, module._u)
        np.testing.assert_array_equal(v, module._v)


def test_infinite_gradients_are_not_warned_of(rng):
    w, dy = rng.standard_normal((4, 6)).astype(f32), np.ones((4, 6), f32)
    dy[1, 2] = np.inf
    u, v = np.eye(4)[0], np.eye(6)[0]
    assert not np.isfinite(spectral_norm_backward(dy, w, u, v, 2.0)[1, 2])


def test_nothing_moves_where_the_call_fails(rng, monkeypatch):
    w = rng.standard_normal((4, 6)).astype(f32)
    u, v = vectors(w, 0, rng)
    before = u.copy(), v.copy()

    def fail(*_, **__):
        raise MemoryError

    monkeypatch.setattr(spectral, "apply", fail)
    with pytest.raises(MemoryError):
        spectral_norm(w, u, v, training=True)
    assert np.array_equal(u, before[0]) and np.array_equal(v, before[1])


# PyTorch and the layer -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["Conv1d", "ConvTranspose1d"])
def test_layer_equals_torch_call_by_call(name, rng):
    torch = pytest.importorskip("torch")
    module = getattr(torch.nn, name)(6, 5, 4, bias=False)
    torch.nn.utils.parametrizations.spectral_norm(module, n_power_iterations=2).double()
    theirs = module.parametrizations.weight
    dim = 1 if name == "ConvTranspose1d" else 0
    layer = SpectralNorm(np.ones(tuple(theirs.original.shape), f32), 2, dim=dim)
    assert list(layer.state_dict()) == list(theirs.state_dict())
    layer.original[...] = rng.standard_normal(layer.original.shape)
    theirs.load_state_dict({key: torch.tensor(value) for key, value in layer.state_dict().items()})
    assert layer.load_state_dict(theirs.state_dict()) == ([], [])

    # Both follow the same vectors: what float32 is off does not grow, for every step improves them.
    close = {"rtol": 0, "atol": 24 * 20 * np.finfo(f32).eps}
    for mode in (True, True, False, True):
        module.train(mode)
        layer.train(mode)
        expected = module.weight
        np.testing.assert_allclose(layer(), expected.detach(), **close)
        np.testing.assert_allclose(layer.u, theirs[0]._u, **close)
        np.testing.assert_allclose(layer.v, theirs[0]._v, **close)
    dw = rng.standard_normal(layer.original.shape).astype(f32)
    expected.backward(torch.tensor(dw, dtype=torch.float64))
    dv = layer.backward(dw)
    np.testing.assert_allclose(dv, theirs.original.grad, **close)
    assert list(layer.grads) == ["original"] and layer.grads["original"] is dv


def test_layer_begins_near_the_singular_vectors_and_keeps_its_state(rng):
    weight = rng.uniform(0.5, 1.5, (8, 9)).astype(f32)
    layer = SpectralNorm(weight, rng=np.random.default_rng(3))
    assert np.linalg.svd(layer.eval()(), compute_uv=False)[0] == pytest.approx(1, rel=1e-4)
    other = pickle.loads(pickle.dumps(layer))
    assert repr(other) == repr(layer) == "SpectralNorm((8, 9), n_power_iterations=1, eps=1e-12, dim=0)"
    again = SpectralNorm(weight, rng=np.random.default_rng(3))
    for key, value in layer.state_dict().items():
        assert np.array_equal(other.state_dict()[key], value) and np.array_equal(
            again.state_dict()[key], value
        )
    assert np.array_equal(layer.eval()(), again.eval()())
    with pytest.raises(RuntimeError, match=r"call layer\.train\(\) and w = layer\(\) before"):
        layer.backward(weight)
    assert SpectralNorm(weight.astype(np.float16)).u.dtype == f32


def test_backward_goes_through_the_vectors_of_its_call(rng):
    layer, dw = SpectralNorm(rng.standard_normal((4, 5)).astype(f32)), rng.standard_normal((4, 5)).astype(f32)
    layer()
    expected = layer.backward(dw)
    layer.u[...], layer.v[...] = 0, 0
    assert np.array_equal(layer.backward(dw), expected)


# Errors --------------------------------------------------------------------------------------------------------------

W, U, VEC = np.ones((4, 6), f32), np.ones(4, f32), np.ones(6, f32)


def _read_only(a):
    a = a.copy()
    a.flags.writeable = False
    return a


WRONG = {
    "w: a list": (lambda: spectral_norm([1.0], U, VEC), "w is a list"),
    "w: one axis": (lambda: spectral_norm(U, U, VEC), r"w has shape \(4,\), expected at least two axes"),
    "w: empty": (lambda: spectral_norm(W[:0], U, VEC), r"w has shape \(0, 6\), with no element"),
    "u: shape": (
        lambda: spectral_norm(W, VEC, VEC),
        r"u has shape \(6,\), expected \(4,\).*4 rows \(along axis 0\) of 6",
    ),
    "v: shape": (lambda: spectral_norm(W, U, U), r"v has shape \(4,\), expected \(6,\)"),
    "v: of another dim": (lambda: spectral_norm(W, U, VEC, dim=1), r"u has shape \(4,\), expected \(6,\)"),
    "u: None": (lambda: spectral_norm(W, None, VEC), "u is a NoneType"),
    "u: integers": (
        lambda: spectral_norm(W, U.astype(int), VEC),
        "u has dtype int64, expected float32 or float64",
    ),
    "u: read-only": (lambda: spectral_norm(W, _read_only(U), VEC, training=True), "u is read-only"),
    "u: v's": (lambda: spectral_norm(np.eye(4, dtype=f32), U, U, training=True), "u shares memory with v"),
    "v: w's": (lambda: spectral_norm(W, U, W[0], training=True), "v shares memory with w"),
    "u: out's": (
        lambda: spectral_norm(W.copy(), W[:, 0], VEC, out=W, training=True),
        "u shares memory with out",
    ),
    "dim: a tuple": (lambda: spectral_norm(W, U, VEC, dim=(0,)), r"dim is \(0,\), expected an integer"),
    "dim: out of range": (
        lambda: spectral_norm(W, U, VEC, dim=2),
        "dim is 2, expected from -2 to 1: w has 2 axes",
    ),
    "iterations: none": (lambda: spectral_norm(W, U, VEC, n_power_iterations=0), "n_power_iterations is 0"),
    "iterations: not whole": (
        lambda: spectral_norm(W, U, VEC, n_power_iterations=1.5),
        "n_power_iterations is 1.5",
    ),
    "eps: None": (lambda: spectral_norm(W, U, VEC, eps=None), "eps is None"),
    "out: shape": (lambda: spectral_norm(W, U, VEC, out=W[:2]), r"out has shape \(2, 6\).*the shape of w"),
    "dy: shape": (
        lambda: spectral_norm_backward(W[:2], W, U, VEC, 1.0),
        r"dy has shape \(2, 6\).*the shape of w",
    ),
    "backward, u: shape": (
        lambda: spectral_norm_backward(W, W, VEC, VEC, 1.0),
        r"u has shape \(6,\), expected \(4,\)",
    ),
    "sigma: None": (lambda: spectral_norm_backward(W, W, U, VEC, None), "sigma is None, expected a number"),
    "layer, weight: one axis": (lambda: SpectralNorm(U), r"has shape \(4,\), expected at least two axes"),
    "layer, iterations": (lambda: SpectralNorm(W, 0), "n_power_iterations is 0, expected at least 1"),
}


@pytest.mark.parametrize("what", WRONG)
def test_message(what):
    call, words = WRONG[what]
    with pytest.raises((TypeError, ValueError)) as error:
        call()
    assert re.search(words, str(error.value)), str(error.value)
    assert (W == 1).all() and (U == 1).all() and (VEC == 1).all()

"""Cosine norm: against its definition, correlations and PyTorch's cosine similarity; and as a layer."""

import copy
import pickle
import re

import ml_dtypes
import numpy as np
import pytest

from fastnorm.functional.cosine import cosine_norm, cosine_norm_backward
from fastnorm.layers.cosine import CosineLinear
from fastnorm.reference import weights as reference
from tests.checks import DTYPES, assert_like
from tests.norms import widen
from tests.oracle import FORWARD_ROUNDINGS, GRADIENT_ROUNDINGS, INPUTS, ZOO

f32 = np.float32
every_dtype = pytest.mark.parametrize("dtype", DTYPES)
either = pytest.mark.parametrize("centered", [False, True], ids=["cosine", "correlation"])


def assert_cosines(y, exact, features, dtype):
    """A product of K terms is off by K/2 roundings of the sum of their sizes, which is 1 at most, in any order of summation;
    and each unit row has roundings of its own."""
    assert np.max(np.abs(y - exact), initial=0) <= (features / 2 + FORWARD_ROUNDINGS) * np.finfo(dtype).eps


def assert_gradient(found, exact, sizes, terms, a, centered, dtype):
    """(g - â·(g·â))/‖a‖ for a product g of so many terms: each element is off by half as many roundings of their sizes, and
    by those of any gradient for what comes after."""
    a = widen(a)
    a_hat, norm = reference._unit(a, centered, 0)
    scale = sizes + np.abs(a_hat) * (sizes * np.abs(a_hat)).sum(-1, keepdims=True)
    if centered:
        scale = scale + sizes.mean(-1, keepdims=True)
    bound = (terms / 2 + GRADIENT_ROUNDINGS) * np.finfo(dtype).eps * scale / norm
    assert np.all(np.abs(found - exact) <= bound)


def assert_gradients(found, dy, x, weight, centered, dtype):
    exact = reference.cosine_norm_backward(widen(dy), widen(x), widen(weight), centered=centered)
    x_hat, w_hat = (np.abs(reference._unit(widen(a), centered, 0)[0]) for a in (x, weight))
    size = np.abs(widen(dy))
    rows = size.reshape(-1, len(weight))
    of_weight = rows.T @ x_hat.reshape(-1, x.shape[-1])
    assert_gradient(found.dx, exact[0], size @ w_hat, len(weight), x, centered, dtype)
    assert_gradient(found.dweight, exact[1], of_weight, len(rows), weight, centered, dtype)


@every_dtype
@either
@pytest.mark.parametrize("shape", [(5, 7), (7,), (2, 3, 7), (1, 1), (130, 300)], ids=str)
def test_equals_its_definition(shape, centered, dtype, rng):
    if centered and shape[-1] == 1:
        pytest.skip("one element has no correlation")
    x = (1 + rng.standard_normal(shape)).astype(dtype)
    weight = (2 * rng.standard_normal((11, shape[-1]))).astype(dtype)
    y = cosine_norm(x, weight, centered=centered)
    assert y.dtype == dtype and y.shape == (*shape[:-1], 11)
    exact = reference.cosine_norm(widen(x), widen(weight), centered=centered)
    assert_cosines(y, exact, shape[-1], dtype)
    dy = rng.standard_normal(y.shape).astype(dtype)
    found = cosine_norm_backward(dy, x, weight, centered=centered)
    assert_like(found.dx, x)
    assert_like(found.dweight, weight)
    assert_gradients(found, dy, x, weight, centered, dtype)


@either
@pytest.mark.parametrize("memory", ZOO)
def test_any_memory(memory, centered, rng):
    x, weight = rng.standard_normal((4, 3, 6)).astype(f32), rng.standard_normal((5, 6)).astype(f32)
    dy = rng.standard_normal((4, 3, 5)).astype(f32)
    other = [ZOO[memory](a) for a in (dy, x, weight)]
    y = cosine_norm(*other[1:], centered=centered)
    assert_cosines(y, reference.cosine_norm(x, weight, centered=centered), 6, f32)
    found = cosine_norm_backward(*other, centered=centered)
    assert_like(found.dx, other[1].astype(f32))
    assert_gradients(found, dy, x, weight, centered, f32)


@either
@pytest.mark.parametrize("name", INPUTS)
def test_of_what_breaks_careless_sums(name, centered, rng):
    """Squares beyond float32, means far above what varies: of x, of the weight, and of both."""
    hard, easy = INPUTS[name]((6, 500), 1, rng), rng.standard_normal((4, 500)).astype(f32)
    for x, weight in ((hard, easy), (easy, hard), (hard, hard)):
        y = cosine_norm(x, weight, centered=centered)
        assert_cosines(y, reference.cosine_norm(x, weight, centered=centered), 500, f32)
        if not (centered and name.startswith("constant")):
            dy = rng.standard_normal(y.shape).astype(f32)
            found = cosine_norm_backward(dy, x, weight, centered=centered)
            assert_gradients(found, dy, x, weight, centered, f32)


def test_centered_it_is_the_correlation(rng):
    x, weight = rng.standard_normal((2, 3, 50))
    np.testing.assert_allclose(
        cosine_norm(x, weight, centered=True), np.corrcoef(x, weight)[:3, 3:], rtol=0, atol=50e-16
    )
    # Of what does not vary there is none, however large.
    assert (cosine_norm(np.full((1, 50), 1e30, f32), weight.astype(f32), centered=True) == 0).all()


def test_parallel_rows_have_a_cosine_of_1_at_any_length(rng):
    row = rng.uniform(1, 2, 64)
    x = np.stack([row * 10.0**k for k in (-30, -5, 0, 20, 36)]).astype(f32)
    y = cosine_norm(x, np.concatenate([x, -x]), eps=0)
    assert_cosines(np.abs(y), 1, 64, f32)


@either
def test_eps_takes_the_place_of_a_smaller_norm(centered, rng):
    x, weight = np.zeros((2, 8)), rng.standard_normal((3, 8))
    x[1] = 1e-10 * rng.standard_normal(8)
    y = cosine_norm(x, weight, centered=centered)
    np.testing.assert_array_equal(y[0], 0)
    np.testing.assert_allclose(y, reference.cosine_norm(x, weight, centered=centered), rtol=1e-12)
    dy = rng.standard_normal(y.shape)
    exact = reference.cosine_norm_backward(dy, x, weight, centered=centered)
    for found, wanted in zip(cosine_norm_backward(dy, x, weight, centered=centered), exact, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-14 * np.max(np.abs(wanted)))
    assert np.isnan(cosine_norm(x, weight, centered=centered, eps=0)[0]).all()


def test_nan_stays_in_its_row(rng):
    x, weight = rng.standard_normal((4, 6)).astype(f32), rng.standard_normal((3, 6)).astype(f32)
    right = cosine_norm(x, weight), cosine_norm_backward(np.ones((4, 3), f32), x, weight).dx
    for value in (np.nan, np.inf):
        x[1, 2] = value
        wrong = cosine_norm(x, weight), cosine_norm_backward(np.ones((4, 3), f32), x, weight).dx
        for y, with_nan in zip(right, wrong, strict=True):
            assert np.isnan(with_nan[1]).all()
            np.testing.assert_array_equal(np.delete(with_nan, 1, 0), np.delete(y, 1, 0))
    dy = np.ones((4, 3), f32)
    dy[1, 1] = np.inf
    assert not np.isfinite(cosine_norm_backward(dy, x, weight).dx[1]).any()


@either
@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_16_bits_are_the_float32_result_rounded(dtype, centered, rng):
    x, weight = rng.standard_normal((5, 40)).astype(dtype), rng.standard_normal((3, 40)).astype(dtype)
    wide = x.astype(f32), weight.astype(f32)
    y, single = cosine_norm(x, weight, centered=centered), cosine_norm(*wide, centered=centered)
    assert y.dtype == dtype and np.array_equal(y, single.astype(dtype))
    dy = rng.standard_normal(y.shape).astype(dtype)
    found = cosine_norm_backward(dy, x, weight, centered=centered)
    for gradient, single in zip(
        found, cosine_norm_backward(dy.astype(f32), *wide, centered=centered), strict=True
    ):
        assert gradient.dtype == dtype and np.array_equal(gradient, single.astype(dtype))


@either
@pytest.mark.parametrize(("samples", "outputs"), [(0, 3), (4, 0)])
def test_empty(samples, outputs, centered):
    x, weight = np.ones((samples, 6), f32), np.ones((outputs, 6), f32)
    assert cosine_norm(x, weight, centered=centered).shape == (samples, outputs)
    found = cosine_norm_backward(np.ones((samples, outputs), f32), x, weight, centered=centered)
    assert found.dx.shape == x.shape and found.dweight.shape == weight.shape
    assert not found.dx.any() and not found.dweight.any()


# PyTorch and the layer -----------------------------------------------------------------------------------------------


@either
def test_layer_equals_torch(centered, rng):
    torch = pytest.importorskip("torch")
    layer = CosineLinear(6, 5, centered)
    x, dy = rng.standard_normal((4, 3, 6)).astype(f32), rng.standard_normal((4, 3, 5)).astype(f32)
    of_x, of_weight = (torch.tensor(a, dtype=torch.float64, requires_grad=True) for a in (x, layer.weight))
    a, b = (t - t.mean(-1, keepdim=True) if centered else t for t in (of_x, of_weight))
    theirs = torch.nn.functional.cosine_similarity(a.unsqueeze(-2), b, dim=-1)
    theirs.backward(torch.tensor(dy, dtype=torch.float64))
    assert_cosines(layer(x), theirs.detach().numpy(), 6, f32)
    found = layer.backward(dy), layer.grads["weight"]
    for gradient, tensor in zip(found, (of_x, of_weight), strict=True):
        # Products of 12 terms at most, none of which is lost.
        np.testing.assert_allclose(
            gradient, tensor.grad, rtol=0, atol=28 * np.finfo(f32).eps * tensor.grad.abs().max()
        )
    module = torch.nn.Linear(6, 5, bias=False)
    module.load_state_dict({key: torch.tensor(value) for key, value in layer.state_dict().items()})
    other = CosineLinear(6, 5, centered)
    assert other.load_state_dict(module.state_dict()) == ([], [])
    assert np.array_equal(other(x), layer(x))


def test_layer_keeps_only_what_training_needs(rng):
    layer = CosineLinear(6, 5, True, rng=np.random.default_rng(1))
    x, dy = rng.standard_normal((4, 6)).astype(f32), np.ones((4, 5), f32)
    assert repr(layer) == "CosineLinear(6, 5, centered=True, eps=1e-08)"
    assert np.array_equal(layer.weight, CosineLinear(6, 5, rng=np.random.default_rng(1)).weight)
    assert 0.3 < np.abs(layer.weight).max() <= 1 / np.sqrt(6)
    trained = layer(x)
    for other in (pickle.loads(pickle.dumps(layer)), copy.deepcopy(layer)):
        with pytest.raises(RuntimeError, match="no call in training"):
            other.backward(dy)
        assert np.array_equal(other(x), trained)
    expected = cosine_norm_backward(dy, x, layer.weight, centered=True)
    assert np.array_equal(layer.backward(dy), expected.dx)
    assert list(layer.grads) == ["weight"] and np.array_equal(layer.grads["weight"], expected.dweight)
    assert np.array_equal(layer.eval()(x), trained)
    with pytest.raises(RuntimeError, match="no call in training"):
        layer.backward(dy)


# Errors --------------------------------------------------------------------------------------------------------------

X, WEIGHT = np.ones((4, 6), f32), np.ones((5, 6), f32)
WRONG = {
    "x: a list": (lambda: cosine_norm([1.0], WEIGHT), "x is a list"),
    "x: integers": (lambda: cosine_norm(X.astype(int), WEIGHT), "x has dtype int64"),
    "x: a number": (lambda: cosine_norm(np.array(1.0), WEIGHT), r"x has no axes \(shape \(\)\)"),
    "x: no features": (lambda: cosine_norm(X[:, :0], WEIGHT[:, :0]), r"x has shape \(4, 0\)"),
    "weight: a list": (lambda: cosine_norm(X, [[1.0]]), "weight is a list"),
    "weight: one axis": (lambda: cosine_norm(X, WEIGHT[0]), r"weight has shape \(6,\), expected two axes"),
    "weight: transposed": (
        lambda: cosine_norm(X, WEIGHT.T),
        r"weight has shape \(6, 5\), expected \(6, 6\).*in_features",
    ),
    "weight: integers": (lambda: cosine_norm(X, WEIGHT.astype(int)), "weight has dtype int64"),
    "eps: None": (lambda: cosine_norm(X, WEIGHT, eps=None), "eps is None, expected a number"),
    "dy: shape": (
        lambda: cosine_norm_backward(X, X, WEIGHT),
        r"dy has shape \(4, 6\), expected \(4, 5\), the shape of",
    ),
    "dy: dtype": (
        lambda: cosine_norm_backward(np.ones((4, 5)), X, WEIGHT),
        "dy has dtype float64, expected float32, the dtype of y",
    ),
    "layer: in_features": (lambda: CosineLinear(0, 5), "in_features is 0, expected at least 1"),
    "layer: dtype": (lambda: CosineLinear(6, 5, dtype=int), "dtype is int64"),
}


@pytest.mark.parametrize("what", WRONG)
def test_message(what):
    call, words = WRONG[what]
    with pytest.raises((TypeError, ValueError)) as error:
        call()
    assert re.search(words, str(error.value)), str(error.value)

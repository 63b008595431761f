"""Deep norm: the scaled residual connection and its layer norm, forward and backward; the paper's constants."""

import pickle

import ml_dtypes
import numpy as np
import pytest

import fastnorm
from fastnorm.functional.deep import deep_norm, deep_norm_backward, deep_norm_constants
from fastnorm.layers.deep import DeepNorm
from fastnorm.reference import deep as reference

from .checks import DTYPES, assert_exact, assert_like, assert_statistics
from .norms import BY_AXIS, affine, widen
from .oracle import GRADIENT_ROUNDINGS, ZOO, gradient_roundings
from .slopes import assert_slopes

NORMS = [norm for norm in BY_AXIS if norm.name == "layer_norm"]
every_norm = pytest.mark.parametrize("norm", NORMS, ids=str)
every_dtype = pytest.mark.parametrize("dtype", DTYPES)
ALPHA = 2.213  # no number of float32


def data(norm, rng, dtype=np.float32, count=40):
    """dy, x, residual, weight and bias."""
    dy, x, residual = rng.standard_normal((3, *norm.sized(count))).astype(dtype)
    return dy, x, residual, *affine(norm, x.shape, rng, dtype)


def assert_total(total, x, residual, alpha):
    """Three roundings, of alpha, where there is no fused multiply-add of the product, and of the sum."""
    eps, product = np.finfo(x.dtype).eps, np.abs(alpha * widen(x))
    error = np.abs(total - (alpha * widen(x) + widen(residual)))
    assert np.all(error <= eps * (product + (product + np.abs(widen(residual))) / 2))


@pytest.mark.parametrize("parameters", ["neither", "weight", "bias", "both"])
@every_dtype
@every_norm
def test_equals_the_definition(norm, dtype, parameters, rng):
    for count in (8, 2049):
        dy, x, residual, weight, bias = data(norm, rng, dtype, count)
        weight = weight if parameters in ("weight", "both") else None
        bias = bias if parameters in ("bias", "both") else None
        options = {"alpha": ALPHA, "axis": norm.axis}
        y, *saved = deep_norm(x, residual, weight, bias, return_stats=True, **options)
        total, *statistics = saved
        assert_total(total, x, residual, ALPHA)
        # What follows is of the sum as it was rounded, as it is of x in layer norm.
        exact, *exact_statistics = norm.exact(total, weight, bias)
        assert_exact(y, exact, dtype)
        assert_statistics(statistics, exact_statistics, dtype)
        assert_like(y, x)
        assert_like(total, x)
        assert np.array_equal(deep_norm(x, residual, weight, bias, **options), y)
        found = deep_norm_backward(dy, *saved, weight, bias, **options)
        wanted = reference.deep_norm_backward(
            widen(dy), widen(total), *exact_statistics, widen(weight), widen(bias), **options
        )
        for gradient, exact in zip(found, wanted, strict=True):
            assert gradient_roundings(gradient, exact, dtype) <= GRADIENT_ROUNDINGS
        assert_like(found.dx, x)
        assert_like(found.dresidual, x)


@every_norm
def test_by_one_it_is_the_residual_connection(norm, rng):
    _, x, residual, weight, bias = data(norm, rng)
    expected = fastnorm.add_layer_norm(x, residual, weight, bias, axis=norm.axis)
    y, total, *_ = deep_norm(x, residual, weight, bias, alpha=1, axis=norm.axis, return_stats=True)
    assert np.array_equal(y, expected[0]) and np.array_equal(total, expected[1])
    assert np.array_equal(total, x + residual)


def test_calls_that_differ_in_alpha_alone(rng):
    """Whatever is recalled of an earlier call, it is not its alpha."""
    x, residual = rng.standard_normal((2, 6, 10)).astype(np.float32)
    for alpha in (1.0, 3.0, -2.0, 0.0, 1.0):
        _, total, *_ = deep_norm(x, residual, alpha=alpha, return_stats=True)
        assert_total(total, x, residual, alpha)
        assert np.array_equal(fastnorm.add_layer_norm(x, residual)[1], x + residual)


@pytest.mark.parametrize("shape", [(3, 1500001), (40001, 3)])
def test_groups_that_several_threads_share(shape, rng):
    """Their sums are stored before any statistic is taken of them."""
    x, residual = rng.standard_normal((2, *shape)).astype(np.float32)
    axis = int(np.argmax(shape))
    y = deep_norm(x, residual, alpha=ALPHA, axis=axis)
    exact, *_ = reference.deep_norm(widen(x), widen(residual), alpha=ALPHA, axis=axis)
    assert_exact(y, exact, np.float32)


@pytest.mark.parametrize("axis", [-1, (0, 2)])
def test_reference_gradients_against_central_differences(axis, rng):
    dy, x, residual = rng.standard_normal((3, 3, 4, 5))
    shape = [x.shape[a] for a in ((axis,) if isinstance(axis, int) else axis)]
    weight, bias = rng.standard_normal((2, *shape))
    options = {"alpha": ALPHA, "axis": axis}

    def forward(*arguments):
        return [reference.deep_norm(*arguments, **options)[0]]

    _, *saved = reference.deep_norm(x, residual, weight, bias, **options)
    gradients = reference.deep_norm_backward(dy, *saved, weight, bias, **options)
    assert_slopes(forward, [x, residual, weight, bias], [dy], gradients, rng)


def test_agrees_with_torch(rng):
    torch = pytest.importorskip("torch")
    dy, x, residual = rng.standard_normal((3, 5, 9))
    weight, bias = rng.standard_normal((2, 9))
    leaves = [torch.tensor(a, requires_grad=True) for a in (x, residual, weight, bias)]
    theirs = torch.nn.functional.layer_norm(ALPHA * leaves[0] + leaves[1], (9,), *leaves[2:])
    theirs.backward(torch.tensor(dy))
    y, *saved = deep_norm(x, residual, weight, bias, alpha=ALPHA, return_stats=True)
    np.testing.assert_allclose(y, theirs.detach().numpy(), rtol=1e-12, atol=1e-13)
    gradients = deep_norm_backward(dy, *saved, weight, bias, alpha=ALPHA)
    for gradient, leaf in zip(gradients, leaves, strict=True):
        np.testing.assert_allclose(gradient, leaf.grad.numpy(), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("memory", ZOO)
@pytest.mark.parametrize("axis", [-1, 1])
def test_any_memory(axis, memory, rng):
    x, residual = rng.standard_normal((2, 3, 4, 5)).astype(np.float32)
    exact = reference.deep_norm(widen(x), widen(residual), alpha=ALPHA, axis=axis)[0]
    for some_x, some_residual in ((ZOO[memory](x), residual), (x, ZOO[memory](residual))):
        y = deep_norm(some_x, some_residual, alpha=ALPHA, axis=axis)
        assert_exact(y.astype(np.float32, copy=False), exact, np.float32)


@pytest.mark.parametrize("written", ["elsewhere", "x", "residual", "beside x"])
@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize("shape", [(8, 40), (8, 40000)])
def test_out(shape, kept, written, rng):
    store = rng.standard_normal((shape[0] + 1, shape[1])).astype(np.float32)
    x, residual = store[:-1], rng.standard_normal(shape).astype(np.float32)
    options = {"alpha": ALPHA, "return_stats": kept}
    expected = deep_norm(x.copy(), residual, **options)
    out = {"elsewhere": np.empty_like(x), "x": x, "residual": residual, "beside x": store[1:]}[written]
    found = deep_norm(x, residual, out=out, **options)
    pairs = zip(found, expected, strict=True) if kept else [(found, expected)]
    assert (found[0] if kept else found) is out
    assert all(np.array_equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_halves(dtype, rng):
    """The sum is a result as well: what is normalized has been rounded to 16 bits."""
    half = (2.0**-10 if dtype == np.float16 else 2.0**-7) / 2
    dy, x, residual = rng.standard_normal((3, 6, 40)).astype(dtype)
    y, total, mean, rstd = deep_norm(x, residual, alpha=ALPHA, return_stats=True)
    assert y.dtype == total.dtype == dtype
    single = np.float32(ALPHA) * x.astype(np.float32) + residual.astype(np.float32)
    assert np.abs(widen(total) - single).max() <= (half + 2.0**-22) * np.abs(single).max()
    exact, *statistics = fastnorm.reference.layer_norm(widen(total))
    assert np.all(np.abs(widen(y) - exact) <= (half + 2.0**-21) * np.maximum(1, np.abs(exact)))
    found = deep_norm_backward(dy, total, mean, rstd, alpha=ALPHA)
    wanted = reference.deep_norm_backward(widen(dy), widen(total), *statistics, alpha=ALPHA)
    for gradient, exact, roundings in zip(found[:2], wanted[:2], (2, 1), strict=True):
        assert gradient.dtype == dtype
        error = np.abs(widen(gradient) - exact).max()
        assert error <= (roundings * half + 2.0**-19) * np.abs(exact).max()


def test_nan_stays_in_its_row(rng):
    x, residual = rng.standard_normal((2, 4, 9)).astype(np.float32)
    y = deep_norm(x, residual, alpha=ALPHA)
    x[1, 3] = np.nan
    found = deep_norm(x, residual, alpha=ALPHA)
    assert np.isnan(found[1]).all()
    assert np.array_equal(found[[0, 2, 3]], y[[0, 2, 3]])


def test_empty_batch():
    x = np.empty((0, 5), np.float32)
    y, *saved = deep_norm(x, x, alpha=2, return_stats=True)
    assert y.shape == saved[0].shape == (0, 5) and saved[1].shape == (0,)
    assert deep_norm(x, x, alpha=2).shape == (0, 5)
    assert deep_norm_backward(x, *saved, alpha=2).dx.shape == (0, 5)


def test_needs(rng):
    dy, x, weight = rng.standard_normal((3, 5, 5)).astype(np.float32)
    _, *saved = deep_norm(x, x, weight[0], alpha=ALPHA, return_stats=True)
    found = deep_norm_backward(dy, *saved, weight[0], alpha=ALPHA, needs=(False, True, False))
    assert found.dx is None and found.dresidual is None and found.dbias is None
    assert found.dweight.shape == (5,)


def test_wrong_arguments_name_themselves(rng):
    x = rng.standard_normal((4, 6)).astype(np.float32)
    before, mean = x.copy(), np.zeros(4)
    for call, text in (
        (lambda: deep_norm(x, x, alpha=None, out=x), "alpha is None, expected a number"),
        (lambda: deep_norm(x, x, alpha=np.inf, out=x), "alpha is inf, expected a finite number"),
        (lambda: deep_norm(x, x[:3], alpha=2, out=x), "residual has shape"),
        (lambda: deep_norm(x, x, np.ones(5), alpha=2, out=x), "weight has shape"),
        (lambda: deep_norm(x, x, alpha=2, out=x[:3]), "out has shape"),
        (lambda: deep_norm_backward(x, x, mean[:3], mean, alpha=2), "mean has shape"),
        (lambda: deep_norm_backward(x, [1.0], mean, mean, alpha=2), "total is a list"),
        (lambda: deep_norm_constants(-1), "encoder_layers is -1"),
        (lambda: deep_norm_constants(decoder_layers=2.5), "decoder_layers is 2.5"),
    ):
        with pytest.raises((TypeError, ValueError), match=text):
            call()
    assert np.array_equal(x, before)


def test_constants():
    """Of the paper's figure 2."""
    for found in (deep_norm_constants(encoder_layers=18)[0], deep_norm_constants(decoder_layers=18)[1]):
        np.testing.assert_allclose(found, (36**0.25, 144**-0.25), rtol=1e-15)
    encoder, decoder = deep_norm_constants(18, 6)
    np.testing.assert_allclose(encoder, (0.81 * (18**4 * 6) ** (1 / 16), 0.87 * (18**4 * 6) ** (-1 / 16)))
    np.testing.assert_allclose(decoder, (18**0.25, 72**-0.25))
    assert deep_norm_constants() == ((1, 1), (1, 1))


def test_layer(rng):
    dy, x, residual = rng.standard_normal((3, 5, 8)).astype(np.float32)
    layer = DeepNorm(8, ALPHA)
    assert repr(layer) == "DeepNorm((8,), alpha=2.213, eps=1e-05, elementwise_affine=True, bias=True)"
    for parameter in layer.parameters().values():
        parameter[...] = rng.uniform(0.5, 1.5, 8)
    y, *saved = deep_norm(x, residual, layer.weight, layer.bias, alpha=ALPHA, return_stats=True)
    assert np.array_equal(layer(x, residual), y)
    expected = deep_norm_backward(dy, *saved, layer.weight, layer.bias, alpha=ALPHA)
    for found, wanted in zip(layer.backward(dy), expected[:2], strict=True):
        assert np.array_equal(found, wanted)
    assert np.array_equal(layer.grads["weight"], expected.dweight)
    assert np.array_equal(layer.grads["bias"], expected.dbias)
    other = DeepNorm(8, ALPHA)
    other.load_state_dict(layer.state_dict())
    for copy in (other, pickle.loads(pickle.dumps(layer))):
        assert np.array_equal(copy.eval()(x, residual), y)
        with pytest.raises(RuntimeError, match="no call in training"):
            copy.backward(dy)
    bare = DeepNorm((5, 8), 2.0, elementwise_affine=False)
    bare(x, residual)
    bare.backward(dy)
    assert bare.grads == {}
    with pytest.raises(ValueError, match=r"x has shape \(5, 7\)"):
        bare(x[:, :7], residual[:, :7])

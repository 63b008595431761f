"""Global response norm: against its definition, as the authors write it in PyTorch, in every layout and any memory."""

import pickle

import ml_dtypes
import numpy as np
import pytest

from fastnorm.functional.response import global_response_norm, global_response_norm_backward
from fastnorm.layers.response import GlobalResponseNorm
from fastnorm.reference import response as reference

from .checks import DTYPES, assert_exact, assert_gradients, assert_like
from .norms import widen
from .oracle import FORWARD_ROUNDINGS, INPUTS, ZOO, gradient_roundings, roundings
from .slopes import assert_slopes

LENGTHS = {"N": 4, "C": 6, "D": 2, "H": 5, "W": 7, "L": 11}
LAYOUTS = ["NC", "NCL", "NLC", "NCHW", "NHWC", "NCDHW", "NDHWC", "HWNC", "CHWN", "WCNH", "LNC"]
every_layout = pytest.mark.parametrize("layout", LAYOUTS)
every_dtype = pytest.mark.parametrize("dtype", DTYPES)


def data(layout, rng, dtype=np.float32):
    """dy, x, weight and bias that leave a result its scale."""
    dy, x = rng.standard_normal((2, *(LENGTHS[letter] for letter in layout))).astype(dtype)
    return dy, x, rng.uniform(0.5, 1, 6).astype(dtype), rng.uniform(-1, 1, 6).astype(dtype)


def exactly(dy, x, weight, bias, layout, **options):
    """(y, norm, dx, dweight, dbias) as they are defined."""
    dy, x, weight, bias = map(widen, (dy, x, weight, bias))
    y, norm = reference.global_response_norm(x, weight, bias, layout=layout, **options)
    gradients = reference.global_response_norm_backward(dy, x, norm, weight, bias, layout=layout, **options)
    return y, norm, *gradients


@pytest.mark.parametrize("parameters", ["neither", "weight", "bias", "both"])
@every_dtype
@every_layout
def test_equals_the_definition(layout, dtype, parameters, rng):
    dy, x, weight, bias = data(layout, rng, dtype)
    weight = weight if parameters in ("weight", "both") else None
    bias = bias if parameters in ("bias", "both") else None
    exact, exact_norm, *gradients = exactly(dy, x, weight, bias, layout)
    y, norm = global_response_norm(x, weight, bias, layout=layout, return_norm=True)
    assert_exact(y, exact, dtype)
    assert_like(y, x)
    assert norm.dtype == np.float64 and norm.shape == (4, 6)
    assert np.all(np.abs(norm - exact_norm) <= FORWARD_ROUNDINGS * np.finfo(dtype).eps * exact_norm)
    found = global_response_norm_backward(dy, x, norm, weight, bias, layout=layout)
    assert_gradients(found, gradients, dtype)
    assert_like(found.dx, x)


@pytest.mark.parametrize("activation", ["relu", "gelu", "tanh"])
@pytest.mark.parametrize("parameters", ["neither", "weight", "bias", "both"])
@every_dtype
@pytest.mark.parametrize("layout", ["NHWC", "NCHW", "CHWN"])
def test_activation(layout, dtype, parameters, activation, rng):
    dy, x, weight, bias = data(layout, rng, dtype)
    x[tuple(0 if letter in "NC" else slice(None) for letter in layout)] = 0  # z is the bias, its slope 1
    weight = weight if parameters in ("weight", "both") else None
    bias = np.abs(bias) if parameters in ("bias", "both") else None
    exact, norm, *gradients = exactly(dy, x, weight, bias, layout, activation=activation)
    with np.errstate(all="raise"):
        y = global_response_norm(x, weight, bias, layout=layout, activation=activation)
        found = global_response_norm_backward(dy, x, norm, weight, bias, layout=layout, activation=activation)
    assert_exact(y, exact, dtype)
    assert_gradients(found, gradients, dtype)


@pytest.mark.parametrize("shape", [(2, 3, 40001), (2, 601, 3)])
def test_many_positions_and_many_channels(shape, rng):
    dy, x = rng.standard_normal((2, *shape)).astype(np.float32)
    weight, bias = rng.uniform(-1, 1, (2, shape[1])).astype(np.float32)
    exact, _, *gradients = exactly(dy, x, weight, bias, None)
    y, norm = global_response_norm(x, weight, bias, return_norm=True)
    assert_exact(y, exact, np.float32)
    assert_gradients(global_response_norm_backward(dy, x, norm, weight, bias), gradients, np.float32)


@pytest.mark.parametrize("name", INPUTS)
def test_no_input_breaks_it(name, rng):
    x = INPUTS[name]((2, 5, 301), (0, 2), rng)
    weight, bias = rng.uniform(0.5, 1, (2, 5)).astype(np.float32)
    dy = rng.standard_normal(x.shape).astype(np.float32)
    exact, _, *gradients = exactly(dy, x, weight, bias, None)
    y, norm = global_response_norm(x, weight, bias, return_norm=True)
    assert_exact(y, exact, np.float32)
    assert_gradients(global_response_norm_backward(dy, x, norm, weight, bias), gradients, np.float32)


def test_channels_and_samples_of_zeros(rng):
    dy, x, weight, bias = data("NCHW", rng)
    x[0, 2], x[1] = 0, 0
    with np.errstate(all="raise"):
        y, norm = global_response_norm(x, weight, bias, return_norm=True)
        gradients = global_response_norm_backward(dy, x, norm, weight, bias)
    exact, _, *exact_gradients = exactly(dy, x, weight, bias, "NCHW")
    assert_exact(y, exact, np.float32)
    assert np.array_equal(y[1], np.broadcast_to(bias[:, None, None], y[1].shape))
    assert_gradients(gradients, exact_gradients, np.float32)


@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
def test_agrees_with_the_authors(layout, rng):
    torch = pytest.importorskip("torch")
    dy, x, weight, bias = data(layout, rng, np.float64)
    to_last = (lambda t: t.movedim(1, -1)) if layout == "NCHW" else (lambda t: t)
    leaves = [torch.tensor(a, requires_grad=True) for a in (x, weight, bias)]
    images = to_last(leaves[0])
    g_x = torch.norm(images, p=2, dim=(1, 2), keepdim=True)
    n_x = g_x / (g_x.mean(dim=-1, keepdim=True) + 1e-6)
    theirs = leaves[1] * (images * n_x) + leaves[2] + images
    theirs.backward(to_last(torch.tensor(dy)))
    y, norm = global_response_norm(x, weight, bias, layout=layout, return_norm=True)
    np.testing.assert_allclose(to_last(torch.tensor(y)), theirs.detach(), rtol=1e-13, atol=1e-14)
    found = global_response_norm_backward(dy, x, norm, weight, bias, layout=layout)
    for gradient, leaf in zip(found, leaves, strict=True):
        np.testing.assert_allclose(gradient, leaf.grad.numpy(), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("layout", ["NLC", "CHWN"])
def test_reference_gradients_against_central_differences(layout, rng):
    dy, *arguments = data(layout, rng, np.float64)
    options = {"layout": layout, "eps": 0.3, "activation": "silu"}
    _, norm = reference.global_response_norm(*arguments, **options)
    x, *parameters = arguments
    gradients = reference.global_response_norm_backward(dy, x, norm, *parameters, **options)
    assert_slopes(
        lambda *a: [reference.global_response_norm(*a, **options)[0]], arguments, [dy], gradients, rng
    )


def test_eps(rng):
    dy, x, weight, bias = data("NCL", rng)
    y, norm = global_response_norm(x, weight, bias, eps=2.0, return_norm=True)
    exact, exact_norm = reference.global_response_norm(*map(widen, (x, weight, bias)), eps=2.0)
    assert_exact(y, exact, np.float32)
    found = global_response_norm_backward(dy, x, norm, weight, bias, eps=2.0)
    wanted = reference.global_response_norm_backward(
        widen(dy), widen(x), exact_norm, *map(widen, (weight, bias)), eps=2.0
    )
    assert_gradients(found, wanted, np.float32)


@pytest.mark.parametrize("memory", ZOO)
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_any_memory(layout, memory, rng):
    dy, x, weight, bias = data(layout, rng)
    y, norm = global_response_norm(x, weight, bias, layout=layout, return_norm=True)
    gradients = global_response_norm_backward(dy, x, norm, weight, bias, layout=layout)
    arguments = [ZOO[memory](a) for a in (dy, x, norm, weight, bias)]
    found = global_response_norm(arguments[1], *arguments[3:], layout=layout)
    assert roundings(found, y, np.float32) <= 2  # sums in another order
    for mine, plain in zip(global_response_norm_backward(*arguments, layout=layout), gradients, strict=True):
        assert gradient_roundings(mine, plain, np.float32) <= 4


def test_out_and_needs(rng):
    dy, x, weight, bias = data("NCHW", rng)
    expected, norm = global_response_norm(x, weight, bias, return_norm=True)
    full = global_response_norm_backward(dy, x, norm, weight, bias)
    for i, name in enumerate(("dx", "dweight", "dbias")):
        needs = tuple(j != i for j in range(3))
        found = global_response_norm_backward(dy, x, norm, weight, bias, needs=needs)
        assert getattr(found, name) is None
        for j in {0, 1, 2} - {i}:
            assert np.array_equal(found[j], full[j])
    assert global_response_norm(x, weight, bias, out=x) is x
    assert np.array_equal(x, expected)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_halves_are_rounded_once(dtype, rng):
    half = (2.0**-10 if dtype == np.float16 else 2.0**-7) / 2
    dy, x, weight, bias = data("NHWC", rng, dtype)
    exact, _, *gradients = exactly(dy, x, weight, bias, "NHWC")
    y, norm = global_response_norm(x, weight, bias, layout="NHWC", return_norm=True)
    assert y.dtype == dtype
    assert np.all(np.abs(widen(y) - exact) <= (half + 2.0**-21) * np.maximum(1, np.abs(exact)))
    found = global_response_norm_backward(dy, x, norm, weight, bias, layout="NHWC")
    for gradient, wanted in zip(found, gradients, strict=True):
        assert gradient.dtype == dtype
        assert np.abs(widen(gradient) - wanted).max() <= (half + 2.0**-19) * np.abs(wanted).max()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_no_number_stays_in_its_sample(bad, rng):
    dy, x, weight, bias = data("NCHW", rng)
    y, norm = global_response_norm(x, weight, bias, return_norm=True)
    dx = global_response_norm_backward(dy, x, norm, weight, bias).dx
    x[1, 2, 3, 4] = bad
    found, norm = global_response_norm(x, weight, bias, return_norm=True)
    back = global_response_norm_backward(dy, x, norm, weight, bias).dx
    others = [0, 2, 3]
    assert np.array_equal(found[others], y[others]) and np.array_equal(back[others], dx[others])
    assert np.isnan(found[1, 2, 3, 4]) and np.isnan(back[1]).any()


def test_empty_batch():
    x, weight = np.empty((0, 3, 5), np.float32), np.ones(3, np.float32)
    y, norm = global_response_norm(x, weight, weight, return_norm=True)
    assert y.shape == x.shape and norm.shape == (0, 3)
    dx, dweight, dbias = global_response_norm_backward(x, x, norm, weight, weight)
    assert dx.shape == x.shape and not dweight.any() and not dbias.any()


def test_wrong_arguments_name_themselves(rng):
    _, x, weight, bias = data("NCHW", rng)
    before, norm = x.copy(), np.ones((4, 6))
    for call, text in (
        (lambda: global_response_norm(x, weight[:5], bias, out=x), r"weight has shape \(5,\), expected \(6,\): x has 6"),
        (lambda: global_response_norm(x, weight, bias, layout="NHWC", out=x), r"weight has shape \(6,\), expected \(7,\)"),
        (lambda: global_response_norm(x, weight, bias, layout="NCW", out=x), 'layout is "NCW"'),
        (lambda: global_response_norm(x, weight, bias, eps="no", out=x), "eps is 'no'"),
        (lambda: global_response_norm(x, weight, bias, activation="elu", out=x), "activation is 'elu'"),
        (lambda: global_response_norm(x, weight, bias, out=x[:, :5]), "out has shape"),
        (lambda: global_response_norm_backward(x, x, norm[:3], weight), r"norm has shape \(3, 6\), expected \(4, 6\)"),
        (lambda: global_response_norm_backward(x[:3], x, norm, weight), "dy has shape"),
        (lambda: global_response_norm_backward(x, x, norm, weight, needs=True), "needs is True"),
    ):  # fmt: skip
        with pytest.raises((TypeError, ValueError), match=text):
            call()
    assert np.array_equal(x, before)


def test_layer(rng):
    dy, x, weight, bias = data("NHWC", rng)
    layer = GlobalResponseNorm(6, layout="NHWC")
    assert repr(layer) == "GlobalResponseNorm(6, eps=1e-06, layout='NHWC')"
    assert np.array_equal(layer(x), x), "nothing is done to x at first"
    layer.load_state_dict({"weight": weight, "bias": bias})
    y, norm = global_response_norm(x, weight, bias, layout="NHWC", return_norm=True)
    assert np.array_equal(layer(x), y)
    expected = global_response_norm_backward(dy, x, norm, weight, bias, layout="NHWC")
    assert np.array_equal(layer.backward(dy), expected.dx)
    assert np.array_equal(layer.grads["weight"], expected.dweight)
    assert np.array_equal(layer.grads["bias"], expected.dbias)
    assert np.array_equal(pickle.loads(pickle.dumps(layer)).eval()(x), y)
    layer.eval()(x)
    with pytest.raises(RuntimeError, match="no call in training"):
        layer.backward(dy)

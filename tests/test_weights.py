"""Weight norm and weight standardization; the gradients of all definitions of this family; PyTorch's parametrizations."""

import copy
import pickle

import ml_dtypes
import numpy as np
import pytest

from fastnorm import rms_norm
from fastnorm.functional.weight import (
    weight_norm,
    weight_norm_backward,
    weight_standardization,
    weight_standardization_backward,
)
from fastnorm.layers.weight import WeightNorm, WeightStandardization
from fastnorm.reference import weights as reference
from tests.checks import DTYPES, assert_exact, assert_like, assert_statistics
from tests.norms import widen
from tests.oracle import FORWARD_ROUNDINGS, GRADIENT_ROUNDINGS, INPUTS, ZOO, gradient_roundings

f32 = np.float32
# Every axis of another length: rows, columns, both around a kept axis, one norm for all, one for each element.
CASES = [
    ((5, 7), 0),
    ((5, 7), 1),
    ((5, 7), -1),
    ((5, 7), None),
    ((7,), None),
    ((7,), 0),
    ((4, 3, 5, 2), 0),
    ((4, 3, 5, 2), 1),
    ((4, 3, 5, 2), 3),
    ((4, 3, 5, 2), (0, 2)),
    ((4, 3, 5, 2), (3, -3)),
    ((4, 3, 5, 2), None),
    ((3, 40000), 0),  # a norm of many chunks
]
every_case = pytest.mark.parametrize(("shape", "dim"), CASES, ids=str)
every_dtype = pytest.mark.parametrize("dtype", DTYPES)


def lengths(shape, dim, rng, dtype):
    """A g of PyTorch's shape."""
    kept = () if dim is None else np.atleast_1d(dim) % len(shape)
    size = () if dim is None else [n if i in kept else 1 for i, n in enumerate(shape)]
    return np.asarray(rng.uniform(0.5, 2, size), dtype)


def assert_close(w, exact):
    """Weight norm only multiplies: every element has few roundings of its own, small as it may be."""
    assert np.all(np.abs(w - exact) <= FORWARD_ROUNDINGS * np.finfo(w.dtype).eps * np.abs(exact))


def assert_gradient(found, exact, dtype):
    assert found.dtype == dtype
    assert gradient_roundings(found, exact, dtype) <= GRADIENT_ROUNDINGS


# Weight norm ---------------------------------------------------------------------------------------------------------


@every_dtype
@every_case
def test_weight_norm_equals_its_definition(shape, dim, dtype, rng):
    v, g, dw = (
        rng.standard_normal(shape).astype(dtype),
        lengths(shape, dim, rng, dtype),
        rng.standard_normal(shape),
    )
    dw = dw.astype(dtype)
    for length in (g, None):
        w, norm = weight_norm(v, length, dim, return_norm=True)
        exact, exact_norm = reference.weight_norm(widen(v), widen(length), dim)
        assert_like(w, v)
        assert_close(w, exact)
        assert norm.dtype == np.float64 and norm.shape == g.shape == exact_norm.shape
        assert np.all(np.abs(norm / exact_norm - 1) <= FORWARD_ROUNDINGS * np.finfo(dtype).eps)
        dv, dg = weight_norm_backward(dw, v, length, norm, dim)
        exact_dv, exact_dg = reference.weight_norm_backward(
            widen(dw), widen(v), widen(length), exact_norm, dim
        )
        assert_like(dv, v)
        if norm.size == v.size:
            # Each element is its own norm: dv is 0 but for a rounding of dw·g/v, and g is 2 at most.
            assert np.max(np.abs(dv)) <= 2 * np.finfo(dtype).eps * np.max(np.abs(dw / v))
        else:
            assert_gradient(dv, exact_dv, dtype)
        assert dg.shape == g.shape
        assert_gradient(dg, exact_dg, dtype)


@pytest.mark.parametrize("dim", [0, 1, None])
@pytest.mark.parametrize("memory", ZOO)
def test_weight_norm_in_any_memory(memory, dim, rng):
    v, dw = rng.standard_normal((2, 4, 3, 6)).astype(f32)
    g = lengths(v.shape, dim, rng, f32)
    stored, other = ZOO[memory](v), ZOO[memory](dw)
    w, norm = weight_norm(stored, g, dim, return_norm=True)
    assert_like(w, stored.astype(f32))
    assert_close(w, reference.weight_norm(v, g, dim)[0])
    exact = reference.weight_norm_backward(dw, v, g, *reference.weight_norm(v, g, dim)[1:], dim)
    for beside in (other, dw):
        dv, dg = weight_norm_backward(beside, stored, g, norm, dim)
        assert_like(dv, stored.astype(f32))
        assert_gradient(dv, exact[0], f32)
        assert_gradient(dg, exact[1], f32)
    out = ZOO[memory](np.zeros_like(v))
    if out.flags.writeable:
        assert weight_norm(v, g, dim, out=out) is out
        assert_close(out.astype(f32), reference.weight_norm(v, g, dim)[0])


@pytest.mark.parametrize("name", INPUTS)
def test_weight_norm_of_what_breaks_careless_sums(name, rng):
    for dim, axes in ((0, 1), (1, 0)):
        v = INPUTS[name]((300, 5)[:: 1 if dim else -1], axes, rng)
        assert_close(weight_norm(v, dim=dim), reference.weight_norm(v, dim=dim)[0])


@pytest.mark.parametrize("scale", [1e-43, 1e-38, 1e-30, 1e18, 1e30, 6e37])
def test_weight_norm_over_the_whole_range_of_float32(scale, rng):
    """PyTorch's norm overflows from 1e19 on, and 1/‖v‖ is no normal float32 at either end."""
    v, dw = rng.uniform(-4, 4, (2, 3, 50))
    v, dw = (v * scale).astype(f32), dw.astype(f32)
    w, norm = weight_norm(v, return_norm=True)
    exact, exact_norm = reference.weight_norm(v)
    assert_close(w, exact)
    dv, dg = weight_norm_backward(dw, v, None, norm)
    with np.errstate(over="ignore"):
        exact_dv, exact_dg = (a.astype(f32) for a in reference.weight_norm_backward(dw, v, None, exact_norm))
    assert_gradient(dg, exact_dg, f32)
    finite = np.isfinite(exact_dv)
    np.testing.assert_array_equal(dv[~finite], exact_dv[~finite])
    # Half the last place of a subnormal, besides.
    bound = GRADIENT_ROUNDINGS * np.finfo(f32).eps * np.abs(exact_dv[finite]).max(initial=0) + 2e-45
    assert np.all(np.abs(dv[finite] - exact_dv[finite]) <= bound)


def test_lengths_far_from_the_norms_reach_float64(rng):
    v = rng.standard_normal((3, 50)).astype(f32) * f32(1e30)
    g = np.full((3, 1), 1e-15, f32)
    for out in (None, np.empty_like(v), v.copy()):
        given = v if out is None else out if np.array_equal(out, v) else v
        assert_close(weight_norm(given, g, out=out), reference.weight_norm(v, g)[0])


def test_a_norm_of_0_is_nan_as_in_torch_and_nan_stays_in_its_group():
    v = np.array([[3, 4], [0, 0], [np.nan, 1], [np.inf, 1], [0, 5]], f32)
    w, norm = weight_norm(v, np.full((5, 1), 10, f32), return_norm=True)
    expected = [[6, 8], [np.nan, np.nan], [np.nan, np.nan], [np.nan, 0], [0, 10]]
    np.testing.assert_allclose(w, expected, rtol=1e-6)
    np.testing.assert_allclose(norm.ravel(), [5, 0, np.nan, np.inf, 5])
    dv, dg = weight_norm_backward(np.ones_like(v), v, None, norm)
    assert np.isfinite(dv[[0, 4]]).all() and np.isfinite(dg[[0, 4]]).all()
    assert np.isnan(dv[1:3]).all() and np.isnan(dg[1:3]).all()
    torch = pytest.importorskip("torch")
    theirs = torch._weight_norm(torch.tensor(v), torch.full((5, 1), 10.0), 0)
    np.testing.assert_allclose(w, theirs, rtol=1e-6)


def test_weight_norm_overwrites_v_where_told(rng):
    v = rng.standard_normal((5, 7)).astype(f32)
    exact = reference.weight_norm(v)[0]
    store = np.zeros((6, 7), f32)
    store[:5] = v
    assert_close(weight_norm(store[:5], out=store[1:]), exact)
    assert weight_norm(v, out=v) is v
    assert_close(v, exact)


def test_an_empty_weight_is_empty():
    v = np.ones((2, 0, 4), f32)
    w, norm = weight_norm(v, dim=1, return_norm=True)
    dv, dg = weight_norm_backward(v, v, None, norm, 1)
    assert w.shape == dv.shape == (2, 0, 4) and norm.shape == dg.shape == (1, 0, 1)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_16_bits_are_the_float32_result_rounded(dtype, rng):
    v, dw = rng.standard_normal((2, 6, 40)).astype(dtype)
    g = lengths(v.shape, 0, rng, f32)
    w, norm = weight_norm(v, g, return_norm=True)
    single, single_norm = weight_norm(v.astype(f32), g, return_norm=True)
    assert np.array_equal(w, single.astype(dtype)) and np.array_equal(norm, single_norm)
    dv, dg = weight_norm_backward(dw, v, g, norm)
    wide = weight_norm_backward(dw.astype(f32), v.astype(f32), g, norm)
    assert np.array_equal(dv, wide.dv.astype(dtype)) and np.array_equal(dg, wide.dg)
    w_hat, *stats = weight_standardization(v, return_stats=True)
    assert np.array_equal(w_hat, weight_standardization(v.astype(f32)).astype(dtype))
    wide = weight_standardization_backward(dw.astype(f32), v.astype(f32), *stats)
    assert np.array_equal(weight_standardization_backward(dw, v, *stats), wide.astype(dtype))


def test_weight_norm_is_rms_norm_without_eps(rng):
    v = rng.standard_normal((4, 9))
    np.testing.assert_allclose(weight_norm(v, np.full((4, 1), 3.0)), rms_norm(v, eps=0), rtol=1e-14)


# Weight standardization ----------------------------------------------------------------------------------------------


@every_dtype
@pytest.mark.parametrize(
    ("shape", "axis"),
    [((5, 7), None), ((4, 3, 5, 2), None), ((3, 4, 5), (0, -1)), ((5, 7), 0), ((2, 40000), None)],
    ids=str,
)
def test_weight_standardization_equals_its_definition(shape, axis, dtype, rng):
    w, dy = (3 + 2 * rng.standard_normal(shape)).astype(dtype), rng.standard_normal(shape).astype(dtype)
    w_hat, *stats = weight_standardization(w, axis=axis, return_stats=True)
    exact, *exact_stats = reference.weight_standardization(widen(w), axis=axis)
    assert_like(w_hat, w)
    assert_exact(w_hat, exact, dtype)
    assert_statistics(stats, exact_stats, dtype)
    dw = weight_standardization_backward(dy, w, *stats, axis=axis)
    assert_like(dw, w)
    exact = reference.weight_standardization_backward(widen(dy), widen(w), *exact_stats, axis=axis)
    assert_gradient(dw, exact, dtype)


@pytest.mark.parametrize("memory", ZOO)
def test_weight_standardization_in_any_memory(memory, rng):
    w, dy = 3 + 2 * rng.standard_normal((2, 4, 3, 6)).astype(f32)
    stored = ZOO[memory](w)
    w_hat, *stats = weight_standardization(stored, return_stats=True)
    exact, *exact_stats = reference.weight_standardization(w)
    assert_like(w_hat, stored.astype(f32))
    assert_exact(w_hat, exact, f32)
    dw = weight_standardization_backward(ZOO[memory](dy), stored, *stats)
    assert_gradient(dw, reference.weight_standardization_backward(dy, w, *exact_stats), f32)


@pytest.mark.parametrize("name", INPUTS)
def test_weight_standardization_of_what_breaks_careless_sums(name, rng):
    w = INPUTS[name]((4, 3000), 1, rng)
    assert_exact(weight_standardization(w), reference.weight_standardization(w)[0], f32)


def test_weight_standardization_in_place(rng):
    w = rng.standard_normal((5, 7)).astype(f32)
    expected = weight_standardization(w)
    assert weight_standardization(w, out=w) is w
    assert np.array_equal(w, expected)


# Gradients of the definitions, along random directions ---------------------------------------------------------------


def slope_along(function, at, direction):
    """d function(at + t·direction) / dt at 0, by the four-point formula, whose error is of order h**4."""
    h = 1e-3
    near, far = ((function(at + k * h * direction) - function(at - k * h * direction)) / k for k in (1, 2))
    return (4 * near - far) / (6 * h)


def assert_slopes(forward, gradients, arguments, rng):
    """`gradients(dy)` of forward(*arguments), each argument's in its place."""
    dy = rng.standard_normal(forward(*arguments).shape)
    for i, gradient in enumerate(gradients(dy)):

        def moved(a, i=i):
            return np.sum(dy * forward(*(a if k == i else b for k, b in enumerate(arguments))))

        direction = rng.standard_normal(np.shape(arguments[i]))
        expected = slope_along(moved, arguments[i], direction)
        # h**4 and the rounding of a sum over h, 1e-16 / 1e-3, at the scale of these sums.
        assert np.sum(gradient * direction) == pytest.approx(expected, rel=1e-8, abs=1e-8)


@pytest.mark.parametrize("dim", [0, 1, None, (0, 1)])
def test_slopes_of_weight_norm(dim, rng):
    v = rng.standard_normal((3, 4, 2))
    g = lengths(v.shape, dim, rng, float)
    _, norm = reference.weight_norm(v, g, dim)
    assert_slopes(
        lambda v, g: reference.weight_norm(v, g, dim)[0],
        lambda dw: reference.weight_norm_backward(dw, v, g, norm, dim),
        (v, g),
        rng,
    )


def test_slopes_of_weight_standardization(rng):
    w = rng.standard_normal((3, 4, 2))
    _, *stats = reference.weight_standardization(w, eps=0.1)
    assert_slopes(
        lambda w: reference.weight_standardization(w, eps=0.1)[0],
        lambda dy: [reference.weight_standardization_backward(dy, w, *stats)],
        (w,),
        rng,
    )


@pytest.mark.parametrize("dim", [0, 1])
def test_slopes_of_spectral_norm(dim, rng):
    w = rng.standard_normal((3, 4, 2))
    rows = w.shape[dim]
    u, v = rng.standard_normal(rows), rng.standard_normal(w.size // rows)
    sigma = reference.spectral_norm(w, u, v, dim=dim)[1]
    # Not so close to 0 that the slope of 1/sigma is lost in h**4.
    u, sigma = u * 4 / sigma, 4.0
    assert_slopes(
        lambda w: reference.spectral_norm(w, u, v, dim=dim)[0],
        lambda dy: [reference.spectral_norm_backward(dy, w, u, v, sigma, dim=dim)],
        (w,),
        rng,
    )


@pytest.mark.parametrize("eps", [1e-8, 100.0], ids=["norms", "eps in place of norms"])
@pytest.mark.parametrize("centered", [False, True])
def test_slopes_of_cosine_norm(centered, eps, rng):
    x, weight = rng.standard_normal((2, 3, 6)), rng.standard_normal((4, 6))
    options = {"centered": centered, "eps": eps}
    assert_slopes(
        lambda x, weight: reference.cosine_norm(x, weight, **options),
        lambda dy: reference.cosine_norm_backward(dy, x, weight, **options),
        (x, weight),
        rng,
    )


# PyTorch -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dim", [0, 1, 2, None])
def test_weight_norm_and_its_layer_equal_torch(dim, rng):
    torch = pytest.importorskip("torch")
    module = torch.nn.utils.parametrizations.weight_norm(
        torch.nn.Conv1d(3, 5, 4, bias=False), dim=dim
    ).double()
    theirs = module.parametrizations.weight
    layer = WeightNorm(module.weight.detach().numpy().astype(f32), dim)
    state = {
        key: rng.uniform(0.5, 2, np.shape(value)).astype(f32) for key, value in layer.state_dict().items()
    }
    theirs.load_state_dict({key: torch.tensor(value) for key, value in state.items()})
    assert list(theirs.state_dict()) == list(layer.state_dict())
    assert layer.load_state_dict(theirs.state_dict()) == ([], [])
    for key, value in state.items():
        assert np.array_equal(layer.state_dict()[key], value)

    dw = rng.standard_normal(layer.original1.shape).astype(f32)
    module.weight.backward(torch.tensor(dw, dtype=torch.float64))
    assert_close(layer(), module.weight.detach().numpy())
    dv = layer.backward(dw)
    assert dv is layer.grads["original1"]
    for key, parameter in theirs.named_parameters():
        assert_gradient(layer.grads[key], parameter.grad.numpy(), f32)


def test_a_checkpoint_with_the_older_keys_of_torch_is_loaded(rng):
    torch = pytest.importorskip("torch")
    module = torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(3, 4, bias=False))
    older = {
        "weight_g": rng.uniform(1, 2, (4, 1)).astype(f32),
        "weight_v": rng.standard_normal((4, 3)).astype(f32),
    }
    module.load_state_dict({key: torch.tensor(value) for key, value in older.items()})
    layer = WeightNorm(np.ones((4, 3), f32))
    assert layer.load_state_dict(older) == ([], [])
    assert np.array_equal(layer.original0, older["weight_g"])
    assert_close(layer(), module.weight.detach().numpy().astype(float))
    with pytest.raises(ValueError, match=r'Missing.*"original0"'):
        layer.load_state_dict({"weight_v": older["weight_v"]})


# Layers --------------------------------------------------------------------------------------------------------------

WEIGHT = np.arange(1, 13, dtype=f32).reshape(3, 4) ** 2
LAYERS = [
    WeightNorm(WEIGHT),
    WeightNorm(WEIGHT, None),
    WeightNorm(WEIGHT, (1,)),
    WeightStandardization(WEIGHT, 1e-3),
]


def test_weight_norm_begins_at_the_weight_it_is_given():
    layer = WeightNorm(WEIGHT)
    np.testing.assert_allclose(layer(), WEIGHT, rtol=4 * np.finfo(f32).eps)
    assert layer.original1 is not WEIGHT and np.array_equal(layer.original1, WEIGHT)
    assert WeightNorm(WEIGHT.astype(np.float16)).original0.dtype == np.float16
    assert_like(WeightNorm(WEIGHT.T)(), WEIGHT.T)


def test_weight_standardization_layer_follows_the_functions(rng):
    layer, dw = WeightStandardization(WEIGHT, 1e-3, axis=0), rng.standard_normal((3, 4)).astype(f32)
    w_hat, *stats = weight_standardization(WEIGHT, axis=0, eps=1e-3, return_stats=True)
    assert np.array_equal(layer(), w_hat)
    expected = weight_standardization_backward(dw, WEIGHT, *stats, axis=0)
    assert np.array_equal(layer.backward(dw), expected) and list(layer.grads) == ["original"]


@pytest.mark.parametrize("layer", LAYERS, ids=repr)
def test_layers_keep_only_what_training_needs(layer):
    layer = copy.deepcopy(layer)
    dw = np.ones_like(WEIGHT)
    with pytest.raises(
        RuntimeError, match=r"call layer\.train\(\) and w = layer\(\) before layer\.backward\(dw\)"
    ):
        layer.backward(dw)
    layer()
    other = pickle.loads(pickle.dumps(layer))
    layer.backward(dw)
    assert layer.parameters().keys() == layer.grads.keys() == layer.state_dict().keys()
    with pytest.raises(RuntimeError, match="no call in training"):
        other.backward(dw)
    assert repr(other) == repr(layer) and np.array_equal(other(), layer())
    layer.eval()()
    with pytest.raises(RuntimeError, match="no call in training"):
        layer.backward(dw)


def test_what_layers_look_like():
    assert [repr(layer) for layer in LAYERS] == [
        "WeightNorm((3, 4), dim=0)",
        "WeightNorm((3, 4), dim=None)",
        "WeightNorm((3, 4), dim=(1,))",
        "WeightStandardization((3, 4), eps=0.001)",
    ]

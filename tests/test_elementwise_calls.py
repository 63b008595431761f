"""What each elementwise norm alone does: modes, thresholds and gates, PyTorch's window, bad arguments; and their layers."""

import copy
import pickle
from dataclasses import replace

import numpy as np
import pytest

from fastnorm.functional.dynamic_tanh import dynamic_tanh, dynamic_tanh_backward
from fastnorm.functional.evo_b0 import evo_norm_b0, evo_norm_b0_backward
from fastnorm.functional.evo_s0 import evo_norm_s0, evo_norm_s0_backward
from fastnorm.functional.filter_response import filter_response_norm, filter_response_norm_backward
from fastnorm.functional.gated import gated_rms_norm
from fastnorm.functional.local_response import local_response_norm, local_response_norm_backward
from fastnorm.functional.rms import rms_norm
from fastnorm.layers.dynamic_tanh import DynamicTanh
from fastnorm.layers.evo import EvoNormB0, EvoNormS0
from fastnorm.layers.filter_response import FilterResponseNorm
from fastnorm.layers.gated import GatedRMSNorm
from fastnorm.layers.local_response import LocalResponseNorm
from fastnorm.reference import evo as reference

from .checks import DTYPES, assert_exact
from .elementwise import EVO_B0, EVO_S0, FILTER_RESPONSE
from .oracle import GRADIENT_ROUNDINGS, gradient_roundings

f32 = np.float32
OF_VECTORS = [
    replace(norm, shape=shape, options=norm.options | {"layout": layout})
    for norm in (FILTER_RESPONSE[0], EVO_S0[0], EVO_B0[0])
    for layout, shape in (("NC", (4, 6)), ("CN", (6, 4)))
]


def normals(rng, *shape):
    return rng.standard_normal(shape).astype(f32)


# Dynamic tanh ------------------------------------------------------------------------------------------------


def test_alpha_is_a_number_or_an_array_of_one(rng):
    x, dy = normals(rng, 2, 5, 6)
    expected = dynamic_tanh(x, 0.5)
    for alpha in (f32(0.5), np.array(0.5), np.array([0.5], f32), np.array([[0.5]])):
        assert np.array_equal(dynamic_tanh(x, alpha), expected)
        dalpha = dynamic_tanh_backward(dy, x, alpha).dalpha
        assert dalpha.shape == np.shape(alpha) and dalpha.dtype == alpha.dtype
    assert dynamic_tanh_backward(dy, x, 2).dalpha.dtype == np.float64
    for alpha in ("0.5", None, 1j):
        with pytest.raises(TypeError, match="alpha is"):
            dynamic_tanh(x, alpha)
    with pytest.raises(ValueError, match="alpha has shape"):
        dynamic_tanh(x, np.ones(6, f32))


def test_a_saturated_tanh_keeps_the_digits_of_its_slope(rng):
    """Where 1 - tanh² would be a difference of ones."""
    x = (9 + np.abs(normals(rng, 500))) * np.sign(normals(rng, 500))
    found = dynamic_tanh_backward(np.ones_like(x), x, 1.0).dx
    exact = 1 / np.cosh(x.astype(np.float64)) ** 2
    assert np.all(np.abs(found - exact) <= GRADIENT_ROUNDINGS * np.finfo(f32).eps * exact)


# Filter response norm ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", [None, "relu", "silu"])
def test_an_activation_in_place_of_the_threshold(activation, rng):
    x, dy = normals(rng, 2, 3, 4, 50)
    weight, bias = normals(rng, 2, 4)
    y, rstd = filter_response_norm(x, weight, bias, activation=activation, return_stats=True)
    plain = filter_response_norm(x, weight, bias)
    if activation == "relu":
        zero = np.zeros(4, f32)
        assert_exact(y, filter_response_norm(x, weight, bias, zero).astype(np.float64), f32)
        found = filter_response_norm_backward(dy, x, rstd, weight, bias, activation="relu")
        wanted = filter_response_norm_backward(dy, x, rstd, weight, bias, zero)
        for gradient, exact in zip(found[:3], wanted[:3], strict=True):
            assert gradient_roundings(gradient, exact, f32) <= GRADIENT_ROUNDINGS
    elif activation is None:
        assert np.array_equal(y, plain)
    else:
        assert_exact(y, plain / (1 + np.exp(-plain.astype(np.float64))), f32)
    with pytest.raises(ValueError, match="activation is 'relu', expected None beside tau"):
        filter_response_norm(x, tau=np.zeros(4, f32), activation="relu")


def test_eps_counts_by_its_magnitude(rng):
    x, tau = normals(rng, 2, 3, 20), np.zeros(3, f32)
    for threshold in (None, tau):
        above, below = (filter_response_norm(x, tau=threshold, eps=eps) for eps in (0.5, -0.5))
        assert np.array_equal(above, below)


# EvoNorm -----------------------------------------------------------------------------------------------------


def test_s0_without_a_gate_takes_an_activation(rng):
    x, dy = normals(rng, 2, 2, 6, 30)
    y, mean, rstd = evo_norm_s0(x, 3, activation="tanh", return_stats=True)
    plain = evo_norm_s0(x, 3)
    assert_exact(y, np.tanh(plain.astype(np.float64)), f32)
    assert evo_norm_s0_backward(dy, x, 3, mean, rstd, activation="tanh").dv is None
    with pytest.raises(ValueError, match="activation is 'tanh', expected None beside v"):
        evo_norm_s0(x, 3, v=np.ones(6, f32), activation="tanh")
    with pytest.raises(ValueError, match="num_groups is 4"):
        evo_norm_s0(x, 4, v=np.ones(6, f32))


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_b0_in_inference(layout, rng):
    shape = (3, 5, 8, 9) if layout == "NCHW" else (3, 8, 9, 5)
    x, dy = normals(rng, 2, *shape)
    weight, bias, v, var = rng.uniform(0.5, 2, (4, 5)).astype(f32)
    y, *statistics = evo_norm_b0(x, var, weight, bias, v, layout=layout, return_stats=True)
    wide = {"weight": weight, "v": v, "layout": layout}
    exact, *exact_statistics = reference.evo_norm_b0(x, var, bias=bias, **wide)
    assert_exact(y, exact, f32)
    found = evo_norm_b0_backward(dy, x, *statistics, var, weight, v, layout=layout)
    wanted = reference.evo_norm_b0_backward(dy, x, *exact_statistics, var, **wide)
    for gradient, right in zip(found, wanted, strict=True):
        assert gradient_roundings(gradient, right, f32) <= GRADIENT_ROUNDINGS


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("norm", OF_VECTORS, ids=str)
def test_of_vectors_without_positions(norm, dtype, rng):
    given, dy = norm.arguments(rng, dtype), rng.standard_normal(norm.shape).astype(dtype)
    y, statistics = norm.forward(given)
    exact, exact_statistics = norm.exact(given)
    assert_exact(y, exact, dtype)
    found, wanted = norm.backward(dy, given, statistics), norm.exact_backward(dy, given)
    for name, gradient in found.items():
        assert gradient.shape == wanted[name].shape
        size = np.abs(wanted[name])
        if norm.name == "filter_response_norm" and name == "dx":
            # With one element for a statistic it is what is left of a difference, by the terms of which it is measured.
            of_samples = dy if norm.options["layout"] == "NC" else dy.T
            size = np.abs(exact_statistics["rstd"] * given["weight"] * of_samples)
        error = np.abs(gradient - wanted[name]).max()
        assert error <= GRADIENT_ROUNDINGS * np.finfo(dtype).eps * size.max(), name


def test_b0_needs_more_than_one_value_per_channel_in_training(rng):
    x, var = normals(rng, 1, 5), np.ones(5, f32)
    for running, training in ((var, True), (None, True), (None, False)):
        with pytest.raises(ValueError, match="x has one value per channel"):
            evo_norm_b0(x, running, training=training)
    with pytest.raises(ValueError, match="x has one value per channel"):
        EvoNormB0(5)(x)
    assert np.array_equal(var, np.ones(5, f32))
    assert_exact(evo_norm_b0(x, var), reference.evo_norm_b0(x, var)[0], f32)
    assert evo_norm_b0(x[:0], var, training=True).shape == (0, 5)


def test_b0_moves_its_running_variance_as_batch_norm_does(rng):
    x, var = 3 * normals(rng, 4, 5, 30) + 10, np.full(5, 2, f32)
    evo_norm_b0(x, var, training=True, momentum=0.25)
    of_batch = x.astype(np.float64).var((0, 2), ddof=1)
    np.testing.assert_allclose(var, 0.75 * 2 + 0.25 * of_batch, rtol=1e-6)
    before = var.copy()
    evo_norm_b0(x, var)
    for bad in ({"eps": "small"}, {"v": np.ones(4, f32)}, {"momentum": None}):
        with pytest.raises((TypeError, ValueError)):
            evo_norm_b0(x, var, training=True, **bad)
    for broken, message in ((var.astype(int), "running_var has dtype"), (var[:4], "running_var has shape")):
        with pytest.raises((TypeError, ValueError), match=message):
            evo_norm_b0(x, broken, training=True)
    with pytest.raises(ValueError, match="running_var shares memory with x"):
        evo_norm_b0(x, x[0, :, 0], training=True)
    assert np.array_equal(var, before)


# Gated RMS norm ----------------------------------------------------------------------------------------------


def test_a_wide_open_gate_leaves_rms_norm(rng):
    """silu(g) = g where g is large: a factor that the norm takes out again, or leaves behind it."""
    x, weight = normals(rng, 4, 64), normals(rng, 64)
    gate = np.full_like(x, 64)
    expected = rms_norm(x, weight, eps=0).astype(np.float64)
    assert_exact(gated_rms_norm(x, gate, weight, eps=0), expected, f32)
    assert_exact(gated_rms_norm(x, gate, weight, eps=0, norm_before_gate=True), 64 * expected, f32)
    groups = gated_rms_norm(x, gate, weight, group_size=16, eps=0)
    assert_exact(groups[:, 16:32], rms_norm(x[:, 16:32], weight[16:32], eps=0).astype(np.float64), f32)


def test_bad_groups_are_named(rng):
    x = normals(rng, 4, 6)
    for size, error in ((4, ValueError), (0, ValueError), (2.0, TypeError), (True, TypeError)):
        with pytest.raises(error, match="group_size is"):
            gated_rms_norm(x, x, group_size=size)
    with pytest.raises(ValueError, match="no element along a last axis"):
        gated_rms_norm(x[:, :0], x[:, :0])


# Local response norm -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 5, 8, 30])
@pytest.mark.parametrize("shape", [(2, 9, 7), (2, 9, 5, 6), (3, 40, 33)])
def test_pytorchs_window(shape, size, rng):
    torch = pytest.importorskip("torch")
    x, dy = normals(rng, 2, *shape)
    options = {"alpha": 0.8, "beta": 0.6, "k": 1.5}
    leaf = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    y = torch.nn.functional.local_response_norm(leaf, size, **options)
    (dx,) = torch.autograd.grad(y, leaf, torch.tensor(dy, dtype=torch.float64))
    assert_exact(local_response_norm(x, size, **options), y.detach().numpy(), f32)
    found = local_response_norm_backward(dy, x, size, **options)
    assert gradient_roundings(found, dx.numpy(), f32) <= GRADIENT_ROUNDINGS


@pytest.mark.parametrize("beta", [0.0, 0.3, 0.5, 1.0, 2.5])
@pytest.mark.parametrize("dtype", [f32, np.float64])
def test_powers_keep_their_digits_in_all_of_the_range(dtype, beta, rng):
    """A window of one, and k = 0: y is a power of x, whatever the exponents of both, as long as they are normal numbers."""
    most = 18 if dtype == f32 else 150
    x = (10.0 ** rng.uniform(-most, most, (50, 40))).astype(dtype)
    wide = x.astype(np.longdouble)
    exact = wide * np.square(wide) ** -np.longdouble(beta)
    with np.errstate(over="ignore"):
        fits = (exact < np.finfo(dtype).max) & (exact > np.finfo(dtype).tiny)
        fits &= np.square(wide) ** -np.longdouble(beta) < np.finfo(dtype).max
        fits &= np.square(wide) ** -np.longdouble(beta) > np.finfo(dtype).tiny
    y = local_response_norm(x, 1, alpha=1, beta=beta, k=0)
    assert np.all(np.abs(y - exact)[fits] <= 6 * np.finfo(dtype).eps * exact[fits])


def test_bad_windows_are_named(rng):
    x = normals(rng, 2, 6, 5)
    for arguments, message in (
        ({"size": 0}, "size is 0"),
        ({"size": 2.0}, "size is 2.0"),
        ({"size": 3, "alpha": -1}, "alpha is -1"),
        ({"size": 3, "beta": np.nan}, "beta is nan"),
        ({"size": 3, "k": "one"}, "k is 'one'"),
    ):
        for _ in range(2):
            with pytest.raises((TypeError, ValueError), match=message):
                local_response_norm(x, **arguments)


# Layers ------------------------------------------------------------------------------------------------------

LAYERS = [
    (DynamicTanh(6, alpha_init=0.8), "DynamicTanh((6,), alpha_init=0.8, elementwise_affine=True, bias=True)"),
    (DynamicTanh((6,), elementwise_affine=False, axis=1), None),
    (FilterResponseNorm(6), "FilterResponseNorm(6, eps=1e-06, affine=True, bias=True, threshold=True)"),
    (FilterResponseNorm(6, affine=False, threshold=False, layout="NHWC"), None),
    (EvoNormS0(6, 3), "EvoNormS0(6, num_groups=3, eps=1e-05, affine=True, bias=True, gate=True)"),
    (EvoNormS0(6, 2, bias=False, gate=False, layout="NHWC"), None),
    (
        EvoNormB0(6),
        "EvoNormB0(6, eps=1e-05, momentum=0.1, affine=True, bias=True, track_running_stats=True)",
    ),
    (EvoNormB0(6, track_running_stats=False, layout="NHWC"), None),
    (GatedRMSNorm(6, group_size=3), "GatedRMSNorm(6, eps=1e-05, group_size=3, norm_before_gate=False)"),
    (GatedRMSNorm(6, norm_before_gate=True, dtype=np.float64), None),
    (LocalResponseNorm(3), "LocalResponseNorm(3, alpha=0.0001, beta=0.75, k=1.0)"),
    (LocalResponseNorm(4, 2.0, layout="NHWC"), None),
]


def arguments_for(layer, rng):
    dtype = layer.dtype
    x = rng.standard_normal((2, 6, 6, 6)).astype(dtype)
    return (x, rng.standard_normal(x.shape).astype(dtype)) if isinstance(layer, GatedRMSNorm) else (x,)


@pytest.mark.parametrize(("layer", "shown"), LAYERS, ids=lambda value: str(value)[:40])
def test_layers_keep_state_and_what_backward_needs(layer, shown, rng):
    layer = copy.deepcopy(layer)
    if shown is not None:
        assert repr(layer) == shown
    with pytest.raises(RuntimeError, match="has no call in training"):
        layer.backward(np.zeros(3, f32))
    for parameter in layer.parameters().values():
        parameter += rng.uniform(0, 0.5, parameter.shape).astype(layer.dtype)
    given = arguments_for(layer, rng)
    y = layer(*given)
    dx = layer.backward(np.ones_like(y))
    assert dx.shape == y.shape and dx.dtype == y.dtype
    beside = {"gate"} if isinstance(layer, GatedRMSNorm) else set()
    assert layer.grads.keys() == layer.parameters().keys() | beside
    for name, parameter in layer.parameters().items():
        assert layer.grads[name].shape == parameter.shape and layer.grads[name].dtype == parameter.dtype
    restored = pickle.loads(pickle.dumps(layer))
    other = copy.deepcopy(layer)
    for parameter in other.parameters().values():
        parameter[...] = 9
    other.load_state_dict(layer.state_dict())
    expected = layer.eval()(*given)
    assert np.array_equal(restored.eval()(*given), expected)
    assert np.array_equal(other.eval()(*given), expected)
    with pytest.raises(RuntimeError, match="has no call in training"):
        layer.backward(y)


def test_b0_layer_evaluates_by_its_running_variance(rng):
    layer, x = EvoNormB0(6, momentum=1.0), 5 * normals(rng, 4, 6, 50)
    layer(x)
    assert set(layer.state_dict()) == {"weight", "bias", "v", "running_var"}
    expected = evo_norm_b0(x, layer.running_var, layer.weight, layer.bias, layer.v)
    assert np.array_equal(layer.eval()(x), expected)


def test_layers_name_bad_arguments():
    for make, message in (
        (lambda: EvoNormS0(6, 4), "num_features .6. must be divisible"),
        (lambda: GatedRMSNorm(6, group_size=4), "normalized_shape .6. must be divisible"),
        (lambda: LocalResponseNorm(0), "size is 0"),
        (lambda: FilterResponseNorm(0), "num_features is 0"),
    ):
        with pytest.raises(ValueError, match=message):
            make()


# Memory that the table of norms has not ----------------------------------------------------------------------


def test_axes_between_axes(rng):
    """Too many levels to be walked as they lie: copied, with the axes of the parameters outermost."""
    x, dy = normals(rng, 2, 2, 3, 2, 3, 2, 3)
    weight = normals(rng, 2, 2, 2)
    wide = np.tanh(0.5 * x.astype(np.float64))
    assert_exact(dynamic_tanh(x, 0.5, weight, axis=(0, 2, 4)), wide * weight.reshape(2, 1, 2, 1, 2, 1), f32)
    found = dynamic_tanh_backward(dy, x, 0.5, weight, axis=(0, 2, 4))
    assert gradient_roundings(found.dweight, (dy * wide).sum((1, 3, 5)), f32) <= GRADIENT_ROUNDINGS


def test_views_whose_elements_overlap(rng):
    line = normals(rng, 400)
    for view in (
        np.lib.stride_tricks.sliding_window_view(line, 8),
        np.lib.stride_tricks.as_strided(line, (5, 3, 8), (32, 4, 4)),
        np.broadcast_to(line[:24].reshape(4, 6), (3, 4, 6)),
        np.broadcast_to(line[:4, np.newaxis], (4, 6)),
    ):
        weight, dy = normals(rng, view.shape[-1]), normals(rng, *view.shape)
        assert np.array_equal(dynamic_tanh(view, 0.5, weight), dynamic_tanh(view.copy(), 0.5, weight))
        found = dynamic_tanh_backward(dy, view, 0.5, weight)
        for gradient, wanted in zip(found, dynamic_tanh_backward(dy, view.copy(), 0.5, weight), strict=True):
            assert gradient_roundings(gradient, wanted, f32) <= GRADIENT_ROUNDINGS


@pytest.mark.parametrize("shape", [(3, 70000), (5, 33000, 3), (2, 40, 4100), (701, 5)])
def test_runs_in_pieces_and_pieces_of_many_runs(shape, rng):
    """Longer than a piece, either way; and short runs that cannot be joined, their number being a prime."""
    x, dy = normals(rng, 2, *shape)
    wide = np.tanh(0.5 * x.astype(np.float64))
    for axis in range(len(shape)):
        weight = rng.uniform(0.5, 2, shape[axis]).astype(f32)
        laid = weight.reshape([n if i == axis else 1 for i, n in enumerate(shape)])
        assert_exact(dynamic_tanh(x, 0.5, weight, axis=axis), wide * laid, f32)
        found = dynamic_tanh_backward(dy, x, 0.5, weight, axis=axis)
        others = tuple(i for i in range(len(shape)) if i != axis)
        assert gradient_roundings(found.dweight, (dy * wide).sum(others), f32) <= GRADIENT_ROUNDINGS
        assert gradient_roundings(found.dx, dy * laid * 0.5 * (1 - wide**2), f32) <= GRADIENT_ROUNDINGS

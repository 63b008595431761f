"""Batch renormalization, ghost and frozen batch norm: against their definitions, PyTorch, and batch norm in their limits."""

import copy
import pickle

import numpy as np
import pytest

import fastnorm
from fastnorm import reference
from fastnorm.functional.frozen import frozen_batch_norm, frozen_batch_norm_backward
from fastnorm.functional.ghost import ghost_batch_norm, ghost_batch_norm_backward
from fastnorm.functional.renorm import batch_renorm, batch_renorm_backward
from fastnorm.layers.frozen import FrozenBatchNorm
from fastnorm.layers.ghost import GhostBatchNorm
from fastnorm.layers.renorm import BatchRenorm
from fastnorm.reference import batches as exact

from .checks import ACTIVATIONS, DTYPES, assert_exact, assert_gradients, assert_like, assert_statistics
from .norms import widen
from .oracle import FORWARD_ROUNDINGS, INPUTS, ZOO, roundings

C = 6
LENGTHS = {"N": 8, "C": C, "D": 2, "H": 5, "W": 3, "L": 11}
LAYOUTS = ["NC", "NCL", "NLC", "NCHW", "NHWC", "HWNC", "CHWN", "WCNH", "LNC", "NCDHW", "NDHWC"]
# The samples of a ghost batch: they divide 8, leave a smaller one of 2, are all there are, are more than there are.
SIZES = [4, 3, 8, 20]


def shape_of(layout):
    return tuple(LENGTHS[letter] for letter in layout)


def others(layout):
    return tuple(axis for axis, letter in enumerate(layout) if letter != "C")


def normals(layout, rng, dtype, count=1):
    return (1 + rng.standard_normal((count, *shape_of(layout)))).astype(dtype)


def parameters(rng, dtype):
    """Weight, bias, running mean and running deviation or variance."""
    return [
        low + (high - low) * rng.random(C).astype(dtype)
        for low, high in ((0.5, 2), (-1, 1), (0.5, 1.5), (0.7, 1.5))
    ]


def along_channels(statistic, layout):
    return statistic.reshape([C if letter == "C" else 1 for letter in layout])


def wide(*arrays):
    return [widen(a) for a in arrays]


def rounded(dtype):
    return {"rtol": 4 * np.finfo(dtype).eps, "atol": 4 * np.finfo(dtype).eps}


# Batch renormalization -------------------------------------------------------------------------------------

LIMITS = [{}, {"r_max": 1.1, "d_max": 0.05}, {"r_max": np.inf, "d_max": np.inf}]


@pytest.mark.parametrize("limits", LIMITS, ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_renorm_equals_its_definition(layout, dtype, limits, rng):
    x, dy = normals(layout, rng, dtype, 2)
    weight, bias, mean, std = parameters(rng, dtype)
    for pair in ((weight, bias), (None, bias), (weight, None), (None, None)):
        running = mean.copy(), std.copy()
        options = {"training": True, "layout": layout} | limits
        y, *statistics = batch_renorm(x, *running, *pair, **options, momentum=0.25, return_stats=True)
        expected, *known = exact.batch_renorm(*wide(x, mean, std, *pair), **options)
        assert_exact(y, expected, dtype)
        assert_like(y, x)
        assert_statistics(statistics[:2], known[:2], dtype)
        for found, wanted in zip(statistics[2:], known[2:], strict=True):
            np.testing.assert_allclose(found, wanted, **rounded(dtype))
        for found, wanted in zip(running, exact.update_renorm(mean, std, *known[:2], 0.25), strict=True):
            np.testing.assert_allclose(found, wanted.astype(np.float64), **rounded(dtype))
        gradients = batch_renorm_backward(dy, x, *statistics, *pair, layout=layout)
        assert_gradients(
            gradients, exact.batch_renorm_backward(*wide(dy, x), *known, *wide(*pair), layout=layout), dtype
        )
        assert_like(gradients.dx, x)


@pytest.mark.parametrize("limits", LIMITS, ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", [name for name in INPUTS if "constant" not in name])
def test_renorm_of_the_accuracy_table(name, dtype, limits, rng):
    x = INPUTS[name]((40, C, 30), (0, 2), rng, dtype)
    pivot = x.mean((0, 2)).astype(dtype)
    std = x.std((0, 2), dtype=np.float64)
    mean = (pivot + std * rng.uniform(-0.1, 0.1, C)).astype(dtype)
    std = (std * rng.uniform(0.9, 1.2, C)).astype(dtype)
    centred, about = widen(x) - widen(pivot)[:, np.newaxis], widen(mean) - widen(pivot)
    expected = exact.batch_renorm(centred, about, widen(std), training=True, **limits)[0]
    assert_exact(batch_renorm(x, mean, std, training=True, **limits), expected, dtype)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_renorm_without_limits_is_what_inference_gives(dtype, layout, rng):
    """The paper's point: training sees the activations that inference will."""
    (x,) = normals(layout, rng, dtype)
    weight, bias, mean, std = parameters(rng, dtype)
    running = {"r_max": np.inf, "d_max": np.inf, "momentum": 0, "layout": layout}
    y = batch_renorm(x, mean, std, weight, bias, training=True, **running)
    inference, *statistics = batch_renorm(x, mean, std, weight, bias, layout=layout, return_stats=True)
    assert_exact(inference, exact.batch_renorm(*wide(x, mean, std, weight, bias), layout=layout)[0], dtype)
    # Both are within the bound of one result.
    assert roundings(y, inference, dtype) <= 2 * FORWARD_ROUNDINGS
    for found, wanted in zip(statistics, (mean, 1 / widen(std), np.ones(C), np.zeros(C)), strict=True):
        np.testing.assert_allclose(found, wanted.astype(np.float64), rtol=1e-15)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_renorm_with_the_tightest_limits_is_batch_norm(layout, rng):
    x, dy = normals(layout, rng, np.float32, 2)
    weight, bias, mean, std = parameters(rng, np.float32)
    y, *statistics = batch_renorm(
        x, mean, std, weight, bias, r_max=1, d_max=0, training=True, layout=layout, return_stats=True
    )
    expected, *known = fastnorm.batch_norm(
        x, None, None, weight, bias, training=True, layout=layout, return_stats=True
    )
    assert np.array_equal(y, expected)
    found = batch_renorm_backward(dy, x, *statistics, weight, layout=layout)
    wanted = fastnorm.batch_norm_backward(dy, x, *known, weight, layout=layout)
    # Their rstd is 1/√var in two roundings of float64, which may move a float32 by one.
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=2 * np.finfo(np.float32).eps, atol=1e-6)


# Ghost batch norm ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_ghosts_equal_their_definition(layout, dtype, size, rng):
    x, dy = normals(layout, rng, dtype, 2)
    weight, bias, *_ = parameters(rng, dtype)
    for pair in ((weight, bias), (None, bias), (weight, None), (None, None)):
        y, *statistics = ghost_batch_norm(x, size, None, None, *pair, layout=layout, return_stats=True)
        expected, *known = exact.ghost_batch_norm(widen(x), size, *wide(*pair), layout=layout)
        assert_exact(y, expected, dtype)
        assert_like(y, x)
        assert_statistics(statistics, known, dtype)
        gradients = ghost_batch_norm_backward(dy, x, size, *statistics, *pair, layout=layout)
        wanted = exact.ghost_batch_norm_backward(*wide(dy, x), size, *known, *wide(*pair), layout=layout)
        assert_gradients(gradients, wanted, dtype)
        assert_like(gradients.dx, x)


@pytest.mark.parametrize("size", SIZES[:2])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_ghosts_know_nothing_of_each_other(layout, size, rng):
    """Each has the bits of a batch of its own, and NaN stays in its own."""
    (x,) = normals(layout, rng, np.float32)
    weight, bias, *_ = parameters(rng, np.float32)
    samples = np.moveaxis(x, layout.index("N"), 0)
    samples[1, ..., 0] = np.nan
    y, mean, rstd = ghost_batch_norm(x, size, None, None, weight, bias, layout=layout, return_stats=True)
    assert np.isfinite(np.moveaxis(y, layout.index("N"), 0)[size:]).all()
    for ghost, first in enumerate(range(0, 8, size)):
        own = (slice(None),) * layout.index("N") + (slice(first, first + size),)
        alone = ghost_batch_norm(x[own], size, None, None, weight, bias, layout=layout, return_stats=True)
        for a, b in zip(alone, (y[own], mean[[ghost]], rstd[[ghost]]), strict=True):
            assert np.array_equal(a, b, equal_nan=True)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_running_statistics_of_ghosts_in_turn(dtype, size, rng):
    (x,) = normals("NHWC", rng, dtype)
    *_, mean, var = parameters(rng, dtype)
    running, expected = (mean.copy(), var.copy()), (mean.astype(np.longdouble), var.astype(np.longdouble))
    assert np.array_equal(
        ghost_batch_norm(x, size, *running, training=True, momentum=0.3, layout="NHWC"),
        ghost_batch_norm(x, size, layout="NHWC"),
    )
    for first in range(0, 8, size):
        own = widen(x[first : first + size])
        moments = reference.moments(own, (0, 1, 2))
        expected = reference.update_running(*expected, *moments, own.size // C, 0.3)
    for found, wanted in zip(running, expected, strict=True):
        np.testing.assert_allclose(found, wanted.astype(np.float64), **rounded(dtype))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_one_ghost_is_batch_norm(layout, rng):
    """To the bit, running statistics included."""
    x, dy = normals(layout, rng, np.float32, 2)
    weight, bias, mean, var = parameters(rng, np.float32)
    running, own = (mean.copy(), var.copy()), (mean.copy(), var.copy())
    options = {"training": True, "layout": layout, "return_stats": True, "activation": "gelu"}
    y, *statistics = ghost_batch_norm(x, 8, *own, weight, bias, **options)
    expected, *known = fastnorm.batch_norm(x, *running, weight, bias, **options)
    assert np.array_equal(y, expected)
    assert np.array_equal(np.concatenate(statistics), known) and np.array_equal(own, running)
    found = ghost_batch_norm_backward(dy, x, 8, *statistics, weight, bias, layout=layout, activation="gelu")
    wanted = fastnorm.batch_norm_backward(dy, x, *known, weight, bias, layout=layout, activation="gelu")
    assert all(map(np.array_equal, found, wanted))


def test_ghosts_in_inference_are_batch_norm(rng):
    x, dy = normals("NHWC", rng, np.float32, 2)
    weight, bias, mean, var = parameters(rng, np.float32)
    options = {"layout": "NHWC", "activation": "silu"}
    y, *statistics = ghost_batch_norm(x, 3, mean, var, weight, bias, return_stats=True, **options)
    assert np.array_equal(y, fastnorm.batch_norm(x, mean, var, weight, bias, **options))
    found = ghost_batch_norm_backward(dy, x, 3, *statistics, weight, bias, training=False, **options)
    wanted = fastnorm.batch_norm_backward(dy, x, *statistics, weight, bias, training=False, **options)
    assert all(map(np.array_equal, found, wanted))


# Frozen batch norm -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_frozen_equals_its_definition(layout, dtype, rng):
    x, dy = normals(layout, rng, dtype, 2)
    weight, bias, mean, var = parameters(rng, dtype)
    for w, b in ((weight, bias), (None, bias), (weight, None), (None, None)):
        constants, options = (mean, var, w, b), {"layout": layout, "eps": 1e-3}
        assert_exact(
            frozen_batch_norm(x, *constants, **options),
            exact.frozen_batch_norm(*wide(x, *constants), **options),
            dtype,
        )
        for given in (x, None):
            dx = frozen_batch_norm_backward(dy, given, *constants, **options)
            assert_like(dx, x)
            assert_exact(dx, exact.frozen_batch_norm_backward(*wide(dy, x, *constants), **options), dtype)


def test_the_gradient_of_frozen_lies_as_x_does(rng):
    (x,) = normals("NCHW", rng, np.float32)
    _, _, mean, var = parameters(rng, np.float32)
    one = np.broadcast_to(np.float32(1), x.shape)
    dx = frozen_batch_norm_backward(one, x, mean, var)
    assert_like(dx, x)
    assert np.array_equal(dx, frozen_batch_norm_backward(one.copy(), x, mean, var))


# All of them -----------------------------------------------------------------------------------------------


def _renorm(x, rng, **options):
    weight, bias, mean, std = parameters(rng, np.float64)
    pair = weight.astype(np.float32), bias.astype(np.float32)
    return batch_renorm(x, mean, std, *pair, training=True, **options)


def _ghosts(x, rng, **options):
    weight, bias, mean, var = parameters(rng, np.float64)
    pair = weight.astype(np.float32), bias.astype(np.float32)
    return ghost_batch_norm(x, 3, mean, var, *pair, training=True, **options)


def _frozen(x, rng, **options):
    weight, bias, mean, var = parameters(rng, np.float64)
    return frozen_batch_norm(x, mean, var, weight, bias, **options)


ALL = [_renorm, _ghosts, _frozen]


@pytest.fixture
def again(rng):
    """A function that gives the same generator whenever it is asked."""
    return lambda: copy.deepcopy(rng)


@pytest.mark.parametrize("layout", ["NCL", "NHWC"])
@pytest.mark.parametrize("norm", ALL)
def test_any_memory(norm, layout, rng, again):
    (x,) = normals(layout, rng, np.float32)
    expected = norm(x, again(), layout=layout)
    for name, view in ZOO.items():
        y = norm(view(x), again(), layout=layout)
        assert_like(y, view(x).astype(np.float32, copy=False))
        # Another order of memory may be added up in another order.
        assert roundings(y, expected, np.float32) <= FORWARD_ROUNDINGS, name


@pytest.mark.parametrize("norm", ALL)
def test_out(norm, rng, again):
    (x,) = normals("NCL", rng, np.float32)
    expected = norm(x, again(), activation="tanh")
    for out in (np.empty_like(x), np.empty_like(x.transpose(0, 2, 1)).transpose(0, 2, 1)):
        assert norm(x, again(), activation="tanh", out=out) is out
        assert roundings(out, expected, np.float32) <= FORWARD_ROUNDINGS
    store = np.empty((9, C, 11), np.float32)
    for first, second in ((store[:8], store[1:]), (store[1:], store[:8]), (store[:8], store[:8])):
        first[...] = x
        assert norm(first, again(), activation="tanh", out=second) is second
        assert np.array_equal(second, expected)


@pytest.mark.parametrize("dtype", [np.float16, "bfloat16"])
@pytest.mark.parametrize("norm", ALL)
def test_16_bits_are_the_rounded_result_of_32(norm, dtype, rng, again):
    if dtype == "bfloat16":
        dtype = pytest.importorskip("ml_dtypes").bfloat16
    x = normals("NHWC", rng, np.float32)[0].astype(dtype)
    expected = norm(x.astype(np.float32), again(), layout="NHWC").astype(dtype)
    y = norm(x, again(), layout="NHWC")
    assert y.dtype == dtype and np.array_equal(y, expected)


@pytest.mark.parametrize("norm", ALL)
def test_an_empty_batch(norm, again):
    x = np.empty((0, C, 3), np.float32)
    assert norm(x, again()).shape == x.shape
    out = np.empty_like(x)
    assert norm(x, again(), out=out) is out


def test_backward_of_an_empty_batch():
    x, statistics = np.empty((0, C, 3), np.float32), np.ones((4, C))
    for dx, dweight, dbias in (
        batch_renorm_backward(x, x, *statistics),
        ghost_batch_norm_backward(x, x, 4, np.empty((0, C)), np.empty((0, C))),
    ):
        assert dx.shape == x.shape and np.array_equal([dweight, dbias], np.zeros((2, C)))
    assert frozen_batch_norm_backward(x, x, *statistics[:2]).shape == x.shape


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_through_the_activation(dtype, activation, rng):
    x, dy = normals("NHWC", rng, dtype, 2)
    weight, bias, mean, var = parameters(rng, dtype)
    options = {"layout": "NHWC", "activation": activation}
    pair = wide(weight, bias)

    y, *statistics = batch_renorm(
        x, mean, var, weight, bias, training=True, momentum=0, return_stats=True, **options
    )
    expected, *known = exact.batch_renorm(*wide(x, mean, var), *pair, training=True, **options)
    assert_exact(y, expected, dtype)
    wanted = exact.batch_renorm_backward(*wide(dy, x), *known, *pair, **options)
    assert_gradients(batch_renorm_backward(dy, x, *statistics, weight, bias, **options), wanted, dtype)

    y, *statistics = ghost_batch_norm(x, 3, None, None, weight, bias, return_stats=True, **options)
    expected, *known = exact.ghost_batch_norm(widen(x), 3, *pair, **options)
    assert_exact(y, expected, dtype)
    wanted = exact.ghost_batch_norm_backward(*wide(dy, x), 3, *known, *pair, **options)
    assert_gradients(ghost_batch_norm_backward(dy, x, 3, *statistics, weight, bias, **options), wanted, dtype)

    constants = mean, var, weight, bias
    wanted = exact.frozen_batch_norm_backward(*wide(dy, x, *constants), **options)
    assert_exact(frozen_batch_norm_backward(dy, x, *constants, **options), wanted, dtype)


@pytest.mark.parametrize("activation", [None, "relu", "gelu", "silu"])
def test_torch_says_the_same(activation, rng):
    """Its autograd goes through its own operators, with r and d detached."""
    torch = pytest.importorskip("torch")
    act = torch.nn.Identity() if activation is None else getattr(torch.nn.functional, activation)
    x, dy = normals("NCHW", rng, np.float32, 2)
    weight, bias, mean, second = parameters(rng, np.float32)
    x_t, w, b = (torch.tensor(widen(a), requires_grad=True) for a in (x, weight, bias))
    m, s = torch.tensor(widen(mean)), torch.tensor(widen(second))

    def gradients(y):
        for leaf in (x_t, w, b):
            leaf.grad = None
        y.backward(torch.tensor(widen(dy)))
        return [None if leaf.grad is None else leaf.grad.numpy() for leaf in (x_t, w, b)]

    var, batch_mean = torch.var_mean(x_t, (0, 2, 3), correction=0)
    std = torch.sqrt(var + 1e-5)
    r, d = (std / s).clip(1 / 1.2, 1.2).detach(), ((batch_mean - m) / s).clip(-0.2, 0.2).detach()
    each = [a[:, None, None] for a in (batch_mean, std, r, d, w, b)]
    y_t = act(((x_t - each[0]) / each[1] * each[2] + each[3]) * each[4] + each[5])
    y, *statistics = batch_renorm(x, mean, second, weight, bias, r_max=1.2, d_max=0.2, training=True,
                                  momentum=0, activation=activation, return_stats=True)  # fmt: skip
    assert roundings(y, y_t.detach(), np.float32) <= FORWARD_ROUNDINGS
    found = batch_renorm_backward(dy, x, *statistics, weight, bias, activation=activation)
    assert_gradients(found, gradients(y_t), np.float32)

    batch_norm = torch.nn.functional.batch_norm
    y_t = torch.cat([act(batch_norm(part, None, None, w, b, training=True)) for part in x_t.split(3)])
    y, *statistics = ghost_batch_norm(
        x, 3, None, None, weight, bias, activation=activation, return_stats=True
    )
    assert roundings(y, y_t.detach(), np.float32) <= FORWARD_ROUNDINGS
    found = ghost_batch_norm_backward(dy, x, 3, *statistics, weight, bias, activation=activation)
    assert_gradients(found, gradients(y_t), np.float32)

    y_t = act(batch_norm(x_t, m, s, w.detach(), b.detach()))
    y = frozen_batch_norm(x, mean, second, weight, bias, activation=activation)
    assert roundings(y, y_t.detach(), np.float32) <= FORWARD_ROUNDINGS
    dx = frozen_batch_norm_backward(dy, x, mean, second, weight, bias, activation=activation)
    assert roundings(dx, gradients(y_t)[0], np.float32) <= FORWARD_ROUNDINGS


@pytest.mark.parametrize("layout", ["NC", "NHWC", "LNC"])
def test_central_differences(layout, rng):
    """d/dt of <dy, f(x + t u)> is <dx, u>, where r and d stay as they are."""
    x, dy, u = normals(layout, rng, np.float64, 3)
    weight, bias, mean, std = parameters(rng, np.float64)
    _, *statistics = batch_renorm(
        x, mean, std, training=True, r_max=1.2, d_max=0.2, momentum=0, layout=layout, return_stats=True
    )
    _, _, r, d = statistics
    pair = r * weight, d * weight + bias

    def renorm(x):
        return reference.batch_norm(x, None, None, *pair, training=True, layout=layout, activation="silu")[0]

    def ghosts(x):
        return ghost_batch_norm(
            x, 3, None, None, weight, bias, layout=layout, activation="silu", return_stats=True
        )

    options = {"layout": layout, "activation": "silu"}
    dx = batch_renorm_backward(dy, x, *statistics, weight, bias, **options).dx
    dx_of_ghosts = ghost_batch_norm_backward(dy, x, 3, *ghosts(x)[1:], weight, bias, **options).dx
    step = 1e-5  # truncation and cancellation are then both near 1e-10 of the result
    for function, gradient in ((renorm, dx), (lambda x: ghosts(x)[0], dx_of_ghosts)):
        difference = np.vdot(dy, function(x + step * u) - function(x - step * u)) / (2 * step)
        scale = np.linalg.norm(gradient) * np.linalg.norm(u)
        assert abs(np.vdot(gradient, u) - difference) <= 1e-7 * max(scale, 1)


def test_needs(rng):
    x, dy = normals("NCL", rng, np.float32, 2)
    weight, bias, mean, std = parameters(rng, np.float32)
    _, *of_renorm = batch_renorm(x, mean, std, training=True, return_stats=True)
    _, *of_ghosts = ghost_batch_norm(x, 3, return_stats=True)

    def renorm(**options):
        return batch_renorm_backward(dy, x, *of_renorm, weight, bias, **options)

    def ghosts(**options):
        return ghost_batch_norm_backward(dy, x, 3, *of_ghosts, weight, bias, **options)

    for backward in (renorm, ghosts):
        everything = backward()
        for needs in np.ndindex(2, 2, 2):
            found = backward(needs=tuple(map(bool, needs)))
            for need, gradient, wanted in zip(needs, found, everything, strict=True):
                assert (gradient is not None) == bool(need)
                assert gradient is None or np.array_equal(gradient, wanted)


# Errors ----------------------------------------------------------------------------------------------------

X = np.ones((4, C, 3), np.float32)
ONE = np.ones((4, C), np.float32)


def zeros():
    return np.zeros(C, np.float32)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda m, v: batch_renorm(X, m, v, training=True, r_max=0.5), ValueError, "r_max is 0.5, expected at least 1"),
        (lambda m, v: batch_renorm(X, m, v, training=True, d_max=-1), ValueError, "d_max is -1, expected at least 0"),
        (lambda m, v: batch_renorm(X, m, v, d_max=np.nan), ValueError, "d_max is nan, expected at least 0"),
        (lambda m, v: batch_renorm(X, m, v, r_max="3x"), TypeError, "r_max is '3x', expected a number of at least 1"),
        (lambda m, v: batch_renorm(X, m, None), ValueError, "running_std is None but running_mean is not"),
        (lambda m, v: batch_renorm(X, None, None), TypeError, "running_mean is a NoneType, expected a NumPy array"),
        (lambda m, v: batch_renorm(X, m, v[:3]), ValueError, r"running_std has shape \(3,\), expected \(6,\)"),
        (lambda m, v: batch_renorm(X, m, m, training=True), ValueError, "running_mean and running_std share memory"),
        (lambda m, v: batch_renorm(X, m, v, training=True, momentum=None), TypeError, "momentum is None"),
        (lambda m, v: batch_renorm(X, m, v, training=True, activation="elu"), ValueError, "activation is 'elu'"),
        (lambda m, v: batch_renorm(X, m, v, training=True, weight=zeros()[:3]), ValueError, "weight has shape"),
        (lambda m, v: batch_renorm(ONE[:1], m, v, training=True), ValueError, "x has one value per channel"),
        (lambda m, v: ghost_batch_norm(X, 0, m, v, training=True), ValueError, "ghost_batch_size is 0, expected at"),
        (lambda m, v: ghost_batch_norm(X, 2.0, m, v, training=True), TypeError, "ghost_batch_size is 2.0, expected an"),
        (lambda m, v: ghost_batch_norm(X, True, m, v, training=True), TypeError, "ghost_batch_size is True"),
        (lambda m, v: ghost_batch_norm(ONE, 3, m, v, training=True), ValueError,
         r"one value per channel in the last ghost batch \(shape \(4, 6\), 4 samples in ghost batches of 3\)"),
        (lambda m, v: ghost_batch_norm(ONE, 1, m, v, training=True), ValueError, "x has one value per channel"),
        (lambda m, v: ghost_batch_norm(X, 3, m, v, zeros()[:3], training=True), ValueError,
         r"weight has shape \(3,\), expected \(6,\): x has 6 channels at axis 1"),
        (lambda m, v: ghost_batch_norm(X, 3, m, v, training=True, eps="no"), TypeError, "eps is 'no'"),
        (lambda m, v: ghost_batch_norm(X, 3, m, v, training=True, out=X[:2]), ValueError, "out has shape"),
        (lambda m, v: ghost_batch_norm(X, 3, m, m, training=True), ValueError, "running_mean and running_var share"),
        (lambda m, v: ghost_batch_norm(X.tolist(), 3, m, v, training=True), TypeError, "x is a list"),
        (lambda m, v: frozen_batch_norm(X, None, None), TypeError, "running_mean is a NoneType, expected a NumPy"),
        (lambda m, v: frozen_batch_norm(X, m, v[:3]), ValueError, r"running_var has shape \(3,\), expected \(6,\)"),
        (lambda m, v: frozen_batch_norm_backward(X, None, m, v, activation="relu"), TypeError, "x is a NoneType"),
        (lambda m, v: frozen_batch_norm_backward(X[:2], X, m, v), ValueError, "dy has shape"),
        (lambda m, v: frozen_batch_norm_backward(1, None, m, v), TypeError, "dy is a int, expected a NumPy array"),
        (lambda m, v: ghost_batch_norm_backward(X, X, 3, np.ones((3, C)), np.ones((2, C))), ValueError,
         r"mean has shape \(3, 6\), expected \(2, 6\)"),
        (lambda m, v: batch_renorm_backward(X, X, *np.ones((3, C)), np.ones(3)), ValueError, r"d has shape \(3,\)"),
    ],
)  # fmt: skip
def test_errors_name_what_is_wrong_and_change_nothing(call, error, message):
    running, before = (zeros(), zeros() + 1), X.copy()
    with pytest.raises(error, match=message):
        call(*running)
    assert np.array_equal(running, [np.zeros(C), np.ones(C)]) and np.array_equal(X, before)


# Layers ----------------------------------------------------------------------------------------------------

LAYERS = [
    BatchRenorm(C, momentum=0.2, layout="NHWC"),
    BatchRenorm(C, affine=False),
    GhostBatchNorm(C, 3, bias=False),
    GhostBatchNorm(C, 4, track_running_stats=False, layout="NHWC", dtype=np.float64),
    FrozenBatchNorm(C, layout="NHWC"),
]


@pytest.mark.parametrize("layer", LAYERS, ids=repr)
def test_state_of_layers(layer, rng):
    layer, layout = copy.deepcopy(layer), layer.layout or "NCHW"
    x, dy = normals(layout, rng, np.float32, 2)
    with pytest.raises(RuntimeError, match="no call in training"):
        layer.backward(dy)
    y = layer(x)
    assert layer.backward(dy).shape == x.shape
    assert layer.grads.keys() == layer.parameters().keys()
    again = pickle.loads(pickle.dumps(layer))
    fresh = eval(repr(layer), {**globals(), "float64": np.float64})
    assert fresh.load_state_dict(layer.state_dict()) == ([], [])
    evaluated = layer.eval()(x)
    for other in (again, fresh):
        assert np.array_equal(other.eval()(x), evaluated)
    with pytest.raises(RuntimeError, match="no call in training"):
        layer.backward(dy)
    if isinstance(layer, FrozenBatchNorm):
        assert np.array_equal(y, evaluated)
    with pytest.raises(ValueError, match="expected"):
        layer.train()(x.T)


def test_layers_are_their_functions(rng):
    x, dy = normals("NHWC", rng, np.float32, 2)
    weight, bias, mean, second = parameters(rng, np.float32)
    renorm, ghosts = BatchRenorm(C, layout="NHWC"), GhostBatchNorm(C, 3, layout="NHWC")
    for layer, buffer in ((renorm, "running_std"), (ghosts, "running_var")):
        layer.weight[:], layer.bias[:], layer.running_mean[:] = weight, bias, mean
        getattr(layer, buffer)[:] = second
    pair, options = (weight, bias), {"training": True, "layout": "NHWC", "return_stats": True}

    running = mean.copy(), second.copy()
    y, *statistics = batch_renorm(x, *running, *pair, **options)
    assert np.array_equal(renorm(x), y)
    dx, dweight, dbias = batch_renorm_backward(dy, x, *statistics, weight, layout="NHWC")
    assert np.array_equal(renorm.backward(dy), dx)
    assert np.array_equal([renorm.grads["weight"], renorm.grads["bias"]], [dweight, dbias])
    assert np.array_equal([renorm.running_mean, renorm.running_std], running)
    assert renorm.num_batches_tracked == 1

    running = mean.copy(), second.copy()
    y, *statistics = ghost_batch_norm(x, 3, *running, *pair, **options)
    assert np.array_equal(ghosts(x), y)
    dx, dweight, dbias = ghost_batch_norm_backward(dy, x, 3, *statistics, weight, layout="NHWC")
    assert np.array_equal(ghosts.backward(dy), dx)
    assert np.array_equal([ghosts.grads["weight"], ghosts.grads["bias"]], [dweight, dbias])
    assert np.array_equal([ghosts.running_mean, ghosts.running_var], running)
    assert ghosts.num_batches_tracked == 3


def test_the_limits_of_renorm_may_be_moved_while_it_trains(rng):
    (x,) = normals("NCL", rng, np.float32)
    layer, plain = BatchRenorm(C, r_max=1, d_max=0, momentum=0), fastnorm.BatchNorm(C)
    assert np.array_equal(layer(x), plain(x))
    layer.r_max, layer.d_max = 3, 5
    assert roundings(layer(x), layer.eval()(x), np.float32) <= 2 * FORWARD_ROUNDINGS
    layer.r_max = 0
    before = layer.state_dict()
    with pytest.raises(ValueError, match="r_max is 0, expected at least 1"):
        layer.train()(x)
    assert all(np.array_equal(layer.state_dict()[name], before[name]) for name in before)


def test_frozen_takes_what_batch_norm_has_learned(rng):
    """The keys are those of torchvision's FrozenBatchNorm2d, which passes over num_batches_tracked as well."""
    (x,) = normals("NCHW", rng, np.float32)
    trained = fastnorm.BatchNorm(C)
    trained.weight[:], trained.bias[:], *_ = parameters(rng, np.float32)
    trained(x)
    frozen = FrozenBatchNorm(C)
    assert list(frozen.state_dict()) == ["weight", "bias", "running_mean", "running_var"]
    assert frozen.parameters() == {}
    assert frozen.load_state_dict(trained.state_dict()) == ([], [])
    assert np.array_equal(frozen(x), trained.eval()(x))
    assert repr(frozen) == "FrozenBatchNorm(6, eps=1e-05)"
    with pytest.raises(ValueError, match=r'Missing key\(s\) in state_dict: "running_var"'):
        frozen.load_state_dict({"weight": 1, "bias": 1, "running_mean": 1})


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: BatchRenorm(0), ValueError, "num_features is 0, expected at least 1"),
        (lambda: BatchRenorm(4, r_max=0.9), ValueError, "r_max is 0.9, expected at least 1"),
        (lambda: BatchRenorm(4, momentum=None), TypeError, "momentum is None, expected a number"),
        (lambda: GhostBatchNorm(4, 0), ValueError, "ghost_batch_size is 0, expected at least 1"),
        (lambda: GhostBatchNorm(4, 2, momentum=None), TypeError, "momentum is None, expected a number"),
        (lambda: FrozenBatchNorm(4, eps="x"), TypeError, "eps is 'x', expected a number"),
    ],
)
def test_wrong_arguments_of_layers(build, error, message):
    with pytest.raises(error, match=message):
        build()

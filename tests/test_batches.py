"""Batch renormalization, ghost and frozen batch norm: against their definitions, PyTorch, and batch norm in their limits."""

import numpy as np
import pytest

import fastnorm
from fastnorm import reference
from fastnorm.functional.frozen import frozen_batch_norm, frozen_batch_norm_backward
from fastnorm.functional.ghost import ghost_batch_norm, ghost_batch_norm_backward
from fastnorm.functional.renorm import batch_renorm, batch_renorm_backward
from fastnorm.reference import batches as exact

from .batches import LAYOUTS, C, normals, parameters, wide
from .checks import ACTIVATIONS, DTYPES, assert_exact, assert_gradients, assert_like, assert_statistics
from .norms import widen
from .oracle import FORWARD_ROUNDINGS, INPUTS, roundings

# The samples of a ghost batch: they divide 8, leave a smaller one of 2, are all there are, are more than there are.
SIZES = [4, 3, 8, 20]


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

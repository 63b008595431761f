"""Gradients of every norm in every layout, against the definition and central differences of the forward."""

import numpy as np
import pytest

import fastnorm
from fastnorm import reference

from .checks import ACTIVATIONS, DTYPES, assert_exact, assert_gradients, assert_like
from .norms import BY_LAYOUT, NORMS, Norm, affine, one_of_each, widen
from .oracle import GRADIENT_ROUNDINGS, ZOO, gradient_roundings, stride_zero

BATCH = [norm for norm in BY_LAYOUT if norm.name == "batch_norm"]


@pytest.mark.parametrize("parameters", ["neither", "weight", "bias", "both"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("norm", NORMS, ids=str)
def test_equal_the_definition(norm, dtype, parameters, rng):
    shape = norm.sized(20)
    x, dy = (1 + rng.standard_normal((2, *shape))).astype(dtype)
    weight, bias = affine(norm, shape, rng, dtype)
    weight = weight if parameters in ("weight", "both") else None
    bias = bias if parameters in ("bias", "both") else None
    before = x.copy(), dy.copy()
    _, *statistics = norm(x, weight, bias)
    gradients = norm.backward(dy, x, statistics, weight, bias)
    assert_gradients(gradients, norm.exact_backward(dy, x, weight, bias), dtype)
    assert_like(gradients.dx, x)
    assert gradients.dweight.dtype == gradients.dbias.dtype == dtype
    assert np.array_equal(x, before[0]) and np.array_equal(dy, before[1])


# Sixteen segments, ± 1, have their coefficients found together; less than a vector, ± 1, some and a rest. (A group of two
# elements has gradients that cancel.)
@pytest.mark.parametrize("length", [3, 31, 33, 49, 196])
@pytest.mark.parametrize("segments", [1, 2, 15, 16, 17, 33])
@pytest.mark.parametrize("dtype", DTYPES)
def test_segments_of_a_group(dtype, segments, length, rng):
    """Each with a pair of its own: next to each other, every other one of an array, and cut from longer ones."""
    norm = Norm("group_norm", (3, 2 * segments, 1, length), layout="NCHW", num_groups=2)
    wide = (1 + rng.standard_normal((2, 3, 4 * segments, 3, length + 2))).astype(dtype)
    x, dy = wide[:, :, ::2, :1, :length]
    weight, bias = affine(norm, x.shape, rng, dtype)
    exact = norm.exact(x, weight, bias)[0], norm.exact_backward(dy, x, weight, bias)
    for own_x, own_dy in ((x, dy), (x.copy(), dy.copy()), (x.copy(), dy)):
        y, *statistics = norm(own_x, weight, bias)
        assert_exact(y, exact[0], dtype)
        assert_gradients(norm.backward(own_dy, own_x, statistics, weight, bias), exact[1], dtype)


# A slab has 1024 columns, or half of that where there are more than 128 rows and not more than 512.
@pytest.mark.parametrize("rows", [128, 129, 512, 513])
@pytest.mark.parametrize("channels", [511, 513, 1023, 1025])
def test_slabs_of_columns(channels, rows, rng):
    norm = Norm("batch_norm", (rows, channels), layout="NC")
    x, dy = (1 + rng.standard_normal((2, rows, channels))).astype(np.float32)
    weight, bias = affine(norm, x.shape, rng, np.float32)
    y, *statistics = norm(x, weight, bias)
    assert_exact(y, norm.exact(x, weight, bias)[0], np.float32)
    gradients = norm.backward(dy, x, statistics, weight, bias)
    assert_gradients(gradients, norm.exact_backward(dy, x, weight, bias), np.float32)
    mean, var = rng.standard_normal(channels), 0.5 + rng.random(channels)
    exact = (x - mean) / np.sqrt(var + 1e-5) * weight + bias
    assert_exact(fastnorm.batch_norm(x, mean, var, weight, bias, layout="NC"), exact, np.float32)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("norm", one_of_each(NORMS), ids=str)
def test_through_the_activation(norm, dtype, activation, rng):
    shape = norm.sized(40)
    x, dy = rng.standard_normal((2, *shape)).astype(dtype)
    weight, bias = affine(norm, shape, rng, dtype)
    for w, b in ((None, None), (weight, None), (None, bias), (weight, bias)):
        _, *statistics = norm(x, w, b)
        found = norm.backward(dy, x, statistics, w, b, activation=activation)
        assert_gradients(found, norm.exact_backward(dy, x, w, b, activation=activation), dtype)


@pytest.mark.parametrize("activation", [None, *ACTIVATIONS])
@pytest.mark.parametrize("norm", NORMS, ids=str)
def test_random_projection_against_central_differences(norm, activation, rng):
    """d/dt of <dy, f(x + t u)> is <dx, u> for any direction u; the same for weight and bias."""
    shape = norm.sized(12)
    x, dy, u = rng.standard_normal((3, *shape))
    weight, bias = affine(norm, shape, rng, np.float64)
    _, *statistics = norm(x, weight, bias)
    gradients = norm.backward(dy, x, statistics, weight, bias, activation=activation)
    directions = (u, *rng.standard_normal((2, *weight.shape)))
    step = 1e-5  # truncation and cancellation are then both near 1e-10 of the result
    for which, direction in enumerate(directions):
        ahead, behind = (
            [p + sign * step * direction if i == which else p for i, p in enumerate((x, weight, bias))]
            for sign in (1, -1)
        )
        projected = np.vdot(gradients[which], direction)
        for forward in (norm, norm.exact):
            y, y_behind = (forward(*parameters, activation=activation)[0] for parameters in (ahead, behind))
            difference = np.vdot(dy, y - y_behind) / (2 * step)
            scale = np.linalg.norm(gradients[which]) * np.linalg.norm(direction)
            assert abs(projected - difference) <= 1e-7 * max(scale, 1), gradients._fields[which]


@pytest.mark.parametrize("norm", one_of_each(NORMS), ids=str)
def test_needs(norm, rng):
    x, dy = rng.standard_normal((2, *norm.shape)).astype(np.float32)
    weight, bias = affine(norm, x.shape, rng, np.float32)
    _, *statistics = norm(x, weight, bias)
    for activation in (None, "silu"):
        exact = norm.exact_backward(dy, x, weight, bias, activation=activation)
        for needs in np.ndindex(2, 2, 2):
            needed = tuple(bool(need) for need in needs)
            found = norm.backward(dy, x, statistics, weight, bias, activation=activation, needs=needed)
            assert type(found).__name__ == "Gradients"
            assert found._fields == ("dx", "dweight", "dbias")
            for gradient, wanted, need in zip(found, exact, needed, strict=True):
                if need:
                    assert gradient_roundings(gradient, wanted, np.float32) <= GRADIENT_ROUNDINGS
                else:
                    assert gradient is None


@pytest.mark.parametrize("norm", one_of_each(NORMS), ids=str)
def test_parameter_gradients_have_the_dtype_of_weight(norm, rng):
    x, dy = rng.standard_normal((2, *norm.shape)).astype(np.float32)
    weight, bias = affine(norm, x.shape, rng, np.float64)
    _, *statistics = norm(x, weight, bias)
    found = norm.backward(dy, x, statistics, weight, bias)
    assert found.dx.dtype == np.float32
    assert found.dweight.dtype == found.dbias.dtype == np.float64
    assert_gradients(found, norm.exact_backward(dy, x, weight, bias), np.float32)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("norm", BATCH, ids=str)
def test_batch_norm_in_inference_takes_its_statistics_for_constants(norm, dtype, rng):
    x, dy = rng.standard_normal((2, *norm.shape)).astype(dtype)
    weight, bias = affine(norm, x.shape, rng, dtype)
    running = {
        "running_mean": rng.standard_normal(6).astype(dtype),
        "running_var": rng.uniform(1, 2, 6).astype(dtype),
    }
    _, *statistics = norm(x, weight, bias, training=False, **running)
    for activation in (None, "gelu"):
        found = norm.backward(dy, x, statistics, weight, bias, training=False, activation=activation)
        options = {"training": False, "activation": activation}
        exact = reference.batch_norm_backward(
            widen(dy), widen(x), *statistics, widen(weight), widen(bias), layout=norm.layout, **options
        )
        assert_gradients(found, exact, dtype)


# -- Memory ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("memory", ZOO)
@pytest.mark.parametrize("norm", one_of_each(NORMS), ids=str)
def test_dy_and_x_of_any_memory(norm, memory, rng):
    x, dy = rng.standard_normal((2, *norm.shape)).astype(np.float32)
    weight, bias = affine(norm, x.shape, rng, np.float32)
    exact = norm.exact_backward(dy, x, weight, bias)
    _, *statistics = norm(x, weight, bias)
    zoo_x, zoo_dy = ZOO[memory](x), ZOO[memory](dy)
    for some_dy, some_x in ((zoo_dy, x), (dy, zoo_x), (zoo_dy, zoo_x)):
        found = norm.backward(some_dy, some_x, statistics, weight, bias)
        assert_like(found.dx.astype(some_x.dtype, copy=False), some_x)
        assert_gradients(found, exact, np.float32)


@pytest.mark.parametrize("norm", NORMS, ids=str)
def test_broadcast_dy(norm, rng):
    """The gradient of a sum or a mean comes as one value with stride 0."""
    x = rng.standard_normal(norm.shape).astype(np.float32)
    weight, bias = affine(norm, x.shape, rng, np.float32)
    _, *statistics = norm(x, weight, bias)
    random = rng.standard_normal(x.shape).astype(np.float32)
    for dy in [
        np.broadcast_to(np.float32(2), x.shape),
        *(stride_zero(random, axis) for axis in range(x.ndim)),
    ]:
        found = norm.backward(dy, x, statistics, weight, bias)
        exact = norm.exact_backward(dy, x, weight, bias)
        scale = np.abs(dy).max() * statistics[-1].max()  # dx of a constant dy cancels to nothing
        assert np.abs(found.dx - exact[0]).max() <= GRADIENT_ROUNDINGS * np.finfo(np.float32).eps * scale * 2
        for gradient, wanted in zip(found[1:], exact[1:], strict=True):
            sums = np.abs(dy).sum() / gradient.size  # as does its dweight, a sum of x_hat
            assert np.abs(gradient - wanted).max() <= GRADIENT_ROUNDINGS * np.finfo(np.float32).eps * max(
                sums, 1
            )


@pytest.mark.parametrize("norm", NORMS, ids=str)
def test_dx_is_orthogonal_to_what_the_norm_removes(norm, rng):
    """Scaling x (at eps 0) or, but for RMS norm, shifting it changes nothing: dx is orthogonal to both."""
    shape = norm.sized(50)
    x, dy = rng.standard_normal((2, *shape))
    _, *statistics = norm(x, eps=0)
    dx = norm.backward(dy, x, statistics).dx
    scale = np.linalg.norm(dx) * np.sqrt(x.size)
    assert abs(np.vdot(dx, x)) <= 1e-13 * scale
    if norm.name != "rms_norm":
        assert abs(dx.sum()) <= 1e-13 * scale

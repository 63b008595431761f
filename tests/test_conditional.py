"""Norms with a scale and shift for each sample, against their definitions."""

import numpy as np
import pytest

import fastnorm
from fastnorm import reference

from .checks import DTYPES
from .family import (
    LAYOUTS,
    WITH_POSITIONS,
    assert_all_gradients,
    assert_forward,
    check_differences,
    in_layout,
    wide,
)
from .oracle import ZOO

# Rows and columns; several samples a task, several tasks a sample; a pair along the run and across it; one sample.
_AXES = [
    ((5, 7), -1),
    ((4, 3, 6), -1),
    ((4, 3, 6), 1),
    ((4, 3, 5, 6), 1),
    ((4, 3, 5, 6), (1, 3)),
    ((4, 3, 5, 6), (-2, -1)),
    ((3, 700, 33), -1),
    ((70, 20, 48), -1),
    ((2, 3, 40000), -1),
    ((6, 130, 300), 1),
    ((1, 30, 6), -1),
]


def _pair(shape, rng, dtype):
    return rng.uniform(0.5, 2, shape).astype(dtype), rng.uniform(-1, 1, shape).astype(dtype)


def _check(name, x, dy, pair, options):
    y, *statistics = getattr(fastnorm, name)(x, *pair, **options, return_stats=True)
    exact = getattr(reference, name)(wide(x), *map(wide, pair), **options)
    assert_forward(y, exact[0], x)
    for found, wanted in zip(statistics, exact[1:], strict=True):
        np.testing.assert_allclose(found, wanted.astype(np.float64), rtol=4e-7, atol=4e-7)
    found = getattr(fastnorm, f"{name}_backward")(dy, x, *statistics, *pair, **options)
    wanted = getattr(reference, f"{name}_backward")(
        wide(dy), wide(x), *exact[1:], *map(wide, pair), **options
    )
    assert_all_gradients(found, wanted, x.dtype)


@pytest.mark.parametrize("activation", [None, "silu"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("shape", "axis"), _AXES, ids=str)
def test_adaptive_layer_norm(shape, axis, dtype, activation, rng):
    axes = sorted(a % len(shape) for a in ((axis,) if isinstance(axis, int) else axis))
    pair = _pair((shape[0], *(shape[a] for a in axes)), rng, dtype)
    x, dy = (1 + rng.standard_normal((2, *shape))).astype(dtype)
    _check("adaptive_layer_norm", x, dy, pair, {"axis": axis, "activation": activation})


@pytest.mark.parametrize("activation", [None, "tanh"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", WITH_POSITIONS)
def test_adaptive_instance_norm(layout, dtype, activation, rng):
    x, dy = (1 + rng.standard_normal((2, *in_layout(layout)))).astype(dtype)
    _check(
        "adaptive_instance_norm",
        x,
        dy,
        _pair((4, 6), rng, dtype),
        {"layout": layout, "activation": activation},
    )


@pytest.mark.parametrize("activation", [None, "gelu"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_film(layout, dtype, activation, rng):
    x, dy = rng.standard_normal((2, *in_layout(layout))).astype(dtype)
    pair, options = _pair((4, 6), rng, dtype), {"layout": layout, "activation": activation}
    assert_forward(
        fastnorm.film(x, *pair, **options), reference.film(wide(x), *map(wide, pair), **options), x
    )
    found = fastnorm.film_backward(dy, x, *pair, **options)
    wanted = reference.film_backward(wide(dy), wide(x), *map(wide, pair), **options)
    assert_all_gradients(found, wanted, dtype)


@pytest.mark.parametrize("memory", ZOO)
def test_any_memory_order(memory, rng):
    x, dy = rng.standard_normal((2, 4, 5, 6)).astype(np.float32)
    for name, shape, options in (
        ("adaptive_layer_norm", (4, 6), {"axis": 2}),
        ("adaptive_layer_norm", (4, 5), {"axis": 1}),
        ("adaptive_instance_norm", (4, 5), {}),
    ):
        pair = _pair(shape, rng, np.float32)
        y, *statistics = getattr(fastnorm, name)(
            ZOO[memory](x), *map(ZOO[memory], pair), **options, return_stats=True
        )
        exact = getattr(reference, name)(x, *pair, **options)
        np.testing.assert_allclose(y, exact[0], rtol=0, atol=4 * 1.2e-7 * max(1, np.abs(exact[0]).max()))
        found = getattr(fastnorm, f"{name}_backward")(
            ZOO[memory](dy), ZOO[memory](x), *statistics, *pair, **options
        )
        wanted = getattr(reference, f"{name}_backward")(dy, x, *exact[1:], *pair, **options)
        assert_all_gradients(found, wanted, np.float32)


def test_same_bits_with_any_number_of_threads_and_alone(rng):
    x, dy = rng.standard_normal((2, 5, 400, 96)).astype(np.float32)
    pair = _pair((5, 96), rng, np.float32)

    def everything(x, dy, *pair):
        y, mean, rstd = fastnorm.adaptive_layer_norm(x, *pair, return_stats=True)
        return y, *fastnorm.adaptive_layer_norm_backward(dy, x, mean, rstd, *pair)

    together = everything(x, dy, *pair)
    with fastnorm.num_threads(1):
        serially = everything(x, dy, *pair)
    alone = [everything(*(a[i : i + 1] for a in (x, dy, *pair))) for i in range(5)]
    for k, result in enumerate(together):
        assert np.array_equal(result, serially[k])
        if (
            k < 2
        ):  # y and dx; the order of a parameter's sum is that of the tasks, which one sample cuts otherwise
            assert np.array_equal(result, np.concatenate([one[k] for one in alone]))


def test_definitions_against_differences(rng):
    x, dy = rng.standard_normal((2, 3, 4, 5))
    pair = tuple(rng.standard_normal((2, 3, 5)))

    def loss(x, weight, bias):
        return float((reference.adaptive_layer_norm(x, weight, bias, activation="silu")[0] * dy).sum())

    _, mean, rstd = reference.adaptive_layer_norm(x)
    gradients = reference.adaptive_layer_norm_backward(dy, x, mean, rstd, *pair, activation="silu")
    check_differences(loss, gradients, (x, *pair), rng)


def test_errors(rng):
    x = rng.standard_normal((4, 5, 6)).astype(np.float32)
    with pytest.raises(ValueError, match=r"axis is \(0, 2\), expected axes of a sample"):
        fastnorm.adaptive_layer_norm(x, axis=(0, 2))
    with pytest.raises(ValueError, match=r"weight has shape \(6,\), expected \(4, 6\): one for each sample"):
        fastnorm.adaptive_layer_norm(x, np.ones(6, np.float32))
    with pytest.raises(ValueError, match=r"bias has shape \(5,\), expected \(4, 5\): one for each statistic"):
        fastnorm.adaptive_instance_norm(x, None, np.ones(5, np.float32))
    with pytest.raises(ValueError, match="no element to average over"):
        fastnorm.adaptive_instance_norm(x[..., :0])


def test_layers(rng):
    x, dy = rng.standard_normal((2, 4, 5, 6)).astype(np.float32)
    pair = _pair((4, 5), rng, np.float32)
    layer = fastnorm.AdaptiveInstanceNorm(5)
    assert np.array_equal(layer(x, *pair), fastnorm.adaptive_instance_norm(x, *pair))
    dx = layer.backward(dy)
    _, mean, rstd = fastnorm.adaptive_instance_norm(x, return_stats=True)
    expected = fastnorm.adaptive_instance_norm_backward(dy, x, mean, rstd, *pair)
    assert np.array_equal(dx, expected.dx)
    assert np.array_equal(layer.grads["weight"], expected.dweight)
    layer.eval()(x, *pair)
    with pytest.raises(RuntimeError, match="no call in training"):
        layer.backward(dy)
    with pytest.raises(ValueError, match=r"expected \(5,\)"):
        layer(x[:, :3])
    adaptive = fastnorm.AdaptiveLayerNorm(6)
    adaptive(x)
    adaptive.backward(dy)
    assert adaptive.grads == {} and repr(adaptive) == "AdaptiveLayerNorm((6,), eps=1e-05)"
    film = fastnorm.FiLM(5)
    assert np.array_equal(film(x, *pair), fastnorm.film(x, *pair))
    film.backward(dy)
    assert film.grads["bias"].shape == (4, 5)

"""Norms that divide and do not centre, against their definitions; simple layer norm is layer norm."""

import pickle

import numpy as np
import pytest

import fastnorm
from fastnorm import reference

from .checks import DTYPES
from .family import (
    LAYOUTS,
    assert_all_gradients,
    assert_forward,
    check_differences,
    in_layout,
    wide,
)
from .oracle import ZOO

# Rows, columns, both with parameters that go with the run or across it, several chunks, and one row alone.
_AXES = [
    ((5, 7), -1),
    ((5, 7), 0),
    ((3, 4, 5), (0, 2)),
    ((3, 4, 5, 6), 1),
    ((40, 33), -1),
    ((40000, 3), 0),
    ((1, 70000), -1),
    ((8, 300, 200), 1),
    ((7, 1), 1),
]


def _affine(shape, rng, dtype):
    return rng.uniform(0.5, 2, shape).astype(dtype), rng.uniform(-1, 1, shape).astype(dtype)


def _check(name, x, dy, pair, options, of_backward, activation):
    forward, backward = getattr(fastnorm, name), getattr(fastnorm, f"{name}_backward")
    parameters = dict(zip(("weight", "bias"), pair, strict=True)) | {"activation": activation}
    exact_parameters = {k: wide(v) if isinstance(v, np.ndarray) else v for k, v in parameters.items()}
    y, mean, rstd = forward(x, **parameters, **options, return_stats=True)
    exact = getattr(reference, name)(wide(x), **exact_parameters, **options)
    assert_forward(y, exact[0], x)
    found = backward(dy, x, mean, rstd, **parameters, **of_backward)
    wanted = getattr(reference, f"{name}_backward")
    assert_all_gradients(
        found, wanted(wide(dy), wide(x), *exact[1:], **exact_parameters, **of_backward), x.dtype
    )


@pytest.mark.parametrize("activation", [None, "silu"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("shape", "axis"), _AXES, ids=str)
def test_layer_norm(shape, axis, dtype, activation, rng):
    axes = (axis,) if isinstance(axis, int) else axis
    pair = _affine(tuple(shape[a] for a in axes), rng, dtype)
    x, dy = (3 + rng.standard_normal((2, *shape))).astype(dtype)
    options = {"axis": axis}
    _check("variance_only_layer_norm", x, dy, pair, options, options, activation)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_batch_norm(layout, dtype, training, rng):
    x, dy = (3 + rng.standard_normal((2, *in_layout(layout)))).astype(dtype)
    # A copy, for training moves it.
    running = rng.uniform(0.5, 2, 6)
    options = {"layout": layout, "training": training, "running_var": running.copy()}
    of_backward = {"layout": layout, "training": training}
    _check("variance_only_batch_norm", x, dy, _affine(6, rng, dtype), options, of_backward, "tanh")


@pytest.mark.parametrize("memory", ZOO)
@pytest.mark.parametrize("axis", [0, 1, (1, 2)])
def test_any_memory_order(axis, memory, rng):
    x, dy = (3 + rng.standard_normal((2, 4, 5, 6))).astype(np.float32)
    y, mean, rstd = fastnorm.variance_only_layer_norm(ZOO[memory](x), axis=axis, return_stats=True)
    exact = reference.variance_only_layer_norm(x, axis=axis)
    np.testing.assert_allclose(y, exact[0], rtol=0, atol=4 * 1.2e-7 * max(1, np.abs(exact[0]).max()))
    found = fastnorm.variance_only_layer_norm_backward(ZOO[memory](dy), ZOO[memory](x), mean, rstd, axis=axis)
    assert_all_gradients(
        found, reference.variance_only_layer_norm_backward(dy, x, *exact[1:], axis=axis), np.float32
    )


@pytest.mark.parametrize("activation", [None, "gelu"])
def test_definition_against_differences(activation, rng):
    x, dy = rng.standard_normal((2, 5, 7))
    pair = tuple(rng.standard_normal((2, 7)))

    def loss(x, weight, bias):
        return float(
            (reference.variance_only_layer_norm(x, weight, bias, activation=activation)[0] * dy).sum()
        )

    _, mean, rstd = reference.variance_only_layer_norm(x)
    gradients = reference.variance_only_layer_norm_backward(dy, x, mean, rstd, *pair, activation=activation)
    check_differences(loss, gradients, (x, *pair), rng)


def test_scale_is_all_that_is_lost(rng):
    x = rng.standard_normal((6, 9))
    np.testing.assert_allclose(
        fastnorm.variance_only_layer_norm(x, eps=0), x / x.std(-1, keepdims=True), rtol=1e-14
    )
    y, *_ = fastnorm.simple_layer_norm(x, return_stats=True)
    assert np.array_equal(y, fastnorm.layer_norm(x))


def test_simple_layer_norm_is_layer_norm_without_parameters(rng):
    x, dy = rng.standard_normal((2, 6, 9)).astype(np.float32)
    y, mean, rstd = fastnorm.simple_layer_norm(x, axis=0, activation="relu", return_stats=True)
    assert np.array_equal(y, fastnorm.layer_norm(x, axis=0, activation="relu"))
    dx = fastnorm.simple_layer_norm_backward(dy, x, mean, rstd, axis=0, activation="relu")
    assert np.array_equal(dx, fastnorm.layer_norm_backward(dy, x, mean, rstd, axis=0, activation="relu").dx)


def test_running_variance_moves_as_batch_norm_moves_it(rng):
    x = rng.standard_normal((8, 6, 5)).astype(np.float32)
    mine, theirs, mean = np.ones(6, np.float32), np.ones(6, np.float32), np.zeros(6, np.float32)
    fastnorm.variance_only_batch_norm(x, mine, training=True, momentum=0.3)
    fastnorm.batch_norm(x, mean, theirs, training=True, momentum=0.3)
    assert np.array_equal(mine, theirs)
    before = mine.copy()
    with pytest.raises(ValueError, match=r"weight has shape \(5,\), expected \(6,\)"):
        fastnorm.variance_only_batch_norm(x, mine, np.ones(5, np.float32), training=True)
    assert np.array_equal(mine, before)


def test_layers(rng):
    x, dy = rng.standard_normal((2, 8, 6)).astype(np.float32)
    layer = fastnorm.VarianceOnlyLayerNorm(6)
    y = layer(x)
    assert np.array_equal(y, fastnorm.variance_only_layer_norm(x, layer.weight, layer.bias))
    dx = layer.backward(dy)
    _, mean, rstd = fastnorm.variance_only_layer_norm(x, return_stats=True)
    expected = fastnorm.variance_only_layer_norm_backward(dy, x, mean, rstd, layer.weight)
    assert np.array_equal(dx, expected.dx) and np.array_equal(layer.grads["weight"], expected.dweight)
    batch = fastnorm.VarianceOnlyBatchNorm(6)
    batch(x)
    batch.backward(dy)
    assert set(batch.state_dict()) == {"weight", "bias", "running_var", "num_batches_tracked"}
    assert batch.num_batches_tracked == 1
    again = pickle.loads(pickle.dumps(batch)).eval()
    assert np.array_equal(again(x), batch.eval()(x))
    simple = fastnorm.SimpleLayerNorm(6)
    assert not simple.parameters() and repr(simple) == "SimpleLayerNorm((6,), eps=1e-05)"
    simple(x)
    simple.backward(dy)
    with pytest.raises(ValueError, match=r"expected \(6,\)"):
        simple(x[:, :5])

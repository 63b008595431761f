"""Switchable norm against its definition, against the norms it switches between, and in its layer."""

import pickle

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
from .oracle import GRADIENT_ROUNDINGS, ZOO, roundings

# All but none of the softmax on one of the three statistics: e^-80 is below any rounding.
ONLY = {
    name: np.where(np.arange(3) == i, 80, 0).astype(np.float32) for i, name in enumerate(("in", "ln", "bn"))
}


def _parameters(rng, dtype):
    """Logits, weight, bias, and running statistics."""
    logits = rng.standard_normal((2, 3)).astype(dtype)
    return [*logits, rng.uniform(0.5, 2, 6).astype(dtype), rng.uniform(-1, 1, 6).astype(dtype)], [
        rng.uniform(-1, 1, 6).astype(dtype),
        rng.uniform(0.5, 2, 6).astype(dtype),
    ]


def _check_logits(found, exact, dy, y, dtype):
    """A logit's gradient is a sum over all of y that may cancel: its scale is that of the summands, at most Σ |dy·y|."""
    scale = float(np.abs(dy.astype(np.float64) * y).sum())
    for gradient, wanted in zip(found, exact, strict=True):
        assert np.abs(gradient - wanted).max() <= GRADIENT_ROUNDINGS * np.finfo(dtype).eps * scale


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("activation", [None, "silu"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_against_the_definition(layout, dtype, activation, training, rng):
    x, dy = (1 + rng.standard_normal((2, *in_layout(layout)))).astype(dtype)
    parameters, running = _parameters(rng, dtype)
    options = {"layout": layout, "activation": activation, "training": training}
    moved = [r.copy() for r in running]
    y, mean, var = fastnorm.switchable_norm(x, *parameters, *moved, **options, return_stats=True)
    exact = reference.switchable_norm(wide(x), *map(wide, parameters + running), **options)
    assert_forward(y, exact[0], x)
    assert mean.shape == var.shape == (4, 6)
    assert all(np.array_equal(a, b) for a, b in zip(moved, running, strict=True)) != training
    found = fastnorm.switchable_norm_backward(dy, x, mean, var, *parameters, *running, **options)
    wanted = reference.switchable_norm_backward(
        wide(dy), wide(x), *map(wide, parameters + running), **options
    )
    assert_all_gradients(found[:1] + found[3:], wanted[:1] + wanted[3:], dtype)
    _check_logits(found[1:3], wanted[1:3], dy, y, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", ["NCL", "NLC"])
def test_a_large_mean_costs_no_digits(layout, dtype, rng):
    # Subtracted again it is exact, so that the definition sees the same numbers about 0.
    z = (np.round(rng.standard_normal(in_layout(layout)) * 64) / 64).astype(dtype)
    x = z + dtype(1e5)
    logits = rng.standard_normal((2, 3)).astype(dtype)
    y = fastnorm.switchable_norm(x, *logits, layout=layout)
    exact = reference.switchable_norm(wide(z), *map(wide, logits), layout=layout)[0]
    assert_forward(y, exact, x)


@pytest.mark.parametrize("layout", WITH_POSITIONS)
def test_switches_between_three_norms(layout, rng):
    x = rng.standard_normal(in_layout(layout)).astype(np.float32)
    of_sample = tuple(i for i, letter in enumerate(layout) if letter != "N")
    others = {
        "in": fastnorm.instance_norm(x, layout=layout),
        "ln": fastnorm.layer_norm(x, axis=of_sample),
        "bn": fastnorm.batch_norm(x, training=True, layout=layout),
    }
    for name, expected in others.items():
        y = fastnorm.switchable_norm(x, ONLY[name], ONLY[name], layout=layout)
        assert roundings(y, expected, np.float32) <= 4  # each is within 2 of the exact result


@pytest.mark.parametrize("memory", ZOO)
def test_any_memory_order(memory, rng):
    x, dy = rng.standard_normal((2, *in_layout("NCHW"))).astype(np.float32)
    parameters, _ = _parameters(rng, np.float32)
    given = [ZOO[memory](p) for p in parameters]
    y, mean, var = fastnorm.switchable_norm(ZOO[memory](x), *given, return_stats=True)
    exact = reference.switchable_norm(x, *parameters)[0]
    assert roundings(y, exact, np.float32) <= 4
    found = fastnorm.switchable_norm_backward(ZOO[memory](dy), ZOO[memory](x), mean, var, *given)
    wanted = reference.switchable_norm_backward(dy, x, *parameters)
    assert_all_gradients(found[:1] + found[3:], wanted[:1] + wanted[3:], np.float32)


@pytest.mark.parametrize("training", [True, False])
def test_definition_against_differences(training, rng):
    x, dy = rng.standard_normal((2, 3, 6, 5))
    parameters, running = _parameters(rng, np.float64)

    def loss(*arguments):
        y, *_ = reference.switchable_norm(*arguments, *running, training=training, activation="tanh")
        return float((y * dy).sum())

    gradients = reference.switchable_norm_backward(
        dy, x, *parameters, *running, training=training, activation="tanh"
    )
    check_differences(loss, gradients, (x, *parameters), rng)


def test_running_statistics_are_batch_norms(rng):
    x = rng.standard_normal((4, 6, 9)).astype(np.float32)
    mine, theirs = (np.zeros(6), np.ones(6)), (np.zeros(6), np.ones(6))
    fastnorm.switchable_norm(x, None, None, None, None, *mine, training=True, momentum=0.3)
    fastnorm.batch_norm(x, *theirs, training=True, momentum=0.3)
    for a, b in zip(mine, theirs, strict=True):
        # Both round the sums of a block to float32, in another order.
        np.testing.assert_allclose(a, b, rtol=0, atol=4 * 1.2e-7)


def test_out_may_be_x_and_16_bits_are_rounded_once(rng):
    x = rng.standard_normal((4, 6, 9)).astype(np.float16)
    wider = fastnorm.switchable_norm(x.astype(np.float32), training=True)
    y = fastnorm.switchable_norm(x, training=True, out=x)
    assert y is x and np.array_equal(y, wider.astype(np.float16))


def test_errors_come_before_anything_is_written(rng):
    x = rng.standard_normal((4, 6, 9)).astype(np.float32)
    running = np.zeros(6), np.ones(6)
    with pytest.raises(ValueError, match=r"mean_weight has shape \(2,\), expected \(3,\): one for each of"):
        fastnorm.switchable_norm(x, np.ones(2), None, None, None, *running, training=True)
    with pytest.raises(ValueError, match="activation is 'elu'"):
        fastnorm.switchable_norm(x, None, None, None, None, *running, training=True, activation="elu")
    with pytest.raises(ValueError, match="no element to average over"):
        fastnorm.switchable_norm(x[..., :0])
    assert not running[0].any() and np.all(running[1] == 1)
    assert fastnorm.switchable_norm(x[:0]).shape == (0, 6, 9)


def test_layer(rng):
    x, dy = rng.standard_normal((2, 4, 6, 9)).astype(np.float32)
    layer = fastnorm.SwitchableNorm(6)
    y = layer(x)
    assert np.array_equal(y, fastnorm.switchable_norm(x, training=True))
    dx = layer.backward(dy)
    assert set(layer.grads) == {"mean_weight", "var_weight", "weight", "bias"}
    _, mean, var = fastnorm.switchable_norm(x, return_stats=True)
    expected = fastnorm.switchable_norm_backward(dy, x, mean, var)
    assert np.array_equal(dx, expected.dx)
    again = fastnorm.SwitchableNorm(6)
    again.load_state_dict(layer.state_dict())
    copied = pickle.loads(pickle.dumps(layer))
    assert np.array_equal(again.eval()(x), layer.eval()(x)) and np.array_equal(copied.eval()(x), again(x))
    with pytest.raises(RuntimeError, match="no call in training"):
        layer.backward(dy)

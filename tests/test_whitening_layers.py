"""Decorrelated batch norm and IterNorm as layers: running statistics, gradients, state, and how they show themselves."""

import copy
import pickle

import numpy as np
import pytest

from fastnorm.functional.whitening import iter_norm, iter_norm_backward
from fastnorm.layers.whitening import DecorrelatedBatchNorm, IterNorm

from .whitening import NAMES, Whitening

KINDS = {"decorrelated_batch_norm": DecorrelatedBatchNorm, "iter_norm": IterNorm}


@pytest.fixture(params=NAMES)
def norm(request):
    return Whitening(request.param, "NHWC")


def _trained(norm, rng, **options):
    layer = KINDS[norm.name](6, 2, layout="NHWC", **options)
    for parameter in layer.parameters().values():
        parameter[...] = rng.uniform(0.5, 2, 6)
    for _ in range(3):
        layer(3 + 2 * rng.standard_normal(norm.shape).astype(np.float32))
    return layer


def test_training_is_the_function(norm, rng):
    layer = _trained(norm, rng)
    x, dy = rng.standard_normal((2, *norm.shape)).astype(np.float32)
    running = layer.running_mean.copy(), layer.running_whitening.copy()
    pair = layer.weight, layer.bias
    y, *statistics = norm(x, *running, *pair, training=True)
    assert np.array_equal(layer(x), y)
    assert np.array_equal(layer.running_mean, running[0])
    assert np.array_equal(layer.running_whitening, running[1])
    wanted = norm.backward(dy, x, statistics, *pair)
    assert np.array_equal(layer.backward(dy), wanted.dx)
    assert np.array_equal(layer.grads["weight"], wanted.dweight)
    assert np.array_equal(layer.grads["bias"], wanted.dbias)


def test_evaluation_goes_by_running_statistics(norm, rng):
    layer = _trained(norm, rng)
    before = layer.state_dict()
    x = rng.standard_normal(norm.shape).astype(np.float32)
    wanted, *_ = norm(x, layer.running_mean, layer.running_whitening, layer.weight, layer.bias)
    assert np.array_equal(layer.eval()(x), wanted)
    assert all(np.array_equal(before[key], value) for key, value in layer.state_dict().items())
    with pytest.raises(RuntimeError, match="backward has no call in training"):
        layer.backward(x)


def test_options_reach_the_function(rng):
    x, dy = rng.standard_normal((2, 40, 6))
    layer = IterNorm(6, 3, 2, 0.125, affine=False, track_running_stats=False, dtype=np.float64)
    options = {"num_iterations": 2, "eps": 0.125}
    y, *statistics = iter_norm(x, 3, return_stats=True, **options)
    assert np.array_equal(layer(x), y)
    assert np.array_equal(layer.backward(dy), iter_norm_backward(dy, x, 3, *statistics, **options).dx)
    assert layer.grads == {} and layer.state_dict() == {}
    assert np.array_equal(layer.eval()(x), y), "without running statistics the batch's"


def test_cumulative_average(norm, rng):
    layer = KINDS[norm.name](6, 2, momentum=None, layout="NHWC")
    batches = 5 + rng.standard_normal((4, *norm.shape)).astype(np.float32)
    for x in batches:
        layer(x)
    layer(batches[0][:0])
    assert layer.num_batches_tracked == 4
    statistics = [norm(x)[1:3] for x in batches]
    assert np.allclose(layer.running_mean, np.mean([mean for mean, _ in statistics], 0), rtol=1e-6)
    assert np.allclose(layer.running_whitening, np.mean([w for _, w in statistics], 0), rtol=1e-5, atol=1e-6)


def test_state(norm, rng):
    layer, other = _trained(norm, rng), KINDS[norm.name](6, 2, layout="NHWC")
    state = layer.state_dict()
    assert list(state) == ["weight", "bias", "running_mean", "running_whitening", "num_batches_tracked"]
    assert state["running_whitening"].shape == (2, 3, 3)
    other.load_state_dict(state)
    x = rng.standard_normal(norm.shape).astype(np.float32)
    wanted = layer.eval()(x)
    for twin in (other.eval(), pickle.loads(pickle.dumps(layer)), copy.deepcopy(layer)):
        assert np.array_equal(twin(x), wanted)
    with pytest.raises(ValueError, match="size mismatch for running_whitening"):
        other.load_state_dict(KINDS[norm.name](6, 3).state_dict())


@pytest.mark.parametrize(
    ("layer", "shown"),
    [
        (DecorrelatedBatchNorm(8),
         "DecorrelatedBatchNorm(8, num_groups=1, eps=1e-05, momentum=0.1, affine=True, bias=True, "
         "track_running_stats=True)"),
        (IterNorm(8, 2, 7, affine=False, layout="NC"), 
         "IterNorm(8, num_groups=2, num_iterations=7, eps=1e-05, momentum=0.1, affine=False, bias=False, "
         "track_running_stats=True, layout='NC')"),
    ],
    ids=["decorrelated", "iter"],
)  # fmt: skip
def test_repr(layer, shown):
    assert repr(layer) == shown


@pytest.mark.parametrize("kind", KINDS.values())
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((6, 4), r"num_features \(6\) must be divisible by num_groups \(4\)"),
        ((6, 0), "num_groups is 0, expected at least 1"),
        ((6.0, 1), "num_features is 6.0, expected an int"),
    ],
)
def test_wrong_sizes(kind, arguments, message):
    with pytest.raises((TypeError, ValueError), match=message):
        kind(*arguments)


def test_wrong_iterations():
    with pytest.raises(ValueError, match="num_iterations is 0, expected at least 1"):
        IterNorm(6, num_iterations=0)

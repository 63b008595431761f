"""Running statistics of batch and instance norm: how training updates them, how inference uses them."""

import numpy as np
import pytest

import fastnorm

from .norms import BY_LAYOUT, affine
from .oracle import FORWARD_ROUNDINGS, roundings

BATCH = [norm for norm in BY_LAYOUT if norm.name == "batch_norm"]
INSTANCE = [norm for norm in BY_LAYOUT if norm.name == "instance_norm"]
DTYPES = [np.float32, np.float64]


def _running(norm, rng, dtype):
    (channels,) = norm.affine_shape(norm.shape)
    return rng.standard_normal(channels).astype(dtype), rng.uniform(0.5, 2, channels).astype(dtype)


def _batch_moments(norm, x):
    """Mean and unbiased variance of each channel, averaged over the samples where they are a sample's."""
    mean = x.mean(norm.axes, dtype=np.longdouble)
    var = x.var(norm.axes, dtype=np.longdouble, ddof=1)
    if norm.name == "instance_norm":
        sample = int(norm.layout.index("N") > norm.layout.index("C"))
        mean, var = mean.mean(sample), var.mean(sample)
    return mean, var


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("norm", BATCH + INSTANCE, ids=str)
def test_training_moves_running_statistics(norm, dtype, rng):
    x = (5 + 3 * rng.standard_normal(norm.shape)).astype(dtype)
    mean, var = _batch_moments(norm, x)
    for momentum in (0.1, 0, 1, 0.25):
        running_mean, running_var = _running(norm, rng, dtype)
        pairs = ((running_mean, mean), (running_var, var))
        expected = [(1 - momentum) * old + momentum * new for old, new in pairs]
        y, *_ = norm(x, running_mean=running_mean, running_var=running_var, momentum=momentum)
        assert np.array_equal(y, norm(x)[0]), "training normalizes by the batch, whatever has been running"
        assert running_mean.dtype == running_var.dtype == dtype
        assert roundings(running_mean, expected[0], dtype) <= FORWARD_ROUNDINGS
        assert roundings(running_var, expected[1], dtype) <= FORWARD_ROUNDINGS


@pytest.mark.parametrize("norm", BATCH + INSTANCE, ids=str)
def test_strided_running_statistics_are_updated_in_place(norm, rng):
    x = rng.standard_normal(norm.shape).astype(np.float32)
    running_mean, running_var = _running(norm, rng, np.float32)
    store = np.full((running_mean.size, 4), 7, np.float32)
    store[:, 1], store[:, 2] = running_mean, running_var
    norm(x, running_mean=running_mean, running_var=running_var)
    norm(x, running_mean=store[:, 1], running_var=store[:, 2])
    assert np.array_equal(store[:, 1], running_mean)
    assert np.array_equal(store[:, 2], running_var)
    assert (store[:, [0, 3]] == 7).all()


@pytest.mark.parametrize("norm", BATCH + INSTANCE, ids=str)
def test_running_statistics_in_the_other_byte_order_are_updated_in_place(norm, rng):
    x = rng.standard_normal(norm.shape).astype(np.float32)
    running_mean, running_var = _running(norm, rng, np.float32)
    other_mean, other_var = (s.astype(s.dtype.newbyteorder()) for s in (running_mean, running_var))
    norm(x, running_mean=running_mean, running_var=running_var)
    norm(x, running_mean=other_mean, running_var=other_var)
    assert np.array_equal(other_mean, running_mean)
    assert np.array_equal(other_var, running_var)


@pytest.mark.parametrize("norm", BATCH + INSTANCE, ids=str)
def test_float64_running_statistics_of_float32_input(norm, rng):
    """The average over many steps may be kept wider than the activations."""
    x = (1000 + rng.standard_normal(norm.shape)).astype(np.float32)
    mean, var = _batch_moments(norm, x)
    running_mean, running_var = np.zeros(mean.size), np.ones(mean.size)
    norm(x, running_mean=running_mean, running_var=running_var, momentum=1)
    assert np.allclose(running_mean, mean, rtol=1e-9)
    assert np.allclose(running_var, var, rtol=1e-6)


@pytest.mark.parametrize("parameters", [False, True], ids=["plain", "weight and bias"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("norm", BATCH + INSTANCE, ids=str)
def test_inference_uses_running_statistics(norm, dtype, parameters, rng):
    x = rng.standard_normal(norm.shape).astype(dtype)
    weight, bias = affine(norm, x.shape, rng, dtype) if parameters else (None, None)
    running_mean, running_var = _running(norm, rng, dtype)
    before = running_mean.copy(), running_var.copy()
    switch = {"training": False} if norm.name == "batch_norm" else {"use_input_stats": False}
    y, *_ = norm(x, weight, bias, running_mean=running_mean, running_var=running_var, **switch)
    exact, *_ = norm.exact(x, weight, bias, running_mean=running_mean, running_var=running_var, **switch)
    assert roundings(y, exact, dtype) <= FORWARD_ROUNDINGS
    assert np.array_equal(running_mean, before[0]) and np.array_equal(running_var, before[1])


@pytest.mark.parametrize("norm", BATCH, ids=str)
def test_statistics_of_inference(norm, rng):
    x = rng.standard_normal(norm.shape).astype(np.float32)
    running_mean, running_var = _running(norm, rng, np.float32)
    _, mean, rstd = norm(x, running_mean=running_mean, running_var=running_var, training=False, eps=0.5)
    assert np.array_equal(mean, running_mean) and mean.dtype == np.float64
    assert np.allclose(rstd, 1 / np.sqrt(running_var.astype(np.float64) + 0.5), rtol=1e-12)
    assert not np.shares_memory(mean, running_mean)


@pytest.mark.parametrize("norm", BATCH, ids=str)
def test_inference_far_from_zero(norm, rng):
    """Where the mean is large against the spread, it has to be subtracted before anything is multiplied."""
    x = (1e5 + rng.standard_normal(norm.shape)).astype(np.float32)
    running_mean, running_var = np.full(6, 1e5, np.float32), np.full(6, 1.5, np.float32)
    running = {"running_mean": running_mean, "running_var": running_var, "training": False}
    weight, bias = affine(norm, x.shape, rng, np.float32)
    y, *_ = norm(x, weight, bias, **running)
    exact, *_ = norm.exact(x, weight, bias, **running)
    assert roundings(y, exact, np.float32) <= FORWARD_ROUNDINGS


@pytest.mark.parametrize("norm", BATCH, ids=str)
def test_inference_of_one_value_and_of_none(norm, rng):
    running_mean, running_var = _running(norm, rng, np.float32)
    for samples in (0, 1):
        x = np.ones([{"N": samples, "C": 6}.get(letter, 1) for letter in norm.layout], np.float32)
        y, *_ = norm(x, running_mean=running_mean, running_var=running_var, training=False)
        exact, *_ = norm.exact(x, running_mean=running_mean, running_var=running_var, training=False)
        assert y.shape == x.shape
        assert roundings(y, exact, np.float32) <= FORWARD_ROUNDINGS


def test_no_running_statistics_means_the_batch(rng):
    x = rng.standard_normal((5, 3, 7)).astype(np.float32)
    assert np.array_equal(fastnorm.batch_norm(x), fastnorm.batch_norm(x, training=True))


@pytest.mark.parametrize("norm", BATCH + INSTANCE, ids=str)
def test_an_empty_batch_leaves_running_statistics(norm, rng):
    shape = [0 if letter == "N" else length for letter, length in zip(norm.layout, norm.shape, strict=True)]
    x = np.empty(shape, np.float32)
    running_mean, running_var = _running(norm, rng, np.float32)
    before = running_mean.copy(), running_var.copy()
    y, *_ = norm(x, running_mean=running_mean, running_var=running_var)
    assert y.shape == x.shape
    assert np.array_equal(running_mean, before[0]) and np.array_equal(running_var, before[1])

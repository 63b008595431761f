"""Channels that are joined into one run, a column for each position, as those of small images are: same results."""

import tracemalloc

import numpy as np
import pytest

import fastnorm
from fastnorm import _layout
from fastnorm.functional._flow import recall as _recall

from . import test_backward, test_batches, test_layout
from .checks import DTYPES, assert_exact, assert_gradients, assert_statistics
from .norms import BY_LAYOUT, Norm, affine
from .oracle import INPUTS

BATCH = [norm for norm in BY_LAYOUT if norm.name == "batch_norm"]


@pytest.fixture(autouse=True)
def join(monkeypatch):
    """From now on channels are joined wherever they can be, whatever that costs."""
    for name in ("_ELEMENTS", "_SAMPLES", "_SAMPLES_BACKWARD"):
        monkeypatch.setattr(_layout, name, 1)
    for name in ("_FEW", "_COLUMNS"):
        monkeypatch.setattr(_layout, name, 1 << 40)
    monkeypatch.setattr(_recall, "_calls", {})
    _layout.plan.cache_clear()
    yield
    _layout.plan.cache_clear()  # of what is no plan of the next test's


def apart(monkeypatch):
    """From now on none is."""
    monkeypatch.setattr(_layout, "_COLUMNS", 0)
    monkeypatch.setattr(_recall, "_calls", {})
    _layout.plan.cache_clear()


def is_joined():
    """Whether the last call was of channels that are joined."""
    return list(_recall._calls.values())[-1].plan.joined


@pytest.mark.parametrize("activation", [None, "silu"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("norm", BATCH, ids=str)
def test_equal_the_definition(norm, dtype, activation, rng):
    """Known or not: a second call is recalled."""
    x, dy = (1 + rng.standard_normal((2, *norm.shape))).astype(dtype)
    pair = affine(norm, x.shape, rng, dtype)
    expected, *exact_statistics = norm.exact(x, *pair, activation=activation)
    gradients = norm.exact_backward(dy, x, *pair, activation=activation)
    for _ in range(2):
        y, *statistics = norm(x, *pair, activation=activation)
        assert_exact(y, expected, dtype)
        assert_statistics(statistics, exact_statistics, dtype)
        found = norm.backward(dy, x, statistics, *pair, activation=activation)
        assert_gradients(found, gradients, dtype)


@pytest.mark.parametrize("name", INPUTS)
def test_the_accuracy_table(name, rng):
    norm = Norm("batch_norm", (40, 6, 5, 6), layout="NCHW")
    x = INPUTS[name](norm.shape, (0, 2, 3), rng, np.float32)
    y, *_ = norm(x)
    assert is_joined()
    assert_exact(y, norm.exact(x)[0], np.float32)


@pytest.mark.parametrize("positions", [2, 16, 49, 1025])
@pytest.mark.parametrize("channels", [3, 21, 513])
def test_slabs_of_channels(channels, positions, rng):
    """A slab has some channels whole, of about 1024 columns in all, or one."""
    norm = Norm("batch_norm", (9, channels, positions), layout="NCL")
    x, dy = (1 + rng.standard_normal((2, *norm.shape))).astype(np.float32)
    pair = affine(norm, x.shape, rng, np.float32)
    y, *statistics = norm(x, *pair)
    assert is_joined()
    assert_exact(y, norm.exact(x, *pair)[0], np.float32)
    gradients = norm.backward(dy, x, statistics, *pair)
    assert is_joined()
    assert_gradients(gradients, norm.exact_backward(dy, x, *pair), np.float32)


def test_running_statistics_and_parameters_of_another_dtype(rng):
    x = rng.standard_normal((9, 5, 4, 2), dtype=np.float32)
    weight, bias, mean = rng.standard_normal((3, 5))
    running = mean.astype(np.float32), np.ones(5, np.float32)
    own = [a.copy() for a in running]
    for _ in range(2):
        y = fastnorm.batch_norm(x, *running, weight, bias, training=True)
        assert is_joined()
    moments = x.mean((0, 2, 3), dtype=np.float64), x.var((0, 2, 3), dtype=np.float64, ddof=1)
    for found, before, new in zip(running, own, moments, strict=True):
        np.testing.assert_allclose(found, 0.81 * before + 0.19 * new, rtol=1e-6, atol=1e-7)
    assert_exact(y, Norm("batch_norm", x.shape, layout="NCHW").exact(x, weight, bias)[0], np.float32)


@pytest.mark.parametrize("activation", [None, "silu"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_given_statistics_have_the_bits_of_channels_apart(dtype, activation, monkeypatch, rng):
    """So a sample alone, whose channels are not joined, has those that it has in a batch."""
    x, dy = rng.standard_normal((2, 9, 70, 3, 3)).astype(dtype)
    weight, bias = rng.standard_normal((2, 70)).astype(dtype)
    mean = rng.standard_normal(70)
    arguments = dy, x, mean, 0.5 + mean**2, weight, bias
    found = fastnorm.batch_norm_backward(*arguments, training=False, activation=activation).dx
    assert is_joined()
    apart(monkeypatch)
    expected = fastnorm.batch_norm_backward(*arguments, training=False, activation=activation).dx
    assert not is_joined()
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("threads", [1, 2])
def test_the_same_bits_on_any_number_of_threads(threads, rng):
    x, dy = rng.standard_normal((2, 64, 300, 7), dtype=np.float32)
    weight, bias = rng.standard_normal((2, 300), dtype=np.float32)

    def everything():
        y, *statistics = fastnorm.batch_norm(x, None, None, weight, bias, training=True, return_stats=True)
        return y, *statistics, *fastnorm.batch_norm_backward(dy, x, *statistics, weight, bias)

    expected = everything()
    assert is_joined()
    with fastnorm.num_threads(min(threads, fastnorm.get_num_threads())):
        for _ in range(3):
            assert all(map(np.array_equal, everything(), expected))


def test_small_images_are_joined(monkeypatch, rng):
    """By default: those of 4×4 and less, of eight samples or, backward, 64."""
    monkeypatch.undo()
    _layout.plan.cache_clear()
    norm = Norm("batch_norm", (64, 16, 4, 4), layout="NCHW")
    x, dy = rng.standard_normal((2, *norm.shape), dtype=np.float32)
    _, *statistics = norm(x)
    assert is_joined()
    norm.backward(dy, x, statistics)
    assert is_joined()
    norm(x.reshape(64, 4, 8, 8))
    assert not is_joined()
    apart(monkeypatch)  # what the columns take besides is limited
    norm(x)
    assert not is_joined()


def test_what_the_most_columns_take_besides(monkeypatch, rng):
    """Below 8 MiB, as the contract says: of two samples here, for it is the columns that count."""
    monkeypatch.setattr(_layout, "_COLUMNS", 1 << 17)
    x = rng.standard_normal((2, 8192, 4, 4))
    y, pair = np.empty_like(x), rng.standard_normal((2, 8192))
    _, *statistics = fastnorm.batch_norm(x, None, None, *pair, training=True, return_stats=True)
    calls = (
        lambda: fastnorm.batch_norm(x, None, None, *pair, training=True, out=y),
        lambda: fastnorm.batch_norm_backward(x, x, *statistics, *pair),
    )
    for call in calls:
        call()
        assert is_joined()
        tracemalloc.start()
        call()
        taken = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert taken < 8 << 20


# Others that share batch norm's answers, and arrays of any memory: their own tests again.
test_renorm = test_batches.test_renorm_equals_its_definition
test_x_of_any_memory = test_layout.test_every_order_of_the_letters
test_dy_of_any_memory = test_backward.test_dy_and_x_of_any_memory

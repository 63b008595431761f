"""Channels that are joined into one run, a column for each position, as those of small images are: same results."""

import tracemalloc

import numpy as np
import pytest

import fastnorm
from fastnorm import _layout
from fastnorm.functional import _recall

from . import test_backward, test_batches, test_layout
from .checks import DTYPES, assert_exact, assert_gradients, assert_statistics
from .norms import BY_LAYOUT, Norm, affine, widen
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
    _forget_plans()
    yield
    _forget_plans()  # of what is no plan of the next test's


def apart(monkeypatch):
    """From now on none is."""
    monkeypatch.setattr(_layout, "_COLUMNS", 0)
    monkeypatch.setattr(_recall, "_calls", {})
    _forget_plans()


def _forget_plans():
    for planned in (_layout.plan, _layout.joins_few):
        planned.cache_clear()


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
@pytest.mark.parametrize("layout", ["NCL", "NCHW", "CNL", "NHWC"])
def test_inference(layout, dtype, activation, rng):
    """Statistics of x's dtype and of float64; recalled or not."""
    x = rng.standard_normal([{"N": 3, "C": 70, "H": 2, "W": 3, "L": 5}[letter] for letter in layout]).astype(
        dtype
    )
    mean, weight, bias = rng.standard_normal((3, 70))
    variance = 0.5 + mean**2
    along = [-1 if letter == "C" else 1 for letter in layout]
    for kept in (dtype, np.float64):
        given = [a.astype(kept) for a in (mean, variance)] + [a.astype(dtype) for a in (weight, bias)]
        m, v, w, b = (widen(a).reshape(along) for a in given)
        z = (widen(x) - m) / np.sqrt(v + 1e-5) * w + b
        for _ in range(2):
            y = fastnorm.batch_norm(x, *given, layout=layout, activation=activation)
            assert is_joined() == (layout != "NHWC")
            assert_exact(y, z if activation is None else z / (1 + np.exp(-z)), dtype)


@pytest.mark.parametrize("activation", [None, "silu"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_given_statistics_have_the_bits_of_channels_apart(dtype, activation, monkeypatch, rng):
    """So a sample alone, whose channels are not joined, has those that it has in a batch."""
    x, dy = rng.standard_normal((2, 9, 70, 3, 3)).astype(dtype)
    mean, weight, bias = rng.standard_normal((3, 70)).astype(dtype)
    statistics, pair = (mean.astype(np.float64), 0.5 + mean.astype(np.float64) ** 2), (weight, bias)

    def both():
        y = fastnorm.batch_norm(x, mean, 0.5 + mean**2, *pair, activation=activation)
        return y, fastnorm.batch_norm_backward(
            dy, x, *statistics, *pair, training=False, activation=activation
        ).dx

    found = both()
    assert is_joined()
    apart(monkeypatch)
    assert all(map(np.array_equal, found, both()))
    assert not is_joined()


@pytest.mark.parametrize("threads", [1, 2])
def test_the_same_bits_on_any_number_of_threads(threads, rng):
    x, dy = rng.standard_normal((2, 64, 300, 7), dtype=np.float32)
    weight, bias = rng.standard_normal((2, 300), dtype=np.float32)

    def everything():
        y, *statistics = fastnorm.batch_norm(x, None, None, weight, bias, training=True, return_stats=True)
        gradients = fastnorm.batch_norm_backward(dy, x, *statistics, weight, bias)
        return y, *statistics, *gradients, fastnorm.batch_norm(x, bias, weight**2, weight, bias)

    expected = everything()
    assert is_joined()
    with fastnorm.num_threads(min(threads, fastnorm.get_num_threads())):
        for _ in range(3):
            assert all(map(np.array_equal, everything(), expected))


def test_small_images_are_joined(monkeypatch, rng):
    """By default: those of 4×4 and less, of eight samples or, backward and in inference, 64."""
    monkeypatch.undo()
    _forget_plans()
    norm = Norm("batch_norm", (64, 16, 4, 4), layout="NCHW")
    x, dy = rng.standard_normal((2, *norm.shape), dtype=np.float32)
    _, *statistics = norm(x)
    assert is_joined()
    norm.backward(dy, x, statistics)
    assert is_joined()
    for count in (63, 64):
        fastnorm.batch_norm(x[:count], *np.ones((2, 16), np.float32))
        assert is_joined() == (count == 64)
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
        lambda: fastnorm.batch_norm(x, *abs(pair), *pair, out=y),
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

"""16-bit floats: the float32 result, correctly rounded, from every function in every layout."""

import ml_dtypes
import numpy as np
import pytest

import fastnorm

from .checks import ACTIVATIONS, assert_like
from .norms import NORMS, affine, one_of_each, widen
from .oracle import FORWARD_ROUNDINGS, GRADIENT_ROUNDINGS, ZOO

HALVES = [np.float16, ml_dtypes.bfloat16]
EPS = {np.float16: 2.0**-10, ml_dtypes.bfloat16: 2.0**-7}


def _bound(roundings, dtype):
    """Half a unit of the last place for the rounding, and what the float32 result may be off itself."""
    return EPS[dtype] / 2 + roundings * 2.0**-23


def assert_rounded(found, exact, dtype):
    """y within the bound of its definition, for a number of 1 or more in units of its own."""
    error = np.abs(widen(found) - exact) / np.maximum(1, np.abs(exact))
    assert np.max(error, initial=0) <= _bound(FORWARD_ROUNDINGS, dtype)


def assert_gradient_rounded(found, exact, dtype):
    assert np.abs(widen(found) - exact).max() <= _bound(GRADIENT_ROUNDINGS, dtype) * np.abs(exact).max()


def assert_same(found, float32):
    """Bitwise what a float32 call gives, rounded by NumPy or ml_dtypes."""
    assert np.array_equal(found.view(np.int16), float32.astype(found.dtype).view(np.int16))


def _single(*arrays):
    return [a if a is None else a.astype(np.float32) for a in arrays]


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("norm", NORMS, ids=str)
def test_forward_equals_the_definition(norm, dtype, rng):
    x = (3 + 2 * rng.standard_normal(norm.shape)).astype(dtype)
    weight, bias = affine(norm, x.shape, rng, dtype)
    for w, b in ((None, None), (weight, bias), (weight.astype(np.float32), None)):
        y, *statistics = norm(x, w, b)
        assert_like(y, x)
        assert_rounded(y, norm.exact(x, w, b)[0], dtype)
        single, *of_single = norm(*_single(x, w, b))
        assert_same(y, single)
        for found, wanted in zip(statistics, of_single, strict=True):
            assert found.dtype == np.float64 and np.array_equal(found, wanted)


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("norm", NORMS, ids=str)
def test_backward_equals_the_definition(norm, dtype, rng):
    x, dy = rng.standard_normal((2, *norm.sized(40))).astype(dtype)  # dx of two elements cancels
    weight, bias = affine(norm, x.shape, rng, dtype)
    _, *statistics = norm(x, weight, bias)
    found = norm.backward(dy, x, statistics, weight, bias)
    assert_like(found.dx, x)
    assert found.dweight.dtype == found.dbias.dtype == dtype
    for gradient, exact in zip(found, norm.exact_backward(dy, x, weight, bias), strict=True):
        assert_gradient_rounded(gradient, exact, dtype)
    single = norm.backward(*_single(dy, x), statistics, *_single(weight, bias))
    for gradient, wanted in zip(found, single, strict=True):
        assert_same(gradient, wanted)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("norm", one_of_each(NORMS), ids=str)
def test_activations_are_not_rounded_twice(norm, dtype, activation, rng):
    x, dy = rng.standard_normal((2, *norm.sized(40))).astype(dtype)
    weight, bias = affine(norm, x.shape, rng, dtype)
    y, *statistics = norm(x, weight, bias, activation=activation)
    assert_rounded(y, norm.exact(x, weight, bias, activation=activation)[0], dtype)
    assert_same(y, norm(*_single(x, weight, bias), activation=activation)[0])
    found = norm.backward(dy, x, statistics, weight, bias, activation=activation)
    single = norm.backward(*_single(dy, x), statistics, *_single(weight, bias), activation=activation)
    for gradient, wanted in zip(found, single, strict=True):
        assert_same(gradient, wanted)


@pytest.mark.parametrize("order", ZOO)
@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("norm", one_of_each(NORMS), ids=str)
def test_memory_in_any_order(norm, dtype, order, rng):
    x, dy = (3 + rng.standard_normal((2, *norm.shape))).astype(dtype)
    weight, bias = affine(norm, x.shape, rng, dtype)
    y, *statistics = norm(x, weight, bias)
    gradients = norm.backward(dy, x, statistics, weight, bias)
    if order == "byte-swapped" and dtype is ml_dtypes.bfloat16:
        pytest.skip("ml_dtypes knows no other byte order")
    laid, laid_dy, w, b = (ZOO[order](a) for a in (x, dy, weight, bias))
    found, *of_laid = norm(laid, w, b)
    assert_rounded(found, widen(y), dtype)
    for gradient, wanted in zip(norm.backward(laid_dy, laid, of_laid, w, b), gradients, strict=True):
        # Another layout adds up in another order: a float32 rounding apart, so that some round to the neighbour.
        assert np.abs(widen(gradient) - widen(wanted)).max() <= EPS[dtype] * np.abs(widen(wanted)).max()


# -- Sizes: a vector ± 1, a block ± 1, chunks, past the cache ------------------------------------------------------

SIZES = [1, 15, 16, 17, 31, 32, 33, 63, 65, 255, 257, 2047, 2048, 2049, 40_001]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", HALVES)
def test_sizes_of_rows_and_of_columns(dtype, size, rng):
    for shape, axis in (((3, size), 1), ((size, 3), 0), ((5, size), 0)):
        x, dy = rng.standard_normal((2, *shape)).astype(dtype)
        y, mean, rstd = fastnorm.layer_norm(x, axis=axis, return_stats=True)
        dx = fastnorm.layer_norm_backward(dy, x, mean, rstd, axis=axis).dx
        single, single_dy = _single(x, dy)
        assert_same(y, fastnorm.layer_norm(single, axis=axis))
        assert_same(dx, fastnorm.layer_norm_backward(single_dy, single, mean, rstd, axis=axis).dx)


@pytest.mark.parametrize("layout", ["NCL", "NLC"])
@pytest.mark.parametrize("dtype", HALVES)
def test_results_past_the_cache(dtype, layout, rng):
    """Larger than 16 MiB, and of odd sizes: lines of 64 bytes are stored whole, what is left in part."""
    x = rng.standard_normal((3, 1601, 1801), np.float32).astype(dtype)
    assert x.nbytes > 16 << 20
    y, mean, rstd = fastnorm.instance_norm(x, layout=layout, return_stats=True)
    dx = fastnorm.instance_norm_backward(x, x, mean, rstd, layout=layout).dx
    single = x.astype(np.float32)
    assert_same(y, fastnorm.instance_norm(single, layout=layout))
    assert_same(dx, fastnorm.instance_norm_backward(single, single, mean, rstd, layout=layout).dx)


# -- Conversions: every number there is ----------------------------------------------------------------------------


def _every_number(dtype):
    numbers = np.arange(65536, dtype=np.uint16).view(dtype)
    with np.errstate(invalid="ignore"):  # of signalling NaNs
        return numbers[np.isfinite(widen(numbers))]


@pytest.mark.parametrize("dtype", HALVES)
def test_parameters_of_any_size_as_in_float32(dtype, rng):
    """Sizes about a vector of float32; an infinity, and numbers of which some are subnormal in float16."""
    for size in (1, 31, 32, 33, 64, 97):
        x = rng.standard_normal((3, size)).astype(dtype)
        weight, bias = (rng.standard_normal(size) * 10.0 ** rng.integers(-7, 4, size) for _ in range(2))
        pair = weight.astype(dtype), bias.astype(dtype)
        pair[1][0] = np.inf
        expected = fastnorm.layer_norm(*_single(x, *pair))
        for _ in range(2):  # checked, then recalled
            assert_same(fastnorm.layer_norm(x, *pair), expected)


@pytest.mark.parametrize("layout", ["NCL", "NLC"])
@pytest.mark.parametrize("dtype", HALVES)
def test_every_number_is_read_and_written(dtype, layout):
    """Inference with mean 0, variance 1 and eps 0 is the identity, subnormals and zeros included."""
    x = _every_number(dtype)[None, None] if layout == "NCL" else _every_number(dtype)[None, :, None]
    y = fastnorm.batch_norm(x, np.zeros(1, np.float32), np.ones(1, np.float32), eps=0, layout=layout)
    assert np.array_equal(widen(y), widen(x))


@pytest.mark.parametrize("dtype", HALVES)
def test_every_number_is_rounded_to_even(dtype):
    """Scaled by numbers just above and below 1 and by a half and a third, results lie on and beside all halfway points."""
    x = _every_number(dtype)[None]
    for weight in (0.5, 1 / 3, 1 + EPS[dtype] / 2, 1 - EPS[dtype] / 4, 1 + EPS[dtype] / 2 + 2.0**-23):
        w = np.full(x.shape[1], weight, np.float32)
        with np.errstate(over="ignore"):
            exact = (x.astype(np.float32) * w).astype(dtype)
        y = fastnorm.batch_norm(x, np.zeros_like(w), np.ones_like(w), w, eps=0, layout="NC")
        assert np.array_equal(widen(y), widen(exact))


@pytest.mark.parametrize("dtype", HALVES)
def test_nan_and_infinities_stay_in_their_row(dtype, rng):
    x = rng.standard_normal((5, 100)).astype(dtype)
    clean = fastnorm.layer_norm(x)
    for value in (np.nan, np.inf, -np.inf):
        spoilt = x.copy()
        spoilt[2, 7] = value
        y = fastnorm.layer_norm(spoilt)
        assert np.isnan(widen(y[2])).all()
        assert np.array_equal(widen(np.delete(y, 2, 0)), widen(np.delete(clean, 2, 0)))
    mean, var = np.zeros(100, np.float32), np.ones(100, np.float32)
    y = fastnorm.batch_norm(spoilt, mean, var, eps=0)
    assert widen(y[2, 7]) == -np.inf
    spoilt[2, 7] = np.nan
    assert np.isnan(widen(fastnorm.batch_norm(spoilt, mean, var, eps=0)[2, 7]))


@pytest.mark.parametrize("dtype", HALVES)
def test_the_largest_numbers_overflow_no_statistic(dtype, rng):
    largest = 65504.0 if dtype is np.float16 else 1e38  # their differences are float32 numbers
    x = (largest * rng.uniform(-1, 1, (4, 1000))).astype(dtype)
    for axis in (0, 1):
        y, mean, rstd = fastnorm.layer_norm(x, axis=axis, return_stats=True)
        wide = widen(x)
        exact = (wide - wide.mean(axis, keepdims=True)) / wide.std(axis, keepdims=True)
        assert_rounded(y, exact, dtype)
        assert np.isfinite(mean).all() and (rstd > 0).all()


# -- Beside the values ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", ["add_layer_norm", "add_rms_norm"])
@pytest.mark.parametrize("dtype", HALVES)
def test_residuals(function, dtype, rng):
    """The sum is rounded when it is stored, and the norm is that of the sum as it is stored."""
    for shape in ((5, 100), (2, 70_000)):
        x, residual = rng.standard_normal((2, *shape)).astype(dtype)
        y, total = getattr(fastnorm, function)(x, residual)
        assert_same(total, x.astype(np.float32) + residual.astype(np.float32))
        assert_same(y, getattr(fastnorm, function.removeprefix("add_"))(total.astype(np.float32)))


@pytest.mark.parametrize("dtype", HALVES)
def test_running_statistics_are_wide(dtype, rng):
    x = rng.standard_normal((6, 5, 40)).astype(dtype)
    layer = fastnorm.BatchNorm(5, dtype=dtype)
    twin = fastnorm.BatchNorm(5)
    y = layer(x)
    assert layer.weight.dtype == dtype and layer.running_mean.dtype == np.float32
    assert_same(y, twin(x.astype(np.float32)))
    assert np.array_equal(layer.running_var, twin.running_var)
    assert_same(layer.backward(x), twin.backward(x.astype(np.float32)))
    assert layer.grads["weight"].dtype == dtype
    assert_same(layer.eval()(x), twin.eval()(x.astype(np.float32)))
    copy = fastnorm.BatchNorm(5, dtype=dtype)
    copy.load_state_dict(layer.state_dict())
    assert np.array_equal(copy.running_mean, layer.running_mean)


@pytest.mark.parametrize("dtype", HALVES)
def test_gradients_of_no_weight_are_float32(dtype, rng):
    x = rng.standard_normal((4, 6)).astype(dtype)
    _, mean, rstd = fastnorm.layer_norm(x, return_stats=True)
    for weight, expected in (
        (None, np.float32),
        (np.ones(6, np.float32), np.float32),
        (np.ones(6, dtype), dtype),
    ):
        for _ in range(2):  # the second call is recalled
            dx, dweight, dbias = fastnorm.layer_norm_backward(x, x, mean, rstd, weight)
            assert (dx.dtype, dweight.dtype, dbias.dtype) == (dtype, expected, expected)


@pytest.mark.parametrize("dtype", HALVES)
def test_results_go_where_they_are_wanted(dtype, rng):
    x = rng.standard_normal((4, 600)).astype(dtype)
    weight = rng.standard_normal(600).astype(dtype)
    y = fastnorm.layer_norm(x, weight)
    out = np.empty_like(x)
    assert fastnorm.layer_norm(x, weight, out=out) is out and np.array_equal(widen(out), widen(y))
    fastnorm.layer_norm(x, weight, out=x)
    assert np.array_equal(widen(x), widen(y))


@pytest.mark.parametrize("dtype", HALVES)
def test_the_same_bits_on_any_number_of_threads(dtype, rng):
    x, dy = rng.standard_normal((2, 70, 300, 12)).astype(dtype)
    found = []
    for threads in range(1, fastnorm.get_num_threads() + 1):
        with fastnorm.num_threads(threads):
            y, mean, rstd = fastnorm.group_norm(x, 4, layout="NLC", return_stats=True)
            found.append((y, *fastnorm.group_norm_backward(dy, x, 4, mean, rstd, layout="NLC")))
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            assert a.tobytes() == b.tobytes()


def test_the_epsilon_of_the_dtype():
    for dtype in HALVES:
        x = np.full((1, 4), 1e-3, dtype)
        expected = widen(x) / np.sqrt(widen(x) ** 2 + EPS[dtype])
        assert_rounded(fastnorm.rms_norm(x, eps=None), expected, dtype)


@pytest.mark.parametrize(
    "dtype", [np.int16, np.uint16, np.complex64, ml_dtypes.float8_e4m3fn, ml_dtypes.int4]
)
def test_others_are_refused_with_the_names_of_these(dtype):
    with pytest.raises(TypeError, match=r"bfloat16 \(pip install 'fastnorm\[bfloat16\]'\)"):
        fastnorm.layer_norm(np.ones((2, 3)).astype(dtype))

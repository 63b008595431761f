"""Signed bytes and scales: what float32 results and NumPy's rounding make of them, to the bit."""

import ml_dtypes
import numpy as np
import pytest

import fastnorm
from fastnorm import reference

from .norms import widen
from .oracle import ZOO

NORMS = ["layer_norm", "rms_norm"]
DTYPES = [np.float32, np.float64, np.float16, ml_dtypes.bfloat16]
# A vector ± 1, a block ± 1 (2048), and rows of several chunks.
SHAPES = [(3, 1), (3, 31), (70, 33), (5, 768), (5, 2047), (5, 2048), (5, 2049), (2, 40_001), (1, 1_100_000)]


def both(name, x, *parameters, **options):
    """(q, scale), and the float32 result that they stand for."""
    wide = [a if a is None or a.dtype == np.float64 else a.astype(np.float32) for a in (x, *parameters)]
    y = getattr(fastnorm, name)(*wide, **{k: v for k, v in options.items() if k != "scale"})
    return *getattr(fastnorm, f"{name}_int8")(x, *parameters, **options), y


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NORMS)
def test_bytes_are_those_of_the_rounded_quotients(name, dtype, shape, rng):
    x = (1 + rng.standard_normal(shape)).astype(dtype)
    weight, bias = rng.uniform(-1, 1, (2, shape[1])).astype(dtype)
    for parameters in ((), (weight,), (weight, bias)):
        q, scale, y = both(name, x, *parameters)
        assert q.dtype == np.int8 and q.shape == x.shape and scale.dtype == np.float32
        expected = (np.abs(y).max(1) / 127).astype(np.float32)
        assert np.array_equal(scale, expected)
        with np.errstate(invalid="ignore"):  # layer norm of single elements is 0, and so is its scale
            quotient = np.nan_to_num(y / expected[:, None].astype(y.dtype))
        assert np.array_equal(q, np.rint(quotient).astype(np.int8))
        q, scale, y = both(name, x, *parameters, scale=0.013)
        assert np.array_equal(scale, np.full(len(x), np.float32(0.013)))
        held = np.clip(np.rint(y / y.dtype.type(np.float32(0.013))), -128, 127)
        assert np.array_equal(q, held.astype(np.int8))


@pytest.mark.parametrize("name", NORMS)
def test_they_stand_for_the_norm(name, rng):
    """To half a step, and what y and the scale were rounded by: 4 roundings and 1, of values up to 127 steps."""
    x = rng.standard_normal((50, 700), np.float32)
    q, scale = getattr(fastnorm, f"{name}_int8")(x)
    exact = getattr(reference, name)(widen(x))[0]
    steps = np.abs(widen(q) - exact / scale[:, None])
    assert steps.max() <= 0.5 + 127 * 6 * 2.0**-24 * 2


@pytest.mark.parametrize("axis", [-1, 0, 1, (0, 2), (-2, -1), (2, 0, 1)], ids=str)
@pytest.mark.parametrize("name", NORMS)
def test_any_axes(name, axis, rng):
    x = rng.standard_normal((3, 4, 5), np.float32)
    axes = tuple(sorted(a % 3 for a in (axis if isinstance(axis, tuple) else (axis,))))
    weight = rng.uniform(0.5, 1, [x.shape[a] for a in axes]).astype(np.float32)
    q, scale, y = both(name, x, weight, axis=axis)
    most = np.abs(y).max(axes, keepdims=True)
    assert scale.shape == most.squeeze(axes).shape
    assert np.allclose(scale, most.squeeze(axes) / 127, rtol=1e-6)
    assert np.abs(q - y / (most / 127)).max() <= 0.51


@pytest.mark.parametrize("order", ZOO)
@pytest.mark.parametrize("name", NORMS)
def test_memory_in_any_order(name, order, rng):
    x = rng.standard_normal((6, 40), np.float32)
    weight = rng.standard_normal(40, np.float32)
    plain, laid = (
        getattr(fastnorm, f"{name}_int8")(a, w) for a, w in ((x, weight), (ZOO[order](x), ZOO[order](weight)))
    )
    for found, expected in zip(laid, plain, strict=True):
        assert np.array_equal(found, expected)


def test_the_same_bytes_on_any_number_of_threads(rng):
    x = rng.standard_normal((300, 500), np.float32)
    found = []
    for threads in range(1, fastnorm.get_num_threads() + 1):
        with fastnorm.num_threads(threads):
            found.append(fastnorm.layer_norm_int8(x))
    for q, scale in found:
        assert np.array_equal(q, found[0][0]) and np.array_equal(scale, found[0][1])
    q, scale = fastnorm.layer_norm_int8(x[7:8])
    assert np.array_equal(q[0], found[0][0][7]) and scale[0] == found[0][1][7]


def test_zeros_halves_and_what_is_no_number():
    q, scale = fastnorm.rms_norm_int8(np.zeros((2, 5), np.float32))
    assert not q.any() and not scale.any()
    x = np.float32([[0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 126.5, 127.5, -129, 200]])
    one = np.float32(1) / fastnorm.rms_norm(x, return_stats=True)[1].astype(np.float32)
    q, _ = fastnorm.rms_norm_int8(x, np.full(10, one, np.float32), scale=1.0)
    y = fastnorm.rms_norm(x, np.full(10, one, np.float32))
    assert np.array_equal(q, np.clip(np.rint(y), -128, 127).astype(np.int8))
    x = np.ones((3, 40), np.float32)
    x[1, 3] = np.nan
    q, scale = fastnorm.layer_norm_int8(x + np.arange(40, dtype=np.float32))
    clean, clean_scale = fastnorm.layer_norm_int8(
        np.ones((1, 40), np.float32) + np.arange(40, dtype=np.float32)
    )
    assert not q[1].any()
    for row in (0, 2):
        assert np.array_equal(q[row], clean[0]) and scale[row] == clean_scale[0]


def test_an_empty_batch():
    q, scale = fastnorm.rms_norm_int8(np.empty((0, 7), np.float32))
    assert q.shape == (0, 7) and q.dtype == np.int8 and scale.shape == (0,)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"scale": 0}, ValueError, "scale is 0, expected a positive finite number"),
        ({"scale": -1.0}, ValueError, "scale is -1.0"),
        ({"scale": float("nan")}, ValueError, "scale is nan"),
        ({"scale": "small"}, TypeError, "scale is 'small', expected a number"),
        ({"axis": 2}, ValueError, "axis is 2"),
        ({"eps": None}, TypeError, "eps is None"),
        ({"weight": np.ones(3)}, ValueError, r"weight has shape \(3,\), expected \(4,\)"),
    ],
)
def test_wrong_arguments_are_named(options, error, message):
    with pytest.raises(error, match=message):
        fastnorm.layer_norm_int8(np.ones((2, 4), np.float32), **options)

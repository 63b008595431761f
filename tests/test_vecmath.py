"""Elementary functions and activations against textbook formulas in long double; that they are vectorised."""

import importlib.util
import math
import platform
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest

from fastnorm.kernels.activations import CODES, activate, activate_backward
from fastnorm.kernels.language import vecmath
from fastnorm.kernels.language.memory import pointer
from tests.oracle import roundings

_ROOT = Path(__file__).parent.parent

Wide = np.longdouble
Array = Any  # NumPy's types do not follow long double through arithmetic.
_ONE_OVER_ROOT_PI = 1 / np.sqrt(np.arccos(Wide(-1)))
_SQRT_2_OVER_PI = np.sqrt(Wide(2)) * _ONE_OVER_ROOT_PI

_wider_than_float64 = pytest.mark.skipif(
    np.finfo(Wide).eps == np.finfo(np.float64).eps, reason="long double has no more digits here than float64"
)
both_dtypes = pytest.mark.parametrize(
    "dtype", [np.float32, pytest.param(np.float64, marks=_wider_than_float64)]
)


# Exact values
# ------------


def _upper_tail(a: Array) -> Array:
    """erfc(a/√2)/2 for a >= 0: math.erfc of the float64 nearest to a/√2, and its slope from there."""
    exact = a / np.sqrt(Wide(2))
    near = exact.astype(np.float64)
    value = np.fromiter(map(math.erfc, near), np.float64, near.size)
    return value / 2 - _ONE_OVER_ROOT_PI * np.exp(-((Wide(1) * near) ** 2)) * (exact - near)


def _normal_cdf(x: Array) -> Array:
    """From the upper tail on both sides: it is small, and so is math.erfc's own rounding."""
    tail = _upper_tail(np.abs(x))
    return np.where(x < 0, tail, 1 - tail)


def _normal_density(x: Array) -> Array:
    return _SQRT_2_OVER_PI / 2 * np.exp(-x * x / 2)


def _sigmoid(x: Array) -> Array:
    with np.errstate(over="ignore"):
        return 1 / (1 + np.exp(-x))


def _tanh_argument(x: Array) -> Array:
    return _SQRT_2_OVER_PI * (x + Wide("0.044715") * x**3)


def _tanh_slope(x: Array) -> Array:
    with np.errstate(over="ignore"):
        return 1 / np.cosh(x) ** 2


def _gelu_tanh_slope(x: Array) -> Array:
    u = _tanh_argument(x)
    du = _SQRT_2_OVER_PI * (1 + 3 * Wide("0.044715") * x * x)
    return (1 + np.tanh(u)) / 2 + x / 2 * _tanh_slope(u) * du


# activation -> (act, act'), both of extended precision
EXACT: dict[str | None, tuple[Callable[[Array], Array], Callable[[Array], Array]]] = {
    None: (lambda x: x, np.ones_like),
    "relu": (lambda x: np.maximum(x, 0), lambda x: np.where(x > 0, Wide(1), Wide(0))),
    "gelu": (lambda x: x * _normal_cdf(x), lambda x: _normal_cdf(x) + x * _normal_density(x)),
    "gelu_tanh": (lambda x: x / 2 * (1 + np.tanh(_tanh_argument(x))), _gelu_tanh_slope),
    "silu": (lambda x: x * _sigmoid(x), lambda x: _sigmoid(x) * (1 + x * _sigmoid(-x))),
    "sigmoid": (_sigmoid, lambda x: _sigmoid(x) * _sigmoid(-x)),
    "tanh": (np.tanh, _tanh_slope),
}

activations = pytest.mark.parametrize("activation", EXACT)


# Inputs
# ------


def _magnitudes(dtype: type[np.floating], count: int = 100_000) -> Array:
    """From 0 to the greatest number in equal steps of the bits: every binade alike, subnormals too."""
    word: Any = {np.float32: np.uint32, np.float64: np.uint64}[dtype]
    last = int(np.finfo(dtype).max.view(word))
    return np.append(np.arange(0, last, last // count, dtype=word), word(last)).view(dtype)


def _inputs(dtype: type[np.floating]) -> Array:
    every_size = _magnitudes(dtype)
    # Finely where the functions bend, and to where the least subnormal e^-a ends.
    near, end = np.linspace(-12, 12, 100_001), -np.log(Wide(np.finfo(dtype).smallest_subnormal))
    return np.concatenate(
        [every_size, -every_size, near.astype(dtype), np.linspace(-end, end, 50_001, dtype=dtype)]
    )


def _each(function: Callable[..., Any]) -> Callable[[Array], Array]:
    """The scalar `function` over a whole array."""

    def loop(x: Array, y: Array) -> None:
        for i in range(x.size):
            y[i] = function(x[i])

    compiled: Any = numba.njit(loop)

    def apply(x: Array) -> Array:
        y = np.empty_like(x)
        compiled(x, y)
        return y

    return apply


@numba.njit
def _activate(block, code):
    activate(pointer(block), 0, block.size, code)


@numba.njit
def _activate_backward(dy, z, code):
    activate_backward(pointer(dy), 0, pointer(z), z.size, code)


_normal_tail = numba.njit(lambda a: vecmath.normal_tail(a)[0])
_normal_density_of = numba.njit(lambda a: vecmath.normal_tail(a)[1])


def _ulps(y: Array, exact: Array) -> Array:
    return np.abs(y - exact) / np.spacing(np.abs(exact).astype(y.dtype))


# Elementary functions
# --------------------


@both_dtypes
def test_decay_within_one_and_a_half_ulp(dtype: type[np.floating]) -> None:
    a = np.abs(_inputs(dtype))
    y, exact = _each(vecmath.decay)(a), np.exp(-a.astype(Wide))
    normal = exact > np.finfo(dtype).tiny
    assert np.max(_ulps(y, exact)[normal]) <= 1.5
    assert np.all(y[~normal] <= np.finfo(dtype).tiny)
    assert np.all(y[a > -1.01 * np.log(np.finfo(dtype).tiny)] == 0)


@both_dtypes
def test_tanh_within_three_ulp_down_to_subnormals(dtype: type[np.floating]) -> None:
    x = _inputs(dtype)
    y, exact = _each(vecmath.tanh)(x), np.tanh(x.astype(Wide))
    assert np.max(_ulps(y, exact)) <= 3
    np.testing.assert_array_equal(y[np.abs(x) > 20], np.sign(x[np.abs(x) > 20]))


@both_dtypes
def test_logistic_tail_within_three_ulp(dtype: type[np.floating]) -> None:
    a = np.abs(_inputs(dtype))
    y, exact = _each(vecmath.logistic_tail)(a), _sigmoid(-a.astype(Wide))
    normal = exact > np.finfo(dtype).tiny
    assert np.max(_ulps(y, exact)[normal]) <= 3


@both_dtypes
def test_normal_tail_keeps_its_digits_far_out(dtype: type[np.floating]) -> None:
    """Half an eps of a²/2 is a²/4 eps of its exponential: that, and no more, may grow with the tail."""
    a = np.abs(_inputs(dtype))
    for ours, exact in [(_normal_tail, _upper_tail), (_normal_density_of, _normal_density)]:
        expected = exact(a.astype(Wide))
        normal = expected > np.finfo(dtype).tiny
        error = np.abs(_each(ours)(a)[normal] / expected[normal] - 1) / np.finfo(dtype).eps
        assert np.max(error / (3 + a[normal] ** 2)) <= 1


@both_dtypes
@pytest.mark.parametrize("function", [vecmath.decay, vecmath.tanh, vecmath.logistic_tail, _normal_tail])
def test_nan_stays_nan(function: Callable[..., Array], dtype: type[np.floating]) -> None:
    assert np.isnan(_each(function)(np.full(37, np.nan, dtype))).all()


def test_constants_are_those_the_fit_derives(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("mpmath")
    spec = importlib.util.spec_from_file_location("fit_polynomials", _ROOT / "docs" / "fit_polynomials.py")
    assert spec is not None and spec.loader is not None
    fit = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fit)
    for name, format in fit.FORMATS.items():
        fit.print_constants(name, format)
    assert capsys.readouterr().out in Path(vecmath.__file__).read_text(encoding="utf-8")


# Activations
# -----------


@activations
@both_dtypes
def test_activation_within_one_rounding(dtype: type[np.floating], activation: str | None) -> None:
    z = _inputs(dtype)
    y = z.copy()
    _activate(y, CODES[activation])
    exact = EXACT[activation][0](z.astype(Wide))
    assert roundings(y, exact, dtype) <= 1


@activations
@both_dtypes
def test_gradient_within_two_roundings(dtype: type[np.floating], activation: str | None) -> None:
    z = _inputs(dtype)
    dy = np.resize(np.array([1, -1, 0.5], dtype), z.shape)
    g, dy_before = z.copy(), dy.copy()
    _activate_backward(dy, g, CODES[activation])
    exact = dy * EXACT[activation][1](z.astype(Wide))
    assert roundings(g, exact, dtype) <= 2
    np.testing.assert_array_equal(dy, dy_before)


# activation -> (act(-inf), act(inf), act'(-inf), act'(inf))
_LIMITS: dict[str | None, tuple[float, float, float, float]] = {
    None: (-np.inf, np.inf, 1, 1),
    "relu": (0, np.inf, 0, 1),
    "gelu": (0, np.inf, 0, 1),
    "gelu_tanh": (0, np.inf, 0, 1),
    "silu": (0, np.inf, 0, 1),
    "sigmoid": (0, 1, 0, 0),
    "tanh": (-1, 1, 0, 0),
}


@activations
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_infinities_give_limits_and_nan_stays(dtype: type[np.floating], activation: str | None) -> None:
    z = np.tile(np.array([-np.inf, np.inf, np.nan], dtype), 13)
    y, g = z.copy(), z.copy()
    _activate(y, CODES[activation])
    _activate_backward(np.ones_like(z), g, CODES[activation])
    below, above, slope_below, slope_above = _LIMITS[activation]
    np.testing.assert_array_equal(y, np.tile(np.array([below, above, np.nan], dtype), 13))
    # As in PyTorch, relu hands NaN's gradient on.
    at_nan = 1 if activation in (None, "relu") else np.nan
    np.testing.assert_array_equal(g, np.tile(np.array([slope_below, slope_above, at_nan], dtype), 13))


@activations
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_value_gives_the_same_bits_wherever_it_stands(
    dtype: type[np.floating], activation: str | None, rng: np.random.Generator
) -> None:
    """The vector body and the scalar rest of a loop must round alike, or a row would depend on its length."""
    z = (3 * rng.standard_normal(1009)).astype(dtype)
    dy = rng.standard_normal(z.size).astype(dtype)
    y, g = z.copy(), z.copy()
    _activate(y, CODES[activation])
    _activate_backward(dy, g, CODES[activation])
    for i in range(z.size):
        alone, alone_g = z[i : i + 1].copy(), z[i : i + 1].copy()
        _activate(alone, CODES[activation])
        _activate_backward(dy[i : i + 1], alone_g, CODES[activation])
        assert alone[0] == y[i]
        assert alone_g[0] == g[i]


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="reads x86 assembly")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_activation_is_vectorised(dtype: type[np.floating]) -> None:
    block = numba.from_dtype(np.dtype(dtype))[::1]
    suffix = "s" if dtype is np.float32 else "d"
    kernels: list[tuple[Any, tuple[Any, ...]]] = [
        (_activate, (block, numba.int64)),
        (_activate_backward, (block, block, numba.int64)),
    ]
    for kernel, arguments in kernels:
        kernel.compile(arguments)
        assembly = kernel.inspect_asm(arguments)
        # Each of the five that divide does so in packed form, and calls nothing of vecmath's.
        assert len(re.findall(rf"\bv?divp{suffix}\b", assembly)) >= 5
        assert "language7vecmath" not in "".join(re.findall(r"(?:call\w*|movabsq)\s+\S+", assembly))

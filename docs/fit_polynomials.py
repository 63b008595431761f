"""Derives and prints the constants of `fastnorm/kernels/language/vecmath.py`; needs mpmath."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import mpmath as mp  # type: ignore[import-untyped]
import numpy as np

mp.mp.dps = 60

Real = Any  # mpmath is untyped


class Format(NamedTuple):
    """What a binary floating-point format asks of its constants."""

    dtype: type[np.floating]
    # Bits of ln 2's high part: few enough that its product with any exponent is exact.
    ln2_bits: int
    # Where e^-a and e^(-a²/2) have left the normal range: nothing beyond needs fitting.
    decay_limit: int
    normal_limit: float
    # The smallest degrees that add at most a tenth of a rounding to an activation.
    expm1_degree: int
    normal_degree: int


FORMATS = {
    "FLOAT32": Format(np.float32, 15, 88, 13.3, expm1_degree=4, normal_degree=5),
    "FLOAT64": Format(np.float64, 41, 709, 37.7, expm1_degree=9, normal_degree=10),
}


def value(coefficients: Sequence[Real], a: Real) -> Real:
    """A polynomial's, constant first."""
    return mp.fsum(c * a**j for j, c in enumerate(coefficients))


def fit_expm1(degree: int) -> tuple[list[Real], Real]:
    """The polynomial near (e^r - 1 - r)/r² on |r| <= ln(2)/2, constant first, and its error in e^r."""
    half = mp.log(2) / 2

    def remainder(r: Real) -> Real:
        # By its series: the closed form cancels at 0.
        return mp.fsum(r**i / mp.factorial(i + 2) for i in range(40))

    count = degree + 1
    nodes = [half * mp.cos(mp.pi * (2 * i + 1) / (2 * count)) for i in range(count)]
    rows = [[r**j for j in range(count)] for r in nodes]
    coefficients = list(mp.lu_solve(mp.matrix(rows), mp.matrix([remainder(r) for r in nodes])))
    extremes = [half * mp.cos(mp.pi * i / count) for i in range(count)]
    error = max(abs(remainder(r) - value(coefficients, r)) for r in extremes)
    return coefficients, error * half**2 * mp.exp(half)


def normal_ratio(a: Real) -> Real:
    """e^(a²/2)·Q(a), where Q is the upper tail of the standard normal distribution."""
    return mp.exp(a * a / 2) * mp.erfc(a / mp.sqrt(2)) / 2


def fit_normal_ratio(limit: float, degree: int) -> tuple[list[Real], list[Real], Real]:
    """Numerator (one degree less) and denominator near e^(a²/2)·Q(a) on [0, limit], and their relative error.

    The fraction meets the function at the Chebyshev nodes of t = (a - 4)/(a + 4), a variable in which the
    function is smooth all the way to infinity. All coefficients come out positive, so nothing cancels.
    """
    pivot, count = mp.mpf(4), 2 * degree
    end = (limit - pivot) / (limit + pivot)
    nodes = [(end - 1) / 2 + (end + 1) / 2 * mp.cos(mp.pi * (2 * i + 1) / (2 * count)) for i in range(count)]
    points = [pivot * (1 + t) / (1 - t) for t in nodes]
    values = [normal_ratio(a) for a in points]
    # Σ p_j·a^j - f·Σ q_j·a^j = f, with q_0 = 1.
    rows = [
        [a**j for j in range(degree)] + [-f * a**j for j in range(1, degree + 1)]
        for a, f in zip(points, values, strict=True)
    ]
    solution = list(mp.lu_solve(mp.matrix(rows), mp.matrix(values)))
    numerator, denominator = solution[:degree], [mp.mpf(1), *solution[degree:]]
    assert min(numerator + denominator) > 0

    def error(a: Real) -> Real:
        return value(numerator, a) / value(denominator, a) / normal_ratio(a) - 1

    return numerator, denominator, max(abs(error(limit * (mp.mpf(i) / 500) ** 2)) for i in range(501))


def print_constants(name: str, format: Format) -> None:
    """Print one instance of vecmath's `Constants`."""
    bits = np.finfo(format.dtype).nmant
    bias = np.finfo(format.dtype).maxexp - 1
    eps = np.finfo(format.dtype).eps
    ln2 = mp.log(2)
    ln2_high = mp.floor(ln2 * 2**format.ln2_bits) / 2**format.ln2_bits
    expm1, expm1_error = fit_expm1(format.expm1_degree)
    numerator, denominator, normal_error = fit_normal_ratio(format.normal_limit, format.normal_degree)

    def literal(value: Real) -> str:
        return repr(float(str(format.dtype(value))))

    def rows(values: Sequence[Real]) -> str:
        return "".join(f"\n        {literal(value)}," for value in values)

    errors = f"e^x {float(expm1_error / eps):.2f}, normal tail {float(normal_error / eps):.2f}"
    print(f"# Relative errors of the fit in eps: {errors}.")
    print(f"_{name} = _in_dtype(")
    print(f"    np.{format.dtype.__name__},")
    print(f"    log2_e={literal(1 / ln2)},")
    print(f"    ln2_high={literal(ln2_high)},")
    print(f"    ln2_low={literal(ln2 - ln2_high)},")
    print(f"    shifter={literal(3 * mp.mpf(2) ** (bits - 1) + bias)},")
    print(f"    decay_limit={literal(format.decay_limit)},")
    print(f"    expm1=({rows(expm1)}\n    ),")
    print(f"    normal_numerator=({rows(numerator)}\n    ),")
    print(f"    normal_denominator=({rows(denominator)}\n    ),")
    print(")")


if __name__ == "__main__":
    for name, format in FORMATS.items():
        print_constants(name, format)

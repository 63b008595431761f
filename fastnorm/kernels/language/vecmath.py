"""e^-a, tanh, logistic and normal tail in branch-free arithmetic: LLVM vectorises it, but no call of libm.

Every function takes float32 or float64, a number or a vector, and returns the same: one code, with constants for each dtype.
"""

import math
from typing import NamedTuple

import numpy as np
from llvmlite import ir
from numba import typeof, types
from numba.extending import intrinsic

from ..._jit import step
from .vectors import (
    INT32,
    INT64,
    all_between,
    as_many,
    constant,
    emit_fma,
    fma,
    if_less,
    llvm,
    magnitude,
    narrow,
    number_like,
    rounded,
    splat_of,
)


class Constants(NamedTuple):
    """What differs between the two dtypes; `docs/fit_polynomials.py` derives the values."""

    log2_e: np.floating
    # ln 2 in two parts, the first so short that its product with any exponent is exact.
    ln2_high: np.floating
    ln2_low: np.floating
    # 1.5·2^mantissa + bias: the sum with a small number has round(number) + bias in its lowest bits.
    shifter: np.floating
    # e^-a is 0 from here on, the exponent still being one the shifter can hold.
    decay_limit: np.floating
    # (e^r - 1 - r)/r² for |r| <= ln(2)/2, constant first.
    expm1: tuple[np.floating, ...]
    # e^(a²/2)·Q(a), Q being the normal distribution's upper tail, as a fraction of positive terms.
    normal_numerator: tuple[np.floating, ...]
    normal_denominator: tuple[np.floating, ...]


def _in_dtype(dtype: type[np.floating], **values: float | tuple[float, ...]) -> Constants:
    def converted(value):
        return tuple(map(dtype, value)) if isinstance(value, tuple) else dtype(value)

    return Constants(**{name: converted(value) for name, value in values.items()})


# Relative errors of the fit in eps: e^x 0.09, normal tail 0.10.
_FLOAT32 = _in_dtype(
    np.float32,
    log2_e=1.442695,
    ln2_high=0.69314575,
    ln2_low=1.4286068e-06,
    shifter=12583039.0,
    decay_limit=88.0,
    expm1=(
        0.5,
        0.16666578,
        0.041666556,
        0.008363173,
        0.0013926176,
    ),
    normal_numerator=(
        0.5,
        0.44321504,
        0.18704139,
        0.04196177,
        0.0043258555,
    ),
    normal_denominator=(
        1.0,
        1.6843154,
        1.2179639,
        0.4795551,
        0.10518811,
        0.01084321,
    ),
)
# Relative errors of the fit in eps: e^x 0.08, normal tail 0.38.
_FLOAT64 = _in_dtype(
    np.float64,
    log2_e=1.4426950408889634,
    ln2_high=0.693147180559663,
    ln2_low=2.8235290563031577e-13,
    shifter=6755399441056767.0,
    decay_limit=709.0,
    expm1=(
        0.5000000000000001,
        0.16666666666666669,
        0.041666666666624164,
        0.008333333333330065,
        0.0013888888917196719,
        0.00019841269863040545,
        2.4801521322368692e-05,
        2.7557268480310024e-06,
        2.7620075879983367e-07,
        2.5100375832561234e-08,
    ),
    normal_numerator=(
        0.5,
        0.7748913772423388,
        0.5940425171536298,
        0.2893105356521224,
        0.09768029240643264,
        0.02361352424426356,
        0.004086674539209112,
        0.0004899072053509552,
        3.719329079436343e-05,
        1.382100833702671e-06,
    ),
    normal_denominator=(
        1.0,
        2.347667315287537,
        2.5612525390769094,
        1.7143327911718638,
        0.7819631497047912,
        0.2549054858096964,
        0.06041141437476102,
        0.010337003692708787,
        0.0012314796660981486,
        9.322975432967657e-05,
        3.4644130281600643e-06,
    ),
)
_CONSTANTS = {types.float32: _FLOAT32, types.float64: _FLOAT64}


# -- What Numba has no word for ------------------------------------------------------------------------------


@intrinsic
def _constants(typingctx, x):
    """The `Constants` of x's dtype."""
    values = _CONSTANTS[getattr(x, "dtype", x)]

    def codegen(context, builder, signature, args):
        return context.get_constant_generic(builder, signature.return_type, values)

    return typeof(values)(x), codegen


@intrinsic
def _polynomial(typingctx, x, coefficients):
    """Σ coefficients[i]·x^i by Horner's rule, unrolled."""

    def codegen(context, builder, signature, args):
        value, packed = args
        numbers = [builder.extract_value(packed, i) for i in range(signature.args[1].count)]
        *rest, total = [splat_of(builder, value.type, number) for number in numbers]
        for coefficient in reversed(rest):
            total = emit_fma(builder, total, value, coefficient)
        return total

    return x(x, coefficients), codegen


@intrinsic
def _power_from_bits(typingctx, shifted):
    """The power of two whose biased exponent stands in the lowest bits of `shifted`; 0 for the exponent 0."""
    integer, mantissa = {types.float32: (INT32, 23), types.float64: (INT64, 52)}[
        getattr(shifted, "dtype", shifted)
    ]

    def codegen(context, builder, signature, args):
        kind = as_many(args[0].type, integer)
        exponent = builder.shl(builder.bitcast(args[0], kind), constant(kind, mantissa))
        return builder.bitcast(exponent, args[0].type)

    return shifted(shifted), codegen


# -- Functions of a number, or of each in a vector -----------------------------------------------------------


@step
def at_most(limit, value):
    """The lesser of the two, NaN where value is NaN: the order x86's vmin has, unlike Python's min."""
    limit = number_like(value, limit)
    return if_less(limit, value, limit, value)


@step
def _exp_parts(x):
    """(2^n, e^r - 1) with x = n·ln 2 + r and |r| <= ln(2)/2; 2^n is 0 at one below the normal exponents."""
    c = _constants(x)
    shifted = fma(x, c.log2_e, c.shifter)
    # No `reassoc` may reach this: it would take the shifter out again before it has rounded.
    n = shifted - c.shifter
    r = fma(-n, c.ln2_low, fma(-n, c.ln2_high, x))
    return _power_from_bits(shifted), fma(r * r, _polynomial(r, c.expm1), r)


@step
def decay(a):
    """e^-a for a >= 0, within 1.1 ulp; 0 once it is less than half the least normal number."""
    power, rest = _exp_parts(-at_most(_constants(a).decay_limit, a))
    return fma(power, rest, power)


@step
def _expm1_of_twice(a):
    """e^2a - 1 for 0 <= a <= 40, never a difference near 0; beyond 40 as there."""
    power, rest = _exp_parts(number_like(a, 2) * at_most(40, a))
    return fma(power, rest, power - number_like(a, 1))


@step
def tanh(x):
    """e/(e + 2) with e = e^2|x| - 1, and the sign of x."""
    e = _expm1_of_twice(magnitude(x))
    y = e / (e + number_like(x, 2))
    return if_less(x, number_like(x, 0), -y, y)


@step
def tanh_and_slope(x):
    """(tanh x, 1 - tanh² x) from one power: the slope is 4·(e + 1)/(e + 2)², where nothing cancels."""
    e = _expm1_of_twice(magnitude(x))
    inverse = number_like(x, 1) / (e + number_like(x, 2))
    y = e * inverse
    slope = number_like(x, 4) * ((e + number_like(x, 1)) * inverse) * inverse
    return if_less(x, number_like(x, 0), -y, y), slope


@step
def logistic_tail(a):
    """1/(1 + e^a) for a >= 0."""
    e = decay(a)
    return e / (e + number_like(a, 1))


@step
def normal_tail(a):
    """(Q(a), q(a)) for a >= 0: the upper tail erfc(a/√2)/2 and the density of the normal distribution."""
    e = decay(number_like(a, 0.5) * a * a)
    c = _constants(a)
    ratio = _polynomial(a, c.normal_numerator) / _polynomial(a, c.normal_denominator)
    return e * ratio, e * number_like(a, 0.3989422804014327)


# -- Powers ----------------------------------------------------------------------------------------------------


class Format(NamedTuple):
    """How a dtype is laid out; and the terms of atanh that its digits ask for."""

    integer: ir.Type
    mantissa: int
    bias: int
    root_half: int  # the bits of √½
    terms: int


_FORMATS = {
    types.float32: Format(INT32, 23, 127, 0x3F3504F3, 4),
    types.float64: Format(INT64, 52, 1023, 0x3FE6A09E667F3BCD, 10),
}


@intrinsic
def _atanh_rest(typingctx, square):
    """1/3 + s²/5 + … of a vector of s², with which atanh(s) = s + s³·(…), to a rounding for |s| <= (√2 - 1)/(√2 + 1)."""

    def codegen(context, builder, signature, args):
        total = constant(args[0].type, 0.0)
        for i in reversed(range(_FORMATS[square.dtype].terms)):
            total = emit_fma(builder, total, args[0], constant(args[0].type, 1 / (2 * i + 3)))
        return total

    return square(square), codegen


@intrinsic
def _as_exponent(typingctx, a):
    """A vector of integers, or the nearest for which the dtype has a power of two; 0 stands for the least."""
    most = float(_FORMATS[a.dtype].bias)

    def codegen(context, builder, signature, args):
        value = args[0]
        for name, limit in (("maxnum", -most), ("minnum", most)):
            bound = constant(value.type, limit)
            value = builder.call(
                llvm(builder, name, bound.type, bound.type, [bound.type] * 2), [value, bound]
            )
        return value

    return a(a), codegen


@intrinsic
def _parts_of_power(typingctx, t):
    """(e, m) with t = 2^e·m and m from √½ to √2, for normal numbers above 0."""
    form = _FORMATS[t.dtype]

    def codegen(context, builder, signature, args):
        kind = as_many(args[0].type, form.integer)
        bits, places = builder.bitcast(args[0], kind), constant(kind, form.mantissa)
        # Counted from √½, the exponent's bits are those of e; behind those of 2^mantissa they are a number again.
        counted = builder.sub(bits, constant(kind, form.root_half - (form.bias << form.mantissa)))
        exponent = builder.lshr(counted, places)
        integer = builder.or_(exponent, constant(kind, (form.bias + form.mantissa) << form.mantissa))
        e = builder.fsub(
            builder.bitcast(integer, args[0].type), constant(args[0].type, 2.0**form.mantissa + form.bias)
        )
        shift = builder.shl(builder.sub(exponent, constant(kind, form.bias)), places)
        return context.make_tuple(
            builder, signature.return_type, [e, builder.bitcast(builder.sub(bits, shift), args[0].type)]
        )

    return types.UniTuple(t, 2)(t), codegen


@step
def _power_of_parts(e, m, high, low):
    """(2^e·m)^-(high + low)."""
    c = _constants(high)
    s = (m - number_like(m, 1)) / (m + number_like(m, 1))
    log2 = fma(s * s * s, _atanh_rest(s * s), s) * number_like(m, 2 / math.log(2))
    n = _as_exponent(rounded((e + log2) * -high))
    rest = (fma(-e, high, -n) - e * low - log2 * high) * number_like(e, math.log(2))
    power, grown = _power_from_bits(n + c.shifter), fma(rest * rest, _polynomial(rest, c.expm1), rest)
    return fma(power, grown, power)


@step
def inverse_power(like, t, high, low):
    """t^-(high + low) of a vector of float64, t >= 0, in the precision of `like`: within 4 ulp where that is normal.

    high is the power in that precision, and low what it lacks: its product with the exponent of t is exact.
    """
    single = narrow(like, t)
    if all_between(t, 1e-30, 1e30):
        e, m = _parts_of_power(single)
        return _power_of_parts(e, m, high, low)
    e, m = _parts_of_power(t)
    found = _power_of_parts(narrow(like, e), narrow(like, m), high, low)
    # 0, infinity and NaN have no such parts.
    special = number_like(single, 1) / single
    usual = if_less(t, number_like(t, math.inf), found, special)
    return if_less(number_like(t, 0), t, usual, special)

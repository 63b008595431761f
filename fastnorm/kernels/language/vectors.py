"""Vectors of 128 bytes: what Numba has no word for. Arithmetic on them is exact, each operation rounded as it is written.

LLVM's own vectoriser needs `reassoc` to add up an array, a slice for every block, and a check for every pair of arrays that
might overlap; a short row spent most of its time there. With vectors a kernel says in which order a sum is taken, and the
rest of a row that fills no vector is a masked one, not a loop.
"""

import operator

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, models, register_model

from ..._jit import step

# Two AVX-512 registers or four of AVX2: two chains of additions hide the latency of one.
BYTES = 128
# Bytes of a cache line.
LINE = 64
# Numbers in a vector of float64.
DOUBLES = BYTES // 8
INT32, INT64 = ir.IntType(32), ir.IntType(64)


class Vector(types.Type):  # type: ignore[misc]
    """So many numbers of one dtype, in registers."""

    def __init__(self, dtype, count):
        self.dtype, self.count = dtype, count
        super().__init__(f"Vector({dtype}, {count})")


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager, kind):
        super().__init__(manager, kind, ir.VectorType(manager[kind.dtype].get_value_type(), kind.count))


# Numba knows no 16-bit floats on a CPU: they come as integers, and are computed on in float32.
FLOAT16, BFLOAT16 = types.uint16, types.int16


def vector_of(array):
    """The vector type in which the kernels compute on an array."""
    dtype = types.float32 if array.dtype in (FLOAT16, BFLOAT16) else array.dtype
    return Vector(dtype, BYTES * 8 // dtype.bitwidth)


# -- Arithmetic: vector and vector, or vector and number -----------------------------------------------------------


def _as_like(context, builder, kind, values):
    """Operands of one kind: vectors where that is one."""
    whole = context.get_value_type(kind)
    return [splat_of(builder, whole, value) for value in values]


def splat_of(builder, whole, value):
    """A value of the LLVM type `whole`: the one given where it is that already."""
    if value.type == whole:
        return value
    single = builder.insert_element(ir.Constant(whole, ir.Undefined), value, ir.Constant(INT32, 0))
    zeros = ir.Constant(ir.VectorType(INT32, whole.count), [0] * whole.count)
    return builder.shuffle_vector(single, ir.Constant(whole, ir.Undefined), zeros)


def _define(function, instruction):
    @infer_global(function)
    class _Typing(AbstractTemplate):
        def generic(self, args, kws):
            a, b = args
            if isinstance(a, Vector) and b in (a, a.dtype):
                return signature(a, a, b)
            if isinstance(b, Vector) and a == b.dtype:
                return signature(b, a, b)
            return None

    def emit(context, builder, found, arguments):
        values = _as_like(context, builder, found.return_type, arguments)
        return getattr(builder, instruction)(*values)

    for kinds in ((Vector, Vector), (Vector, types.Float), (types.Float, Vector)):
        lower_builtin(function, *kinds)(emit)


_define(operator.add, "fadd")
_define(operator.sub, "fsub")
_define(operator.mul, "fmul")
_define(operator.truediv, "fdiv")


@infer_global(operator.neg)
class _Negative(AbstractTemplate):  # type: ignore[misc]
    def generic(self, args, kws):
        return signature(args[0], args[0]) if isinstance(args[0], Vector) else None


@lower_builtin(operator.neg, Vector)
def _negative(context, builder, found, arguments):
    return builder.fneg(arguments[0])


# -- Vector or number: what elementary functions are made of ---------------------------------------------------------


def _kind(*kinds):
    """The vector type among some, or that of numbers."""
    return next((kind for kind in kinds if isinstance(kind, Vector)), kinds[0])


def as_many(kind, single):
    """The LLVM type `single`, or a vector of as many as `kind` has."""
    return ir.VectorType(single, kind.count) if isinstance(kind, ir.VectorType) else single


def constant(kind, number):
    """An LLVM constant: a number, or a vector of it."""
    return ir.Constant(kind, [number] * kind.count if isinstance(kind, ir.VectorType) else number)


@intrinsic
def number_like(typingctx, a, number):
    """A number in the precision of `a`; a vector of it where that is one."""

    def emit(context, builder, found, arguments):
        single = context.cast(builder, arguments[1], number, getattr(a, "dtype", a))
        return splat_of(builder, arguments[0].type, single)

    return a(a, number), emit


@intrinsic
def fma(typingctx, a, b, c):
    """a·b + c, in one rounding where the machine has it.

    Never left to `contract`: that fuses the vector body of a loop and its scalar rest each in its own way, as
    it did with z - a·tail, and then a value's bits depend on where in the block it stands.
    """
    kind = _kind(a, b, c)

    def emit(context, builder, found, arguments):
        return emit_fma(builder, *_as_like(context, builder, kind, arguments))

    return kind(a, b, c), emit


def emit_fma(builder, a, b, c):
    return builder.call(llvm(builder, "fmuladd", a.type, a.type, [a.type] * 3), [a, b, c])


@intrinsic
def magnitude(typingctx, a):
    """|a|."""

    def emit(context, builder, found, arguments):
        whole = arguments[0].type
        return builder.call(llvm(builder, "fabs", whole, whole, [whole]), arguments)

    return a(a), emit


@intrinsic
def if_less(typingctx, a, b, yes, no):
    """`yes` where a < b, else `no`: there, too, where one of them is NaN."""
    kind, result = _kind(a, b), _kind(yes, no)

    def emit(context, builder, found, arguments):
        a, b = _as_like(context, builder, kind, arguments[:2])
        yes, no = _as_like(context, builder, result, arguments[2:])
        return builder.select(builder.fcmp_ordered("<", a, b), yes, no)

    return result(a, b, yes, no), emit


@intrinsic
def root(typingctx, a):
    """√a."""

    def emit(context, builder, found, arguments):
        whole = arguments[0].type
        return builder.call(llvm(builder, "sqrt", whole, whole, [whole]), arguments)

    return a(a), emit


@intrinsic
def without_nan(typingctx, a):
    """a, with 0 where it is NaN."""

    def emit(context, builder, found, arguments):
        value = arguments[0]
        return builder.select(builder.fcmp_ordered("ord", value, value), value, ir.Constant(value.type, None))

    return a(a), emit


@intrinsic
def farther(typingctx, a, b):
    """max(|a|, |b|), number by number; one that is NaN does not count."""

    def emit(context, builder, found, arguments):
        whole = arguments[0].type
        both = [builder.call(llvm(builder, "fabs", whole, whole, [whole]), [value]) for value in arguments]
        return builder.call(llvm(builder, "maxnum", whole, whole, [whole] * 2), both)

    return a(a, b), emit


@intrinsic
def within(typingctx, a, low, high):
    """a, which is not NaN, or the nearer of two numbers where it is not between them."""

    def emit(context, builder, found, arguments):
        value, *limits = arguments
        whole = value.type
        for name, limit in zip(("maxnum", "minnum"), limits, strict=True):
            bound = splat_of(builder, whole, context.cast(builder, limit, types.float64, a.dtype))
            value = builder.call(llvm(builder, name, whole, whole, [whole] * 2), [value, bound])
        return value

    return a(a, types.float64, types.float64), emit


@intrinsic
def at_least(typingctx, a, low):
    """a, or a number where it is less; NaN where it is NaN."""

    def emit(context, builder, found, arguments):
        value = arguments[0]
        bound = splat_of(builder, value.type, context.cast(builder, arguments[1], types.float64, a.dtype))
        return builder.select(builder.fcmp_unordered(">=", value, bound), value, bound)

    return a(a, types.float64), emit


@intrinsic
def all_between(typingctx, a, low, high):
    """Whether all numbers of a vector lie between two, none of them NaN."""

    def emit(context, builder, found, arguments):
        value, *limits = arguments
        bounds = [
            splat_of(builder, value.type, context.cast(builder, v, types.float64, a.dtype)) for v in limits
        ]
        inside = builder.and_(
            builder.fcmp_ordered(">=", value, bounds[0]), builder.fcmp_ordered("<=", value, bounds[1])
        )
        name, kind = f"llvm.vector.reduce.and.v{a.count}i1", ir.FunctionType(ir.IntType(1), [inside.type])
        reduced = builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [inside])
        return context.cast(builder, reduced, types.boolean, types.boolean)

    return types.boolean(a, types.float64, types.float64), emit


@intrinsic
def rounded(typingctx, a):
    """The nearest integers, of two the even one."""

    def emit(context, builder, found, arguments):
        whole = arguments[0].type
        return builder.call(llvm(builder, "rint", whole, whole, [whole]), arguments)

    return a(a), emit


@intrinsic
def wide(typingctx, a):
    """The same numbers in float64."""
    kind = Vector(types.float64, a.count)

    def emit(context, builder, found, arguments):
        return widened(builder, arguments[0])

    return kind(a), emit


def widened(builder, value):
    """A vector in float64."""
    kind = ir.VectorType(ir.DoubleType(), value.type.count)
    return value if value.type == kind else builder.fpext(value, kind)


@intrinsic
def narrow(typingctx, array, a):
    """Float64 numbers in the precision in which the kernels compute on `array`."""
    kind = Vector(vector_of(array).dtype, a.count)

    def emit(context, builder, found, arguments):
        if kind == a:
            return arguments[1]
        return builder.fptrunc(arguments[1], context.get_value_type(kind))

    return kind(array, a), emit


def indices(numbers):
    """Which numbers of vectors a shuffle takes."""
    numbers = list(numbers)
    return ir.Constant(ir.VectorType(INT32, len(numbers)), numbers)


def llvm(builder, name, whole, result, arguments, ending=""):
    """A function of LLVM's own, overloaded on a vector's type or a number's."""
    single, many = (whole.element, f"v{whole.count}") if isinstance(whole, ir.VectorType) else (whole, "")
    of = {ir.FloatType(): "f32", ir.DoubleType(): "f64"}.get(single, single)
    kind = ir.FunctionType(result, arguments)
    return cgutils.get_or_insert_function(builder.module, kind, f"llvm.{name}.{many}{of}{ending}")


# -- Of one number, or of some -------------------------------------------------------------------------------------


@intrinsic
def lanes(typingctx, array):
    """Numbers in a vector of this array."""
    count = vector_of(array).count

    def emit(context, builder, found, arguments):
        return ir.Constant(INT64, count)

    return types.int64(array), emit


@step
def in_vectors(size, n):
    """How many of `size` numbers fill vectors of n, a power of two."""
    return size & -n


@intrinsic
def splat(typingctx, array, value):
    """A vector of the array's kind with one number everywhere."""
    kind = vector_of(array)

    def emit(context, builder, found, arguments):
        number = context.cast(builder, arguments[1], found.args[1], kind.dtype)
        return splat_of(builder, context.get_value_type(kind), number)

    return kind(array, value), emit


@intrinsic
def spread(typingctx, value):
    """A vector of float64 with one number everywhere."""
    kind = Vector(types.float64, DOUBLES)

    def emit(context, builder, found, arguments):
        return splat_of(builder, context.get_value_type(kind), arguments[0])

    return kind(types.float64), emit


@intrinsic
def first_of(typingctx, a):
    """The first number of a vector."""

    def emit(context, builder, found, arguments):
        return builder.extract_element(arguments[0], ir.Constant(INT32, 0))

    return a.dtype(a), emit


def first_lanes(builder, whole, count):
    """A mask of the first `count` lanes of an LLVM vector."""
    places = indices(range(whole.count))
    many = splat_of(builder, places.type, builder.trunc(count, INT32))
    return builder.icmp_signed("<", places, many)


def lanes_within(builder, whole, limits):
    """The same of those before a limit, or between two."""
    mask = first_lanes(builder, whole, limits[-1])
    if len(limits) > 1:
        mask = builder.and_(mask, builder.not_(first_lanes(builder, whole, limits[0])))
    return mask


@intrinsic
def continued(typingctx, before, after, count):
    """The first `count` numbers of one vector, then those of another."""

    def emit(context, builder, found, arguments):
        first, second, many = arguments
        return builder.select(first_lanes(builder, first.type, many), first, second)

    return before(before, before, types.int64), emit


@intrinsic
def head(typingctx, value, count):
    """The first `count` numbers of a vector, then zeros."""

    def emit(context, builder, found, arguments):
        number, many = arguments
        mask = first_lanes(builder, number.type, many)
        return builder.select(mask, number, ir.Constant(number.type, None))

    return value(value, types.int64), emit

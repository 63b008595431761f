"""A vector's numbers reduced to one, or those of several at once: sums in an order that is written out, and the greatest."""

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .vectors import INT32, INT64, LINE, Vector, first_lanes, indices, llvm, vector_of, widened


@intrinsic
def added_up(typingctx, a):
    """The sum of a vector in float64: halves onto each other until one number is left, the last eight in float64.

    In float32 to the end it would cost a rounding of the standard deviation, seen at once in thousands of rows.
    """

    def emit(context, builder, found, arguments):
        return emit_added_up(builder, arguments[0])

    return types.float64(a), emit


def emit_added_up(builder, value):
    count = value.type.count
    while count > 1:
        if count == 8:
            value = widened(builder, value)
        value, count = _halves_added(builder, value), count // 2
    return builder.extract_element(value, ir.Constant(INT32, 0))


def _halves_added(builder, value):
    half = value.type.count // 2
    nothing = ir.Constant(value.type, ir.Undefined)
    parts = [builder.shuffle_vector(value, nothing, indices(range(at, at + half))) for at in (0, half)]
    return builder.fadd(*parts)


@intrinsic
def folded(typingctx, a):
    """The upper half of a vector added to its lower half: what `added_up` does first."""

    def emit(context, builder, found, arguments):
        return _halves_added(builder, arguments[0])

    return Vector(a.dtype, a.count // 2)(a), emit


# Vectors that `added_up_each` takes, in the order in which halves have to be put behind each other for sums in order.
EACH = 8
_IN_TURN = (0, 4, 2, 6, 1, 5, 3, 7)


@intrinsic
def added_up_each(typingctx, memory):
    """The sums of eight vectors that lie in memory one behind the other, `folded`: to the bit of `added_up`.

    Their additions are shared: row by row, each had to wait for the one before it, 13 times.
    """
    size = vector_of(memory).count // 2

    def emit(context, builder, found, arguments):
        whole = ir.VectorType(context.get_value_type(memory.dtype), size)
        values = []
        for i in _IN_TURN:
            place = builder.gep(arguments[0], [ir.Constant(INT64, i * size)], inbounds=True)
            value = builder.load(builder.bitcast(place, whole.as_pointer()), align=LINE)
            while value.type.count > EACH:
                value = _halves_added(builder, value)
            values.append(widened(builder, value))
        for half in (4, 2, 1):
            pairs = zip(values[::2], values[1::2], strict=True)
            values = [_halves_added_in_place(builder, a, b, half) for a, b in pairs]
        return values[0]

    return Vector(types.float64, EACH)(memory), emit


def _halves_added_in_place(builder, a, b, half):
    """Of each 2·half numbers of two vectors the halves added to each other, those of b behind those of a.

    A blend and a shuffle: the sums of b have their terms the other way round.
    """
    count = a.type.count
    own = [i if i & half == 0 else i + count for i in range(count)]
    other = [i + half if i & half == 0 else i + count - half for i in range(count)]
    return builder.fadd(*(builder.shuffle_vector(a, b, indices(places)) for places in (own, other)))


@intrinsic(prefer_literal=True)
def no_sums(typingctx, like, count, precise):
    """Zeros for so many sums, a constant, of vectors like those of `like`; `precise`, a constant: in float64."""
    kind, many = vector_of(like), count.literal_value
    kind = Vector(types.float64, kind.count) if precise.literal_value else kind

    def emit(context, builder, found, arguments):
        return context.get_constant_null(found.return_type)

    return types.UniTuple(kind, many)(like, count, precise), emit


@intrinsic
def added(typingctx, sums, values, count):
    """The sums, and to each of them the first `count` numbers of a vector: of the last ones among some."""
    skipped = values.count - sums.count

    def emit(context, builder, found, arguments):
        before, vectors, many = arguments
        totals = []
        for i in range(sums.count):
            total, value = builder.extract_value(before, i), builder.extract_value(vectors, skipped + i)
            if value.type != total.type:
                value = widened(builder, value)
            mask = first_lanes(builder, value.type, many)
            value = builder.select(mask, value, ir.Constant(value.type, None))
            totals.append(builder.fadd(total, value))
        return context.make_tuple(builder, sums, totals)

    return sums(sums, values, types.int64), emit


@intrinsic
def greatest(typingctx, a):
    """The greatest number of a vector without NaN."""

    def emit(context, builder, found, arguments):
        function = llvm(
            builder, "vector.reduce.fmax", arguments[0].type, arguments[0].type.element, [arguments[0].type]
        )
        return builder.call(function, arguments)

    return a.dtype(a), emit

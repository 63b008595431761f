"""Numbers from memory and to it, as they are stored and as they are computed: vectors, their first numbers alone, or one."""

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ..._jit import step
from .reductions import emit_added_up
from .vectors import (
    BFLOAT16,
    DOUBLES,
    FLOAT16,
    INT32,
    LINE,
    Vector,
    as_many,
    constant,
    indices,
    lanes,
    lanes_within,
    llvm,
    splat,
    vector_of,
)


def place_of(builder, memory, index, whole, inside=True):
    """The address of memory[index], as that of a vector; is that `inside` the memory?"""
    return builder.bitcast(builder.gep(memory, [index], inbounds=inside), whole.as_pointer())


def _read(builder, memory, index, whole, size, limits):
    """The vector at memory[index]; or where there are limits, the numbers within them, and nothing else is read."""
    place = place_of(builder, memory, index, whole, len(limits) < 2)
    if not limits:
        value = builder.load(place)
        value.align = size
        return value
    mask = lanes_within(builder, whole, limits)
    kinds = [place.type, INT32, mask.type, whole]
    function = llvm(builder, "masked.load", whole, whole, kinds, ".p0")
    return builder.call(function, [place, ir.Constant(INT32, size), mask, ir.Constant(whole, None)])


def _write(builder, memory, index, value, size, limits):
    """memory[index …] = a vector, or its numbers within limits."""
    whole = value.type
    place = place_of(builder, memory, index, whole, len(limits) < 2)
    if not limits:
        builder.store(value, place).align = size
        return
    mask = lanes_within(builder, whole, limits)
    kinds = [whole, place.type, INT32, mask.type]
    function = llvm(builder, "masked.store", whole, ir.VoidType(), kinds, ".p0")
    builder.call(function, [value, place, ir.Constant(INT32, size), mask])


def store_past(builder, value, place):
    """Store what fills lines of 64 bytes, at a place where one begins, past the cache."""
    store = builder.store(value, place)
    store.align = LINE
    store.set_metadata("nontemporal", builder.module.add_metadata([ir.Constant(INT32, 1)]))


def _write_either(builder, memory, index, value, size, limits, past):
    """`_write`, or a whole vector `past` the cache, where lines begin."""
    with builder.if_else(past) as (yes, no):
        with yes:
            store_past(builder, value, place_of(builder, memory, index, value.type))
        with no:
            _write(builder, memory, index, value, size, limits)


def _size(memory):
    return memory.dtype.bitwidth // 8


def computed(builder, value, dtype, target):
    """Numbers that are stored as `dtype`, as numbers of the LLVM type `target`."""
    if dtype == FLOAT16:
        value = builder.bitcast(value, as_many(target, ir.HalfType()))
    elif dtype == BFLOAT16:  # the upper half of a float32
        bits = as_many(target, INT32)
        value = builder.shl(builder.zext(value, bits), constant(bits, 16))
        value = builder.bitcast(value, as_many(target, ir.FloatType()))
    return value if value.type == target else builder.fpext(value, target)


def stored(builder, value, dtype):
    """Numbers as they are stored in memory of `dtype`: 16-bit ones rounded to the nearest, of two to the even one."""
    if dtype == FLOAT16:
        value = builder.fptrunc(value, as_many(value.type, ir.HalfType()))
        return builder.bitcast(value, as_many(value.type, ir.IntType(16)))
    if dtype != BFLOAT16:
        return value
    kind = as_many(value.type, INT32)
    # The machine's own instruction takes subnormals for zeros.
    bits = builder.bitcast(value, kind)
    odd = builder.and_(builder.lshr(bits, constant(kind, 16)), constant(kind, 1))
    rounded = builder.add(bits, builder.add(odd, constant(kind, 0x7FFF)))
    quiet = builder.or_(bits, constant(kind, 0x400000))
    bits = builder.select(builder.fcmp_unordered("uno", value, value), quiet, rounded)
    return builder.trunc(builder.lshr(bits, constant(kind, 16)), as_many(kind, ir.IntType(16)))


def _loading(memory, kind, result, *limits):
    """An intrinsic's signature and code: numbers of one vector type are read and given as another's."""

    def emit(context, builder, found, arguments):
        whole = context.get_value_type(kind)
        value = _read(builder, *arguments[:2], whole, _size(memory), arguments[2:])
        return computed(builder, value, memory.dtype, context.get_value_type(result))

    return result(memory, types.int64, *limits), emit


def _whole(memory):
    """A vector as it is stored, and as it is computed on."""
    result = vector_of(memory)
    return Vector(memory.dtype, result.count), result


def _doubles(memory):
    """The same of as many numbers as a vector of float64 has: half a vector of float32."""
    return Vector(memory.dtype, DOUBLES), Vector(types.float64, DOUBLES)


@intrinsic
def load(typingctx, memory, index):
    """The vector that begins at memory[index]."""
    return _loading(memory, *_whole(memory))


@intrinsic
def load_part(typingctx, memory, index, count):
    """The first `count` numbers from memory[index] on, then zeros; nothing is read beyond them.

    Where LLVM sees that they are all of a vector, this is `load`.
    """
    return _loading(memory, *_whole(memory), types.int64)


@intrinsic
def load_some(typingctx, memory, index, first, last):
    """The numbers first to last of the vector that begins at memory[index], and zeros; nothing else is read."""
    return _loading(memory, *_whole(memory), types.int64, types.int64)


@intrinsic
def load_wide(typingctx, memory, index):
    """As many numbers from memory[index] on as a vector of float64 has, in float64."""
    return _loading(memory, *_doubles(memory))


@intrinsic
def load_wide_part(typingctx, memory, index, count):
    """The first `count` of them, then zeros."""
    return _loading(memory, *_doubles(memory), types.int64)


def _storing(memory, value, adds, *limits):
    """An intrinsic's signature and code: a vector is written, or added to what is there."""

    def emit(context, builder, found, arguments):
        target, index, number = arguments[:3]
        if adds:
            before = _read(builder, target, index, number.type, _size(memory), arguments[3:])
            number = builder.fadd(before, number)
        number = stored(builder, number, memory.dtype)
        _write(builder, target, index, number, _size(memory), arguments[3:])
        return context.get_dummy_value()

    return types.void(memory, types.int64, value, *limits), emit


@intrinsic
def store(typingctx, memory, index, value):
    """Write a vector from memory[index] on."""
    return _storing(memory, value, False)


@intrinsic
def put(typingctx, memory, index, value, past):
    """The same, or `past` the cache, where memory[index] is the first number of a line of 64 bytes."""

    def emit(context, builder, found, arguments):
        target, at, number, is_past = arguments
        number = stored(builder, number, memory.dtype)
        _write_either(builder, target, at, number, _size(memory), (), is_past)
        return context.get_dummy_value()

    return types.void(memory, types.int64, value, types.boolean), emit


@intrinsic
def store_part(typingctx, memory, index, value, count):
    """Write the first `count` numbers of a vector from memory[index] on."""
    return _storing(memory, value, False, types.int64)


@intrinsic
def store_some(typingctx, memory, index, value, first, last):
    """Write the numbers first to last of a vector that begins at memory[index]."""
    return _storing(memory, value, False, types.int64, types.int64)


@intrinsic
def put_part(typingctx, memory, index, value, count, past):
    """The same, or `past` the cache, where memory[index] is the first number of lines of 64 bytes, which they fill."""

    def emit(context, builder, found, arguments):
        target, at, number, many, is_past = arguments
        number = stored(builder, number, memory.dtype)
        nothing, size = ir.Constant(number.type, ir.Undefined), _size(memory)
        past_it = builder.append_basic_block("past")
        into_it, end = (builder.append_basic_block(name) for name in ("into", "end"))
        builder.cbranch(is_past, past_it, into_it)
        builder.position_at_end(past_it)
        choice = builder.switch(many, into_it)
        for filled in range(LINE // size, value.count + 1, LINE // size):
            block = builder.append_basic_block()
            choice.add_case(ir.Constant(many.type, filled), block)
            builder.position_at_end(block)
            lines = builder.shuffle_vector(number, nothing, indices(range(filled)))
            store_past(builder, lines, place_of(builder, target, at, lines.type))
            builder.branch(end)
        builder.position_at_end(into_it)
        _write(builder, target, at, number, size, [many])
        builder.branch(end)
        builder.position_at_end(end)
        return context.get_dummy_value()

    return types.void(memory, types.int64, value, types.int64, types.boolean), emit


@intrinsic
def store_bytes(typingctx, memory, index, value, count):
    """Write the first `count` numbers of a vector, integers that fit, into bytes from memory[index] on."""

    def emit(context, builder, found, arguments):
        target, at, number, many = arguments
        whole = ir.VectorType(ir.IntType(8), value.count)
        _write(builder, target, at, builder.fptosi(number, whole), 1, [many])
        return context.get_dummy_value()

    return types.void(memory, types.int64, value, types.int64), emit


@intrinsic
def add_to(typingctx, memory, index, value):
    """memory[index …] += a vector of as wide numbers."""
    return _storing(memory, value, True)


@intrinsic
def add_part_to(typingctx, memory, index, value, count):
    """The same with its first `count` numbers alone."""
    return _storing(memory, value, True, types.int64)


@intrinsic
def number(typingctx, memory, index):
    """memory[index], for memory that may hold 16-bit floats."""
    result = vector_of(memory).dtype

    def emit(context, builder, found, arguments):
        value = builder.load(builder.gep(arguments[0], [arguments[1]], inbounds=True))
        return computed(builder, value, memory.dtype, context.get_value_type(result))

    return result(memory, types.int64), emit


# -- Of several arrays at once, which lie at addresses ------------------------------------------------------------------


@intrinsic
def load_vectors(typingctx, like, places, masks, index, count):
    """The first `count` numbers at an index of each place, of memory like `like`: for an index 0 where its mask is 0."""
    kind, result = _whole(like)

    def emit(context, builder, found, arguments):
        memory, starts, kept, at, many = arguments
        values = []
        for i in range(places.count):
            start = builder.inttoptr(builder.extract_value(starts, i), memory.type)
            own = builder.and_(at, builder.extract_value(kept, i))
            value = _read(builder, start, own, context.get_value_type(kind), _size(like), [many])
            values.append(computed(builder, value, like.dtype, context.get_value_type(result)))
        return context.make_tuple(builder, found.return_type, values)

    return types.UniTuple(result, places.count)(like, places, masks, types.int64, types.int64), emit


@intrinsic
def store_vectors(typingctx, like, places, index, values, count, past):
    """Write the first `count` numbers of the first vectors from an index on: one at each place, in memory like `like`.

    Whole ones `past` the cache, at places where lines begin.
    """

    def emit(context, builder, found, arguments):
        memory, starts, at, vectors, many, is_past = arguments
        for i in range(places.count):
            start = builder.inttoptr(builder.extract_value(starts, i), memory.type)
            _write_either(builder, start, at, builder.extract_value(vectors, i), _size(like), [many], is_past)
        return context.get_dummy_value()

    return types.void(like, places, types.int64, values, types.int64, types.boolean), emit


@intrinsic
def add_vectors(typingctx, like, places, index, values, count):
    """Add the first `count` numbers of the last vectors likewise."""
    skipped = values.count - places.count

    def emit(context, builder, found, arguments):
        memory, starts, at, vectors, many = arguments
        for i in range(places.count):
            start = builder.inttoptr(builder.extract_value(starts, i), memory.type)
            value = builder.extract_value(vectors, skipped + i)
            before = _read(builder, start, at, value.type, _size(like), [many])
            _write(builder, start, at, builder.fadd(before, value), _size(like), [many])
        return context.get_dummy_value()

    return types.void(like, places, types.int64, values, types.int64), emit


@intrinsic
def store_sums(typingctx, totals, index, sums):
    """Write the sum of each vector, one behind the other."""

    def emit(context, builder, found, arguments):
        memory, at, vectors = arguments
        for i in range(sums.count):
            value = emit_added_up(builder, builder.extract_value(vectors, i))
            builder.store(value, builder.gep(memory, [builder.add(at, ir.Constant(at.type, i))]))
        return context.get_dummy_value()

    return types.void(totals, types.int64, sums), emit


@step
def clear(memory, count):
    """Zeros in as many vectors as hold `count` numbers."""
    for i in range(0, count, lanes(memory)):
        store(memory, i, splat(memory, 0.0))

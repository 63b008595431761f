"""Vectors from memory and to it: whole ones, or their first numbers alone."""

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .._jit import step
from .vectors import DOUBLES, INT32, Vector, first_lanes, llvm, vector_of


def place_of(builder, memory, index, whole):
    """The address of memory[index], as that of a vector."""
    return builder.bitcast(builder.gep(memory, [index], inbounds=True), whole.as_pointer())


def _read(builder, memory, index, whole, size, count):
    """The vector at memory[index]; or its first `count` numbers, then zeros, and nothing is read beyond them."""
    place = place_of(builder, memory, index, whole)
    if count is None:
        value = builder.load(place)
        value.align = size
        return value
    mask = first_lanes(builder, whole, count)
    kinds = [place.type, INT32, mask.type, whole]
    function = llvm(builder, "masked.load", whole, whole, kinds, ".p0")
    return builder.call(function, [place, ir.Constant(INT32, size), mask, ir.Constant(whole, None)])


def _write(builder, memory, index, value, size, count):
    """memory[index …] = a vector, or its first `count` numbers."""
    whole = value.type
    place = place_of(builder, memory, index, whole)
    if count is None:
        builder.store(value, place).align = size
        return
    mask = first_lanes(builder, whole, count)
    kinds = [whole, place.type, INT32, mask.type]
    function = llvm(builder, "masked.store", whole, ir.VoidType(), kinds, ".p0")
    builder.call(function, [value, place, ir.Constant(INT32, size), mask])


def _size(memory):
    return memory.dtype.bitwidth // 8


def _loading(memory, kind, result, *count):
    """An intrinsic's signature and code: numbers of one vector type are read and given as another's."""

    def emit(context, builder, found, arguments):
        whole = context.get_value_type(kind)
        value = _read(builder, *arguments[:2], whole, _size(memory), arguments[2] if count else None)
        return value if kind == result else builder.fpext(value, context.get_value_type(result))

    return result(memory, types.int64, *count), emit


def _doubles(memory):
    """As many numbers as a vector of float64 has: half a vector of float32."""
    return Vector(memory.dtype, DOUBLES), Vector(types.float64, DOUBLES)


@intrinsic
def load(typingctx, memory, index):
    """The vector that begins at memory[index]."""
    return _loading(memory, vector_of(memory), vector_of(memory))


@intrinsic
def load_part(typingctx, memory, index, count):
    """The first `count` numbers from memory[index] on, then zeros; nothing is read beyond them."""
    return _loading(memory, vector_of(memory), vector_of(memory), types.int64)


@intrinsic
def load_wide(typingctx, memory, index):
    """As many numbers from memory[index] on as a vector of float64 has, in float64."""
    return _loading(memory, *_doubles(memory))


@intrinsic
def load_wide_part(typingctx, memory, index, count):
    """The first `count` of them, then zeros."""
    return _loading(memory, *_doubles(memory), types.int64)


def _storing(memory, value, adds, *count):
    """An intrinsic's signature and code: a vector is written, or added to what is there."""

    def emit(context, builder, found, arguments):
        target, index, number = arguments[:3]
        many = arguments[3] if count else None
        if adds:
            before = _read(builder, target, index, number.type, _size(memory), many)
            number = builder.fadd(before, number)
        _write(builder, target, index, number, _size(memory), many)
        return context.get_dummy_value()

    return types.void(memory, types.int64, value, *count), emit


@intrinsic
def store(typingctx, memory, index, value):
    """Write a vector from memory[index] on."""
    return _storing(memory, value, False)


@intrinsic
def store_part(typingctx, memory, index, value, count):
    """Write the first `count` numbers of a vector from memory[index] on."""
    return _storing(memory, value, False, types.int64)


@intrinsic
def add_to(typingctx, memory, index, value):
    """memory[index …] += a vector of as wide numbers."""
    return _storing(memory, value, True)


@intrinsic
def add_part_to(typingctx, memory, index, value, count):
    """The same with its first `count` numbers alone."""
    return _storing(memory, value, True, types.int64)


# -- Where a loop's body is the same for whole vectors and for the last part --------------------------------------------


@step
def whole_vector(memory, at, count):
    return load(memory, at)


@step
def part_vector(memory, at, count):
    return load_part(memory, at, count)

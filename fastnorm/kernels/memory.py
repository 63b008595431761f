"""Memory below the phases of a kernel: pointers, space on the stack, buffers, stores past the cache.

An array is seven numbers and a count of references: to pass one to a function costs 10 ns, to slice one an atomic addition.
So memory is a pointer here, and what is absent is a null pointer.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .._jit import routine
from .loads import load, load_part, place_of, store, store_part, store_past, stored
from .vectors import INT64, LINE, in_vectors, keep_small, lanes, vector_of


@intrinsic
def pointer(typingctx, array):
    """The first element of a contiguous array that its owner keeps alive; null for an array of size 0."""
    kind = types.CPointer(array.dtype)

    def emit(context, builder, found, arguments):
        keep_small(builder)
        view = cgutils.create_struct_proxy(array)(context, builder, arguments[0])
        nothing = ir.Constant(view.data.type, None)
        empty = builder.icmp_signed("==", view.nitems, ir.Constant(view.nitems.type, 0))
        return builder.select(empty, nothing, view.data)

    return kind(array), emit


@intrinsic
def given(typingctx, memory):
    """Whether there is something there."""

    def emit(context, builder, found, arguments):
        return builder.icmp_unsigned("!=", arguments[0], ir.Constant(arguments[0].type, None))

    return types.boolean(memory), emit


@intrinsic
def nothing(typingctx, like):
    """A null pointer."""

    def emit(context, builder, found, arguments):
        return ir.Constant(arguments[0].type, None)

    return like(like), emit


@intrinsic
def moved(typingctx, memory, count):
    """The memory from its `count`-th number on."""

    def emit(context, builder, found, arguments):
        return builder.gep(arguments[0], [arguments[1]], inbounds=True)

    return memory(memory, types.int64), emit


@intrinsic
def numbers_like(typingctx, memory, like):
    """The same memory, as numbers of the dtype in which the kernels compute on `like`."""
    kind = types.CPointer(vector_of(like).dtype)

    def emit(context, builder, found, arguments):
        return builder.bitcast(arguments[0], context.get_value_type(kind))

    return kind(memory, like), emit


@intrinsic
def as_bytes(typingctx, memory):
    """The same memory, as signed bytes."""
    kind = types.CPointer(types.int8)

    def emit(context, builder, found, arguments):
        return builder.bitcast(arguments[0], context.get_value_type(kind))

    return kind(memory), emit


@intrinsic
def keep(typingctx, array):
    """Nothing; but as long as this is still to come, Numba does not free the array."""

    def emit(context, builder, found, arguments):
        return context.get_dummy_value()

    return types.void(array), emit


@intrinsic
def cast(typingctx, memory, value):
    """A number in the dtype in which the kernels compute on `memory`."""
    kind = vector_of(memory).dtype

    def emit(context, builder, found, arguments):
        return context.cast(builder, arguments[1], value, kind)

    return kind(memory, value), emit


@intrinsic
def is_double(typingctx, memory):
    """Whether that dtype is float64."""
    answer = vector_of(memory).dtype == types.float64

    def emit(context, builder, found, arguments):
        return context.get_constant(types.boolean, answer)

    return types.boolean(memory), emit


@intrinsic(prefer_literal=True)
def stack(typingctx, like, count):
    """Space for `count` numbers, a constant, of the dtype of `like`, for as long as the function runs that asks for it.

    What is in it is anything. (Numba's own `alloca_once` fills it with zeros, one by one: 40 KB took LLVM 6 s to compile.)
    """
    if not isinstance(count, types.IntegerLiteral):
        return None
    kind = types.CPointer(vector_of(like).dtype)

    def emit(context, builder, found, arguments):
        keep_small(builder)
        element = context.get_data_type(kind.dtype)
        with builder.goto_entry_block():
            space = builder.alloca(ir.ArrayType(element, count.literal_value))
        space.align = LINE
        return builder.bitcast(space, element.as_pointer())

    return kind(like, count), emit


# -- Beside its place: what is stored otherwise than it is computed ---------------------------------------------------


@intrinsic
def is_staged(typingctx, memory, wanted):
    """Whether numbers pass through a buffer: where that is wanted, and where they are stored in 16 bits."""
    always = vector_of(memory).dtype != memory.dtype

    def emit(context, builder, found, arguments):
        return context.get_constant(types.boolean, True) if always else arguments[1]

    return types.boolean(memory, types.boolean), emit


@intrinsic
def stage(typingctx, memory, buffer, wanted):
    """The buffer if numbers pass through it, else the memory itself."""
    always = vector_of(memory).dtype != memory.dtype

    def emit(context, builder, found, arguments):
        direct, beside, condition = arguments
        return beside if always else builder.select(condition, beside, direct)

    return buffer(memory, buffer, types.boolean), emit


# -- Past the cache ------------------------------------------------------------------------------------------------


@intrinsic
def _store_line(typingctx, target, at, source, place):
    """Copy what fills one line of 64 bytes to target[at], which is aligned, past the cache."""

    def emit(context, builder, found, arguments):
        numbers = ir.VectorType(context.get_value_type(source.dtype), LINE * 8 // target.dtype.bitwidth)
        value = builder.load(place_of(builder, *arguments[2:], numbers))
        value.align = 4
        value = stored(builder, value, target.dtype)
        store_past(builder, value, place_of(builder, *arguments[:2], value.type))
        return context.get_dummy_value()

    return types.void(target, types.int64, source, types.int64), emit


@intrinsic
def _per_line(typingctx, memory):
    """How many numbers fill a line of 64 bytes."""
    count = LINE * 8 // memory.dtype.bitwidth

    def emit(context, builder, found, arguments):
        return ir.Constant(INT64, count)

    return types.int64(memory), emit


@intrinsic
def before_line(typingctx, memory, index):
    """How many numbers lie between memory[index] and the next line of 64 bytes."""
    size = memory.dtype.bitwidth // 8

    def emit(context, builder, found, arguments):
        address = builder.ptrtoint(builder.gep(arguments[0], [arguments[1]]), INT64)
        gap = builder.and_(builder.neg(address), ir.Constant(INT64, LINE - 1))
        return builder.udiv(gap, ir.Constant(INT64, size))

    return types.int64(memory, types.int64), emit


@routine
def stream(block, y, to, size):
    """y[to …] = the first `size` numbers of a block, past the cache; what fills no line is stored plainly."""
    line = _per_line(y)
    first = min(size, before_line(y, to))
    if first > 0:
        store_part(y, to, load_part(block, 0, first), first)
    last = first + (size - first) // line * line
    for i in range(first, last, line):
        _store_line(y, to + i, block, i)
    if last < size:
        store_part(y, to + last, load_part(block, last, size - last), size - last)


@routine
def deliver(block, y, to, size, streaming):
    """y[to …] = the first `size` numbers of a block, past the cache or into it."""
    if streaming:
        stream(block, y, to, size)
        return
    n = lanes(y)
    whole = in_vectors(size, n)
    for i in range(0, whole, n):
        store(y, to + i, load(block, i))
    if whole < size:
        store_part(y, to + whole, load_part(block, whole, size - whole), size - whole)

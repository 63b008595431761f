"""Memory below the phases of a kernel: pointers, space on the stack, buffers.

An array is seven numbers and a count of references: to pass one to a function costs 10 ns, to slice one an atomic addition.
So memory is a pointer here, and what is absent is a null pointer.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ..._jit import step
from .vectors import LINE, lanes, vector_of


@intrinsic
def pointer(typingctx, array):
    """The first element of a contiguous array that its owner keeps alive; null for an array of size 0."""
    kind = types.CPointer(array.dtype)

    def emit(context, builder, found, arguments):
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


def stack_space(context, builder, dtype, count):
    """The address of space for `count` numbers in the function that is being compiled, on a line of 64 bytes."""
    element = context.get_data_type(dtype)
    with builder.goto_entry_block():
        space = builder.alloca(ir.ArrayType(element, count))
    space.align = LINE
    return builder.bitcast(space, element.as_pointer())


@intrinsic(prefer_literal=True)
def stack(typingctx, like, count):
    """Space for `count` numbers, a constant, of the dtype of `like`, for as long as the function runs that asks for it.

    What is in it is anything. (Numba's own `alloca_once` fills it with zeros, one by one: 40 KB took LLVM 6 s to compile.)
    """
    if not isinstance(count, types.IntegerLiteral):
        return None
    kind = types.CPointer(vector_of(like).dtype)

    def emit(context, builder, found, arguments):
        return stack_space(context, builder, kind.dtype, count.literal_value)

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


@step
def padded(array, width):
    """The width of a line that holds whole vectors."""
    n = lanes(array)
    return (width + n - 1) // n * n

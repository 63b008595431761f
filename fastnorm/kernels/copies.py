"""Blocks of memory, told by their addresses, filled from others or with zeros."""

from llvmlite import ir
from numba import prange, types
from numba.core import cgutils
from numba.extending import intrinsic

from .._jit import parallel, step

_BYTE, _BIT = ir.IntType(8), ir.IntType(1)


@intrinsic
def _copy(typingctx, to, source, size):
    """Copy so many bytes from one address to another; they do not overlap."""

    def emit(context, builder, found, arguments):
        places = [builder.inttoptr(value, _BYTE.as_pointer()) for value in arguments[:2]]
        cgutils.raw_memcpy(builder, *places, arguments[2], 1)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), emit


@intrinsic
def _clear(typingctx, to, size):
    """Write so many zeros."""

    def emit(context, builder, found, arguments):
        place = builder.inttoptr(arguments[0], _BYTE.as_pointer())
        cgutils.memset(builder, place, arguments[1], 0)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), emit


@step
def _copy_some(blocks, first, every):
    for i in range(first, len(blocks), every):
        to, rows, size, step, source, _, _, source_step = blocks[i]
        for r in range(rows):
            if source == 0:
                _clear(to + r * step, size)
            else:
                _copy(to + r * step, source + r * source_step, size)


@parallel
def copy_blocks(threads, blocks):
    """Fill blocks of (address, rows, bytes of a row, from row to row) from blocks of as many rows, or with zeros.

    blocks: (n, 8) of int64, what is to be filled and what it is filled from, whose address is 0 for zeros. NumPy takes 3 to
    5 µs for each.
    """
    if threads == 1:
        _copy_some(blocks, 0, 1)
        return
    for thread in prange(threads):
        _copy_some(blocks, thread, threads)

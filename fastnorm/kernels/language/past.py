"""Stores past the cache, which take whole lines of 64 bytes: what one run leaves of a vector waits there for the next.

A line of which a part is stored plainly and the rest past the cache is read from memory and written twice. And to read what
has just been stored in parts takes until all stores before it have left the core, and those past the cache take their time:
so what waits is a vector, made whole in registers from what waited before and the first numbers of the next run.
"""

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ..._jit import routine, step
from .loads import (
    load,
    load_part,
    load_some,
    place_of,
    put,
    put_part,
    store,
    store_part,
    store_past,
    store_some,
    stored,
)
from .memory import given, nothing, stack_space
from .vectors import BYTES, INT64, LINE, continued, in_vectors, lanes, vector_of

# Where a run begins. (Numba takes a plain integer for a type of its own, and would compile for it again.)
START = np.int64(0)
# What a sink knows: which numbers of its vector wait, from the first to the one behind the last, and where in the result the
# next one belongs.
_FIRST, _LAST, _NEXT = range(3)


@intrinsic
def _store_line(typingctx, target, at, source, place):
    """Copy what fills one line of 64 bytes to target[at], which is aligned, past the cache."""

    def emit(context, builder, found, arguments):
        numbers = ir.VectorType(context.get_value_type(source.dtype), LINE * 8 // target.dtype.bitwidth)
        value = builder.load(place_of(builder, *arguments[2:], numbers))
        value.align = 2
        if source.dtype != target.dtype:
            value = stored(builder, value, target.dtype)
        store_past(builder, value, place_of(builder, *arguments[:2], value.type))
        return context.get_dummy_value()

    return types.void(target, types.int64, source, types.int64), emit


@intrinsic
def per_line(typingctx, memory):
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


# -- A block ---------------------------------------------------------------------------------------------------------


@routine
def stream(block, y, to, size):
    """y[to …] = the first `size` numbers of a block, past the cache; what fills no line is stored plainly."""
    line = per_line(y)
    first = min(size, before_line(y, to))
    if first > 0:
        store_part(y, to, load_part(block, 0, first), first)
    last = first + (size - first) // line * line
    for i in range(first, last, line):
        _store_line(y, to + i, block, i)
    if last < size:
        store_part(y, to + last, load_part(block, last, size - last), size - last)


# -- One run after the other ------------------------------------------------------------------------------------------


@intrinsic
def room(typingctx, y, job):
    """Space for a sink, for as long as the function runs that asks for it: a step's own ends with the step."""
    kind = types.CPointer(vector_of(y).dtype)
    kinds = types.Tuple((kind, job))

    def emit(context, builder, found, arguments):
        space = stack_space(context, builder, kind.dtype, BYTES * 8 // kind.dtype.bitwidth)
        state = stack_space(context, builder, job.dtype, 3)
        return context.make_tuple(builder, kinds, (space, state))

    return kinds(y, job), emit


@step
def new_sink(past, room):
    """Where the runs of a task wait, (space, state). The space is null where they are not stored `past` the cache."""
    space, state = room
    state[_FIRST], state[_LAST], state[_NEXT] = 0, 0, -1
    return space if past else nothing(space), state


@step
def flush(y, sink):
    """Store what waits, at the end of a task or before a run that begins elsewhere."""
    space, state = sink
    first, last = state[_FIRST], state[_LAST]
    if given(space) and last > first:
        to = state[_NEXT] - last
        if first == 0:
            put_part(y, to, load(space, 0), last, last % per_line(y) == 0)
        else:
            store_some(y, to, load(space, 0), first, last)
    state[_LAST], state[_NEXT] = 0, -1


@step
def waiting(y, to, sink):
    """How many numbers of the vector that y[to] belongs to come before it: they wait, or are others'."""
    state = sink[1]
    if state[_NEXT] != to:
        flush(y, sink)
        line = per_line(y)
        before = (line - before_line(y, to)) % line
        state[_FIRST], state[_LAST], state[_NEXT] = before, before, to
    return state[_LAST]


@step
def _store_full(y, to, value, sink):
    """The vector that waited, now that it is full."""
    state = sink[1]
    if state[_FIRST] == 0:
        put(y, to, value, True)
    else:
        store_some(y, to, value, state[_FIRST], lanes(y))
    state[_FIRST] = 0


@step
def written(vector, run, first, last, y, to):
    """y[to …] = the numbers first to last of a run, as `vector` makes it.

    vector(run, i, low, high) is the vector from the i-th number of the run on, of which those from low to high are wanted,
    and nothing else is read. (One function for whole vectors too: LLVM sees where a mask is full.)
    """
    n, to = lanes(y), to - first
    end = first + in_vectors(last - first, n)
    for i in range(first, end, n):
        store(y, to + i, vector(run, i, START, n))
    if end < last:
        store_part(y, to + end, vector(run, end, START, last - end), last - end)


@step
def poured(vector, run, first, last, y, to, sink):
    """The same, by way of a sink, if there is one: past the cache."""
    space, state = sink
    if not given(space):
        written(vector, run, first, last, y, to)
        return
    n, before, to = lanes(y), waiting(y, to, sink), to - first
    state[_NEXT] = to + last
    if before > 0:
        begin = first - before
        filled = min(n, last - begin)
        value = continued(load(space, 0), vector(run, begin, before, filled), before)
        if filled < n:
            store(space, 0, value)
            state[_LAST] = filled
            return
        _store_full(y, to + begin, value, sink)
        first = begin + n
    end = first + in_vectors(last - first, n)
    for i in range(first, end, n):
        put(y, to + i, vector(run, i, START, n), True)
    if end < last:
        store(space, 0, vector(run, end, START, last - end))
    state[_LAST] = last - end


@step
def block_vector(block, i, first, last):
    """A vector of a block."""
    return load_some(block, i, first, last)


@routine
def deliver(block, y, to, size, streaming):
    """y[to …] = the first `size` numbers of a block, past the cache or into it."""
    if streaming:
        stream(block, y, to, size)
    else:
        written(block_vector, block, START, size, y, to)


@routine
def pour(block, y, to, size, sink):
    """The same, by way of a sink if there is one."""
    poured(block_vector, block, START, size, y, to, sink)

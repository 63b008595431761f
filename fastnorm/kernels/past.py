"""Stores past the cache, which take whole lines of 64 bytes: what one run leaves of a line waits there for the next.

A line of which a part is stored plainly and the rest past the cache is read from memory and written twice. And to read what
has just been stored for a line in parts takes until all stores before it have left the core, and those past the cache take
their time: 131072 runs of 64 that began within lines took 7 to 12 ms where each was cut at its lines, and take 2 where such
short ones wait, some tens of them.
"""

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .._jit import routine, step
from .loads import load, load_part, place_of, store, store_part, store_past, stored
from .memory import given, moved, nothing, stack_space
from .vectors import INT64, LINE, in_vectors, lanes

# What a sink knows: how many numbers wait in it, and where in the result the next one belongs.
_WAITING, _NEXT = range(2)
# Runs of so many vectors at the most wait as a whole, unless they fill lines, until there are enough numbers (of 131072 runs
# of 49 half as many took 4 to 9 % less than 1536); and space for all that waits. Runs of 100 and more lost a quarter so.
_SHORT, _ENOUGH, _SPACE = 3, 768, 1024


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


# -- One run after the other ------------------------------------------------------------------------------------------


@intrinsic
def room(typingctx, y, job):
    """Space for a sink, for as long as the function runs that asks for it: a step's own ends with the step."""
    kinds = types.Tuple((y, job))

    def emit(context, builder, found, arguments):
        space = stack_space(context, builder, y.dtype, _SPACE)
        state = stack_space(context, builder, job.dtype, 2)
        return context.make_tuple(builder, kinds, (space, state))

    return kinds(y, job), emit


@step
def new_sink(past, room):
    """Where the runs of a task wait, (space, state). The space is null where they are not stored `past` the cache."""
    space, state = room
    state[_WAITING], state[_NEXT] = 0, -1
    return space if past else nothing(space), state


@step
def flush(y, sink):
    """Store what waits, at the end of a task or before a run that begins elsewhere."""
    space, state = sink
    if given(space) and state[_WAITING] > 0:
        stream(space, y, state[_NEXT] - state[_WAITING], state[_WAITING])
        state[_WAITING] = 0


@routine
def _store_lines(y, sink):
    """Store what waits but for the line that has begun."""
    space, state = sink
    waiting, line = state[_WAITING], per_line(y)
    rest = (line - before_line(y, state[_NEXT])) % line
    stream(space, y, state[_NEXT] - waiting, waiting - rest)
    store_part(space, 0, load_part(space, waiting - rest, rest), rest)
    state[_WAITING] = rest


@routine
def _cuts_past(y, to, size, sink):
    """Where a run is cut: behind what fills the line that has begun, and behind whole vectors from there on.

    All of a short one is the first part, which waits.
    """
    if sink[1][_NEXT] != to:
        flush(y, sink)
        sink[1][_NEXT] = to
    head = before_line(y, to)
    if size <= _SHORT * lanes(y) and (head > 0 or size % per_line(y) > 0):
        return size, size
    if head == 0:
        flush(y, sink)
    return head, head + in_vectors(size - head, lanes(y))


@step
def _cuts_of(y, to, size, sink):
    """The same; without a sink there is nothing but the second of the three parts."""
    return _cuts_past(y, to, size, sink) if given(sink[0]) else (0, size)


@step
def _parts_of(sink):
    """Which of the three parts a run has, first to last."""
    return (0, 3) if given(sink[0]) else (1, 2)


@step
def _part_of(cuts, size, part):
    """(first, count) of one of the three parts of a run."""
    first = 0 if part == 0 else cuts[part - 1]
    return first, (size if part == 2 else cuts[part]) - first


@step
def _target_of(y, at, sink, part):
    """(memory, index, whether past the cache) of what is stored at y[at]: the first and the last part are to wait."""
    if part == 1:
        return y, at, given(sink[0])
    return sink[0], sink[1][_WAITING], False


@routine
def _settle(y, count, sink, part, is_last):
    """So many numbers have been stored of a part; what is to follow them must not wait, or they are enough."""
    state = sink[1]
    state[_NEXT] += count
    if part != 1:
        state[_WAITING] += count
        if part == 0 and not is_last:
            flush(y, sink)
        elif state[_WAITING] > _ENOUGH:
            _store_lines(y, sink)


@step
def poured(write, run, y, to, size, sink):
    """A run of y as `write` makes it, by way of a sink, if there is one: past the cache.

    write(run, first, count, target, at, past) stores `count` numbers of the run, from the first-th on, at target[at].
    """
    cuts = _cuts_of(y, to, size, sink)
    begin, end = _parts_of(sink)
    for part in range(begin, end):
        first, count = _part_of(cuts, size, part)
        if count > 0:
            target, at, past = _target_of(y, to + first, sink, part)
            write(run, first, count, target, at, past)
            if given(sink[0]):
                _settle(y, count, sink, part, first + count == size)


@step
def _write_block(block, first, count, y, to, past):
    """A part of a block for `poured`."""
    deliver(moved(block, first), y, to, count, past)


@routine
def pour(block, y, to, size, sink):
    """`deliver`, by way of a sink if there is one."""
    poured(_write_block, block, y, to, size, sink)

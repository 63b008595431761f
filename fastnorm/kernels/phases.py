"""Phases: what a kernel calls for each of its tasks, on many threads. They are C functions, called by their addresses.

Numba makes the body of a parallel loop a function of its own, with wrappers around it, and LLVM optimises whatever it calls
with each of them anew: a layer norm's forward pass took 20 s to compile that way. Behind an address it is optimised once,
and one loop runs the phases of all kernels.
"""

import numpy as np
from llvmlite import ir
from numba import prange, types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.numpy_support import from_dtype

from .._jit import c_function, parallel, step
from .job import PHASES
from .language.vectors import INT64


class Phase:
    """A function of a task's number, a table of memory like x, one of memory like statistics, the job, and eps."""

    def __init__(self, function, returned=types.void):
        self._function, self._returned, self._compiled = function, returned, {}

    def address(self, dtype, numbers):
        """Where it lies, compiled or loaded from the cache, for x of one dtype and statistics of another."""
        found = self._compiled.get((dtype, numbers))
        if found is None:
            tables = (types.CPointer(types.CPointer(from_dtype(np.dtype(d)))) for d in (dtype, numbers))
            signature = self._returned(types.int64, *tables, types.CPointer(types.int64), types.float64)
            # Of two threads that come here at once both take the same one: the other's memory is given back.
            found = self._compiled.setdefault((dtype, numbers), c_function(self._function, signature))
        return found.address


class Kernel:
    """What is called for a whole job: a function like a phase, but of how many threads there are; and the phases it runs.

    It takes so many `arrays` like x, and behind them those like statistics.
    """

    def __init__(self, function, phases, arrays):
        whole = step(function)

        # What returns by an exception, which is one of memory, returns 0.
        def kernel(threads, arrays, numbers, job, eps):
            whole(threads, arrays, numbers, job, eps)
            return 1

        kernel.__name__, kernel.__module__ = function.__name__, function.__module__  # by which it is cached
        self.whole, self.phases, self.arrays = Phase(kernel, types.int64), phases, arrays


def kernel(*phases, arrays):
    """A kernel that runs these phases; its function has the number of threads in the place of a task's."""
    return lambda function: Kernel(function, phases, arrays)


@intrinsic
def table(typingctx, pointers):
    """Some pointers in memory, taken for ones like the first, for as long as the function runs that asks."""
    kind = types.CPointer(pointers[0])

    def emit(context, builder, found, arguments):
        values = cgutils.unpack_tuple(builder, arguments[0])
        space = cgutils.alloca_once(builder, ir.ArrayType(values[0].type, len(values)))
        for i, value in enumerate(values):
            builder.store(builder.bitcast(value, values[0].type), cgutils.gep_inbounds(builder, space, 0, i))
        return builder.bitcast(space, context.get_value_type(kind))

    return kind(pointers), emit


@intrinsic(prefer_literal=True)
def listed(typingctx, table, count):
    """The first `count` pointers of a table, `count` being a constant."""
    if not isinstance(count, types.IntegerLiteral):
        return None
    many = count.literal_value

    def emit(context, builder, found, arguments):
        values = [builder.load(cgutils.gep(builder, arguments[0], i)) for i in range(many)]
        return context.make_tuple(builder, found.return_type, values)

    return types.UniTuple(table.dtype, many)(table, count), emit


@intrinsic
def address(typingctx, pointer):
    """A pointer as a number."""

    def emit(context, builder, found, arguments):
        return builder.ptrtoint(arguments[0], INT64)

    return types.int64(pointer), emit


@intrinsic
def call(typingctx, address, i, arrays, numbers, job, eps):
    def emit(context, builder, found, arguments):
        kind = ir.FunctionType(ir.VoidType(), [value.type for value in arguments[1:]])
        builder.call(builder.inttoptr(arguments[0], kind.as_pointer()), arguments[1:])
        return context.get_dummy_value()

    return types.void(*[types.int64] * 5, types.float64), emit


@step
def _call_some(address, low, high, arrays, numbers, job, eps, backwards):
    for i in range(low, high):
        call(address, low + high - 1 - i if backwards else i, arrays, numbers, job, eps)


@parallel
def run(address, tasks, arrays, numbers, job, eps, threads, backwards):
    """Call the phase at an address for every task; the other arguments are addresses too.

    A thread has neighbouring tasks, and takes them backwards on a second trip over memory: what it saw last is still in its
    cache. Batch norm of 32×112×112×64 took 11 ms so, 15 with the second trip in the order of the first.
    """
    if threads == 1:  # a parallel region takes 2 µs to enter
        _call_some(address, 0, tasks, arrays, numbers, job, eps, backwards)
        return
    for thread in prange(threads):
        low, high = thread * tasks // threads, (thread + 1) * tasks // threads
        _call_some(address, low, high, arrays, numbers, job, eps, backwards)


@step
def run_one(phase, tasks, arrays, numbers, job, eps, threads, backwards):
    """One phase of a job, given by its number, with so many tasks."""
    where = address(arrays), address(numbers), address(job)
    run(job[PHASES + phase], tasks, where[0], where[1], where[2], eps, threads, backwards)


@step
def run_all(first, last, tasks, arrays, numbers, job, eps, threads):
    """Phases first to last of a job, one after the other; tasks: how many each has. The last of several is a second trip."""
    for phase in range(first, last + 1):
        again = first < last and phase == last
        run_one(phase, tasks[phase], arrays, numbers, job, eps, threads, again)

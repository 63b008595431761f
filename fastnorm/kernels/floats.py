"""Memory as LLVM sees it: streaming (non-temporal) stores for results larger than the cache, arrays without a count."""

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .._jit import step

# One cache line, the unit of a streaming store.
_LINE = 64


@intrinsic
def _address(typingctx, array):
    """The address of the first element of a contiguous array."""
    from numba.core import cgutils

    def emit(context, builder, signature, arguments):
        view = cgutils.create_struct_proxy(signature.args[0])(context, builder, arguments[0])
        return builder.ptrtoint(view.data, ir.IntType(64))

    return types.intp(array), emit


@intrinsic
def borrow(typingctx, array):
    """The same array, not counted: the kernel's caller owns it for as long as the kernel runs.

    Numba counts a reference for every slice, with an atomic addition that is most of the time of a short row: a row of 64
    took 190 ns.
    """
    from numba.core import cgutils

    def emit(context, builder, signature, arguments):
        view = cgutils.create_struct_proxy(signature.return_type)(context, builder, arguments[0])
        view.meminfo = cgutils.get_null_value(view.meminfo.type)
        view.parent = cgutils.get_null_value(view.parent.type)
        return view._getvalue()

    return array(array), emit


@intrinsic
def _stream_line(typingctx, target, source):
    """Copy one aligned 64-byte line to address `target` from address `source` past the cache."""

    def emit(context, builder, signature, arguments):
        line = ir.VectorType(ir.IntType(64), 8)
        to, origin = (builder.inttoptr(a, line.as_pointer()) for a in arguments)
        value = builder.load(origin)
        value.align = 8
        store = builder.store(value, to)
        store.align = _LINE
        node = builder.module.add_metadata([ir.Constant(ir.IntType(32), 1)])
        store.set_metadata("nontemporal", node)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp), emit


@step
def stream(block, out):
    """out[:] = block with streaming stores; the unaligned head and tail are stored plainly."""
    size = out.size
    itemsize = out.itemsize
    target = _address(out)
    head = min(size, ((-target) % _LINE) // itemsize)
    for i in range(head):
        out[i] = block[i]
    source = _address(block)
    lines = (size - head) * itemsize // _LINE
    for line in range(lines):
        at = head * itemsize + line * _LINE
        _stream_line(target + at, source + at)
    for i in range(head + lines * (_LINE // itemsize), size):
        out[i] = block[i]

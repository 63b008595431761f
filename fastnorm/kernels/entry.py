"""Kernels called from Python: a builtin function for each job, which takes the arrays' memory from the arrays themselves.

Numba's dispatcher asks for the type of every argument, and makes of each array seven numbers and a count of references: for
a layer norm's eight arrays that took 0.8 µs, and this takes 0.25. It sees that it is given arrays; that these have the dtype
and the size that the kernel's phases expect, in C order or as the job says, its callers see to.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from .._floats import DType
from .._jit import c_function
from .job import ARRAYS, ENTRY, EPS, TYPE, WHOLE
from .memory import moved, stack
from .phases import Kernel, address
from .vectors import INT64

# Where the fields of an object begin, behind its type. The first of an array's is the address of its elements.
_FIELDS = object.__basicsize__
_TYPE = _FIELDS - 8
# The most arguments behind the number of threads.
_MOST = 9
_FASTCALL = 0x80  # METH_FASTCALL: a function of self, the arguments, and how many they are

_leave_python = types.ExternalFunction("PyEval_SaveThread", types.int64())
_enter_python = types.ExternalFunction("PyEval_RestoreThread", types.void(types.int64))
_integer = types.ExternalFunction("PyLong_AsLongLong", types.int64(types.int64))
_is_subtype = types.ExternalFunction("PyType_IsSubtype", types.int32(types.int64, types.int64))
_no_memory = types.ExternalFunction("PyErr_NoMemory", types.int64())
_bad_argument = types.ExternalFunction("PyErr_BadArgument", types.int32())


@intrinsic
def _at(typingctx, where):
    """The integers at an address."""
    kind = types.CPointer(types.int64)

    def emit(context, builder, found, arguments):
        return builder.inttoptr(arguments[0], context.get_value_type(kind))

    return kind(types.int64), emit


@intrinsic
def _none(typingctx):
    """None."""

    def emit(context, builder, found, arguments):
        return builder.ptrtoint(context.get_python_api(builder).borrow_none(), INT64)

    return types.int64(), emit


@intrinsic
def _new_none(typingctx):
    """None, as what a function returns."""

    def emit(context, builder, found, arguments):
        return builder.ptrtoint(context.get_python_api(builder).make_none(), INT64)

    return types.int64(), emit


@intrinsic
def _call_whole(typingctx, whole, threads, arrays, numbers, job, eps):
    """What the kernel at an address returns; eps: the bits of a float64."""

    def emit(context, builder, found, arguments):
        *integers, bits = arguments
        double = ir.DoubleType()
        kind = ir.FunctionType(INT64, [*[INT64] * 4, double])
        function = builder.inttoptr(integers[0], kind.as_pointer())
        return builder.call(function, [*integers[1:], builder.bitcast(bits, double)])

    return types.int64(*[types.int64] * 6), emit


def enter(job, arguments, count):
    """Run the kernel of a job: the arguments are threads, then what is like x, then what is like statistics, or None."""
    entry, objects = moved(_at(_at(job + _FIELDS)[0]), ENTRY), _at(arguments)
    memory = stack(entry, _MOST)
    for i in range(1, count):
        if objects[i] == _none():
            memory[i - 1] = 0
            continue
        kind = _at(objects[i] + _TYPE)[0]
        if kind != entry[TYPE] and _is_subtype(kind, entry[TYPE]) == 0:
            _bad_argument()
            return 0
        memory[i - 1] = _at(objects[i] + _FIELDS)[0]
    threads = _integer(objects[0])
    numbers = moved(memory, entry[ARRAYS])
    outside = _leave_python()
    done = _call_whole(
        entry[WHOLE], threads, address(memory), address(numbers), _at(job + _FIELDS)[0], entry[EPS]
    )
    _enter_python(outside)
    return _new_none() if done else _no_memory()


class _Definition(ctypes.Structure):
    """A PyMethodDef."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("function", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("doc", ctypes.c_char_p),
    )


_builtin = ctypes.pythonapi.PyCFunction_NewEx
_builtin.restype = ctypes.py_object
_builtin.argtypes = ctypes.POINTER(_Definition), ctypes.py_object, ctypes.c_void_p

# The one definition, and the code that it points to.
_made: dict[str, tuple[_Definition, Any]] = {}


def bind(
    job: NDArray[np.int64], kernel: Kernel, dtype: DType, given: DType, eps: float = 0.0
) -> Callable[..., None]:
    """What runs a kernel on `threads, *arrays, *numbers`, x being of a dtype and numbers of a `given` one.

    The job, which is told all this, must not change after it.
    """
    job[ENTRY + WHOLE], job[ENTRY + ARRAYS] = kernel.whole.address(dtype, given), kernel.arrays
    job[ENTRY + EPS], job[ENTRY + TYPE] = np.float64(eps).view(np.int64), id(np.ndarray)
    if "enter" not in _made:
        known = np.zeros(1)
        if ctypes.c_void_p.from_address(id(known) + _FIELDS).value != known.ctypes.data:
            raise ImportError("arrays of this NumPy do not begin with the address of their elements")
        code = c_function(enter, types.int64(*[types.int64] * 3))
        # Of two threads that come here at once both take the same one.
        _made.setdefault("enter", (_Definition(b"enter", code.address, _FASTCALL, None), code))
    bound: Callable[..., None] = _builtin(ctypes.byref(_made["enter"][0]), job, None)
    return bound

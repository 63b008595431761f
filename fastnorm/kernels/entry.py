"""Kernels called from Python: a builtin function for each job, which takes the arrays' memory from the arrays themselves.

And what looks at arrays before it: at four parameters in 30 ns, for which Python took 570 of the 2000 of a small call.

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
from .language.memory import moved, stack
from .language.vectors import INT64
from .phases import Kernel, address

# Where the fields of an object begin, behind its type. An array's are the address of its elements, how many axes it has, the
# addresses of their lengths and strides, what it is a view of, its dtype, and its flags.
_FIELDS = object.__basicsize__
_TYPE = _FIELDS - 8
_ADDRESS, _AXES, _SHAPE, _, _, _DTYPE, _FLAGS = range(7)
_HALF = 0xFFFFFFFF  # of what is an integer of 32 bits
# What is expected of arrays: their type, flags, either of two dtypes, whether None will do, and how many axes, whose lengths
# follow.
_KIND, _SET, _ONE, _OTHER, _OPTIONAL, _COUNT, _LENGTHS = range(7)
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
def _answer(typingctx, value):
    """True or False, as what a function returns."""

    def emit(context, builder, found, arguments):
        return builder.ptrtoint(context.get_python_api(builder).bool_from_bool(arguments[0]), INT64)

    return types.int64(value), emit


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


def fit(expected, arguments, count):
    """Whether each argument is an array as is expected, or None where that will do."""
    wanted, objects = _at(_at(expected + _FIELDS)[0]), _at(arguments)
    for i in range(count):
        if objects[i] == _none() and wanted[_OPTIONAL] != 0:
            continue
        if _at(objects[i] + _TYPE)[0] != wanted[_KIND]:
            return _answer(False)
        array = _at(objects[i] + _FIELDS)
        fits = array[_DTYPE] == wanted[_ONE] or array[_DTYPE] == wanted[_OTHER]
        if not fits or array[_AXES] & _HALF != wanted[_COUNT] or array[_FLAGS] & wanted[_SET] != wanted[_SET]:
            return _answer(False)
        shape = _at(array[_SHAPE])
        for axis in range(wanted[_COUNT]):
            if shape[axis] != wanted[_LENGTHS + axis]:
                return _answer(False)
    return _answer(True)


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

# Definitions by the names of functions, and the code that they point to.
_made: dict[str, tuple[_Definition, Any]] = {}


def _bound(function: Callable[..., Any], array: NDArray[np.int64]) -> Any:
    """A builtin function: this one, with an array of integers as its first argument."""
    if function.__name__ not in _made:
        _make()
    return _builtin(ctypes.byref(_made[function.__name__][0]), array, None)


def _make() -> None:
    """Compile both functions, or load them: a first call is not to leave one for the second."""
    _check_fields()
    for function in (enter, fit):
        name, code = function.__name__, c_function(function, types.int64(*[types.int64] * 3))
        # Of two threads that come here at once both take the same one.
        _made.setdefault(name, (_Definition(name.encode(), code.address, _FASTCALL, None), code))


def _check_fields() -> None:
    """See that arrays have their fields where they are looked for."""
    known = np.zeros((2, 3), np.float32)
    fields = (ctypes.c_int64 * 7).from_address(id(known) + _FIELDS)
    found = fields[_ADDRESS], fields[_AXES] & _HALF, fields[_DTYPE], fields[_FLAGS] & _HALF
    shape = tuple((ctypes.c_int64 * 2).from_address(fields[_SHAPE])) if found[1] == known.ndim else ()
    if found != (known.ctypes.data, known.ndim, id(known.dtype), known.flags.num) or shape != known.shape:
        raise ImportError(
            "arrays of this NumPy do not have their fields where those of NumPy 1 and 2 have them"
        )


def bind(
    job: NDArray[np.int64], kernel: Kernel, dtype: DType, given: DType, eps: float = 0.0
) -> Callable[..., None]:
    """What runs a kernel on `threads, *arrays, *numbers`, x being of a dtype and numbers of a `given` one.

    The job, which is told all this, must not change after it.
    """
    job[ENTRY + WHOLE], job[ENTRY + ARRAYS] = kernel.whole.address(dtype, given), kernel.arrays
    job[ENTRY + EPS], job[ENTRY + TYPE] = np.float64(eps).view(np.int64), id(np.ndarray)
    bound: Callable[..., None] = _bound(enter, job)
    return bound


def fitting(
    shape: tuple[int, ...], dtype: DType, other: DType, flags: int = 0, *, optional: bool = False
) -> Callable[..., bool]:
    """Whether all arguments are arrays with these flags, of this shape and of one of two dtypes; or None, if optional.

    The dtypes have to be these objects, which the caller keeps; what equals them does not fit.
    """
    kind = id(np.ndarray), flags, id(dtype), id(other), optional
    expected = np.array([*kind, len(shape), *shape], np.int64)
    bound: Callable[..., bool] = _bound(fit, expected)
    return bound

"""Calls that were seen before: what was checked and planned for the first of them is found again under a flat key.

A key holds whatever decides a plan or the outcome of a check, except the qualities of single arrays: these few are tested at
every call. A call that is not found, or whose arrays do not pass, goes the general way, with all its checks and messages.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..._floats import FLOAT16, FLOAT32, FLOAT64, DType, cast, computed, held
from ..._layout import IN_ORDER, Ints, Plan
from ..._threads import spread
from ...kernels.entry import bind, fitting
from ...kernels.job import COUNTS, GRADIENTS, LENGTH, OPTIONS, PARAMETERS, PHASES, UNCENTRED, X
from ...kernels.phases import Kernel
from ...kernels.widening import widen
from .results import maker
from .roles import Norm, Shared

Array = NDArray[Any]
Key = tuple[Any, ...]

# Types whose values are one where they and their types are equal: 1, 1.0 and True are not.
_PLAIN = frozenset({bool, int, float, str, type(None), np.float32, np.float64})
# Of parameters that are cast first.
_OTHERS = frozenset({FLOAT16, FLOAT32, FLOAT64})
# A process that runs through more shapes than this starts afresh; a call takes 4 KB.
_MOST = 1024

_calls: dict[Key, Call] = {}


class Fits:
    """Whether arrays are such as a call takes without another look; others may be, but are looked at in Python.

    Each is made when it is first asked for: all of them take 10 µs, which a call that comes once would pay for nothing.
    """

    def __init__(self, x: Array, dtype: DType, parameters: Ints, statistics: Ints) -> None:
        self._shape, self._dtypes, self._in_order = x.shape, (dtype, x.dtype), _in_order(x)
        self._parameters, self._statistics = parameters, statistics

    @cached_property
    def parameters(self) -> Callable[..., bool]:
        """Weight and bias, or running statistics, some of them None."""
        return fitting(self._parameters, *self._dtypes, IN_ORDER, optional=True)

    @cached_property
    def x(self) -> Callable[[Any], bool]:
        """x, or what can be walked as x can."""
        own = self._dtypes[1]
        return fitting(self._shape, own, own, IN_ORDER) if self._in_order else _never

    @cached_property
    def statistics(self) -> Callable[..., bool]:
        """What a forward call returns."""
        return fitting(self._statistics, FLOAT64, FLOAT64)

    @cached_property
    def running(self) -> Callable[..., bool]:
        """Running statistics of float64."""
        return fitting(self._parameters, FLOAT64, FLOAT64, IN_ORDER)


@dataclass(frozen=True, eq=False, slots=True)
class Call:
    """All of a call that does not depend on where its arrays lie and what is in them."""

    plan: Plan
    shared: Shared
    kernel: Callable[
        ..., Any
    ]  # to be called for 1 thread, its first argument: it takes more where that is right
    gradients: tuple[int, int]  # lines that add up the gradients of parameters, and how long they are
    parameters: Ints  # the shape of weight and bias
    statistics: Ints  # and that of a statistic, as the public functions take and return it
    dtype: DType  # of the parameters as the kernels take them
    own_dtype: DType  # x's, which they may have too
    parameter: (
        Callable[[Array], Array] | None
    )  # a weight or bias in the kernels' order; None where it is as it lies
    fits: Fits
    new: Callable[[], Array]  # a new result
    same_strides: bool  # have x and a new result the same?

    def pair(self, weight: Array | None, bias: Array | None) -> tuple[Array | None, Array | None]:
        """Weight and bias as the kernels take them: they know no bias without a weight."""
        if weight is None:
            if bias is None:
                return None, None
            weight = np.ones_like(bias)
        if self.parameter is None:
            return weight, bias
        return self.parameter(weight), None if bias is None else self.parameter(bias)

    def alike(self, array: Any, x: Array) -> bool:
        """Whether an array can be walked just as x can."""
        return self.fits.x(array) or _alike(array, x)

    def returned(self, *statistics: Any) -> bool:
        """Whether statistics are what a forward call returns."""
        return self.fits.statistics(*statistics) or all(
            s.__class__ is np.ndarray and s.dtype == FLOAT64 and s.shape == self.statistics
            for s in statistics
        )

    def placed(self, value: Array) -> Array:
        """A statistic as the kernels read it beside a pair of its own."""
        return self.plan.parameter_in(value.T if self.shared.flipped else value)

    def statistic(self, value: Array) -> Array:
        """A mean or rstd as the kernels take it."""
        return self.plan.statistic_in(value.T if self.shared.flipped else value)


def new_call(
    key: Key | None,
    plan: Plan,
    shared: Shared,
    kernel: Kernel,
    x: Array,
    *,
    eps: float = 0.0,
    given: DType = FLOAT64,
    gradients: tuple[int, int] = (0, 0),
    centred: bool = True,
) -> Call:
    """The call of a kernel over arrays like x, remembered under its key if it has one.

    `given` is the dtype of statistics that the caller gives, `gradients` the lines of parameters' gradients and their size,
    `centred` what the norm says.
    """
    own, dtype = held(x.dtype), computed(x.dtype)
    job = plan.job.copy()
    complete(job, kernel, own, given, gradients, centred)
    parameter: Callable[[Array], Array] | None = None
    if plan.joined:
        parameter = plan.parameter_in
    elif len(shared.parameters) > 1:
        parameter = plan.parameter_in if plan.parameter_axes else None
        if shared.flipped:
            parameter = partial(_flipped, plan.parameter_in)
    if dtype != x.dtype:
        parameter = _widening(shared.parameters, own, parameter)
    like, statistics = np.empty_like(x), shared.statistic_shape(x.shape)
    call = Call(
        plan=plan,
        shared=shared,
        kernel=spread(bind(job, kernel, own, given, eps), plan.size),
        gradients=gradients,
        parameters=shared.parameters,
        statistics=statistics,
        dtype=dtype,
        own_dtype=x.dtype,
        parameter=parameter,
        fits=Fits(x, dtype, shared.parameters, statistics),
        new=maker(like),
        same_strides=like.strides == x.strides,
    )
    if key is not None:
        if len(_calls) >= _MOST:
            _calls.clear()
        _calls[key] = call
    return call


def complete(
    jobs: Array, kernel: Kernel, own: DType, given: DType, gradients: tuple[int, int], centred: bool
) -> None:
    """Write into a plan's job, or several, what a kernel is to know beside it; own: x's dtype as the kernels hold it."""
    addresses = [phase.address(own, given) for phase in kernel.phases]
    jobs[..., PHASES : PHASES + len(addresses)] = addresses
    jobs[..., OPTIONS + GRADIENTS], jobs[..., OPTIONS + PARAMETERS] = gradients
    jobs[..., UNCENTRED] = not centred


def _flipped(ordered: Callable[[Array], Array], parameter: Array) -> Array:
    """A parameter given as (N, C), for an array whose channels lie outside its samples."""
    return ordered(parameter.T)


def _fitted(dtype: DType, ordered: Callable[[Array], Array] | None, parameter: Array) -> Array:
    """A parameter of any other dtype, such as what NumPy makes unless it is told, as a call takes its own."""
    parameter = cast(parameter, dtype, copy=False)
    return parameter if ordered is None else ordered(parameter)


def _widening(shape: Ints, own: DType, ordered: Callable[[Array], Array] | None) -> Callable[[Array], Array]:
    """What brings a weight or bias of 16 bits, held as `own` and in C order, into float32 and the kernels' order.

    It takes those of float32 too.
    """
    job = np.zeros(X, np.int64)
    job[COUNTS + LENGTH] = math.prod(shape)
    run = bind(job, widen, own, FLOAT32)

    def widened(parameter: Array) -> Array:
        if parameter.dtype != FLOAT32:
            narrow, parameter = parameter, np.empty(shape, FLOAT32)
            run(1, narrow, parameter)
        return parameter if ordered is None else ordered(parameter)

    return widened


def recall(
    flow: str, norm: Norm, argument: Any, option: Any, activation: Any, x: Any, *parameters: Any
) -> tuple[Key | None, Call | None]:
    """The call that was seen before if x and the parameters pass for it as they are, else the key to remember it under.

    `argument` is the norm's own, `option` eps or a backward pass's needs. No key means not to remember the call.
    """
    if x.__class__ is not np.ndarray:
        return None, None
    simple = _in_order(x)
    kinds: Any = argument.__class__
    if kinds is tuple:
        kinds = tuple(map(type, argument))
    strides = None if simple else x.strides
    key = (flow, norm, kinds, argument, option.__class__, option, activation, x.dtype, x.shape, strides)
    try:
        call = _calls[key]
    except KeyError:
        return key if _plain(argument) and _plain(option) else None, None
    except TypeError:  # unhashable
        return None, None
    if not simple and not x.flags.aligned:
        return None, None
    if call.fits.parameters(*parameters):
        return None, call
    as_they_are = True
    for p in parameters:
        if p is None:
            continue
        if p.__class__ is not np.ndarray or p.shape != call.parameters or not _in_order(p):
            return None, None
        if not (p.dtype == call.dtype or p.dtype == call.own_dtype):
            if p.dtype not in _OTHERS:
                return None, None
            as_they_are = False
    return None, call if as_they_are else replace(
        call, parameter=partial(_fitted, call.dtype, call.parameter)
    )


def _plain(value: Any) -> bool:
    return value.__class__ in _PLAIN or (value.__class__ is tuple and all(map(_plain, value)))


def _in_order(x: Array) -> bool:
    return x.flags.num & IN_ORDER == IN_ORDER


def _never(array: Any) -> bool:
    return False


def _alike(array: Any, x: Array) -> bool:
    return (
        array.__class__ is np.ndarray
        and array.shape == x.shape
        and array.strides == x.strides
        and array.dtype == x.dtype
        and array.flags.aligned
    )


def free(out: Any, call: Call, x: Array, *others: Array | None) -> bool:
    """Whether a result can be written to `out` as to a new array: it may be x itself, but share memory with nothing else."""
    if not (call.same_strides and call.alike(out, x) and out.flags.writeable):
        return False
    own = out.flags.owndata
    for a in others if out is x else (x, *others):
        # No two arrays share memory that own theirs: that is asked in 0.1 µs, NumPy in 0.3.
        if a is None or (own and a.flags.owndata and a is not out):
            continue
        if np.may_share_memory(out, a):
            return False
    return True

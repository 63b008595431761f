"""A map over arrays: arrange it, or recall how; lay out the coefficients; run it; shape what it wrote."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ... import _checks
from ..._broadcast import MapPlan, plan
from ..._floats import FLOAT64, DType, computed, held
from ..._layout import Ints, element_strides, elements
from ..._threads import spread
from ...kernels.entry import bind
from ...kernels.job import PHASES
from ...kernels.maps.map import ARRAYS, Map, run_map
from .arrange import separate
from .results import maker, streaming

Array = NDArray[Any]


class Mapped(NamedTuple):
    """The outputs of a map, and its sums in float64, with axes of length 1 where they were taken."""

    outputs: list[Array]
    sums: list[Array]


class _Call(NamedTuple):
    """All of a call that does not depend on where its arrays lie and what is in them."""

    plan: MapPlan
    kernel: Callable[..., Any]
    new: Callable[[], Array]  # an output


_calls: dict[Any, _Call] = {}
# Like the calls of other norms, see `recall.py`.
_MOST = 1024


def run(
    what: Map,
    inputs: Sequence[Array],
    coefficients: Sequence[Array],
    summed: Ints = (),
    out: Array | None = None,
    *,
    again: bool = False,
) -> Mapped:
    """What a map gives for checked inputs of one shape and dtype, the last of which is x.

    Each coefficient has as many axes as x, of length 1 where elements share it. Products are summed over the axes `summed`.
    The first output goes to `out`. `again`: the trip follows one over the same memory.
    """
    x = inputs[-1]
    to = out if out is not None and separate(inputs, [out]) else None
    given = tuple(a.strides for a in inputs), None if to is None else to.strides
    key = (what, x.dtype, x.shape, given, tuple(c.shape for c in coefficients), summed, again)
    call = _calls.get(key)
    if call is None:
        if x.size == 0:
            return _nothing(what, x, summed, out)
        call = _new_call(what, inputs, coefficients, summed, to, again)
        if call is None:
            return _of_copies(what, inputs, coefficients, summed, out)
        if len(_calls) >= _MOST:
            _calls.clear()
        _calls[key] = call
    outputs = [call.new() for _ in range(what.outputs)]
    if to is not None:
        outputs[0] = to
    room = call.plan.lay(coefficients, computed(x.dtype))
    totals = call.plan.new_sums(what.sums)
    absent = [None] * (ARRAYS - len(inputs) - len(outputs))
    call.kernel(1, *inputs, *outputs, *absent, room, totals)
    if out is not None and to is None:
        np.copyto(out, outputs[0])
        outputs[0] = out
    return Mapped(outputs, call.plan.sums_out(totals) if what.sums else [])


class Channels:
    """What lies along the samples and channels of an x, as coefficients of maps over it; and sums over all else."""

    def __init__(self, shape: Ints, dtype: DType, sample: int, channel: int) -> None:
        self.shape = shape[sample], shape[channel]
        self.others = tuple(i for i in range(len(shape)) if i not in (sample, channel))
        self.size = elements(tuple(shape[i] for i in self.others))  # that share a sample and a channel
        self._turn = channel < sample
        self._along = tuple(n if i == channel else 1 for i, n in enumerate(shape))
        self._along_both = tuple(1 if i in self.others else n for i, n in enumerate(shape))
        self._constant = partial(np.full, (1,) * len(shape), dtype=dtype)

    @classmethod
    def of(cls, x: Array, layout: Any) -> Channels:
        """Those of an x: found once for its shape, which takes 5 µs."""
        return _channels(x.shape, computed(x.dtype), *_checks.layout(layout, x.ndim))

    def of_channel(self, value: Array | None, missing: float = 1.0) -> Array:
        """A coefficient from what has the shape (C,)."""
        return self._constant(missing) if value is None else value.reshape(self._along)

    def of_both(self, value: Array) -> Array:
        """A coefficient from what has the shape (N, C)."""
        return self._turned(value).reshape(self._along_both)

    def sums(self, found: Mapped) -> list[Array]:
        """Sums over all else, with the shape (N, C)."""
        return [self._turned(np.squeeze(s, self.others)) for s in found.sums]

    def _turned(self, value: Array) -> Array:
        return value.T if self._turn else value


_channels = lru_cache(maxsize=_MOST)(Channels)


def _new_call(
    what: Map,
    inputs: Sequence[Array],
    coefficients: Sequence[Array],
    summed: Ints,
    out: Array | None,
    again: bool,
) -> _Call | None:
    """What is the same for all such arrays; None where they cannot be walked as they lie."""
    x = inputs[-1]
    like = np.empty_like(x)
    arrays = [*inputs, *([like] * what.outputs)]
    if out is not None:
        arrays[len(inputs)] = out
    given = tuple(c.shape for c in coefficients)
    past = streaming(len(arrays), like.nbytes, like.itemsize, once=not again)
    strides = tuple(map(element_strides, arrays))
    over = summed if what.sums else None
    found = plan(x.shape, strides, len(inputs) - 1, given, over, past, again)
    if found is None:
        return None
    own, job = held(x.dtype), found.job.copy()
    job[PHASES] = what.phase(found.along).address(own, FLOAT64)
    return _Call(found, spread(bind(job, run_map, own, FLOAT64), x.size), maker(like))


def _of_copies(
    what: Map, inputs: Sequence[Array], coefficients: Sequence[Array], summed: Ints, out: Array | None
) -> Mapped:
    """The same of copies that can be walked, what has places of its own outermost; outputs keep x's order."""
    x = inputs[-1]
    shared = summed if what.sums else [i for i in range(x.ndim) if all(c.shape[i] == 1 for c in coefficients)]
    order = sorted(range(x.ndim), key=lambda i: i in shared)
    copies = [np.ascontiguousarray(a.transpose(order)).transpose(np.argsort(order)) for a in inputs]
    found = run(what, copies, coefficients, summed)
    outputs = [np.empty_like(x) for _ in found.outputs]
    if out is not None:
        outputs[0] = out
    for target, written in zip(outputs, found.outputs, strict=True):
        np.copyto(target, written)
    return Mapped(outputs, found.sums)


def _nothing(what: Map, x: Array, summed: Ints, out: Array | None) -> Mapped:
    """Of an empty x: empty outputs, and sums of nothing."""
    outputs = [np.empty_like(x) for _ in range(what.outputs)]
    if out is not None:
        outputs[0] = out
    shape = [1 if i in summed else n for i, n in enumerate(x.shape)]
    return Mapped(outputs, [np.zeros(shape) for _ in range(what.sums)])

"""From inputs, coefficients that broadcast against them, and axes to sum over, to a job for a map."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._layout import Axis, Ints, elements, merged, past_cache
from .kernels.job import ALONG, COLUMNS, COUNTS, LENGTH, OFFSET, OPTIONS, STREAMING
from .kernels.maps.map import AGAIN, BAND, BANDS, BLOCK, CUT, FIRST, LANES, PER_TASK, PIECE, PIECES, SLOTS

Array = NDArray[Any]

# Elements of a task, and of a piece of a long run, without sums along it; the most parts of a group that have such sums.
_TASK, _PIECE, _BANDS = 16384, 32768, 64
# Runs that are shorter than half as many elements are joined: coefficients and sums of more leave the L1 cache.
_JOINED = 512


_silence = partial(np.errstate, over="ignore", invalid="ignore")


@dataclass(frozen=True, eq=False)
class Laid:
    """How a coefficient is laid out for the kernel: in the order of memory, and repeated where its runs are joined."""

    low: int
    high: int
    plain: bool  # is that the order in which it comes?
    axes: Ints
    shape: Ints
    repeated: Ints

    def into(self, room: Array, coefficient: Array) -> None:
        """Lay it into its place in the room of all of them."""
        if self.plain:
            room[self.low : self.high] = coefficient.ravel()
        else:
            own = room[self.low : self.high].reshape(self.repeated)
            own[...] = coefficient.transpose(self.axes).reshape(self.shape)


@dataclass(frozen=True, eq=False)
class MapPlan:
    """A job for a map; how its coefficients are laid out, and how its sums come back."""

    job: NDArray[np.int64]
    size: int  # elements
    along: bool  # are sums along the runs?
    laid: tuple[Laid, ...]
    room: int  # numbers of all coefficients
    parts: (
        Ints  # (groups, parts of each), where sums are along the runs also (repetitions, elements of a run)
    )
    sum_shape: Ints  # of a sum in the order of memory …
    sum_axes: Ints  # … and the transposition to that of the array

    def lay(self, coefficients: Sequence[Array], dtype: np.dtype[Any]) -> Array:
        """All coefficients, one behind the other; what is too large becomes an infinity without a word."""
        room = np.empty(self.room, dtype)
        with nullcontext() if all(c.dtype == dtype for c in coefficients) else _silence():
            for laid, coefficient in zip(self.laid, coefficients, strict=True):
                laid.into(room, coefficient)
        return room

    def new_sums(self, count: int) -> Array:
        """Zeros for a kernel to add so many sums to."""
        groups, parts, *run = self.parts
        return np.zeros((groups, parts, count, *run))

    def sums_out(self, totals: Array) -> list[Array]:
        """Each sum, with axes of length 1 where it was taken."""
        total = totals[:, 0] if totals.shape[1] == 1 else totals.sum(1)
        if self.along:
            total = total[:, :, 0] if total.shape[2] == 1 else total.sum(2)
        return [total[:, i].reshape(self.sum_shape).transpose(self.sum_axes) for i in range(total.shape[1])]


@lru_cache(maxsize=4096)
def plan(
    shape: Ints,
    strides: tuple[Ints, ...],
    like: int,
    given: tuple[Ints, ...],
    summed: Ints | None,
    per_line: int,
    again: bool,
) -> MapPlan | None:
    """The plan of arrays with these strides (in elements), in the order of one of them, and coefficients of these shapes.

    None where no axis, or more outer ones than a job has room for, can be walked as they lie. Sums are over the axes
    `summed`; where that is None there are none. Outputs go past the cache as `past_cache` says.
    """
    own, sums, summed = strides[like], summed is not None, summed or ()
    order = sorted(range(len(shape)), key=lambda i: (shape[i] > 1, own[i] != 0, -abs(own[i])))
    runs = [i for i in order if shape[i] > 1 and all(s[i] == 1 for s in strides)]
    if not runs and any(n > 1 for n in shape):
        return None
    order.append(order.pop(order.index(runs[-1]) if runs else -1))
    ordered = [tuple(s[i] for i in order) for s in given]
    steps = [tuple(s[i] for s in strides) for i in order]
    if not runs:
        steps[-1] = (1,) * len(strides)
    outer, inner = _walked([shape[i] for i in order], steps, ordered, [i in summed for i in order])
    if inner.position < 0:  # elements overlap, and other axes lie within what was joined
        return None
    short = [] if inner.reduced else [a for a in outer if a.reduced or not sums]
    repetitions = _repeated(short, outer, inner, len(strides))
    kept, reduced = _levels(outer, sums)
    if len(kept) > 2 or len(reduced) > 2:
        return None
    job = np.zeros(FIRST + COLUMNS * len(inner.strides), np.int64)
    job[COUNTS : COUNTS + 4] = 1
    job[COUNTS + LENGTH] = inner.length
    job[OPTIONS + STREAMING], job[OPTIONS + AGAIN] = past_cache(inner.length, per_line, 0), again
    for first, level in ((2 - len(kept), kept), (4 - len(reduced), reduced)):
        for column, axis in enumerate(level, first):
            job[COUNTS + column] = axis.length
            job[FIRST + column :: COLUMNS] = axis.strides
    job[FIRST + ALONG :: COLUMNS] = inner.strides
    along = sums and not inner.reduced
    parts = _cut(
        job, elements(tuple(a.length for a in kept)), elements(tuple(a.length for a in reduced)), along
    )
    laid, room = _laid(order, ordered, inner, len(strides), repetitions)
    job[FIRST + len(strides) * COLUMNS + OFFSET :: COLUMNS] = [c.low for c in laid]
    back = np.argsort(order)
    return MapPlan(
        job=job,
        size=elements(shape),
        along=along,
        laid=laid,
        room=room,
        parts=(*parts, repetitions, inner.length // repetitions) if along else parts,
        sum_shape=tuple(1 if i in summed else shape[i] for i in order),
        sum_axes=tuple(int(i) for i in back),
    )


def _walked(
    shape: list[int], steps: list[Ints], given: list[Ints], summed: list[bool]
) -> tuple[list[Axis], Axis]:
    """The axes outside a run, and the run, joined as far as they can be; each with the strides of arrays and coefficients.

    All is in the order of memory; the run's position is that of the first axis in it.
    """
    inside = [_contiguous(s) for s in given]
    axes = [
        Axis(n, role, [*step, *(c[i] for c in inside)], i)
        for i, (n, step, role) in enumerate(zip(shape, steps, summed, strict=True))
    ]
    inner = axes.pop()
    levels = {role: merged([a for a in axes if a.reduced == role]) for role in (False, True)}
    own = levels[inner.reduced]
    while own and own[-1].continues(inner):
        inner = own.pop().joined(inner)
    inner.position = next((i for i in range(len(shape)) if elements(tuple(shape[i:])) == inner.length), -1)
    return [*levels[False], *levels[True]], inner


def _contiguous(shape: Ints) -> Ints:
    """The strides of a coefficient that lies in the order of memory; 0 where elements share it."""
    return tuple(0 if n == 1 else elements(shape[i + 1 :]) for i, n in enumerate(shape))


def _repeated(along: list[Axis], outer: list[Axis], inner: Axis, arrays: int) -> int:
    """Join short runs that touch along one of some axes, whose coefficients are then repeated: how often."""
    for axis in along:
        if any(s != inner.length for s in axis.strides[:arrays]) or any(axis.strides[arrays:]):
            continue
        fit = range(1, max(1, _JOINED // inner.length) + 1)
        times = max(t for t in fit if axis.length % t == 0)
        axis.length //= times
        inner.length *= times
        for i in range(arrays):
            axis.strides[i] *= times
        for i in range(arrays, len(inner.strides)):
            for other in outer:
                other.strides[i] *= times if inner.strides[i] else 1
        return times
    return 1


def _levels(outer: list[Axis], sums: bool) -> tuple[list[Axis], list[Axis]]:
    """Axes that groups differ in, and those in a group: the last one or two, where nothing is summed."""
    if sums:
        return [a for a in outer if not a.reduced], [a for a in outer if a.reduced]
    within = 1 if len(outer) < 4 else 2
    return outer[:-within], outer[-within:]


def _cut(job: NDArray[np.int64], groups: int, segments: int, along: bool) -> tuple[int, int]:
    """Say in the job how it is cut into tasks: the groups, and the parts of each that have sums of their own.

    As every group is cut alike whatever there is beside it, its sums have the same bits in any batch.
    """
    length = int(job[COUNTS + LENGTH])
    pieces = -(-length // (int(BLOCK) if along else _PIECE))
    piece = -(-length // (pieces * LANES)) * LANES
    bands = -(-segments // max(1, _TASK // min(length, piece)))
    band = -(-segments // min(bands, _BANDS if along else bands))
    pieces, bands = -(-length // piece), -(-segments // band)
    slots = groups * bands * pieces
    per_task = max(1, _TASK // (segments * length)) if bands * pieces == 1 else 1
    for column, value in {
        SLOTS: slots,
        PER_TASK: per_task,
        BAND: band,
        BANDS: bands,
        PIECE: piece,
        PIECES: pieces,
    }.items():
        job[CUT + column] = value
    return groups, bands if along else bands * pieces


def _laid(
    order: list[int], given: list[Ints], inner: Axis, arrays: int, repetitions: int
) -> tuple[tuple[Laid, ...], int]:
    """How the coefficients lie one behind the other, and the numbers they take."""
    laid, low, at = [], 0, inner.position
    for own, along in zip(given, inner.strides[arrays:], strict=True):
        shape, times = (*own[:at], 1, *own[at:]), repetitions if along else 1
        high = low + elements(own) * times
        along_axes = [axis for axis, n in zip(order, own, strict=True) if n > 1]
        plain = times == 1 and along_axes == sorted(along_axes)
        laid.append(Laid(low, high, plain, tuple(order), shape, (*own[:at], times, *own[at:])))
        low = high
    return tuple(laid), low

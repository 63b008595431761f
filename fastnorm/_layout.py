"""From any array to a job: which axes share a statistic, which an affine pair, and how the kernels walk over them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .kernels.activations import NONE
from .kernels.job import (
    ACTIVATION,
    AFFINE,
    ALONG,
    COLUMNS,
    COUNTS,
    FOLD,
    IN_TURN,
    LENGTH,
    M0,
    M1,
    OPTIONS,
    STREAMING,
    WHOLE_LINES,
    X,
    Y,
)
from .kernels.rows.short import ROWS

# Where an axis has the stride of the results.
_RESULT = 2
# Lines of a run of which the first and the last are worth waiting for, and of which they do not matter.
_SHORT, _LONG = 8, 256
# Channels with up to so few positions are joined where there are so many elements and samples (more backward, where a column
# has six coefficients); those with some, where there are so many runs that one by one they come back slowly.
_FEW, _ELEMENTS, _SAMPLES, _SAMPLES_BACKWARD = 16, 1 << 13, 8, 64
_SOME, _RUNS, _SAMPLES_OF_SOME = 100, 1 << 15, 32
# The most columns: of float64 they take 32 bytes each, or backward 48.
_COLUMNS = 1 << 17

Array = NDArray[Any]
Ints = tuple[int, ...]


@dataclass(frozen=True)
class Roles:
    """A norm's answers for one shape: the axes that share a statistic, those that index the affine pair, the groups."""

    reduced: Ints
    affine: Ints  # in C order, unless they are the reduced ones or the kept ones: then they follow the order of memory
    groups: int = 0  # of channels, where the one affine axis is split (group norm); 0 where it is not

    def statistic_shape(self, shape: Ints) -> Ints:
        """The shape of mean and rstd for an input of `shape`."""
        return tuple(
            self.groups if self.groups and axis in self.affine else length
            for axis, length in enumerate(shape)
            if axis not in self.reduced
        )


@dataclass(frozen=True, eq=False)
class Plan:
    """A job for the kernels, and how results come back from it."""

    columns: bool  # the family: is the innermost run kept?
    job: NDArray[np.int64]
    size: int  # elements
    statistics: int  # that kernels find: one per kept position, or per fold of columns
    fold: int  # columns that share one
    joined: bool  # are these the positions of a channel, with an affine pair for all? The kernels have it for each
    statistic_shape: Ints  # in the kernels' order …
    statistic_axes: Ints  # … and the transposition to the order of the array
    plain: bool  # is an array of statistics that kernels read in the array's order already, each in it once?
    parameter_axes: (
        Ints | None
    )  # the transposition that brings weight and bias into the kernels' order, if they are not in it

    @property
    def length(self) -> int:
        """Elements of a run."""
        return int(self.job[COUNTS + LENGTH])

    @property
    def reduced(self) -> int:
        """Reduced positions outside the run."""
        return int(self.job[COUNTS + M0] * self.job[COUNTS + M1])

    def pairs(self, parameters: Ints) -> int:
        """How many affine pairs the kernels have, of parameters of that shape."""
        return elements(parameters) * (self.fold if self.joined else 1)

    def parameter_in(self, parameter: Array) -> Array:
        """A weight or bias in the kernels' order."""
        if self.joined:
            return np.repeat(parameter, self.fold)
        if self.parameter_axes is not None:
            parameter = parameter.transpose(self.parameter_axes)
        return np.ascontiguousarray(parameter)

    def parameter_out(self, values: Array, shape: Ints) -> Array:
        """The gradient of a parameter, in the order of the array."""
        if self.parameter_axes is None:
            return values if len(shape) == 1 else values.reshape(shape)
        ordered = values.reshape([shape[i] for i in self.parameter_axes])
        return ordered.transpose([self.parameter_axes.index(i) for i in range(len(shape))])

    def statistic_in(self, statistic: Array) -> Array:
        """A mean or rstd in the kernels' order, repeated for the columns that share it."""
        if self.plain and statistic.flags.num & IN_ORDER == IN_ORDER:
            return statistic
        ordered = statistic.transpose([self.statistic_axes.index(i) for i in range(statistic.ndim)])
        return np.repeat(np.ascontiguousarray(ordered, np.float64).ravel(), self.fold)

    def statistics_out(self, values: Array) -> list[Array]:
        """Statistics, a line each, in the order of the array."""
        if self.plain:
            return (
                list(values)
                if len(self.statistic_shape) == 1
                else [s.reshape(self.statistic_shape) for s in values]
            )
        return [s.reshape(self.statistic_shape).transpose(self.statistic_axes) for s in values]


@dataclass
class Axis:
    """One axis on its way into a job: its role, and its stride in every array (the affine pair's first)."""

    length: int
    reduced: bool
    strides: list[int]
    position: int  # in the statistic where kept, in the affine pair where reduced

    def continues(self, inner: Axis) -> bool:
        """Whether this axis and `inner`, which lies inside it, can be walked as one."""
        return self.reduced == inner.reduced and all(
            a == b * inner.length for a, b in zip(self.strides, inner.strides, strict=True)
        )

    def joined(self, inner: Axis) -> Axis:
        return Axis(self.length * inner.length, self.reduced, inner.strides, inner.position)


@lru_cache(maxsize=4096)
def plan(shape: Ints, strides: tuple[Ints, ...], roles: Roles, options: Ints) -> Plan | None:
    """The plan of arrays with these strides (in elements, a tuple per line of the job from X on, AFFINE left out).

    None where no axis, or more than two outer axes of one role, can be walked as they lie: then the arrays are to be copied.
    """
    with_dy = len(strides) > 2
    found = _walk(shape, strides, roles, _SAMPLES_BACKWARD if with_dy else _SAMPLES)
    if found is None:
        return None
    outer, inner, fold, joined = found
    kept_order = [a.position for a in [*outer, inner] if not a.reduced]
    parameter_order = [a.position for a in [*outer, inner] if a.reduced == (roles.affine == roles.reduced)]
    lengths = roles.statistic_shape(shape)
    kept_axes = tuple(i for i in range(len(shape)) if i not in roles.reduced)
    numbered = not roles.groups and roles.affine in (roles.reduced, kept_axes)
    if numbered:
        _number_affine(outer, inner, roles.affine == roles.reduced)
    if inner.strides[0] not in (0, 1):
        return None
    levels = {
        False: merged([a for a in outer if not a.reduced]),
        True: merged([a for a in outer if a.reduced]),
    }
    while levels[inner.reduced] and fold == 1 and levels[inner.reduced][-1].continues(inner):
        inner = levels[inner.reduced].pop().joined(inner)
    if any(len(level) > 2 for level in levels.values()):
        return None
    job = _job(levels[False], levels[True], inner, fold, strides, options)
    return Plan(
        columns=not inner.reduced,
        job=job,
        size=elements(shape),
        statistics=elements(lengths),
        fold=fold,
        joined=joined,
        statistic_shape=tuple(lengths[i] for i in kept_order),
        statistic_axes=tuple(int(i) for i in np.argsort(kept_order)),
        plain=fold == 1 and kept_order == sorted(kept_order),
        parameter_axes=tuple(parameter_order)
        if numbered and parameter_order != sorted(parameter_order)
        else None,
    )


class _Walk(NamedTuple):
    """How arrays are walked."""

    outer: list[Axis]  # the axes outside the run, outermost first
    inner: Axis  # the run
    fold: int = 1  # how many neighbours in it share a statistic
    joined: bool = False  # is it of channels and the positions in them?


def _walk(shape: Ints, strides: tuple[Ints, ...], roles: Roles, samples: int) -> _Walk | None:
    """None where no axis can be the run. Channels of few positions are joined where there are so many `samples`."""
    axes = []
    kept = reduced = 0
    for i, length in enumerate(shape):
        is_reduced = i in roles.reduced
        steps = [_affine_stride(shape, roles, i), *(s[i] for s in strides)]
        axes.append(Axis(length, is_reduced, steps, reduced if is_reduced else kept))
        reduced, kept = reduced + is_reduced, kept + (not is_reduced)
    runs = [a for a in axes if a.length > 1 and all(s == 1 for s in a.strides[1:])]
    if any(a.length > 1 for a in axes) and not runs:
        return None
    inner = runs[-1] if runs else axes[-1]
    fold = 1
    if roles.groups:
        channels = axes[roles.affine[0]]
        fold = channels.length // roles.groups
        alone = channels is inner and all(a.length == 1 for a in axes if a.reduced)
        if channels is not inner or alone:
            axes.remove(channels)
            outside = [s * fold for s in channels.strides]
            axes.append(Axis(roles.groups, False, outside, channels.position))
            axes.append(Axis(fold, True, channels.strides, reduced))
            inner = axes[-1] if alone else inner
            fold = 1
    elif roles.affine == tuple(i for i in range(len(shape)) if i not in roles.reduced):
        found = _joined(axes, samples)
        if found is not None:
            return found
    outer = [a for a in axes if a is not inner]
    # Longest strides outermost; axes of length 1 may lie anywhere, and outermost they are in nobody's way.
    outer.sort(key=_from_outside)
    return _Walk(outer, inner, fold)


def _from_outside(axis: Axis) -> tuple[bool, int]:
    return axis.length > 1, -abs(axis.strides[1])


def _joined(axes: list[Axis], samples: int) -> _Walk | None:
    """Channels and the few positions within each as one run, if that pays: a column for each position of each channel.

    One channel after the other, a core reads and writes memory here and there. Batch norm of 128×1024×4×4 took 3.9 ms so,
    now 0.3; of 64×2048×7×7 7.8 ms, now 1.9.
    """
    kept = [a for a in axes if not a.reduced]
    if len(kept) != 1:
        return None
    channels = kept[0]
    reduced = sorted((a for a in axes if a.reduced and a.length > 1), key=_from_outside)
    outside = [a for a in reduced if abs(a.strides[1]) > abs(channels.strides[1])]
    within = merged(reduced[len(outside) :])
    if len(within) != 1 or any(s != 1 for s in within[0].strides[1:]):
        return None
    size, rows = within[0].length, elements(tuple(a.length for a in outside))
    if channels.length * size > _COLUMNS or any(s != size for s in channels.strides[1:]):
        return None
    runs = rows * channels.length
    few = size <= _FEW and rows >= samples and runs * size >= _ELEMENTS
    some = size <= _SOME and rows >= _SAMPLES_OF_SOME and runs >= _RUNS
    if not (few or some):
        return None
    run = Axis(channels.length * size, False, [1] * len(channels.strides), channels.position)
    return _Walk(outside, run, size, True)


def _affine_stride(shape: Ints, roles: Roles, axis: int) -> int:
    """The stride of an axis in affine pairs that lie in C order."""
    if axis not in roles.affine:
        return 0
    return elements(tuple(shape[i] for i in roles.affine[roles.affine.index(axis) + 1 :]))


def _number_affine(outer: list[Axis], inner: Axis, reduced: bool) -> None:
    """Give the reduced axes, or the kept ones, the strides of affine pairs that were brought into their order."""
    step = 1
    for axis in [inner, *reversed(outer)]:
        if axis.reduced == reduced:
            axis.strides = [step, *axis.strides[1:]]
            step *= axis.length


def merged(axes: list[Axis]) -> list[Axis]:
    """Neighbours joined wherever every array lets them."""
    result: list[Axis] = []
    for axis in axes:
        if axis.length == 1:
            continue
        if result and result[-1].continues(axis):
            result[-1] = result[-1].joined(axis)
        else:
            result.append(axis)
    return result


def _job(
    kept: list[Axis],
    reduced: list[Axis],
    inner: Axis,
    fold: int,
    strides: tuple[Ints, ...],
    options: Ints,
) -> NDArray[np.int64]:
    job = np.zeros(X + COLUMNS * (1 + len(strides)), np.int64)
    job[COUNTS : COUNTS + 4] = 1
    job[COUNTS + LENGTH], job[COUNTS + FOLD] = inner.length, fold
    job[OPTIONS : OPTIONS + len(options)] = options
    next_runs = reduced or kept
    in_turn = next_runs[-1].length if next_runs and next_runs[-1].strides[_RESULT] == inner.length else 0
    if inner.reduced:  # a pair for each element and an activation took a fifth longer so
        in_turn = min(in_turn, ROWS if inner.strides[0] == 0 or options[ACTIVATION] == NONE else 1)
    job[OPTIONS + STREAMING] = past_cache(inner.length, options[STREAMING], in_turn)
    # A lone outer axis is the inner one of its pair, so that its index needs no division.
    for first, level in ((2 - len(kept), kept), (4 - len(reduced), reduced)):
        for column, axis in enumerate(level, first):
            job[COUNTS + column] = axis.length
            for line, stride in zip(_lines(strides), axis.strides, strict=True):
                job[line + column] = stride
    for line, stride in zip(_lines(strides), inner.strides, strict=True):
        job[line + ALONG] = stride
    return job


def past_cache(length: int, per_line: int, in_turn: int) -> int:
    """How results in runs of a length are stored past the cache, in lines of so many elements; 0 is never, as in lines of 0.

    Runs that share lines wait for each other where they lie in memory as they are written, so many `in_turn`, unless those
    are but a few lines; others must be so long that two lines do not count. 220000 rows of 100 took 16.7 ms where each
    stored its parts of lines, 8 to 11 into the cache.
    """
    if per_line == 0:
        return 0
    if length % per_line == 0 or length > _LONG * per_line:
        return WHOLE_LINES
    return IN_TURN if in_turn and length * in_turn >= _SHORT * per_line else 0


def _lines(strides: tuple[Ints, ...]) -> list[int]:
    """The lines of a job that hold strides, in the order in which an axis keeps them: the pair's, x's, a result's …"""
    return [AFFINE, X, *range(Y, AFFINE + COLUMNS * len(strides), COLUMNS)]


# What `array.flags.num` has of an array that kernels read as it lies: its bits for C order and for alignment.
IN_ORDER = 0x101


def element_strides(array: Array) -> Ints:
    """The strides of an aligned array, in elements."""
    itemsize = array.itemsize
    return tuple(stride // itemsize for stride in array.strides)


def walkable(array: Array) -> bool:
    """Whether the strides are whole elements, each at an address that suits the dtype."""
    return array.flags.aligned and all(stride % array.itemsize == 0 for stride in array.strides)


def dense(shape: Ints, dtype: Any, roles: Roles) -> Array:
    """An empty array that any plan can walk: axes with a statistic of their own outermost, the affine one between."""
    order = sorted(range(len(shape)), key=lambda i: (i in roles.reduced, i in roles.affine))
    return np.empty([shape[i] for i in order], dtype).transpose(np.argsort(order))


def elements(shape: Ints) -> int:
    return math.prod(shape)

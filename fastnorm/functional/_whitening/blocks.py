"""Channels in groups, brought block by block from any memory order to matrices that BLAS takes, on threads where it pays."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise, product
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..._floats import DType
from ..._layout import Ints
from ..._threads import Map, team
from .._flow.results import new
from .products import fits_own_thread

Array = NDArray[Any]
Index = tuple[Any, ...]  # of a block, in a view of (groups, channels of a group, *positions)
_Result = TypeVar("_Result")

# A block stays in a cache, and is a whole sample where that is no larger than 2 MiB: parts of samples, in many short runs of
# memory, took half as long again. It is no more than a quarter of a small array. With fewer positions than these, arithmetic
# on matrices of channels × channels would count beside products.
_ELEMENTS, _OF_ALL, _POSITIONS = 1 << 19, 4, 1024
# Runs of blocks, each added up in order and then merged in order: the bits do not depend on the number of threads.
_RUNS = 16
# Elements of float32 in a line of the cache.
_LINE = 16
# Fewer elements than these are done sooner on one thread: threads of Python wait for each other between NumPy's calls.
_THREADED = 1 << 21


@dataclass(frozen=True)
class Blocks:
    """How an array is cut, and any other with the same axes."""

    axes: Ints  # the channels, then the others from the outermost in memory to the innermost
    groups: int
    rows: bool  # are channels innermost in memory?
    indices: Sequence[Index]
    largest: int  # positions of the largest block
    elements: int

    def view(self, array: Array) -> Array:
        """(groups, channels of a group, *positions)."""
        channels, *positions = array.transpose(self.axes).shape
        return array.transpose(self.axes).reshape(self.groups, channels // self.groups, *positions)

    def matrices(self, values: Array, dtype: DType) -> Array:
        """(groups, rows, columns) as products with blocks go best: a block of rows is multiplied from the right."""
        with np.errstate(all="ignore"):
            if self.rows:
                return values.swapaxes(1, 2).astype(dtype, order="C").swapaxes(1, 2)
            return values.astype(dtype, order="C")


def cut(x: Array, channel: int, groups: int) -> Blocks:
    """The blocks of x, whose channels lie along the axis `channel`."""
    others = [axis for axis in range(x.ndim) if axis != channel]
    others.sort(key=lambda axis: (x.shape[axis] > 1, -abs(x.strides[axis])))
    innermost = all(abs(x.strides[channel]) < abs(x.strides[i]) for i in others if x.shape[i] > 1)
    most = max(min(_ELEMENTS, x.size // _OF_ALL) // x.shape[channel], _POSITIONS)
    lengths = [x.shape[axis] for axis in others]
    largest = min(most, math.prod(lengths))
    return Blocks((channel, *others), groups, innermost, list(_indices(lengths, most)), largest, x.size)


def _indices(lengths: Sequence[int], most: int) -> Iterator[Index]:
    """Blocks of at most so many positions, of much the same size: whole inner axes, and a part of the one around them."""
    axis, inner = len(lengths) - 1, 1
    while axis > 0 and inner * lengths[axis] <= most:
        inner *= lengths[axis]
        axis -= 1
    length = lengths[axis]
    step = math.ceil(length / math.ceil(length / (most // inner)))
    for outer in product(*map(range, lengths[:axis])):
        for start in range(0, length, step):
            yield (slice(None), slice(None), *outer, slice(start, start + step))


class Space:
    """Working memory of a run of blocks: buffers of one dtype, (groups, channels of a group, positions)."""

    def __init__(self, blocks: Blocks, dtype: DType) -> None:
        self._blocks, self._like = blocks, np.empty(0, dtype)
        self._memory: dict[tuple[str, int], Array] = {}

    def buffer(self, name: str, channels: int, block: Array, apart: bool = False) -> Array:
        """Memory under a name, for so many channels of a group and the positions of a block; channels `apart` for products.

        Channels that lie a power of 2 apart share a few lines of a cache, and a product of them took twice as long: from
        one to the next it is an odd number of lines.
        """
        lines, positions = self._blocks.groups * channels, math.prod(block.shape[2:])
        key = name, channels
        if key not in self._memory:
            self._memory[key] = new(self._like, (lines * (self._blocks.largest + 2 * _LINE),))
        memory = self._memory[key]
        if self._blocks.rows:
            return memory[: lines * positions].reshape(positions, -1, channels).transpose(1, 2, 0)
        run = _LINE * (math.ceil(positions / _LINE) | 1) if apart else positions
        return memory[: lines * run].reshape(-1, channels, run)[..., :positions]

    def stored(self, buffer: Array) -> tuple[Array, int]:
        """A buffer, unless its channels are apart, as a matrix in C order, and the axis of its positions."""
        if self._blocks.rows:
            return buffer.transpose(2, 0, 1).reshape(buffer.shape[2], -1), 0
        return buffer.reshape(-1, buffer.shape[2]), 1


class Crew:
    """Threads that work on blocks."""

    def __init__(self, blocks: Blocks, each: Map) -> None:
        self._blocks, self._each = blocks, each

    def over(self, dtype: DType, work: Callable[[Sequence[Index], Space], _Result]) -> list[_Result]:
        """What `work` makes of each run of blocks; like kernels it says nothing of overflow and NaN."""

        def work_on(run: Sequence[Index]) -> _Result:
            with np.errstate(all="ignore"):
                return work(run, Space(self._blocks, dtype))

        indices = self._blocks.indices
        count = min(_RUNS, len(indices))
        ends = [len(indices) * i // count for i in range(count + 1)]
        return self._each(work_on, [indices[a:b] for a, b in pairwise(ends)])


@contextmanager
def crew(blocks: Blocks, rows: int, columns: int) -> Iterator[Crew]:
    """As many threads as pay, for matrices of so many rows and columns; large products are left to the threads of BLAS."""
    pays = blocks.elements >= _THREADED and fits_own_thread(rows, columns)
    with team(_RUNS if pays else 1) as each:
        yield Crew(blocks, each)

"""Samples of unequal lengths: where their valid positions lie, in an array or packed. Padding is never read."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..._layout import element_strides, walkable
from ..._threads import SERIAL_ELEMENTS, spread, team
from ...kernels.copies import copy_blocks
from .._flow.arrange import separate
from .._flow.results import new
from .each import Laid, Strides, address

Array = NDArray[Any]

# Copies of fewer bytes are made by one thread.
_SERIAL_BYTES = 4 << 20
# So many batches are remembered, of no more than so many samples, and so much of each: all layers of a model are given the
# same lengths, forward and backward.
BATCHES, SAMPLES, _MOST = 16, 512, 64


class Target(NamedTuple):
    """Where a result is to be written: its array, and its samples in it or in a pack."""

    result: Array
    laid: Laid
    pack: Array | None


class Ragged(ABC):
    """Which positions of an array belong to which sample, and where samples lie in any array of that shape."""

    counts: Array  # of each sample
    total: int
    channels: int
    channels_last: bool  # in memory, of the array as of a pack
    _joined: bool = (
        False  # are positions of neighbouring channels one run, where a sample is an array of its own?
    )
    _in_runs: bool  # do the positions of each sample touch?

    def _count(self, counts: Array) -> None:
        self.counts = counts
        self._ends = np.concatenate([[0], np.cumsum(counts)])
        self.total = int(self._ends[-1])  # positions of all samples
        self._known: dict[Any, Any] = {}

    def once(self, key: Any, make: Callable[[], Any]) -> Any:
        """What is made for a key, the first time that it is asked for."""
        found = self._known.get(key)
        if found is None:
            if len(self._known) >= _MOST:
                self._known.clear()
            found = self._known[key] = make()
        return found

    @property
    def of_pack(self) -> str:
        """The layout of a pack: a sample for every position."""
        return "NC" if self.channels_last else "CN"

    # -- Packs ------------------------------------------------------------------------------------------------------

    def pack(self, x: Array) -> Array:
        """A copy of the positions of all samples, one after the other: (positions, C), or (C, positions)."""
        packed = self._room(x)
        found = self._lies(x)
        if found is not None:
            self._copy("pack", self._packed(packed), found)
            return packed
        view = self._canonical(x)
        with team(self._threads(packed)) as each:
            each(lambda one: np.copyto(one[1], self._own(view, one[0])), self._parts(packed))
        return packed

    def restored(
        self, packed: Array, x: Array, out: Array | None = None, keep_padding: bool = False
    ) -> Array:
        """A pack as an array like x; padding is 0, or to be kept as `out`, or x, has it."""
        return self._completed(result_like(x, out, keep_padding), packed, keep_padding)

    def _completed(self, result: Array, packed: Array | None, keep_padding: bool) -> Array:
        """A result with what has been written to a pack in its stead, and its padding."""
        if packed is not None:
            self._unpack(packed, result)
        if not keep_padding:
            self._clear_padding(result)
        return result

    def _room(self, x: Array) -> Array:
        shape: tuple[int, ...] = (self.total, self.channels)
        if not self.channels_last:
            shape = (self.total * self.channels,) if self._joined else shape[::-1]
        return new(x, shape)

    def _unpack(self, packed: Array, result: Array) -> None:
        """Write them to an array like x, and leave the others."""
        found = self._lies(result)
        if found is not None:
            self._copy("unpack", found, self._packed(packed))
            return
        view = self._canonical(result)
        with team(self._threads(packed)) as each:
            each(lambda one: self._write(view, *one), self._parts(packed))
        if not np.may_share_memory(view, result):
            self._put_back(view, result)

    def _copy(self, which: str, to: Laid, source: Laid) -> None:
        """Copy the positions of all samples. (A pack may have the shape and strides of the array that it is of.)"""
        key = which, to.array.strides, source.array.strides, to.array.itemsize
        self.once(key, lambda: self._copies(to, source))(to.array, source.array)

    def _copies(self, to: Laid, source: Laid) -> Filling:
        touch = to.strides[0] == source.strides[0] == self.channels
        return Filling([self._blocks(laid, 0, self.counts, touch) for laid in (to, source)])

    def _blocks(self, laid: Laid, first: Array | int, counts: Array, touch: bool) -> Array:
        """So many positions of each sample from the first on, as blocks; do positions and their channels `touch`?"""
        (position, channel), size = laid.strides, laid.array.itemsize
        blocks = np.empty((len(counts), 4), np.int64)
        blocks[:, 0] = laid.starts + first * (position * size)
        if not self.channels_last:
            step = self.counts if channel is None else channel
            blocks[:, 1], blocks[:, 2], blocks[:, 3] = self.channels, counts * size, step * size
        elif touch:
            blocks[:, 1], blocks[:, 2], blocks[:, 3] = 1, counts * (self.channels * size), 0
        else:
            blocks[:, 1], blocks[:, 2], blocks[:, 3] = counts, self.channels * size, position * size
        return blocks

    def _threads(self, packed: Array) -> int:
        """How many threads NumPy may copy a pack with: to begin another takes 0.1 ms."""
        return len(self.counts) if packed.nbytes > _SERIAL_BYTES else 1

    def _parts(self, packed: Array) -> Iterator[tuple[int, Array]]:
        """Every sample that has a position, and its part of a pack."""
        for sample in np.flatnonzero(self.counts):
            first, last = int(self._ends[sample]), int(self._ends[sample + 1])
            if packed.ndim == 1:
                own = packed[first * self.channels : last * self.channels].reshape(self.channels, -1)
            else:
                own = packed[first:last] if self.channels_last else packed[:, first:last]
            yield int(sample), own

    # -- Samples in place, or in a pack -----------------------------------------------------------------------------

    def laid(self, x: Array) -> Laid:
        """The samples of x where they are, or in a pack where they can't be walked so."""
        found = self._in_place(x)
        return self._packed(self.pack(x)) if found is None else found

    def target(self, x: Array, out: Array | None = None, keep_padding: bool = False) -> Target:
        """Where to write a result like x, or `out`."""
        result = result_like(x, out, keep_padding)
        found = self._in_place(result) if out is None or separate([x], [out]) else None
        if found is not None:
            return Target(result, found, None)
        pack = self._room(x)
        return Target(result, self._packed(pack), pack)

    def finished(self, target: Target, keep_padding: bool = False) -> Array:
        """The result, once its samples have been written."""
        return self._completed(target.result, target.pack, keep_padding)

    def _in_place(self, x: Array) -> Laid | None:
        """Where the samples lie in x, if kernels can walk them there."""
        return None if self._joined and not self.channels_last else self._lies(x)

    def _lies(self, x: Array) -> Laid | None:
        """Where they lie, each in one run or in one for each channel."""
        if not self._in_runs or not x.flags.aligned:
            return None
        found = self.once(("lies", x.strides, x.dtype), lambda: self._runs(x))
        return Laid(x, *found) if found else None

    def _runs(self, x: Array) -> tuple[Array, Strides] | tuple[()]:
        """Where each begins, and the strides of positions and channels; nothing if these are no runs."""
        if not walkable(x) or not x.dtype.isnative:
            return ()
        view = self._canonical(x)
        if not np.may_share_memory(view, x):
            return ()
        strides = element_strides(view)
        position, channel = strides[-2:] if self.channels_last else strides[:-3:-1]
        # Of one channel the stride says nothing: it may be one of several that lie side by side.
        innermost = channel if self.channels_last and self.channels > 1 else position
        if min(strides) < 1 or innermost != 1:
            return ()
        return self._starts(strides[0], position) * x.itemsize, (position, channel)

    def _packed(self, pack: Array) -> Laid:
        return Laid(pack, *self.once(("packed", pack.strides, pack.itemsize), lambda: self._in_pack(pack)))

    def _in_pack(self, pack: Array) -> tuple[Array, Strides]:
        if pack.ndim == 1:
            return self._ends[:-1] * (self.channels * pack.itemsize), (1, None)
        position, channel = element_strides(pack if self.channels_last else pack.T)
        return self._ends[:-1] * (position * pack.itemsize), (position, channel)

    # -- What an array with padding and one of sequences answer in their own ways -----------------------------------

    @abstractmethod
    def _canonical(self, x: Array) -> Array:
        """x with its channels last or before the positions: a view, or a copy if need be."""

    @abstractmethod
    def _put_back(self, view: Array, x: Array) -> None:
        """What was written to such a copy."""

    @abstractmethod
    def _starts(self, of_sample: int, of_position: int) -> Array:
        """Where the samples begin, by the strides of a canonical view."""

    @abstractmethod
    def _own(self, view: Array, sample: int) -> Array:
        """The positions of a sample."""

    @abstractmethod
    def _write(self, view: Array, sample: int, part: Array) -> None:
        """Write them."""

    @abstractmethod
    def _clear_padding(self, x: Array) -> None:
        """Write 0 to all others."""


class Filling:
    """Blocks of any array, told by how far they are from its first element, to be filled from others' or with zeros."""

    def __init__(self, blocks: Sequence[Array]) -> None:
        self._blocks = np.concatenate(blocks, 1)
        # In the cache a thread is as fast as two.
        nbytes = int(np.dot(self._blocks[:, 1], self._blocks[:, 2]))
        self._copy = spread(copy_blocks, SERIAL_ELEMENTS if nbytes > _SERIAL_BYTES else 0)

    def __call__(self, to: Array, source: Array | None) -> None:
        placed = self._blocks.copy()
        placed[:, 0] += address(to)
        if source is not None:
            placed[:, 4] += address(source)
        self._copy(1, placed)


def result_like(x: Array, out: Array | None, keep_padding: bool) -> Array:
    """`out`, or a new array like x, which has what x has where padding is to be kept."""
    if out is not None:
        return out
    return x.copy(order="K") if keep_padding else new(x)

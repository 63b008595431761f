"""Samples of unequal lengths: where their valid positions lie, in an array or packed. Padding is never read."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import _checks
from .._layout import element_strides, walkable
from .._threads import SERIAL_ELEMENTS, spread, team
from ..kernels.copies import copy_blocks
from ._arrange import separate
from ._each import Laid
from ._results import new

Array = NDArray[Any]

# Copies of fewer bytes are made by one thread.
_SERIAL_BYTES = 4 << 20


class Target(NamedTuple):
    """Where a result is to be written: its array, and its samples in it or in a pack."""

    result: Array
    laid: Laid
    pack: Array | None


class Ragged(ABC):
    """Which positions of an array belong to which sample."""

    counts: Array  # of each sample
    channels: int
    channels_last: bool  # in memory, of the array as of a pack
    _joined: bool = (
        False  # are positions of neighbouring channels one run, where a sample is an array of its own?
    )
    _in_runs: bool  # do the positions of each sample touch?

    def _count(self, counts: Array) -> None:
        self.counts = counts
        self._ends = np.concatenate([[0], np.cumsum(counts)])

    @property
    def total(self) -> int:
        """How many positions there are in all samples."""
        return int(self._ends[-1])

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
            self._copy(self._packed(packed), found)
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
            self._copy(found, self._packed(packed))
            return
        view = self._canonical(result)
        with team(self._threads(packed)) as each:
            each(lambda one: self._write(view, *one), self._parts(packed))
        if not np.may_share_memory(view, result):
            self._put_back(view, result)

    def _copy(self, to: Laid, source: Laid) -> None:
        """Copy the positions of all samples."""
        touch = to.strides[0] == source.strides[0] == self.channels
        places = [self._blocks(laid, 0, self.counts, touch) for laid in (to, source)]
        _fill(*places, self.total * self.channels * to.array.itemsize)

    def _blocks(self, laid: Laid, first: Array | int, counts: Array, touch: bool) -> Array:
        """So many positions of each sample from the first on, as blocks; do positions and their channels `touch`?"""
        (position, channel), size = laid.strides, laid.array.itemsize
        blocks = np.empty((len(counts), 4), np.int64)
        start: Array = laid.starts + first * position
        blocks[:, 0] = laid.array.__array_interface__["data"][0] + start * size
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
        if not self._in_runs or not walkable(x):
            return None
        view = self._canonical(x)
        if not np.may_share_memory(view, x):
            return None
        strides = element_strides(view)
        position, channel = strides[-2:] if self.channels_last else strides[:-3:-1]
        innermost = channel if self.channels_last else position
        if min(strides) < 1 or innermost != 1 or not x.dtype.isnative:
            return None
        return Laid(view, self._starts(strides[0], position), (position, channel))

    def _packed(self, pack: Array) -> Laid:
        if pack.ndim == 1:
            return Laid(pack, self._ends[:-1] * self.channels, (1, None))
        position, channel = element_strides(pack if self.channels_last else pack.T)
        return Laid(pack, self._ends[:-1] * position, (position, channel))

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


def _fill(to: Array, source: Array, nbytes: int) -> None:
    """Fill blocks of so many bytes in all from others, or with zeros where these have no address."""
    # In the cache a thread is as fast as two.
    kernel = spread(copy_blocks, SERIAL_ELEMENTS if nbytes > _SERIAL_BYTES else 0)
    kernel(1, np.concatenate([to, source], 1))


def result_like(x: Array, out: Array | None, keep_padding: bool) -> Array:
    """`out`, or a new array like x, which has what x has where padding is to be kept."""
    if out is not None:
        return out
    return x.copy(order="K") if keep_padding else new(x)


class Valid(NamedTuple):
    """Which positions of each sample are valid, their order being that of the axes."""

    counts: Array  # (N,)
    begins: Array  # (N,), the first of them
    positions: int  # of each sample, valid or not
    in_runs: bool  # do the valid ones of each sample touch?
    mask: Array | None = None  # (N, positions); without one they run from the first position on

    @classmethod
    def of_mask(cls, mask: Array) -> Valid:
        samples, positions = mask.shape
        counts = np.count_nonzero(mask, 1)
        if positions == 0:
            return cls(counts, np.zeros(samples, np.int64), 0, True, mask)
        begins, last = np.argmax(mask, 1), positions - np.argmax(mask[:, ::-1], 1)
        in_runs = bool(np.all((last - begins == counts) | (counts == 0)))
        return cls(counts, begins, positions, in_runs, mask)

    def as_mask(self) -> Array:
        mask = self.mask
        return np.arange(self.positions) < self.counts[:, np.newaxis] if mask is None else mask


class Padded(Ragged):
    """Samples in an array of as many positions as the longest has, or with gaps."""

    def __init__(self, x: Array, layout: str | None, valid: Valid, joined: bool) -> None:
        """`joined`: do channels share statistics?"""
        self._joined = joined
        self._sample, self._channel = _checks.layout(layout, x.ndim)
        self._spatial = tuple(i for i in range(x.ndim) if i not in (self._sample, self._channel))
        strides = [abs(x.strides[i]) for i in self._spatial if x.shape[i] > 1]
        self.channels_last = abs(x.strides[self._channel]) < min(strides, default=np.inf)
        self.channels = x.shape[self._channel]
        self._shape, self._valid = x.shape, valid
        self._begins, self._in_runs = valid.begins, valid.in_runs
        self._count(valid.counts)

    def alone(self, y: Array, x: Array, out: Array | None, keep_padding: bool) -> Array:
        """A result that was computed everywhere, in an array of its own where padding is kept: its valid positions."""
        if not keep_padding:
            self._clear_padding(y)
            return y
        result = result_like(x, out, True)
        np.copyto(result, y, where=~self._padding())
        return result

    def _padding(self) -> Array:
        """Where padding is, to be broadcast over the channels."""
        invalid = ~self._valid.as_mask().reshape([self._shape[i] for i in (self._sample, *self._spatial)])
        sample = self._sample - (self._channel < self._sample)
        return np.expand_dims(np.moveaxis(invalid, 0, sample), self._channel)

    def _ordered(self, x: Array) -> Array:
        """x with its axes in the order of `_canonical`."""
        if self.channels_last:
            return x.transpose(self._sample, *self._spatial, self._channel)
        return x.transpose(self._sample, self._channel, *self._spatial)

    def _canonical(self, x: Array) -> Array:
        """x as (N, positions, C), or (N, C, positions) where channels do not lie innermost."""
        samples, positions = len(self.counts), self._valid.positions
        if self.channels_last:
            return self._ordered(x).reshape(samples, positions, self.channels)
        return self._ordered(x).reshape(samples, self.channels, positions)

    def _put_back(self, view: Array, x: Array) -> None:
        ordered = self._ordered(x)
        ordered[...] = view.reshape(ordered.shape)

    def _starts(self, of_sample: int, of_position: int) -> Array:
        starts: Array = np.arange(len(self.counts)) * of_sample + self._begins * of_position
        return starts

    def _chosen(self, sample: int) -> Any:
        # A slice where they touch, for it is copied in runs.
        if not self._in_runs:
            return np.flatnonzero(self._valid.as_mask()[sample])
        return slice(self._begins[sample], self._begins[sample] + self.counts[sample])

    def _own(self, view: Array, sample: int) -> Array:
        chosen = self._chosen(sample)
        own: Array = view[sample, chosen] if self.channels_last else view[sample][:, chosen]
        return own

    def _write(self, view: Array, sample: int, part: Array) -> None:
        if self.channels_last:
            view[sample, self._chosen(sample)] = part
        else:
            view[sample][:, self._chosen(sample)] = part

    def _clear_padding(self, x: Array) -> None:
        if self.total * self.channels == x.size:
            return
        found = self._lies(x)
        if found is None:
            np.copyto(x, np.zeros((), x.dtype), where=self._padding())
            return
        touch, behind = found.strides[0] == self.channels, self._valid.positions - self._begins - self.counts
        before = self._blocks(found, -self._begins, self._begins, touch)
        blocks = np.concatenate([before, self._blocks(found, self.counts, behind, touch)])
        _fill(blocks, np.zeros_like(blocks), x.nbytes - self.total * self.channels * x.itemsize)


class Sequences(Ragged):
    """Sequences one after the other along the first axis of their layout, without padding."""

    _in_runs = True

    def __init__(self, x: Array, layout: str | None, cu_seqlens: Any) -> None:
        if x.ndim != 2:
            raise ValueError(f"x has {x.ndim} axes, expected 2 with cu_seqlens: positions and channels")
        self._position, channel = _checks.layout(layout, 2)
        offsets = _checks.offsets(cu_seqlens, x.shape[self._position])
        self.channels_last = abs(x.strides[channel]) <= abs(x.strides[self._position])
        self.channels = x.shape[channel]
        self._offsets = offsets
        self._count(np.diff(offsets))

    def _canonical(self, x: Array) -> Array:
        return np.moveaxis(x, self._position, 0 if self.channels_last else 1)

    def _put_back(self, view: Array, x: Array) -> None:
        raise AssertionError("two axes in another order are a view")

    def _starts(self, of_sample: int, of_position: int) -> Array:
        starts: Array = self._offsets[:-1] * of_position
        return starts

    def _own(self, view: Array, sample: int) -> Array:
        own = slice(self._offsets[sample], self._offsets[sample + 1])
        found: Array = view[own] if self.channels_last else view[:, own]
        return found

    def _write(self, view: Array, sample: int, part: Array) -> None:
        self._own(view, sample)[...] = part

    def _clear_padding(self, x: Array) -> None:
        pass


def padded(x: Array, layout: str | None, mask: Any, lengths: Any, *, joined: bool = False) -> Padded:
    """The valid positions of x, from a mask or from lengths; `joined`: do channels share statistics?"""
    sample, channel = _checks.layout(layout, x.ndim)
    without = tuple(length for i, length in enumerate(x.shape) if i != channel)
    if mask is not None and lengths is not None:
        raise ValueError("mask and lengths are both given, expected one of them")
    if mask is not None:
        whole = np.broadcast_to(_checks.mask(mask, without, "the shape of x without its channels"), without)
        valid = np.moveaxis(whole, sample - (channel < sample), 0).reshape(x.shape[sample], -1)
        return Padded(x, layout, Valid.of_mask(valid), joined)
    if x.ndim != 3:
        raise ValueError(
            f"lengths is given, expected x with one axis beside samples and channels, as NLC and NCL have: x has {x.ndim} "
            f"axes (a mask says it of any)"
        )
    count = x.shape[3 - sample - channel]
    counts = _checks.lengths(lengths, x.shape[sample], count).astype(np.int64)
    return Padded(x, layout, Valid(counts, np.zeros_like(counts), count, True), joined)

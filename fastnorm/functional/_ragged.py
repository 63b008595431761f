"""Samples of unequal lengths: their valid positions packed, so that those of one length are a dense array.

Padding is never read. The samples lie in the pack by their lengths, the shortest first; a block of equal ones is a view of
it, and goes through the same kernels as any other array.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import _checks

Array = NDArray[Any]


class Block(NamedTuple):
    """Samples with as many valid positions each, and where they begin and end in the pack."""

    samples: Array
    first: int
    last: int
    length: int


class Ragged(ABC):
    """Which positions of an array belong to which sample."""

    counts: Array  # of each sample
    channels: int
    channels_last: bool  # in memory, of the array as of a pack

    def _sort(self, counts: Array) -> None:
        self.counts = counts
        self._order = np.argsort(counts, kind="stable")
        self._ends = np.concatenate([[0], np.cumsum(counts[self._order])])

    @property
    def total(self) -> int:
        """How many positions there are in all samples."""
        return int(self._ends[-1])

    @property
    def of_pack(self) -> str:
        """The layout of a pack: a sample for every position."""
        return "NC" if self.channels_last else "CN"

    @property
    def of_block(self) -> str:
        """The layout of a block."""
        return "NLC" if self.channels_last else "NCL"

    def blocks(self) -> Iterator[Block]:
        """All samples that have a position, in blocks of equal lengths."""
        counts = self.counts[self._order]
        begins = np.flatnonzero(np.diff(counts, prepend=0))
        ends = np.append(begins[1:], len(counts))[: len(begins)]
        for begin, end in zip(begins, ends, strict=True):
            first, last = int(self._ends[begin]), int(self._ends[end])
            yield Block(self._order[begin:end], first, last, int(counts[begin]))

    def view(self, packed: Array, block: Block) -> Array:
        """A block of a pack, in the layout `of_block`."""
        if self.channels_last:
            return packed[block.first : block.last].reshape(-1, block.length, self.channels)
        first, last = block.first * self.channels, block.last * self.channels
        return packed[first:last].reshape(-1, self.channels, block.length)

    def restored(
        self, packed: Array, x: Array, out: Array | None = None, keep_padding: bool = False
    ) -> Array:
        """A pack as an array like x; padding is 0, or to be kept as `out`, or x, has it."""
        if keep_padding:
            result = x.copy(order="K") if out is None else out
        else:
            result = np.empty_like(x) if out is None else out
            if self.total * self.channels < x.size:
                result[...] = 0
        self._unpack(packed, result)
        return result

    def pack(self, x: Array, together: bool = False) -> Array:
        """A copy of the positions of all samples: (positions, C) where x has its channels innermost.

        Where not, (C, positions) of each sample on its own, one after the other in memory, or of all `together`.
        """
        view = self._canonical(x)
        if self.channels_last:
            return np.take(view.reshape(-1, self.channels), self._places(), axis=0)
        packed = np.empty((self.channels, self.total) if together else self.channels * self.total, x.dtype)
        for sample, part in self._parts(packed):
            own, chosen = self._own(view, sample)
            part[...] = own[:, chosen]
        return packed

    def _unpack(self, packed: Array, result: Array) -> None:
        """Write them to an array like x, and leave the others."""
        view = self._canonical(result)
        if self.channels_last:
            view = view.reshape(-1, self.channels)
            view[self._places()] = packed
        else:
            for sample, part in self._parts(packed):
                own, chosen = self._own(view, sample)
                own[:, chosen] = part
        if not np.may_share_memory(view, result):
            self._put_back(view, result)

    def _parts(self, packed: Array) -> Iterator[tuple[int, Array]]:
        """Every sample that has a position, and its own (C, positions) of a pack."""
        for i, sample in enumerate(self._order):
            first, last = int(self._ends[i]), int(self._ends[i + 1])
            if packed.ndim == 2:
                yield int(sample), packed[:, first:last]
            elif last > first:
                flat = packed[first * self.channels : last * self.channels]
                yield int(sample), flat.reshape(self.channels, last - first)

    @abstractmethod
    def _canonical(self, x: Array) -> Array:
        """x with its channels last or before the positions: a view, or a copy if need be."""

    @abstractmethod
    def _put_back(self, view: Array, x: Array) -> None:
        """What was written to such a copy."""

    @abstractmethod
    def _places(self) -> Array:
        """Where the positions of a pack lie among all of x."""

    @abstractmethod
    def _own(self, view: Array, sample: int) -> tuple[Array, Any]:
        """(C, positions) of which a sample has some, and which."""


class Padded(Ragged):
    """Samples in an array of as many positions as the longest has, or with gaps."""

    def __init__(self, x: Array, layout: str | None, valid: Array) -> None:
        """valid: (N, positions), whose order is that of the axes."""
        self._sample, self._channel = _checks.layout(layout, x.ndim)
        self._spatial = tuple(i for i in range(x.ndim) if i not in (self._sample, self._channel))
        strides = [abs(x.strides[i]) for i in self._spatial if x.shape[i] > 1]
        self.channels_last = abs(x.strides[self._channel]) < min(strides, default=np.inf)
        self.channels = x.shape[self._channel]
        self._shape, self._valid = x.shape, valid
        self._sort(np.count_nonzero(valid, 1))

    def padding(self) -> Array:
        """Where padding is, to be broadcast over the channels."""
        invalid = ~self._valid.reshape([self._shape[i] for i in (self._sample, *self._spatial)])
        sample = self._sample - (self._channel < self._sample)
        return np.expand_dims(np.moveaxis(invalid, 0, sample), self._channel)

    def _ordered(self, x: Array) -> Array:
        """x with its axes in the order of `_canonical`."""
        if self.channels_last:
            return x.transpose(self._sample, *self._spatial, self._channel)
        return x.transpose(self._sample, self._channel, *self._spatial)

    def _canonical(self, x: Array) -> Array:
        """x as (N, positions, C), or (N, C, positions) where channels do not lie innermost."""
        samples, positions = self._valid.shape
        if self.channels_last:
            return self._ordered(x).reshape(samples, positions, self.channels)
        return self._ordered(x).reshape(samples, self.channels, positions)

    def _put_back(self, view: Array, x: Array) -> None:
        ordered = self._ordered(x)
        ordered[...] = view.reshape(ordered.shape)

    def _places(self) -> Array:
        rows, positions = np.nonzero(self._valid[self._order])
        places: Array = self._order[rows] * self._valid.shape[1] + positions
        return places

    def _own(self, view: Array, sample: int) -> tuple[Array, Any]:
        found = np.flatnonzero(self._valid[sample])
        # A slice where they touch, for it is copied in runs.
        if found.size and found[-1] - found[0] + 1 == found.size:
            return view[sample], slice(found[0], found[-1] + 1)
        return view[sample], found


class Sequences(Ragged):
    """Sequences one after the other along the first axis of their layout, without padding."""

    def __init__(self, x: Array, layout: str | None, cu_seqlens: Any) -> None:
        if x.ndim != 2:
            raise ValueError(f"x has {x.ndim} axes, expected 2 with cu_seqlens: positions and channels")
        self._position, channel = _checks.layout(layout, 2)
        offsets = _checks.offsets(cu_seqlens, x.shape[self._position])
        self.channels_last = abs(x.strides[channel]) <= abs(x.strides[self._position])
        self.channels = x.shape[channel]
        self._offsets = offsets
        self._sort(np.diff(offsets))

    def _canonical(self, x: Array) -> Array:
        return np.moveaxis(x, self._position, 0 if self.channels_last else 1)

    def _put_back(self, view: Array, x: Array) -> None:
        raise AssertionError("two axes in another order are a view")

    def _places(self) -> Array:
        starts = np.repeat(self._offsets[self._order] - self._ends[:-1], self.counts[self._order])
        places: Array = starts + np.arange(self.total)
        return places

    def _own(self, view: Array, sample: int) -> tuple[Array, Any]:
        return view, slice(self._offsets[sample], self._offsets[sample + 1])


def padded(x: Array, layout: str | None, mask: Any, lengths: Any) -> Padded:
    """The valid positions of x, from a mask or from lengths."""
    sample, channel = _checks.layout(layout, x.ndim)
    without = tuple(length for i, length in enumerate(x.shape) if i != channel)
    if mask is not None and lengths is not None:
        raise ValueError("mask and lengths are both given, expected one of them")
    if mask is not None:
        whole = np.broadcast_to(_checks.mask(mask, without, "the shape of x without its channels"), without)
        valid = np.moveaxis(whole, sample - (channel < sample), 0).reshape(x.shape[sample], -1)
        return Padded(x, layout, valid)
    if x.ndim != 3:
        raise ValueError(
            f"lengths is given, expected x with one axis beside samples and channels, as NLC and NCL have: x has {x.ndim} "
            f"axes (a mask says it of any)"
        )
    count = x.shape[3 - sample - channel]
    valid = np.arange(count) < _checks.lengths(lengths, x.shape[sample], count)[:, np.newaxis]
    return Padded(x, layout, valid)

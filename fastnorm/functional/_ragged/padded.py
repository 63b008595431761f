"""Samples with padding: which positions of each are valid, by a mask or by lengths."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ... import _checks
from ..._floats import DType
from ..._layout import Ints
from .each import Laid
from .ragged import BATCHES, SAMPLES, Filling, Ragged, result_like

Array = NDArray[Any]


class Valid(NamedTuple):
    """Which positions of each sample are valid, their order being that of the axes."""

    counts: Array  # (N,)
    begins: Array  # (N,), the first of them
    positions: int  # of each sample, valid or not
    in_runs: bool  # do the valid ones of each sample touch?
    mask: Array | None = None  # (N, positions), where they don't

    @classmethod
    def of_mask(cls, mask: Array) -> Valid:
        samples, positions = mask.shape
        counts = np.count_nonzero(mask, 1)
        if positions == 0:
            return cls(counts, np.zeros(samples, np.int64), 0, True)
        begins, last = np.argmax(mask, 1), positions - np.argmax(mask[:, ::-1], 1)
        in_runs = bool(np.all((last - begins == counts) | (counts == 0)))
        return cls(counts, begins, positions, in_runs, None if in_runs else mask)

    @classmethod
    def of_lengths(cls, lengths: Array, samples: int, positions: int) -> Valid:
        counts = _checks.lengths(lengths, samples, positions).astype(np.int64)
        return cls(counts, np.zeros_like(counts), positions, True)

    def as_mask(self) -> Array:
        if self.mask is not None:
            return self.mask
        positions, begins = np.arange(self.positions), self.begins[:, np.newaxis]
        return (begins <= positions) & (positions < begins + self.counts[:, np.newaxis])


class Padded(Ragged):
    """Samples in an array of as many positions as the longest has, or with gaps."""

    def __init__(self, shape: Ints, strides: Ints, layout: str | None, valid: Valid, joined: bool) -> None:
        """Of arrays with x's shape, and perhaps others' strides; `joined`: do channels share statistics?"""
        self._joined = joined
        self._sample, self._channel = _checks.layout(layout, len(shape))
        self._spatial = tuple(i for i in range(len(shape)) if i not in (self._sample, self._channel))
        spatial = [abs(strides[i]) for i in self._spatial if shape[i] > 1]
        self.channels_last = abs(strides[self._channel]) < min(spatial, default=np.inf)
        self.channels = shape[self._channel]
        self._shape, self._valid = shape, valid
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
        self.once(("padding", x.strides, x.itemsize), lambda: self._around(found))(x, None)

    def _around(self, found: Laid) -> Filling:
        """Blocks of zeros before and behind the samples."""
        touch, behind = found.strides[0] == self.channels, self._valid.positions - self._begins - self.counts
        before = self._blocks(found, -self._begins, self._begins, touch)
        blocks = np.concatenate([before, self._blocks(found, self.counts, behind, touch)])
        return Filling([blocks, np.zeros_like(blocks)])


def padded(x: Array, layout: str | None, mask: Any, lengths: Any, *, joined: bool = False) -> Padded:
    """The valid positions of x, from a mask or from lengths; `joined`: do channels share statistics?"""
    sample, channel = _checks.layout(layout, x.ndim)
    without = tuple(length for i, length in enumerate(x.shape) if i != channel)
    if mask is not None and lengths is not None:
        raise ValueError("mask and lengths are both given, expected one of them")
    if mask is not None:
        whole = np.broadcast_to(_checks.mask(mask, without, "the shape of x without its channels"), without)
        valid = Valid.of_mask(np.moveaxis(whole, sample - (channel < sample), 0).reshape(x.shape[sample], -1))
        return _batch(x, layout, valid, joined)
    if x.ndim != 3:
        raise ValueError(
            f"lengths is given, expected x with one axis beside samples and channels, as NLC and NCL have: x has {x.ndim} "
            f"axes (a mask says it of any)"
        )
    told, of = np.asarray(lengths), (x.shape[sample], x.shape[3 - sample - channel])
    if told.size > SAMPLES or told.dtype.hasobject:
        return _batch(x, layout, Valid.of_lengths(told, *of), joined)
    return _batch(x, layout, _of_known_lengths(told.tobytes(), told.dtype, told.shape, *of), joined)


@lru_cache(BATCHES)
def _of_known_lengths(told: bytes, dtype: DType, shape: Ints, samples: int, positions: int) -> Valid:
    return Valid.of_lengths(np.ndarray(shape, dtype, told), samples, positions)


def _batch(x: Array, layout: str | None, valid: Valid, joined: bool) -> Padded:
    if not valid.in_runs or len(valid.counts) > SAMPLES:
        return Padded(x.shape, x.strides, layout, valid, joined)
    told = valid.counts.tobytes(), valid.begins.tobytes(), valid.positions
    return _known_batch(x.shape, x.strides, layout, joined, *told)


@lru_cache(BATCHES)
def _known_batch(
    shape: Ints, strides: Ints, layout: str | None, joined: bool, counts: bytes, begins: bytes, positions: int
) -> Padded:
    valid = Valid(np.frombuffer(counts, np.int64), np.frombuffer(begins, np.int64), positions, True)
    return Padded(shape, strides, layout, valid, joined)

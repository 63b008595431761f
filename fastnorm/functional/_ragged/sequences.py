"""Sequences packed one after the other, as attention libraries pass them."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ... import _checks
from ..._layout import Ints
from .ragged import BATCHES, SAMPLES, Ragged

Array = NDArray[Any]


class Sequences(Ragged):
    """Sequences one after the other along the first axis of their layout, without padding."""

    _in_runs = True

    def __init__(self, shape: Ints, strides: Ints, layout: str | None, offsets: Array) -> None:
        self._position, channel = _checks.layout(layout, 2)
        self.channels_last = abs(strides[channel]) <= abs(strides[self._position])
        self.channels = shape[channel]
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


def sequences(x: Array, layout: str | None, cu_seqlens: Any) -> Sequences:
    """The sequences that are packed in x."""
    if x.ndim != 2:
        raise ValueError(f"x has {x.ndim} axes, expected 2 with cu_seqlens: positions and channels")
    offsets = _checks.offsets(cu_seqlens, x.shape[_checks.layout(layout, 2)[0]])
    if len(offsets) > SAMPLES:
        return Sequences(x.shape, x.strides, layout, offsets)
    return _known_sequences(x.shape, x.strides, layout, offsets.tobytes())


@lru_cache(BATCHES)
def _known_sequences(shape: Ints, strides: Ints, layout: str | None, offsets: bytes) -> Sequences:
    return Sequences(shape, strides, layout, np.frombuffer(offsets, np.int64))

"""The four steps of `_grid` for every sample and channel, whether all positions are valid or some padding."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _checks
from .._layout import elements
from . import _grid
from ._grid import Moments, Sums
from ._ragged import Ragged, padded

Array = NDArray[Any]
Pair = tuple[Array | None, Array | None]

_PAIRS = _grid.PER_SAMPLE_AND_CHANNEL


def places(x: Array, layout: str | None, mask: Any, lengths: Any) -> Whole | Blocks:
    """Those of x that are valid."""
    if mask is None and lengths is None:
        return Whole(x, layout)
    return Blocks(x, padded(x, layout, mask, lengths))


class Whole:
    """All positions are valid."""

    def __init__(self, x: Array, layout: str | None) -> None:
        self._x, self._layout = x, layout
        sample, channel = _checks.layout(layout, x.ndim)
        positions = elements(tuple(n for i, n in enumerate(x.shape) if i not in (sample, channel)))
        self.counts = np.full(x.shape[sample], positions)

    def moments(self) -> Moments:
        return _grid.moments(_PAIRS, self._layout, self._x)

    def apply(
        self,
        statistics: Moments,
        pair: Pair,
        eps: float,
        activation: Any,
        out: Array | None,
        keep_padding: bool,
    ) -> Array:
        return _grid.apply(
            _PAIRS, self._layout, self._x, statistics, *pair, eps=eps, activation=activation, out=out
        )

    def sums(self, dy: Array, mean: Array, rstd: Array, pair: Pair, activation: Any) -> Sums:
        return _grid.sums(_PAIRS, self._layout, dy, self._x, mean, rstd, *pair, activation=activation)

    def gradient(
        self, dy: Array, mean: Array, rstd: Array, terms: tuple[Array, ...], pair: Pair, activation: Any
    ) -> Array:
        a, b, c = terms
        return _grid.gradient(
            _PAIRS, self._layout, dy, self._x, mean, rstd, (a, b, c), *pair, activation=activation
        )


class Blocks:
    """Some are padding: the steps are taken block by block, over samples of equal lengths."""

    def __init__(self, x: Array, ragged: Ragged) -> None:
        self._x, self._ragged, self._packed = x, ragged, ragged.pack(x)
        self.counts = ragged.counts

    def _views(self, *packs: Array) -> Iterator[tuple[Array, list[Array]]]:
        for block in self._ragged.blocks():
            yield block.samples, [self._ragged.view(pack, block) for pack in (self._packed, *packs)]

    def moments(self) -> Moments:
        """Those of every sample and channel; 0 where no position is valid."""
        found = Moments(*np.zeros((3, len(self.counts), self._ragged.channels)))
        for samples, (view,) in self._views():
            own = _grid.moments(_PAIRS, self._ragged.of_block, view)
            for statistic, of_block in zip(found, own, strict=True):
                statistic[samples] = of_block
        return found

    def apply(
        self,
        statistics: Moments,
        pair: Pair,
        eps: float,
        activation: Any,
        out: Array | None,
        keep_padding: bool,
    ) -> Array:
        for samples, (view,) in self._views():
            own, layout = Moments(*(s[samples] for s in statistics)), self._ragged.of_block
            _grid.apply(
                _PAIRS, layout, view, own, *_of(pair, samples), eps=eps, activation=activation, out=view
            )
        return self._ragged.restored(self._packed, self._x, out, keep_padding)

    def sums(self, dy: Array, mean: Array, rstd: Array, pair: Pair, activation: Any) -> Sums:
        found = Sums(*np.zeros((2, *mean.shape)))
        layout = self._ragged.of_block
        for samples, (x, g) in self._views(self._ragged.pack(dy)):
            statistics = mean[samples], rstd[samples]
            own = _grid.sums(_PAIRS, layout, g, x, *statistics, *_of(pair, samples), activation=activation)
            for total, of_block in zip(found, own, strict=True):
                total[samples] = of_block
        return found

    def gradient(
        self, dy: Array, mean: Array, rstd: Array, terms: tuple[Array, ...], pair: Pair, activation: Any
    ) -> Array:
        layout, packed = self._ragged.of_block, self._ragged.pack(dy)
        for samples, (x, g) in self._views(packed):
            a, b, c = (t[samples] for t in terms)
            statistics = mean[samples], rstd[samples]
            own = _of(pair, samples)
            g[...] = _grid.gradient(_PAIRS, layout, g, x, *statistics, (a, b, c), *own, activation=activation)
        return self._ragged.restored(packed, self._x)


def _of(pair: Pair, samples: Array) -> Pair:
    weight, bias = (None if p is None else p[samples] for p in pair)
    return weight, bias

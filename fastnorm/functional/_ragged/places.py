"""The four steps of `grid.py` for every sample and channel, whether all positions are valid or some padding."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ... import _checks
from ..._floats import computed
from ..._layout import elements
from ...kernels.activations import CODES
from .._flow import grid as _grid
from .._flow.grid import Moments, Sums
from .each import APPLY, BACKWARD, FORWARD, GRADIENT, Each, Laid, both, each_of
from .padded import padded
from .ragged import Ragged

Array = NDArray[Any]
Pair = tuple[Array | None, Array | None]

_PAIRS = _grid.PER_SAMPLE_AND_CHANNEL


def places(x: Array, layout: str | None, mask: Any, lengths: Any) -> Whole | Parts:
    """Those of x that are valid."""
    if mask is None and lengths is None:
        return Whole(x, layout)
    return Parts(x, padded(x, layout, mask, lengths))


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


class Parts:
    """Some are padding: each sample has its own."""

    def __init__(self, x: Array, ragged: Ragged) -> None:
        self._x, self._ragged, self._laid = x, ragged, ragged.laid(x)
        self.counts = ragged.counts
        self._shape = len(ragged.counts), ragged.channels

    def _each(self, result: Laid, activation: Any, *beside: Laid) -> Each:
        code = _checks.activation(activation, CODES)
        arrays = self._laid, result, *beside
        # Forward calls don't ask whether statistics are x's own.
        return each_of(_PAIRS, "NLC", self._ragged, arrays, code, constant=True)

    def _pair(self, pair: Pair) -> tuple[Array | None, Array | None]:
        dtype = computed(self._x.dtype)
        return both(*(_grid.rounded(p, dtype) for p in pair))

    def moments(self) -> Moments:
        """Those of every sample and channel; 0 where no position is valid."""
        each = self._each(self._laid, None)
        lines = each.lines(self._shape[1], 3)
        each.run(FORWARD, [self._laid], [lines])
        mean, variance, tail = np.zeros((3, *self._shape))
        each.read(lines, (mean, variance, tail))
        return Moments(mean, tail, variance)

    def apply(
        self,
        statistics: Moments,
        pair: Pair,
        eps: float,
        activation: Any,
        out: Array | None,
        keep_padding: bool,
    ) -> Array:
        target = self._ragged.target(self._x, out, keep_padding)
        arrays = [self._laid, target.laid, *self._pair(pair)]
        each = self._each(target.laid, activation)
        numbers = [
            np.concatenate([statistics.mean, statistics.tail], axis=1),
            each.written(statistics.variance),
        ]
        each.run(APPLY, arrays, numbers, eps, (0, self._shape[1]))
        return self._ragged.finished(target, keep_padding)

    def sums(self, dy: Array, mean: Array, rstd: Array, pair: Pair, activation: Any) -> Sums:
        beside, found = self._ragged.laid(dy), np.zeros((self._shape[0], 2 * self._shape[1]))
        arrays = [beside, self._laid, None, *self._pair(pair)]
        each = self._each(self._laid, activation, beside)
        each.run(
            BACKWARD, arrays, [each.written(mean), each.written(rstd), found], gradients=(1, self._shape[1])
        )
        of_product, of_g = np.split(found, 2, axis=1)
        return Sums(of_g, of_product)

    def gradient(
        self, dy: Array, mean: Array, rstd: Array, terms: tuple[Array, ...], pair: Pair, activation: Any
    ) -> Array:
        beside, target = self._ragged.laid(dy), self._ragged.target(self._x)
        arrays = [beside, self._laid, target.laid, *self._pair(pair)]
        each = self._each(target.laid, activation, beside)
        each.run(GRADIENT, arrays, [each.written(mean), each.written(rstd), np.concatenate(terms, axis=1)])
        return self._ragged.finished(target)

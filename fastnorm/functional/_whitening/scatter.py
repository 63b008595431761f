"""Scatter matrices, Σ (a - mean of a)(b - mean of b)ᵀ in each group: block by block, merged exactly by Chan's rule."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..._floats import DType
from ..layer import layer_norm
from .blocks import Crew, Index, Space
from .products import fits_own_thread, multiply_out

Array = NDArray[Any]
Load = Callable[[Index, Space, str], Array]  # a block, in the buffer of this name

# Added to the variance of a block, where a constant channel has none: 1/√ of it is still a number of float32.
_TINY = 1e-30


class Scatter(NamedTuple):
    """What is known of two arrays' channels after some positions, all in float64."""

    positions: int
    mean: Array  # (groups, channels of a group) of a …
    other_mean: Array  # … and of b, the same where b is a
    matrix: Array  # (groups, channels of a, channels of b)

    def merged(self, later: Scatter) -> Scatter:
        """That of both sets of positions (Chan, Golub, LeVeque 1979)."""
        positions = self.positions + later.positions
        share = later.positions / positions
        step, other_step = later.mean - self.mean, later.other_mean - self.other_mean
        between = step[:, :, np.newaxis] * other_step[:, np.newaxis, :]
        return Scatter(
            positions,
            self.mean + share * step,
            self.other_mean + share * other_step,
            self.matrix + later.matrix + self.positions * share * between,
        )


def loader(view: Array) -> Load:
    """What brings blocks of a view of an array into buffers."""

    def load(index: Index, space: Space, name: str) -> Array:
        block = view[index]
        buffer = space.buffer(name, block.shape[1], block)
        np.copyto(buffer.reshape(block.shape), block)
        return buffer

    return load


def scatter(crew: Crew, dtype: DType, load: Load, load_other: Load | None = None) -> Scatter:
    """The scatter of a against b, or against itself, with products in `dtype`."""

    def of_run(run: Sequence[Index], space: Space) -> Scatter:
        return reduce(Scatter.merged, (_of_block(index, space, load, load_other) for index in run))

    total = reduce(Scatter.merged, crew.over(dtype, of_run))
    if load_other is not None:
        return total
    return total._replace(matrix=np.triu(total.matrix) + np.triu(total.matrix, 1).swapaxes(1, 2))


def _of_block(index: Index, space: Space, load: Load, load_other: Load | None) -> Scatter:
    """That of a block: of correlations, which no scale of the channels can take out of the range of float32."""
    a = load(index, space, "a")
    mean, scale = _standardize(a, space)
    if load_other is not None:
        b = load_other(index, space, "b")
        other_mean, other_scale = _standardize(b, space)
    else:
        b, other_mean, other_scale = a, mean, scale
        if fits_own_thread(a.shape[1], a.shape[1]):
            b = space.buffer("b", a.shape[1], a, apart=True)
            np.copyto(b, a)
    matrix = multiply_out(a, b, equal=load_other is None)
    if load_other is None:
        # As exact as the variances, which have become 1, or less beside what was added to them.
        np.einsum("gii->gi", matrix)[...] = a.shape[2] * (1 - _TINY / (scale * scale))
    matrix *= scale[:, :, np.newaxis]
    matrix *= other_scale[:, np.newaxis, :]
    return Scatter(math.prod(a.shape[2:]), mean, other_mean, matrix)


def _standardize(buffer: Array, space: Space) -> tuple[Array, Array]:
    """(x - mean) / scale in place of x; mean and scale in float64."""
    stored, axis = space.stored(buffer)
    _, mean, rstd = layer_norm(stored, axis=axis, eps=_TINY, out=stored, return_stats=True)
    return mean.reshape(buffer.shape[:2]), 1 / rstd.reshape(buffer.shape[:2])

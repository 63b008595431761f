"""Affine maps of the channels of each group, y = matrix · (x - mean) + shift, block by block, and activations of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..._floats import DType
from ..batch import batch_norm, batch_norm_backward
from .blocks import Blocks, Crew, Index, Space
from .products import multiply

Array = NDArray[Any]


class Affine:
    """matrix · (sources - means) + shift, in `dtype`; several sources are as one with the channels of all.

    Of the means, given in float64, the sources lose what rounds to `dtype`, and the result the small rest: a mean of 1e5
    costs a spread of 1 no digits.
    """

    def __init__(
        self,
        blocks: Blocks,
        dtype: DType,
        sources: Sequence[Array],  # views (groups, channels of a group, *positions)
        mean: Array,  # (groups, channels of all sources)
        matrix: Array,  # (groups, channels of the result, channels of all sources)
        shift: Array,  # (groups, channels of the result)
    ) -> None:
        with np.errstate(all="ignore"):
            high = mean.astype(dtype)
            self._shift = (shift - (matrix @ (mean - high)[:, :, np.newaxis])[:, :, 0]).astype(dtype)
        self._dtype, self._sources = dtype, sources
        self._high, self._matrix = high, blocks.matrices(matrix, dtype)

    def at(self, index: Index, space: Space) -> Array:
        """A block of the result, in a buffer."""
        product = self._product(index, space)
        product += self._shift[:, :, np.newaxis]
        return product

    def write(self, crew: Crew, target: Array, activation: str | None = None) -> None:
        """activation(result) into a view of an array."""

        def write(run: Sequence[Index], space: Space) -> None:
            for index in run:
                block = target[index]
                if activation is None:
                    product = self._product(index, space).reshape(block.shape)
                    np.add(product, _along(self._shift, block), out=block, casting="same_kind")
                else:
                    z = self.at(index, space)
                    activate(space.stored(z)[0], activation)
                    np.copyto(block, z.reshape(block.shape), casting="same_kind")

        crew.over(self._dtype, write)

    def _product(self, index: Index, space: Space) -> Array:
        first = self._sources[0][index]
        centred = space.buffer("b", self._matrix.shape[2], first, apart=True)
        at = 0
        for source in self._sources:
            block = source[index]
            part = slice(at, at + block.shape[1])
            np.subtract(block, _along(self._high[:, part], block), out=centred[:, part].reshape(block.shape))
            at = part.stop
        product = space.buffer("c", self._matrix.shape[1], first)
        multiply(self._matrix, centred, product)
        return product


def _along(values: Array, block: Array) -> Array:
    """(groups, channels) to go with a block."""
    return values.reshape(*values.shape, *(1,) * (block.ndim - 2))


def activate(z: Array, activation: str) -> None:
    """z → activation(z), in place, of an array in C order."""
    line = z.reshape(1, -1)
    zero, one = np.zeros(1, z.dtype), np.ones(1, z.dtype)
    batch_norm(line, zero, one, eps=0.0, layout="CN", activation=activation, out=line)


def activation_backward(dy: Array, z: Array, activation: str) -> Array:
    """dy · activation'(z), of arrays in C order."""
    lines, needs = (dy.reshape(1, -1), z.reshape(1, -1)), (True, False, False)
    constant = np.zeros(1), np.ones(1)
    found = batch_norm_backward(
        *lines, *constant, training=False, layout="CN", activation=activation, needs=needs
    )
    assert found.dx is not None
    return found.dx.reshape(dy.shape)

"""Products of matrices and blocks, through NumPy's BLAS in pieces that it computes on the thread that asks."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

# OpenBLAS starts threads for no fewer multiplications, and on AVX-512 packs no operand: with 16 channels 90 GFLOP/s in
# place of 30. Pieces of fewer positions gain nothing.
_OWN_THREAD, _FEWEST = 1 << 19, 24
# Sums over positions: of so many channels by so many others, which took half as long as 64 by 64, and over few positions:
# BLAS adds up one by one, and a rounding of equal terms to a large sum goes the same way each time.
_TILE, _TILE_POSITIONS = (16, 64), 256


def fits_own_thread(rows: int, columns: int) -> bool:
    """Whether products with matrices of so many rows and columns are cut into pieces."""
    return _piece(rows, columns) >= _FEWEST


def _piece(rows: int, columns: int) -> int:
    """Positions of a piece."""
    return (_OWN_THREAD - 1) // (rows * columns)


def multiply(matrices: Array, block: Array, out: Array) -> None:
    """out = matrices @ block: (groups, rows, columns) @ (groups, columns, positions)."""
    _, rows, columns = matrices.shape
    size = _piece(rows, columns) if fits_own_thread(rows, columns) else block.shape[2]
    for part, target in zip(_pieces(block, size), _pieces(out, size), strict=True):
        np.matmul(matrices, part, out=target)


def multiply_out(a: Array, b: Array, equal: bool) -> Array:
    """a @ bᵀ in float64, summed over positions: (groups, rows, positions) @ (groups, columns, positions)ᵀ.

    Of equal ones only what is above the diagonal, and on it, is sure to be computed. They should be two arrays in memory, if
    they are cut into pieces: NumPy asks syrk for the product of a matrix and itself, which starts threads, and with 16
    channels takes three times as long.
    """
    groups, rows, _ = a.shape
    columns = b.shape[1]
    if not fits_own_thread(rows, columns):
        whole: Array = np.matmul(a, b.swapaxes(1, 2)).astype(np.float64)
        return whole
    total = np.zeros((groups, rows, columns))
    high, wide = _TILE
    for i in range(0, rows, high):
        for j in range(i if equal else 0, columns, wide):
            tile = total[:, i : i + high, j : j + wide]
            parts = (_pieces(side, _TILE_POSITIONS) for side in (a[:, i : i + high], b[:, j : j + wide]))
            for part, other in zip(*parts, strict=True):
                tile += np.add.reduce(np.matmul(part, other.swapaxes(-1, -2)), 0, dtype=np.float64)
    return total


def _pieces(block: Array, size: int) -> list[Array]:
    """(pieces, groups, channels, positions of a piece), and what is left in a piece of its own."""
    groups, channels, positions = block.shape
    whole = positions // size * size
    pieces = block[..., :whole].reshape(groups, channels, -1, size).transpose(2, 0, 1, 3)
    rest = block[np.newaxis, ..., whole:]
    return [part for part in (pieces, rest) if part.size]

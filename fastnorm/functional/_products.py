"""Products of matrices and blocks, through NumPy's BLAS in pieces that it computes on the thread that asks."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

# OpenBLAS starts threads for no fewer multiplications, and on AVX-512 packs no operand: with 16 channels 90 GFLOP/s in
# place of 30. Pieces of fewer positions gain nothing.
_OWN_THREAD, _FEWEST = 1 << 19, 24
# BLAS adds up one by one, and a rounding of equal terms to a large sum goes the same way each time: sums are short.
_LONGEST = 256


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


def multiply_out(a: Array, b: Array) -> Array:
    """a @ bᵀ in float64, summed over positions: (groups, rows, positions) @ (groups, columns, positions)ᵀ."""
    groups, rows, _ = a.shape
    columns = b.shape[1]
    size = min(_piece(rows, columns), _LONGEST) if fits_own_thread(rows, columns) else a.shape[2]
    total = np.zeros((groups, rows, columns))
    for part, other in zip(_pieces(a, size), _pieces(b, size), strict=True):
        total += np.add.reduce(np.matmul(part, other.swapaxes(-1, -2)), 0, dtype=np.float64)
    return total


def _pieces(block: Array, size: int) -> list[Array]:
    """(pieces, groups, channels, positions of a piece), and what is left in a piece of its own."""
    groups, channels, positions = block.shape
    whole = positions // size * size
    pieces = block[..., :whole].reshape(groups, channels, -1, size).transpose(2, 0, 1, 3)
    rest = block[np.newaxis, ..., whole:]
    return [part for part in (pieces, rest) if part.size]

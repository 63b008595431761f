"""Layer norm where some rows are padding: no other reads them. Backward, the others are packed, for the sums over rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ... import _checks
from ..._floats import FLOAT64
from .._flow.backward import Gradients, backward
from .._flow.forward import normalize
from .._flow.results import new
from .._flow.roles import LAYER
from .ragged import result_like

Array = NDArray[Any]


class ValidRows:
    """The rows of x, which are what `axis` leaves, that are not padding."""

    def __init__(self, x: Any, axis: Any, mask: Any, lengths: Any) -> None:
        self._x = _checks.array(x, "x")
        self._shared = LAYER.shared(self._x.shape, axis)
        self._axes = self._shared.roles.reduced
        self._kept = tuple(i for i in range(self._x.ndim) if i not in self._axes)
        self._rows = tuple(self._x.shape[i] for i in self._kept)
        self._valid = self._mask(mask, lengths)
        # As x has them in memory: rows, or columns side by side.
        strides = [abs(self._x.strides[i]) for i in self._axes if self._x.shape[i] > 1]
        others = [abs(self._x.strides[i]) for i in self._kept if self._x.shape[i] > 1]
        self._outermost = min(strides, default=0) <= min(others, default=np.inf)

    def _mask(self, mask: Any, lengths: Any) -> Array:
        if mask is not None and lengths is not None:
            raise ValueError("mask and lengths are both given, expected one of them")
        if mask is not None:
            return np.broadcast_to(_checks.mask(mask, self._rows, "the shape of x without axis"), self._rows)
        if len(self._rows) != 2:
            raise ValueError(
                f"lengths is given, expected x without axis to be (N, L): it is {self._rows} (a mask says it of any)"
            )
        samples, count = self._rows
        return np.arange(count) < _checks.lengths(lengths, samples, count)[:, np.newaxis]

    def normalize(
        self, weight: Any, bias: Any, eps: Any, activation: Any, out: Any, keep_padding: bool
    ) -> tuple[Array, Array, Array]:
        """y, and mean and rstd: of padding those of a row of zeros."""
        x, padding, out = self._x, ~self._valid, _checks.result(out, "out", self._x)
        # Every row by itself: those of padding, whatever is in them, change no other.
        target = None if keep_padding else out
        y, found = normalize(LAYER, self._axes, x, weight, bias, eps, activation, target, True)
        assert found is not None, "they were wanted"
        with np.errstate(divide="ignore", invalid="ignore"):
            found.mean[padding], found.rstd[padding] = 0, 1 / np.sqrt(np.float64(eps))
        if keep_padding:
            result = result_like(x, out, True)
            np.copyto(result, y, where=np.expand_dims(self._valid, self._axes))
            return result, found.mean, found.rstd
        self._put(np.zeros((), y.dtype), y, padding)
        return y, found.mean, found.rstd

    def backward(
        self, dy: Any, mean: Any, rstd: Any, weight: Any, bias: Any, activation: Any, needs: Any
    ) -> Gradients:
        """The gradients: 0 where padding is."""
        x, why = self._x, "that of what the forward call returned"
        dy = _checks.like(dy, "dy", x)
        given = ((mean, "mean"), (rstd, "rstd"))
        m, r = (_checks.parameter(s, name, self._rows, FLOAT64, why)[self._valid] for s, name in given)
        own, gradients = self._packed(x), self._packed(dy)
        found = backward(LAYER, self._axes_of_pack, gradients, own, m, r, weight, bias, activation, needs)
        if found.dx is None:
            return found
        dx = new(x)
        self._put(np.zeros((), x.dtype), dx, ~self._valid)
        self._put(found.dx, dx, self._valid)
        return found._replace(dx=dx)

    @property
    def _axes_of_pack(self) -> tuple[int, ...]:
        return tuple(range(-len(self._axes), 0)) if self._outermost else tuple(range(len(self._axes)))

    def _packed(self, x: Array) -> Array:
        """(rows, …) of the normalized axes, or (…, rows)."""
        if self._outermost:
            return np.ascontiguousarray(x.transpose(*self._kept, *self._axes)[self._valid])
        lengths = [self._x.shape[i] for i in self._axes]
        places = np.flatnonzero(self._valid)
        flat = x.transpose(*self._axes, *self._kept).reshape(*lengths, -1)
        return np.ascontiguousarray(np.take(flat, places, axis=-1))

    def _put(self, values: Array, result: Array, rows: Array) -> None:
        """Write to some rows of a result."""
        if self._outermost:
            result.transpose(*self._kept, *self._axes)[rows] = values
        else:
            result.transpose(*self._axes, *self._kept)[..., rows] = values

"""The flows of calls with padding: pack what is valid, normalize it block by block, and put it back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _checks
from .._floats import FLOAT64, cast, computed
from ..kernels.activations import CODES
from ._backward import Gradients, backward
from ._forward import Statistics, normalize
from ._ragged import Padded, Ragged
from ._roles import BATCH, Norm
from ._running import Update

Array = NDArray[Any]


def without_padding(y: Array, x: Array, valid: Padded, keep_padding: bool) -> Array:
    """A result computed everywhere, with zeros for padding, or with what x has there."""
    np.copyto(y, x if keep_padding else np.zeros((), y.dtype), where=valid.padding())
    return y


class Call:
    """The arguments of a masked call, checked as a whole before a block of them is written."""

    def __init__(self, norm: Norm, argument: Any, x: Array, weight: Any, bias: Any, activation: Any) -> None:
        self.x = _checks.array(x, "x")
        self.shared = norm.shared(self.x.shape, argument)
        _checks.affine_pair(weight, bias, self.shared.parameters, self.x.dtype, self.shared.why)
        _checks.activation(activation, CODES)
        self.weight, self.bias, self.activation = weight, bias, activation


def normalize_blocks(
    norm: Norm,
    argument_of: Callable[[str], Any],
    call: Call,
    ragged: Ragged,
    eps: float,
    out: Array | None,
    keep_padding: bool,
    update: Update,
) -> tuple[Array, Statistics]:
    """y where each sample has statistics of its own; `argument_of` a layout is the norm's.

    A sample without any valid position has a mean and a variance of 0.
    """
    x, added = call.x, _checks.eps(eps)
    out = _checks.result(out, "out", x)
    running = update.checked(call.shared, x, out)
    shape = _statistic_shape(call, ragged)
    with np.errstate(divide="ignore", invalid="ignore"):
        nothing = 0.0, 0.0, float(1 / np.sqrt(np.float64(added)))
    statistics = Statistics(*(np.full(shape, value) for value in nothing))
    packed = ragged.pack(x)
    for block in ragged.blocks():
        view = ragged.view(packed, block)
        layout = argument_of(ragged.of_block)
        _, found = normalize(norm, layout, view, call.weight, call.bias, added, call.activation, view, True)
        assert found is not None, "they were wanted"
        for all_of_them, own in zip(statistics, found, strict=True):
            all_of_them[block.samples] = own
    y = ragged.restored(packed, x, out, keep_padding)
    there = ragged.counts > 0
    if running is not None and there.any():
        counts = ragged.counts[there, np.newaxis]
        running.update(statistics.mean[there], statistics.variance[there], counts)
    return y, statistics


def backward_blocks(
    norm: Norm,
    argument_of: Callable[[str], Any],
    call: Call,
    ragged: Ragged,
    dy: Array,
    mean: Array,
    rstd: Array,
    needs: tuple[bool, bool, bool],
) -> Gradients:
    """The gradients of `normalize_blocks`: 0 where padding is."""
    x, needs = call.x, _checks.needs(needs)
    shape = _statistic_shape(call, ragged)
    dy = _checks.like(dy, "dy", x)
    mean, rstd = (
        _checks.parameter(s, name, shape, FLOAT64, _FORWARD) for s, name in ((mean, "mean"), (rstd, "rstd"))
    )
    dtype, weight = _in_float64(call)
    packed, gradients = ragged.pack(x), ragged.pack(dy)
    sums = np.zeros((2, *call.shared.parameters))
    for block in ragged.blocks():
        view, own = (ragged.view(p, block) for p in (packed, gradients))
        argument, m, r = argument_of(ragged.of_block), mean[block.samples], rstd[block.samples]
        found = backward(norm, argument, own, view, m, r, weight, call.bias, call.activation, needs)
        _add(sums, found)
        if found.dx is not None:
            own[...] = found.dx
    return _gradients(sums, ragged.restored(gradients, x) if needs[0] else None, needs, dtype)


def normalize_batch(
    call: Call,
    ragged: Ragged,
    eps: float,
    out: Array | None,
    keep_padding: bool,
    update: Update,
    in_training: Norm,
) -> tuple[Array, Statistics]:
    """Batch norm in training: the pack is a batch of positions."""
    x, added = call.x, _checks.eps(eps)
    out = _checks.result(out, "out", x)
    update.checked(call.shared, x, out)
    packed = ragged.pack(x, together=True)
    if ragged.total == 0:
        zeros = np.zeros(call.shared.parameters)
        with np.errstate(divide="ignore", invalid="ignore"):
            return ragged.restored(packed, x, out, keep_padding), Statistics(
                zeros, zeros, 1 / np.sqrt(zeros + added)
            )
    pair, code = (call.weight, call.bias), call.activation
    _, found = normalize(in_training, ragged.of_pack, packed, *pair, added, code, packed, True, update)
    assert found is not None, "they were wanted"
    return ragged.restored(packed, x, out, keep_padding), found


def backward_batch(
    call: Call,
    ragged: Ragged,
    dy: Array,
    mean: Array,
    rstd: Array,
    needs: tuple[bool, bool, bool],
    constant: bool,
) -> Gradients:
    """The gradients of batch norm, in training or with constant statistics: 0 where padding is."""
    x, needs = call.x, _checks.needs(needs)
    dy = _checks.like(dy, "dy", x)
    dtype, weight = _in_float64(call)
    packed, gradients = ragged.pack(x, together=True), ragged.pack(dy, together=True)
    layout, pair, code = ragged.of_pack, (weight, call.bias), call.activation
    found = backward(BATCH, layout, gradients, packed, mean, rstd, *pair, code, needs, constant=constant)
    sums = np.zeros((2, *call.shared.parameters))
    _add(sums, found)
    return _gradients(sums, None if found.dx is None else ragged.restored(found.dx, x), needs, dtype)


_FORWARD = "that of what the forward call returned"


def _statistic_shape(call: Call, ragged: Ragged) -> tuple[int, int]:
    """A row for each sample, which a sequence is too."""
    return len(ragged.counts), call.shared.statistic_shape(call.x.shape)[1]


def _in_float64(call: Call) -> tuple[Any, Array]:
    """The dtype of the parameters' gradients, and a weight for which the blocks' come in float64, to be added up."""
    if call.weight is None:
        return computed(call.x.dtype), np.ones(call.shared.parameters)
    return call.weight.dtype, call.weight.astype(np.float64)


def _add(sums: Array, found: Gradients) -> None:
    for total, own in zip(sums, found[1:], strict=True):
        if own is not None:
            total += own


def _gradients(sums: Array, dx: Array | None, needs: tuple[bool, ...], dtype: Any) -> Gradients:
    return Gradients(dx, *(cast(s, dtype) if need else None for s, need in zip(sums, needs[1:], strict=True)))

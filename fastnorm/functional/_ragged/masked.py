"""The flows of calls with padding: each sample by its own valid positions, or all of these as one batch."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ... import _checks
from ..._floats import FLOAT64, cast, computed
from ...kernels.activations import CODES
from .._flow.backward import Gradients, backward
from .._flow.forward import Statistics, normalize
from .._flow.roles import BATCH, Norm
from .._flow.running import Update
from .each import BACKWARD, FORWARD, both, each_of
from .ragged import Ragged

Array = NDArray[Any]


class Call:
    """The arguments of a masked call, checked as a whole before any of them is written."""

    def __init__(
        self, norm: Norm, argument: Any, x: Any, weight: Any, bias: Any, activation: Any, out: Any = None
    ) -> None:
        self.x = x = _checks.array(x, "x")
        self.shared = norm.shared(x.shape, argument)
        self.out = _checks.result(out, "out", x)
        checked = self.shared.parameters, x.dtype, self.shared.why, self.out
        self.pair = _checks.affine_pair(weight, bias, *checked)
        self.dtype = computed(x.dtype) if weight is None else weight.dtype  # of the parameters' gradients
        self.activation, self.code = activation, _checks.activation(activation, CODES)


def normalize_each(
    norm: Norm,
    argument: Any,
    call: Call,
    ragged: Ragged,
    eps: float,
    keep_padding: bool,
    update: Update,
    wanted: bool,
) -> tuple[Array, Statistics | None]:
    """y where each sample has statistics of its own, and these where they are wanted; running ones are updated.

    `argument` is the norm's for the layout "NLC". A sample without any valid position has a mean and a variance of 0.
    """
    x, out, added = call.x, call.out, _checks.eps(eps)
    running = update.checked(call.shared, x, out)
    count = _statistic_shape(call, ragged)[1]
    given, target = ragged.laid(x), ragged.target(x, out, keep_padding)
    each = each_of(norm, argument, ragged, (given, target.laid), call.code)
    lines = each.lines(count, 3) if wanted or running is not None else None
    each.run(FORWARD, [given, None, None, target.laid, *both(*call.pair)], [lines], added)
    y = ragged.finished(target, keep_padding)
    if lines is None:
        return y, None
    statistics = Statistics(*np.zeros((3, len(ragged.counts), count)))
    statistics.rstd[...] = 1 / math.sqrt(added) if added > 0 else math.inf
    each.read(lines, statistics)
    there = ragged.counts > 0
    if running is not None and there.any():
        counts = ragged.counts[there, np.newaxis]
        running.update(statistics.mean[there], statistics.variance[there], counts)
    return y, statistics if wanted else None


def backward_each(
    norm: Norm,
    argument: Any,
    call: Call,
    ragged: Ragged,
    dy: Array,
    mean: Array,
    rstd: Array,
    needs: tuple[bool, bool, bool],
) -> Gradients:
    """The gradients of `normalize_each`: 0 where padding is."""
    x, needs = call.x, _checks.needs(needs)
    shape = _statistic_shape(call, ragged)
    dy = _checks.like(dy, "dy", x)
    mean, rstd = (
        _checks.parameter(s, name, shape, FLOAT64, _FORWARD) for s, name in ((mean, "mean"), (rstd, "rstd"))
    )
    given, beside, target = ragged.laid(x), ragged.laid(dy), ragged.target(x)
    each = each_of(norm, argument, ragged, (given, target.laid, beside), call.code)
    (parameters,) = call.shared.parameters
    sums = np.zeros((len(ragged.counts), 2 * parameters))
    arrays = [beside, given, target.laid if needs[0] else None, *both(*call.pair)]
    each.run(BACKWARD, arrays, [each.written(mean), each.written(rstd), sums], gradients=(1, parameters))
    dx = ragged.finished(target) if needs[0] else None
    dweight, dbias = (cast(s, call.dtype) for s in np.add.reduce(sums, 0).reshape(2, -1))
    return Gradients(dx, dweight if needs[1] else None, dbias if needs[2] else None)


def normalize_batch(
    call: Call,
    ragged: Ragged,
    eps: float,
    keep_padding: bool,
    update: Update,
    in_training: Norm,
) -> tuple[Array, Statistics]:
    """Batch norm in training: the pack is a batch of positions."""
    x, out, added = call.x, call.out, _checks.eps(eps)
    update.checked(call.shared, x, out)
    packed = ragged.pack(x)
    if ragged.total == 0:
        zeros = np.zeros(call.shared.parameters)
        with np.errstate(divide="ignore", invalid="ignore"):
            return ragged.restored(packed, x, out, keep_padding), Statistics(
                zeros, zeros, 1 / np.sqrt(zeros + added)
            )
    given = packed, *call.pair, added, call.activation, packed
    _, found = normalize(in_training, ragged.of_pack, *given, True, update)
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
    packed, gradients = ragged.pack(x), ragged.pack(dy)
    given = ragged.of_pack, gradients, packed, mean, rstd, *call.pair, call.activation, needs
    found = backward(BATCH, *given, constant=constant)
    return found if found.dx is None else found._replace(dx=ragged.restored(found.dx, x))


_FORWARD = "that of what the forward call returned"


def _statistic_shape(call: Call, ragged: Ragged) -> tuple[int, int]:
    """A row for each sample, which a sequence is too."""
    return len(ragged.counts), call.shared.statistic_shape(call.x.shape)[1]

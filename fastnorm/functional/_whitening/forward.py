"""The flow of every whitening norm forward: check, add up the covariance, take its root, apply."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ... import _checks
from ..._floats import computed
from ..._layout import Ints
from ...kernels.activations import CODES
from .._flow.results import new
from .._flow.roles import BATCH
from .._flow.running import checked_pair, move
from .affine import Affine
from .blocks import Blocks, crew, cut
from .scatter import loader, scatter

Array = NDArray[Any]


class Statistics(NamedTuple):
    """What a whitening norm went by, in float64; the covariance where it is the batch's own."""

    mean: Array  # (C,)
    whitening: Array  # (groups, channels of a group, channels of a group)
    covariance: Array | None


class Grouped(NamedTuple):
    """The channels of an x."""

    axis: int
    parameters: Ints  # the shape of a mean, a weight and a bias …
    matrices: Ints  # … and of a matrix for each group
    why: str

    def blocks(self, x: Array) -> Blocks:
        """How x is cut."""
        return cut(x, self.axis, self.matrices[0])

    def split(self, values: Array | None, missing: float = 0.0) -> Array:
        """A number for each channel in float64, (groups, channels of a group); the same for all where none are given."""
        groups, size, _ = self.matrices
        return (
            np.full((groups, size), missing)
            if values is None
            else values.reshape(groups, size).astype(np.float64)
        )


def grouped(x: Array, num_groups: Any, layout: str | None) -> Grouped:
    """Those of x, once it is sure that there are such groups."""
    shared = BATCH.shared(x.shape, layout)
    (channels,) = shared.parameters
    count = _checks.num_groups(num_groups, channels)
    size = channels // count
    why = f"{shared.why}, in {count} groups"
    return Grouped(shared.roles.affine[0], shared.parameters, (count, size, size), why)


def whiten(
    root: Callable[[Array], Array],
    x: Array,
    num_groups: int,
    running_mean: Array | None,
    running_whitening: Array | None,
    weight: Array | None,
    bias: Array | None,
    training: bool,
    momentum: float,
    layout: str | None,
    activation: str | None,
    out: Array | None,
) -> tuple[Array, Statistics]:
    """y, whitened by `root` of the batch's covariance or by the running matrix, and by what."""
    x = _checks.array(x, "x")
    at = grouped(x, num_groups, layout)
    out = _checks.result(out, "out", x)
    weight, bias = _checks.affine_pair(weight, bias, at.parameters, x.dtype, at.why, out)
    _checks.activation(activation, CODES)
    momentum = _checks.momentum(momentum)
    running = used = None
    if running_mean is not None or running_whitening is not None:
        given = {
            "running_mean": (running_mean, at.parameters),
            "running_whitening": (running_whitening, at.matrices),
        }
        running = checked_pair(given, at.why, training, x, out)
        if not training:
            mean, whitening = (r.astype(np.float64) for r in running)
            used = Statistics(mean, whitening, None)
    if x.size == 0:
        nothing = Statistics(*(np.full(shape, np.nan) for shape in (at.parameters, at.matrices, at.matrices)))
        return np.empty_like(x) if out is None else out, used or nothing
    if used is None:
        _check_group_size(x, at)
    blocks = at.blocks(x)
    with crew(blocks, *at.matrices[1:]) as workers:
        if used is None:
            total = scatter(workers, computed(x.dtype), loader(blocks.view(x)))
            covariance = total.matrix / total.positions
            used = Statistics(total.mean.ravel(), root(covariance), covariance)
        y = _target(x, out)
        map_of(at, blocks, x, used.mean, used.whitening, weight, bias).write(
            workers, blocks.view(y), activation
        )
    if out is not None and y is not out:
        np.copyto(out, y)
    if training and running is not None:
        for values, batch in zip(running, used[:2], strict=True):
            move(values, 1 - momentum, momentum * batch)
    return y if out is None else out, used


def _check_group_size(x: Array, at: Grouped) -> None:
    """A covariance of as many channels as there are positions, or more, has no inverse."""
    (channels,) = at.parameters
    positions, size = x.size // channels, at.matrices[1]
    if positions > size:
        return
    fitting = [
        groups
        for groups in range(1, channels + 1)
        if channels % groups == 0 and channels // groups < positions
    ]
    remedy = f", or num_groups of at least {fitting[0]}" if fitting else ""
    raise ValueError(
        f"x has {positions} values per channel (shape {x.shape}), too few to whiten groups of {size} channels by: "
        f"expected at least {size + 1}{remedy}"
    )


def _target(x: Array, out: Array | None) -> Array:
    """Where y is written: a new array, too, where writing `out` would change what is still to be read of x."""
    if out is not None:
        same = out.strides == x.strides and out.__array_interface__["data"] == x.__array_interface__["data"]
        if same or not _checks.overlap(out, x):
            return out
    return new(x)


def map_of(
    at: Grouped,
    blocks: Blocks,
    x: Array,
    mean: Array,
    whitening: Array,
    weight: Array | None,
    bias: Array | None,
) -> Affine:
    """What y is of x, without an activation."""
    with np.errstate(all="ignore"):
        matrix = at.split(weight, 1.0)[:, :, np.newaxis] * whitening
    return Affine(blocks, computed(x.dtype), [blocks.view(x)], at.split(mean), matrix, at.split(bias))

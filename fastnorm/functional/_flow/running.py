"""Running statistics: read in inference, updated in place in training, and only once the call has succeeded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ... import _checks
from ..._layout import Ints
from ...kernels.running import blend
from .roles import Shared

Array = NDArray[Any]


def move(running: Array, kept: float, batch: Array, share: float = 1.0) -> None:
    """running ← kept·running + share·batch, in place."""
    as_is = running.flags.carray and running.dtype.isnative
    moved = running if as_is else running.astype(running.dtype.newbyteorder("="), "C")
    blend(moved.reshape(-1), kept, np.ascontiguousarray(batch, np.float64).reshape(-1), share)
    if not as_is:
        np.copyto(running, moved)


class Running(NamedTuple):
    """A running mean and variance, (C,) each, and the share of the next batch in them."""

    mean: Array
    var: Array
    momentum: float = 0.0

    def update(self, mean: Array, variance: Array, count: int | Array) -> None:
        """running ← (1 - momentum)·running + momentum·batch, the variance unbiased as in PyTorch.

        mean, variance: (C,), or (N, C) of each sample, whose average counts; all in float64. count: the elements of a
        statistic, or (N, 1) where samples differ.
        """
        momentum = self.momentum
        correction: Any = 1.0
        if isinstance(count, np.ndarray):
            variance = variance * (count / np.maximum(count - 1, 1))
        else:
            correction = count / max(count - 1, 1)
        for running, batch, share in (
            (self.mean, mean, momentum),
            (self.var, variance, momentum * correction),
        ):
            if batch.ndim == 2:
                batch = np.add.reduce(batch, 0) / len(batch)
            move(running, 1 - momentum, batch, share)

    def for_inference(self) -> tuple[Array, Array]:
        """Both as the kernels take them: in C order, native, aligned, of one dtype."""
        dtype = np.result_type(self.mean, self.var)
        return np.require(self.mean, dtype, ["C", "A"]), np.require(self.var, dtype, ["C", "A"])


class Update(NamedTuple):
    """The running statistics that a call in training is to update, unchecked; None where there are none."""

    mean: Any
    var: Any
    momentum: float

    def checked(self, shared: Shared, x: Array, out: Array | None) -> Running | None:
        """The running statistics, if there are any, ready to be updated."""
        if self.mean is None and self.var is None:
            return None
        return checked(self.mean, self.var, shared, True, x, out, self.momentum)


UNMOVED = Update(None, None, 0.0)


def as_statistics(mean: Any, var: Any, eps: Any) -> tuple[Array, Array]:
    """Running statistics, after a call that has checked them, as the (mean, rstd) it normalized by."""
    with np.errstate(all="ignore"):
        return mean.astype(np.float64), 1 / np.sqrt(var.astype(np.float64) + float(eps))


def checked(
    mean: Any,
    var: Any,
    shared: Shared,
    written: bool,
    x: Array,
    out: Array | None,
    momentum: float = 0.0,
    names: tuple[str, str] = ("running_mean", "running_var"),
) -> Running:
    """A pair of running statistics that no array written to in the same call shares memory with."""
    (channels,), why = shared.parameters, shared.why
    given = {names[0]: (mean, (channels,)), names[1]: (var, (channels,))}
    return Running(*checked_pair(given, why, written, x, out), momentum)


def checked_pair(
    given: Mapping[str, tuple[Any, Ints]], why: str, written: bool, x: Array, out: Array | None
) -> tuple[Array, Array]:
    """Two running statistics, each a name with a value and a shape to have, that share no memory with what is written."""
    missing = [name for name, (value, _) in given.items() if value is None]
    if len(missing) == 1:
        (there,) = given.keys() - missing
        raise ValueError(f"{missing[0]} is None but {there} is not, expected both or neither")
    pair = [_checks.running(value, name, shape, why, written) for name, (value, shape) in given.items()]
    first, second = pair
    if written and _checks.overlap(first, second):
        raise ValueError(f"{' and '.join(given)} share memory, expected two arrays of their own")
    for name, running in zip(given, pair, strict=True):
        if out is not None and _checks.overlap(running, out):
            raise ValueError(f"{name} shares memory with out, expected an array of its own")
        if written and _checks.overlap(running, x):
            raise ValueError(f"{name} shares memory with x, expected an array of its own")
    return first, second

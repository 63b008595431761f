"""Running statistics: read in inference, updated in place in training, and only once the call has succeeded."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .. import _checks
from ._forward import Array


class Running(NamedTuple):
    """A running mean and variance, (C,) each."""

    mean: Array
    var: Array

    def update(self, mean: Array, variance: Array, count: int, momentum: float) -> None:
        """running ← (1 - momentum)·running + momentum·batch, the variance unbiased as in PyTorch."""
        for running, batch in ((self.mean, mean), (self.var, variance * (count / max(count - 1, 1)))):
            running[...] = np.float64(1 - momentum) * running + momentum * batch

    def for_inference(self) -> tuple[Array, Array]:
        """Both as the kernels take them: contiguous, native, of one dtype, and writable in Numba's eyes."""
        dtype = np.result_type(self.mean, self.var)
        mean, var = (np.ascontiguousarray(a, dtype) for a in self)
        return mean if mean.flags.writeable else mean.copy(), var if var.flags.writeable else var.copy()


def checked(
    mean: Any, var: Any, shape: tuple[int, ...], why: str, written: bool, x: Array, out: Array | None
) -> Running | None:
    """A pair of running statistics that no other array of the call shares memory with, or None where there are none."""
    if mean is None and var is None:
        return None
    if mean is None or var is None:
        missing, there = ("running_mean", "running_var") if mean is None else ("running_var", "running_mean")
        raise ValueError(f"{missing} is None but {there} is not, expected both or neither")
    pair = (
        _checks.running(mean, "running_mean", shape[0], why, written),
        _checks.running(var, "running_var", shape[0], why, written),
    )
    if written and _checks.overlap(*pair):
        raise ValueError("running_mean and running_var share memory, expected two arrays of their own")
    for name, running in zip(("running_mean", "running_var"), pair, strict=True):
        if out is not None and _checks.overlap(running, out):
            raise ValueError(f"{name} shares memory with out, expected an array of its own")
        if written and _checks.overlap(running, x):
            raise ValueError(f"{name} shares memory with x, expected an array of its own")
    return Running(*pair)

"""What a job must give: its results in more digits than it has, and the distance from them in roundings."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import reference
from .cases import EPS, ITEMSIZE, Job
from .inputs import Array, Inputs, backward_arguments, forward_arguments

# What fastnorm promises, in roundings of the dtype.
FORWARD_BOUND = 4
GRADIENT_BOUND = 16
# And in 16 bits, whose results are those of float32 correctly rounded: half a unit of the last place, and a little.
HALF_BOUND = 1


def results(job: Job, inputs: Inputs) -> tuple[Array, ...]:
    """The results of a job by `fastnorm.reference`."""
    inputs = _wide(inputs)
    arguments, options = forward_arguments(job, inputs)
    found = getattr(reference, job.norm)(*arguments, **options)
    if job.backward:
        arguments, options = backward_arguments(job, inputs, found[1:])
        found = getattr(reference, f"{job.norm}_backward")(*arguments, **options)
    return tuple(map(_single, found[: job.results]))


def _single(array: Array) -> Array:
    """16 bits as float32: NumPy can neither subtract bfloat16 nor read it from a file."""
    return array.astype(np.float32) if array.dtype.itemsize == 2 else array


def _wide(inputs: Inputs) -> Inputs:
    """float64 as longdouble, or the definition would add roundings of its own; it widens the others itself."""
    if inputs.x.dtype != np.float64:
        return inputs
    names = [field.name for field in dataclasses.fields(inputs)]
    arrays = {name: array for name in names if (array := getattr(inputs, name)) is not None}
    wide: dict[str, Any] = {name: array.astype(np.longdouble) for name, array in arrays.items()}
    return dataclasses.replace(inputs, **wide)


def bound(job: Job) -> int:
    """The most roundings by which fastnorm may differ from the exact results."""
    if ITEMSIZE[job.dtype] == 2:
        return HALF_BOUND
    return GRADIENT_BOUND if job.backward else FORWARD_BOUND


def roundings(job: Job, found: Sequence[Array], exact: Sequence[Array]) -> float:
    """The worst error: of y beside max(1, |y|), of a gradient beside its own largest component."""
    errors = [_error(f, e, of_scale=job.backward) for f, e in zip(found, exact, strict=True)]
    return float(np.max(errors)) / EPS[job.dtype]  # NumPy's max, for Python's would lose a NaN


def _error(found: Array, exact: Array, of_scale: bool) -> float:
    if found.shape != exact.shape:
        raise ValueError(f"a result has shape {found.shape}, expected {exact.shape}")
    found = _single(found)
    difference = np.abs(found - exact)
    if of_scale:
        return float(difference.max() / np.abs(exact).max())
    return float((difference / np.maximum(1, np.abs(exact))).max())

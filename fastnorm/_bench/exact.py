"""What a job must give: its results in float64, and the distance from them in roundings."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .. import reference
from .cases import EPS, Job
from .inputs import Array, Inputs, backward_arguments, forward_arguments

# What fastnorm promises, in roundings of the dtype.
FORWARD_BOUND = 4
GRADIENT_BOUND = 16


def results(job: Job, inputs: Inputs) -> tuple[Array, ...]:
    """The results of a job by `fastnorm.reference`."""
    arguments, options = forward_arguments(job, inputs)
    found = getattr(reference, job.norm)(*arguments, **options)
    if job.backward:
        arguments, options = backward_arguments(job, inputs, found[1:])
        found = getattr(reference, f"{job.norm}_backward")(*arguments, **options)
    return tuple(found[: job.results])


def bound(job: Job) -> int:
    """The most roundings by which fastnorm may differ from the exact results."""
    return GRADIENT_BOUND if job.backward else FORWARD_BOUND


def roundings(job: Job, found: Sequence[Array], exact: Sequence[Array]) -> float:
    """The worst error: of y beside max(1, |y|), of a gradient beside its own largest component."""
    errors = (_error(f, e, of_scale=job.backward) for f, e in zip(found, exact, strict=True))
    return max(errors) / EPS[job.dtype]


def _error(found: Array, exact: Array, of_scale: bool) -> float:
    if found.shape != exact.shape:
        raise ValueError(f"a result has shape {found.shape}, expected {exact.shape}")
    difference = np.abs(found - exact)
    if of_scale:
        return float(difference.max() / np.abs(exact).max())
    return float((difference / np.maximum(1, np.abs(exact))).max())

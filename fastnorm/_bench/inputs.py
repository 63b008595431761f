"""The arrays of a job, and the arguments they make for the public functions and their definitions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from .._floats import named
from .cases import Job

Array = NDArray[Any]


class NotOffered(Exception):
    """An implementation has nothing to call for a job; the message says what is missing."""


@dataclass(frozen=True)
class Inputs:
    """What goes into a job; None for what it does not take."""

    x: Array
    weight: Array
    bias: Array | None
    residual: Array | None
    dy: Array | None
    running_mean: Array | None
    running_var: Array | None


def make(job: Job) -> Inputs:
    """The same standard normals in every process."""
    rng = np.random.default_rng(0)
    dtype = _dtype(job.dtype)
    batch_norm = job.norm == "batch_norm" and not job.backward
    return Inputs(
        x=_normals(job, rng, dtype),
        weight=rng.uniform(0.5, 1.5, job.channels).astype(dtype),
        bias=rng.uniform(-1, 1, job.channels).astype(dtype) if job.has_bias else None,
        residual=_normals(job, rng, dtype) if job.adds else None,
        dy=_normals(job, rng, dtype) if job.backward else None,
        running_mean=rng.uniform(-1, 1, job.channels).astype(np.float32) if batch_norm else None,
        running_var=rng.uniform(0.5, 1.5, job.channels).astype(np.float32) if batch_norm else None,
    )


def _normals(job: Job, rng: Generator, dtype: np.dtype[Any]) -> Array:
    return rng.standard_normal(job.stored_shape, np.float32).astype(dtype, copy=False)


def _dtype(name: str) -> np.dtype[Any]:
    try:
        return named(name)
    except ValueError as error:
        raise NotOffered(str(error)) from None


def forward_arguments(job: Job, inputs: Inputs) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """What the norm's function takes, by position and by name."""
    options = _where(job) | ({"activation": job.activation} if job.activation else {})
    between: tuple[Any, ...] = _groups(job)
    if job.adds:
        between = (inputs.residual,)
    elif job.norm == "batch_norm":
        between = (inputs.running_mean, inputs.running_var)
        options["training"] = job.mode != "inference"
    elif job.norm == "instance_norm":
        between = (None, None)
    return (inputs.x, *between, inputs.weight, inputs.bias), options


def backward_arguments(
    job: Job, inputs: Inputs, statistics: Sequence[Array]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """What the function behind `…_backward` takes, given what the forward call returned after y."""
    return (inputs.dy, inputs.x, *_groups(job), *statistics, inputs.weight, inputs.bias), _where(job)


def _where(job: Job) -> dict[str, Any]:
    return {"axis": job.channel_axis} if job.along_axis else {"layout": job.layout}


def _groups(job: Job) -> tuple[int, ...]:
    return (job.num_groups,) if job.num_groups else ()

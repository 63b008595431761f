"""fastnorm itself, through its public functions."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import fastnorm

from ..cases import Job
from ..inputs import Array, Inputs, backward_arguments, forward_arguments


def prepare(job: Job, inputs: Inputs) -> Callable[[], Any]:
    function = getattr(fastnorm, job.norm)
    arguments, options = forward_arguments(job, inputs)
    if not job.backward:
        return partial(function, *arguments, **options)
    _, *statistics = function(*arguments, **options, return_stats=True)
    arguments, options = backward_arguments(job, inputs, statistics)
    gradients = getattr(fastnorm, f"{job.norm}_backward")
    return partial(gradients, *arguments, **options, needs=(True, True, job.has_bias))


def results(job: Job, returned: Any) -> tuple[Array, ...]:
    return returned[: job.results] if isinstance(returned, tuple) else (returned,)

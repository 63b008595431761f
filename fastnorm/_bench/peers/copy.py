"""The yardstick: a plain copy on all threads, which reads and writes the job's least traffic."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numba import prange

from ..._jit import parallel
from ..._threads import get_num_threads
from ..cases import Job
from ..inputs import Array, Inputs


@parallel
def copy(source: Array, target: Array, parts: int) -> None:
    size = source.size
    for part in prange(parts):
        low, high = part * size // parts, (part + 1) * size // parts
        target[low:high] = source[low:high]


def of_bytes(traffic: int) -> Callable[[], Any]:
    """A copy that reads and writes so many bytes."""
    source = np.ones(traffic // 8, np.float32)  # half of the bytes, in fours
    return partial(copy, source, np.zeros_like(source), get_num_threads())


def prepare(job: Job, inputs: Inputs) -> Callable[[], Any]:
    return of_bytes(job.traffic)


def results(job: Job, returned: Any) -> tuple[Array, ...]:
    return ()

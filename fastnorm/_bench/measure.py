"""A call measured: its results checked, then its time taken in bursts."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from . import exact, inputs, peers
from .cases import EPS, Job
from .inputs import Array

# Shorter calls are timed several at once, since reading the clock costs 0.1 µs.
_SHORTEST_SAMPLE = 50e-6  # seconds


@dataclass
class Runner:
    """One job as one implementation runs it, warm."""

    call: Callable[[], Any]
    error: float | None  # in roundings; None for the yardstick, which gives no result
    number: int = field(init=False)  # calls per sample

    def __post_init__(self) -> None:
        start = time.perf_counter()
        self.call()
        self.number = max(1, int(_SHORTEST_SAMPLE / (time.perf_counter() - start)))

    def burst(self, seconds: float) -> list[float]:
        """Seconds per call, sample by sample, for a while and at least once."""
        call, number = self.call, self.number
        call()  # wakes the threads, and brings back into cache what others have put out
        samples: list[float] = []
        end = time.perf_counter() + seconds
        while not samples or time.perf_counter() < end:
            start = time.perf_counter()
            for _ in range(number):
                call()
            samples.append((time.perf_counter() - start) / number)
        return samples


def start(name: str, job: Job, expected: Sequence[Array]) -> Runner:
    """A job ready to be timed by an implementation, once its results have been compared with the expected."""
    implementation = peers.load(name)
    call = implementation.prepare(job, inputs.make(job))
    results = implementation.results(job, call())
    error = exact.roundings(job, results, expected) if results else None
    # A peer's accuracy is its own affair; half of the digits show that it computes the same, in this dtype.
    if name != "fastnorm" and error is not None and not error <= EPS[job.dtype] ** -0.5:
        raise inputs.NotOffered(f"{name} computes something else, {error:.3g} roundings off")
    return Runner(call, error)

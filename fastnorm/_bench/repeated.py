"""Large jobs that are ready at once: a few samples over and over, whose results are known from the few."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from . import exact, inputs, peers
from .cases import Job
from .inputs import Array, Inputs
from .measure import Runner

_FEW = 2**18  # elements that the definition gets through in a hundredth of a second


@dataclasses.dataclass(frozen=True)
class Repeated:
    """A job, the samples that it repeats, and their exact results."""

    job: Job
    few: Job
    inputs: Inputs
    expected: tuple[Array, ...]

    def error(self, found: Sequence[Array]) -> float:
        """What `exact.roundings` says of the results, sample by sample; sums over all samples as they are."""
        copies, n = self.job.shape[0] // self.few.shape[0], self.job.layout.index("N")
        whole = [array for array in found if array.ndim == len(self.job.shape)]
        errors = [
            exact.roundings(self.few, parts, self.expected[: len(whole)])
            for parts in zip(*(np.split(array, copies, n) for array in whole), strict=True)
        ]
        if sums := self.expected[len(whole) :]:
            errors.append(exact.roundings(self.job, found[len(whole) :], [copies * each for each in sums]))
        return float(np.max(errors))  # which hands a NaN on


def make(job: Job) -> Repeated:
    """Small jobs are their own few samples: nothing is repeated, and everything is checked in full."""
    few = dataclasses.replace(job, shape=(_few_samples(job), *job.shape[1:]))
    given = inputs.make(few)
    return Repeated(job, few, _repeat(job, few, given), exact.results(few, given))


def start(job: Job) -> Runner:
    """fastnorm's call, its results compared with the known ones."""
    repeated, own = make(job), peers.load("fastnorm")
    call = own.prepare(job, repeated.inputs)
    return Runner(call, repeated.error(own.results(job, call())))


def _few_samples(job: Job) -> int:
    """The least that divides the number of samples, has `_FEW` elements, and gives a column eight to its mean."""
    samples, of_one = job.shape[0], math.prod(job.shape[1:])
    enough = max(8, _FEW // of_one)
    return next(few for few in range(min(enough, samples), samples + 1) if samples % few == 0)


def _repeat(job: Job, few: Job, given: Inputs) -> Inputs:
    copies = [1] * len(job.shape)
    copies[job.layout.index("N")] = job.shape[0] // few.shape[0]

    def repeated(array: Array | None) -> Any:
        return None if array is None else np.tile(array, copies)

    return dataclasses.replace(
        given, x=repeated(given.x), residual=repeated(given.residual), dy=repeated(given.dy)
    )

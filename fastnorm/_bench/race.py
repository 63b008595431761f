"""The race: every implementation in a process of its own, running a job in turns while the others idle."""

from __future__ import annotations

import math
import multiprocessing
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from . import exact, inputs
from .cases import Job
from .measure import Runner, start

YARDSTICK = "copy"
TURNS = 5
SETTLE = 0.01  # seconds before a turn, in which the threads of the one before end their spinning


@dataclass(frozen=True)
class Timing:
    """One implementation on one job."""

    seconds: float | None = None  # the median; None where there is nothing to call
    error: float | None = None  # in roundings
    note: str = ""  # what is missing


@dataclass(frozen=True)
class Measurement:
    """One job by every implementation: fastnorm, the yardstick, and peers."""

    job: Job
    timings: dict[str, Timing]

    @property
    def throughput(self) -> float | None:
        """fastnorm's bytes of least traffic per second."""
        seconds = self.timings["fastnorm"].seconds
        return self.job.traffic / seconds if seconds else None

    def ratio(self, name: str) -> float | None:
        """The time of an implementation over fastnorm's."""
        theirs, ours = self.timings[name].seconds, self.timings["fastnorm"].seconds
        return theirs / ours if theirs and ours else None

    @property
    def passed(self) -> bool:
        """Whether fastnorm kept its bound; a job that it does not offer breaks none."""
        error = self.timings["fastnorm"].error
        return error is None or error <= exact.bound(self.job)


def geometric_mean(ratios: Sequence[float]) -> float | None:
    """The mean that suits ratios, or None of none."""
    return math.exp(sum(map(math.log, ratios)) / len(ratios)) if ratios else None


class Race:
    """Implementations waiting for jobs, each in its process, until the `with` block ends."""

    def __init__(self, names: Sequence[str]) -> None:
        self._workers = {name: Worker(name, _serve) for name in ["fastnorm", YARDSTICK, *names]}

    def __enter__(self) -> Race:
        return self

    def __exit__(self, *exception: object) -> None:
        for worker in self._workers.values():
            worker.close()

    def run(self, job: Job, seconds: float) -> Measurement:
        """Measure a job, for about so long per implementation."""
        errors, notes = self._start(job)
        samples: dict[str, list[float]] = {name: [] for name in errors}
        for _ in range(TURNS):
            for name in samples:
                time.sleep(SETTLE)
                samples[name] += self._workers[name].ask("burst", seconds / TURNS)
        timings = {name: Timing(median(samples[name]), errors[name]) for name in samples}
        return Measurement(job, timings | {name: Timing(note=note) for name, note in notes.items()})

    def _start(self, job: Job) -> tuple[dict[str, float | None], dict[str, str]]:
        """The errors of those that run the job, and what the others lack."""
        errors: dict[str, float | None] = {}
        notes: dict[str, str] = {}
        try:
            with _exact_files(job) as files:
                for name, worker in self._workers.items():
                    try:
                        errors[name] = worker.ask("start", job, files)
                    except inputs.NotOffered as missing:
                        notes[name] = str(missing)
        except inputs.NotOffered as missing:
            notes = dict.fromkeys(self._workers, str(missing))
        return errors, notes


@contextmanager
def _exact_files(job: Job) -> Iterator[list[Path]]:
    """The exact results of a job, computed once for all workers."""
    with TemporaryDirectory(prefix="fastnorm-") as folder:
        files = []
        for i, array in enumerate(exact.results(job, inputs.make(job))):
            files.append(Path(folder) / f"{i}.npy")
            np.save(files[-1], array)
        yield files


class Worker:
    """The parent's end of a process that serves one implementation."""

    def __init__(self, name: str, serve: Callable[[str, Connection], None]) -> None:
        context = multiprocessing.get_context("spawn")  # a fork would count on its parent's threads
        self._name = name
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(name, theirs), daemon=True)
        self._process.start()
        theirs.close()

    def ask(self, *request: Any) -> Any:
        try:
            self._pipe.send(request)
            reply = self._pipe.recv()
        except (EOFError, OSError):
            self._process.join()
            raise RuntimeError(f"{self._name} ended with exit code {self._process.exitcode}") from None
        if isinstance(reply, Exception):
            raise reply
        return reply

    def close(self) -> None:
        self._pipe.close()
        self._process.join()


def _serve(name: str, pipe: Connection) -> None:
    """Answer one request after the other, until the parent hangs up."""
    runner: Runner | None = None
    while True:
        try:
            command, *arguments = pipe.recv()
        except EOFError:
            return
        try:
            if command == "start":
                runner = None  # its arrays go before the next ones come
                job, files = arguments
                runner = start(name, job, [np.load(file, mmap_mode="r") for file in files])
                pipe.send(runner.error)
            elif runner is not None:
                pipe.send(runner.burst(*arguments))
        except inputs.NotOffered as missing:
            pipe.send(missing)
        except Exception:
            pipe.send(RuntimeError(f"{name} failed:\n{traceback.format_exc()}"))

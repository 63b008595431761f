"""The race of composed norms: fastnorm, NumPy, PyTorch and a copy, each in a process of its own, in turns."""

from __future__ import annotations

import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from multiprocessing.connection import Connection
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..measure import Runner
from ..peers.copy import of_bytes
from ..race import SETTLE, TURNS, YARDSTICK, Worker
from . import cases
from .case import Case

Array = NDArray[Any]

OURS, NUMPY, TORCH = "fastnorm", "NumPy", "PyTorch"
# Two compositions of one formula in float32 agree to half of its digits, or one of them is another formula.
_AGREES = 2.0**-11.5


@dataclass(frozen=True)
class Measured:
    """The median seconds of each implementation that has the case."""

    name: str
    seconds: dict[str, float]

    def ratio(self, name: str) -> float | None:
        """The time of an implementation over fastnorm's."""
        return self.seconds[name] / self.seconds[OURS] if name in self.seconds else None


class Race:
    """Implementations waiting for cases, until the `with` block ends."""

    def __init__(self) -> None:
        names = [OURS, NUMPY, *([TORCH] if find_spec("torch") else []), YARDSTICK]
        self._workers = {name: Worker(name, _serve) for name in names}

    def __enter__(self) -> Race:
        return self

    def __exit__(self, *exception: object) -> None:
        for worker in self._workers.values():
            worker.close()

    def run(self, name: str, seconds: float) -> Measured:
        """Measure a case, for about so long per implementation."""
        entered = [worker for worker in self._workers if self._workers[worker].ask("start", name)]
        samples: dict[str, list[float]] = {worker: [] for worker in entered}
        for _ in range(TURNS):
            for worker in entered:
                time.sleep(SETTLE)
                samples[worker] += self._workers[worker].ask("burst", seconds / TURNS)
        return Measured(name, {worker: median(taken) for worker, taken in samples.items()})


def prepare(case: Case, name: str) -> Runner | None:
    """The call of an implementation, once its results have been compared with NumPy's; None where it has none of use."""
    if name == YARDSTICK:
        return Runner(of_bytes(_traffic(case)), None)
    function = {OURS: case.ours, NUMPY: case.numpy, TORCH: case.torch}[name]
    if function is None:
        return None
    given = case.make(np.random.default_rng(0))
    expected = _arrays(case.numpy(*case.make(np.random.default_rng(0))))
    if name == TORCH:
        import torch

        given = tuple(torch.from_numpy(a) if isinstance(a, np.ndarray) else a for a in given)
    found = _arrays(function(*given))
    # What changes its arguments, such as running statistics, is timed on fresh ones as well as on moved ones.
    for one, other in zip(found, expected, strict=True):
        scale = max(1.0, float(np.abs(other).max(initial=0)))
        if one.shape != other.shape or not float(np.abs(one - other).max(initial=0)) <= _AGREES * scale:
            if name == TORCH:
                return None  # its accuracy is its own affair, and its time then says nothing
            raise AssertionError(f"{case.name}: {name} and NumPy compute different things")
    return Runner(lambda: function(*given), None)


def _traffic(case: Case) -> int:
    """The bytes of all arguments and results, each once."""
    given = case.make(np.random.default_rng(0))
    arrays = (*given, *_several(case.ours(*given)))
    return sum(a.nbytes for a in arrays if isinstance(a, np.ndarray))


def _arrays(results: Any) -> list[Array]:
    return [np.asarray(a, np.float64) for a in _several(results) if a is not None]


def _several(results: Any) -> Sequence[Any]:
    return results if isinstance(results, tuple | list) else (results,)


def _serve(name: str, pipe: Connection) -> None:
    """Answer one request after the other, until the parent hangs up."""
    runner: Runner | None = None
    while True:
        try:
            command, argument = pipe.recv()
        except EOFError:
            return
        try:
            if command == "start":
                runner = None  # its arrays go before the next ones come
                runner = prepare(cases()[argument], name)
                pipe.send(runner is not None)
            elif runner is not None:
                pipe.send(runner.burst(argument))
        except Exception:
            pipe.send(RuntimeError(f"{name} failed:\n{traceback.format_exc()}"))

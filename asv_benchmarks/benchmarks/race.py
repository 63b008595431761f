"""The race: fastnorm, a plain copy of the least traffic, and every peer that is installed, on the same jobs in turns."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

from .common import IMAGE_JOBS, IMAGES, LAYOUTS, OF_IMAGES, OF_ROWS, ROW_JOBS, ROWS, job, size

IMPLEMENTATIONS = ["fastnorm", "copy", "numpy", "torch", "onnxruntime", "jax"]
_SECONDS = 0.05  # per implementation and job

# (implementation, *parameters) -> seconds, GB/s of least traffic, and the share of the copy's speed in percent
Results = dict[tuple[str | int, ...], tuple[float, float, float]]


def _race(combinations: Sequence[tuple[str, str, int]]) -> Results:
    """Each implementation in a process of its own, its results compared with the definition before it is timed."""
    from fastnorm._bench import peers
    from fastnorm._bench.race import Race

    results: Results = {}
    with Race([name for name in peers.installed() if name in IMPLEMENTATIONS]) as field:
        for name, layout, samples in combinations:
            measured = field.run(job(name, layout, size(layout, samples)), _SECONDS)
            if not measured.passed:
                raise AssertionError(
                    f"{measured.job.name} is {measured.timings['fastnorm'].error} roundings off"
                )
            copy = measured.timings["copy"].seconds
            for implementation, timing in measured.timings.items():
                if timing.seconds and copy:
                    speed = measured.job.traffic / timing.seconds / 1e9
                    share = 100 * copy / timing.seconds
                    key = implementation, name, layout, samples
                    results[key] = timing.seconds, round(speed, 2), round(share, 1)
    return results


class _Race:
    """What is tracked of every race; a class below says which jobs run."""

    def setup(self, results: Results, *parameters: str | int) -> None:
        if parameters not in results:
            raise NotImplementedError("not installed, or not offered")

    def track_time(self, results: Results, *parameters: str | int) -> float:
        return results[parameters][0]

    def track_throughput(self, results: Results, *parameters: str | int) -> float:
        return results[parameters][1]

    def track_share_of_copy(self, results: Results, *parameters: str | int) -> float:
        return results[parameters][2]


def _unit(function: Any, unit: str) -> None:
    function.unit = unit


_unit(_Race.track_time, "seconds")
_unit(_Race.track_throughput, "GB/s of least traffic")
_unit(_Race.track_share_of_copy, "% of the speed of a copy")


class Rows(_Race):
    """Norms along the last axis: one row, many in cache, and out of cache."""

    param_names = ["implementation", "job", "layout", OF_ROWS]  # noqa: RUF012 (asv's way)
    params = (IMPLEMENTATIONS, list(ROW_JOBS), ["NC"], ROWS)

    def setup_cache(self) -> Results:
        return _race(list(product(*self.params[1:])))

    setup_cache.timeout = 3600  # type: ignore[attr-defined]


class Images(_Race):
    """Norms of images, channels first and channels last: in cache, and out of cache."""

    param_names = ["implementation", "job", "layout", OF_IMAGES]  # noqa: RUF012
    params = (IMPLEMENTATIONS, list(IMAGE_JOBS), LAYOUTS, IMAGES[1:])

    def setup_cache(self) -> Results:
        return _race(list(product(*self.params[1:])))

    setup_cache.timeout = 3600  # type: ignore[attr-defined]

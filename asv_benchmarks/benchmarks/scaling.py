"""How time grows with the size of x, and how it falls with the number of threads."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

from .common import job, start

if TYPE_CHECKING:
    from fastnorm._bench.measure import Runner

JOBS = {
    "layer norm": "NC",
    "layer norm backward": "NC",
    "RMS norm": "NC",
    "batch norm training": "NHWC",
    "batch norm backward": "NHWC",
    "instance norm": "NCHW",
    "group norm": "NHWC",
}
# Moves the bytes of a layer norm: what does not grow evenly in it is the machine's.
YARDSTICK = "copy"
RANGES = {"1 to 8 MiB": (1, 2, 4, 8), "64 to 256 MiB": (64, 128, 256)}
_SECONDS = 0.1  # per job

Fits = dict[tuple[str, str], tuple[float, float]]


def _size(layout: str, mebibytes: int) -> str:
    return f"{256 * mebibytes}x1024" if layout == "NC" else f"{4 * mebibytes}x64x32x32"


def _started(name: str, size: int) -> Runner:
    from fastnorm._bench import measure

    if name == YARDSTICK:
        return measure.start(YARDSTICK, job("layer norm", "NC", _size("NC", size)), ())
    return start(job(name, JOBS[name], _size(JOBS[name], size)))


class Growth:
    """The exponent of time against size, and the spread of the time per element: 1 and 0 % are linear growth."""

    param_names = ["job", "sizes"]  # noqa: RUF012 (asv's way)
    params = ([YARDSTICK, *JOBS], list(RANGES))

    def setup_cache(self) -> Fits:
        from fastnorm._bench import scaling

        fits: Fits = {}
        for name in self.params[0]:
            for range_, sizes in RANGES.items():
                times = [median(_started(name, size).burst(_SECONDS)) for size in sizes]
                fits[name, range_] = (
                    round(scaling.exponent(sizes, times), 2),
                    round(100 * scaling.spread(sizes, times), 1),
                )
        return fits

    setup_cache.timeout = 1800  # type: ignore[attr-defined]

    def track_exponent(self, fits: Fits, name: str, range_: str) -> float:
        return fits[name, range_][0]

    track_exponent.unit = "exponent of size"  # type: ignore[attr-defined]

    def track_spread(self, fits: Fits, name: str, range_: str) -> float:
        return fits[name, range_][1]

    track_spread.unit = "% of time per element"  # type: ignore[attr-defined]


class Threads:
    """One thread, and all."""

    timeout = 300
    warmup_time = 0.05
    repeat = (3, 30, 1.0)
    param_names = ["job", "threads", "MiB"]  # noqa: RUF012
    params = (list(JOBS), ["1", "all"], [8, 64])

    def setup(self, name: str, threads: str, mebibytes: int) -> None:
        import fastnorm

        fastnorm.set_num_threads(1 if threads == "1" else fastnorm.get_num_threads())
        layout = JOBS[name]
        self.call = start(job(name, layout, _size(layout, mebibytes))).call

    def time_call(self, *parameters: object) -> None:
        self.call()

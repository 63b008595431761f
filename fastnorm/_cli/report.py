"""A race told: the jobs run under a progress bar, and their figures as a table and as JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from .._bench import exact
from .._bench.cases import Job
from .._bench.peers import TITLES
from .._bench.race import YARDSTICK, Measurement, Race, geometric_mean
from . import show

_NONE = "–"
_LEGEND = """error: distance from the float64 definition, in roundings. of copy: share of the speed of a plain
copy of the least traffic: each input read, each result written once. In brackets: over fastnorm's time."""


def race(jobs: Sequence[Job], peers: Sequence[str], seconds: float) -> list[Measurement]:
    """Every job, by fastnorm, the yardstick and the peers, for so many seconds each."""
    with Race(peers) as field, show.progress(len(jobs)) as begin:
        measurements = []
        for job in jobs:
            begin(job.name)
            measurements.append(field.run(job, seconds))
    return measurements


def tell(measurements: Sequence[Measurement], peers: Sequence[str]) -> int:
    """Print the table, what is missing from it, and what broke its bound; the exit code."""
    show.table(*rows(measurements, peers))
    print(_LEGEND)
    for measurement in measurements:
        for note in dict.fromkeys(t.note for t in measurement.timings.values() if t.note):
            print(f"{measurement.job.name}: {note}")
    broken = [measurement for measurement in measurements if not measurement.passed]
    for measurement in broken:
        error, bound = measurement.timings["fastnorm"].error, exact.bound(measurement.job)
        print(f"WRONG: {measurement.job.name}: {error:.3g} roundings, at most {bound} are allowed")
    if not broken:
        print("Every result is within its bound.")
    return 1 if broken else 0


def rows(measurements: Sequence[Measurement], peers: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """The table's columns and its lines, the last of which has the means."""
    columns = ["job", "error", "µs", "GB/s", "of copy", *(f"{TITLES[peer]} µs" for peer in peers)]
    lines = [_row(measurement, peers) for measurement in measurements]
    return columns, [*lines, ["geometric mean", "", "", "", *means(measurements, peers)]]


def means(measurements: Sequence[Measurement], peers: Sequence[str]) -> list[str]:
    """The share of the copy's speed, and by how many times each peer takes longer, as geometric means."""
    of_copy, *ratios = (_mean(measurements, name) for name in (YARDSTICK, *peers))
    return [share(of_copy), *map(times, ratios)]


def times(ratio: float | None) -> str:
    """A ratio as the tables have it."""
    return _NONE if ratio is None else f"{ratio:.2g}×" if ratio < 10 else f"{ratio:.0f}×"


def figures(measurement: Measurement) -> dict[str, Any]:
    """A measurement as JSON has it."""
    job = measurement.job
    return {
        "job": job.name,
        **dataclasses.asdict(job),
        "traffic_bytes": job.traffic,
        "bound": exact.bound(job),
        "timings": {
            name: dataclasses.asdict(t) | {"over_fastnorm": measurement.ratio(name)}
            for name, t in measurement.timings.items()
        },
    }


def _row(measurement: Measurement, peers: Sequence[str]) -> list[str]:
    own = measurement.timings["fastnorm"]
    return [
        measurement.job.name,
        _NONE if own.error is None else f"{own.error:.1f}" + ("" if measurement.passed else " WRONG"),
        microseconds(own.seconds),
        _NONE if measurement.throughput is None else f"{measurement.throughput / 1e9:.1f}",
        share(measurement.ratio(YARDSTICK)),
        *(_peer(measurement, peer) for peer in peers),
    ]


def _peer(measurement: Measurement, peer: str) -> str:
    seconds, ratio = measurement.timings[peer].seconds, measurement.ratio(peer)
    return microseconds(seconds) + (f" ({times(ratio)})" if ratio else "")


def _mean(measurements: Sequence[Measurement], name: str) -> float | None:
    return geometric_mean([ratio for m in measurements if (ratio := m.ratio(name))])


def microseconds(seconds: float | None) -> str:
    if seconds is None:
        return _NONE
    return f"{seconds * 1e6:.1f}" if seconds < 1e-5 else f"{seconds * 1e6:.0f}"


def share(ratio: float | None) -> str:
    """A ratio as a percentage."""
    return _NONE if ratio is None else f"{ratio:.0%}"

"""`plot`: time against size for every implementation, from one sample to far out of cache, as a picture."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from importlib.util import find_spec
from itertools import cycle
from typing import Any

from .._bench.cases import LADDERS
from .._bench.peers import TITLES
from .._bench.race import YARDSTICK, Measurement
from . import bench, report

_SECONDS = 0.2  # per implementation and job
_COLUMNS = 2
# Everyone's colour, the same in all panels; grey is the copy's.
_COLORS = cycle(["C0", "C9", "C1", "C3", "C6", "C2", "C4", "C5"])
_STYLES: dict[str, dict[str, Any]] = {
    name: {"label": label, "color": color}
    for (name, label), color in zip({"fastnorm": "fastnorm", **TITLES}.items(), _COLORS, strict=False)
}
_STYLES["fastnorm"] |= {"linewidth": 2.5, "zorder": 3}
_STYLES[YARDSTICK] = {"label": "plain copy", "color": "0.6", "linestyle": "--"}


def run(arguments: argparse.Namespace) -> int:
    """Race up each ladder of sizes, and draw it."""
    if not find_spec("matplotlib"):
        raise SystemExit("a plot needs matplotlib: pip install 'fastnorm[bench]'")
    rivals = bench.rivals(arguments.peers)
    measurements = report.race([job for jobs in LADDERS.values() for job in jobs], rivals, _SECONDS)
    remaining = iter(measurements)
    draw({title: [next(remaining) for _ in jobs] for title, jobs in LADDERS.items()}, arguments.file)
    return report.tell(measurements, rivals)


def draw(ladders: dict[str, Sequence[Measurement]], file: str) -> None:
    """A panel per ladder, on logarithmic scales; what is linear in the size has a slope of one."""
    import matplotlib
    from matplotlib.figure import Figure

    rows = math.ceil(len(ladders) / _COLUMNS)
    with matplotlib.rc_context({"svg.hashsalt": "fastnorm"}):  # the same figures give the same file
        figure = Figure(figsize=(5 * _COLUMNS, 3.6 * rows), layout="constrained")
        panels = figure.subplots(rows, _COLUMNS, squeeze=False).flat
        for panel, (title, measurements) in zip(panels, ladders.items(), strict=False):
            _panel(panel, title, measurements)
        handles = {
            label: h for p in figure.axes for h, label in zip(*p.get_legend_handles_labels(), strict=True)
        }
        figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=5, frameon=False)
        figure.savefig(file, metadata={"Date": None} if file.endswith(".svg") else None)


def _panel(panel: Any, title: str, measurements: Sequence[Measurement]) -> None:
    for name in measurements[0].timings:
        points = [(_mebibytes(m), s * 1e6) for m in measurements if (s := m.timings[name].seconds)]
        if points:
            panel.plot(*zip(*points, strict=True), marker=".", **_STYLES[name])
    panel.set(title=title, xlabel="MiB of x", ylabel="µs", xscale="log", yscale="log")
    panel.grid(alpha=0.3)


def _mebibytes(measurement: Measurement) -> float:
    return math.prod(measurement.job.shape) * 4 / 2**20

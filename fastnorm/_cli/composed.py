"""`composed`: the less common norms, raced against what users compose in their place."""

from __future__ import annotations

import argparse
from pathlib import Path

from .._bench.composed import cases
from .._bench.composed.race import NUMPY, OURS, TORCH, Measured, Race
from .._bench.race import YARDSTICK, geometric_mean
from . import markdown, report, show

_SECONDS = 0.4  # per implementation and case
_NEW = "<!-- bench composed: begin -->\n<!-- bench composed: end -->\n"


def run(arguments: argparse.Namespace) -> int:
    """Race and print; an implementation that computes something else is an error."""
    names = [name for name in cases() if (arguments.jobs or "").lower() in name.lower()]
    if not names:
        raise SystemExit("no case fits")
    measured = []
    with Race() as field, show.progress(len(names)) as begin:
        for name in names:
            begin(name)
            measured.append(field.run(name, _SECONDS))
    columns = ["norm", "µs", "of copy", f"× {NUMPY}", f"× {TORCH}"]
    rows = [*map(_row, measured), _mean(measured)]
    show.table(columns, rows)
    if arguments.markdown:
        file = Path(arguments.markdown)
        text = file.read_text() if file.exists() else _NEW
        made = f"\n{markdown.table(columns, rows)}\n{markdown.machine('composed')}\n\n"
        file.write_text(markdown.fill(text, {"composed": made}))
    return 0


def _row(measured: Measured) -> list[str]:
    ratios = (report.times(measured.ratio(name)) for name in (NUMPY, TORCH))
    time = report.microseconds(measured.seconds[OURS])
    return [measured.name, time, report.share(measured.ratio(YARDSTICK)), *ratios]


def _mean(measured: list[Measured]) -> list[str]:
    ratios = ([r for m in measured if (r := m.ratio(name))] for name in (NUMPY, TORCH))
    return ["geometric mean", "", "", *(report.times(geometric_mean(r)) for r in ratios)]

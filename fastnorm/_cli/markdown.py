"""Measurements as Markdown tables, and the places in documents that they fill in."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from .._bench.cases import TITLES, Job
from .._bench.peers import TITLES as PEER_TITLES
from .._bench.race import Measurement
from . import info, report

# A document keeps a place for a table between two comments: <!-- bench jobs: begin --> and <!-- bench jobs: end -->.
_PLACE = r"(?<=<!-- bench {0}: begin -->\n).*?(?=<!-- bench {0}: end -->)"
_NEW = "<!-- bench summary: begin -->\n<!-- bench summary: end -->\n\n<!-- bench jobs: begin -->\n<!-- bench jobs: end -->\n"


def write(files: Sequence[str], measurements: Sequence[Measurement], peers: Sequence[str]) -> None:
    """Fill in the tables that each file has a place for; a new file gets them all."""
    tables = {
        "summary": table(*summary(measurements, peers)),
        "jobs": table(*report.rows(measurements, peers)),
    }
    for file in map(Path, files):
        text = file.read_text() if file.exists() else _NEW
        file.write_text(
            fill(text, {name: f"\n{made}\n{machine('bench')}\n\n" for name, made in tables.items()})
        )


def check(files: Sequence[str]) -> None:
    """Refuse, before anything is measured, a file that has no place for a table."""
    for file in map(Path, files):
        text = file.read_text() if file.exists() else _NEW
        if not any(re.search(_PLACE.format(name), text, re.DOTALL) for name in ("summary", "jobs")):
            raise SystemExit(f"{file} has no place for a table, such as:\n{_NEW}")


def fill(text: str, tables: dict[str, str]) -> str:
    """The text with each table in its place, where it has one."""
    for name, made in tables.items():
        text = re.sub(_PLACE.format(name), made.replace("\\", r"\\"), text, flags=re.DOTALL)
    return text


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, the first column to the left, the figures to the right."""
    lines = [columns, ["---", *["---:"] * (len(columns) - 1)], *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def summary(measurements: Sequence[Measurement], peers: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """The geometric means of the jobs of each norm and mode, and how near the best peer comes."""
    columns = ["norm", "jobs", "of copy", *(PEER_TITLES[peer] for peer in peers), "best peer, at least"]
    kinds: dict[str, list[Measurement]] = {}
    for measurement in measurements:
        kinds.setdefault(_kind(measurement.job), []).append(measurement)
    rows = [_means(kind, chosen, peers) for kind, chosen in kinds.items()]
    return columns, [*rows, _means("all", measurements, peers)]


def _kind(job: Job) -> str:
    return TITLES[job.norm] + ("" if job.mode == "forward" else f" {job.mode}")


def _means(kind: str, measurements: Sequence[Measurement], peers: Sequence[str]) -> list[str]:
    closest = [ratio for m in measurements for peer in _rivals(peers) if (ratio := m.ratio(peer))]
    return [
        kind,
        str(len(measurements)),
        *report.means(measurements, peers),
        report.times(min(closest, default=None)),
    ]


def _rivals(peers: Sequence[str]) -> list[str]:
    return [peer for peer in peers if not peer.startswith("fastnorm")]


def machine(command: str) -> str:
    """Where the figures come from, in a line."""
    facts = info.machine()
    del facts["cache"]
    return (
        f"Measured by `python -m fastnorm {command}` with "
        + ", ".join(f"{k} {v}" for k, v in facts.items())
        + "."
    )

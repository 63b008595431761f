"""`bench`: the table's jobs, or jobs of one's own, raced for long enough to be quoted."""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path

from .._bench import peers
from .._bench.cases import TABLE, TITLES, Job, every
from . import info, markdown, report

_SECONDS = 0.4  # per implementation and job


def run(arguments: argparse.Namespace) -> int:
    """Race, print, and write; the exit code is 1 where a bound is broken."""
    jobs, racing = _jobs(arguments), rivals(arguments.peers)
    markdown.check(arguments.markdown)
    measurements = report.race(jobs, racing, _SECONDS)
    if arguments.json:
        figures = {"machine": info.machine(), "jobs": [report.figures(m) for m in measurements]}
        Path(arguments.json).write_text(json.dumps(figures, indent=1) + "\n")
    markdown.write(arguments.markdown, measurements, racing)
    return report.tell(measurements, racing)


def _jobs(arguments: argparse.Namespace) -> list[Job]:
    """Those asked for, once each."""
    jobs = list(TABLE)
    if arguments.shapes:
        jobs = every(arguments.norms or TITLES, arguments.shapes)
    if arguments.dtypes:
        jobs = [dataclasses.replace(job, dtype=dtype) for job in jobs for dtype in arguments.dtypes]
    chosen = [
        job
        for job in dict.fromkeys(jobs)
        if job.norm in (arguments.norms or TITLES)
        and job.layout in (arguments.layouts or [job.layout])
        and (arguments.jobs or "").lower() in job.name.lower()
    ]
    if not chosen:
        raise SystemExit("no job fits all of these options")
    return chosen


def rivals(asked: list[str] | None) -> list[str]:
    """The peers asked for, or all that are installed."""
    installed = peers.installed()
    for name in asked or []:
        if name not in installed:
            raise SystemExit(f"no peer {name} here, only {', '.join(installed)}")
    return installed if asked is None else asked

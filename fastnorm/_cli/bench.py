"""`bench`: the table's jobs, or jobs of one's own, raced for long enough to be quoted."""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path

from .._bench import peers
from .._bench.cases import TABLE, TITLES, Job, every
from . import info, report

_SECONDS = 0.4  # per implementation and job


def run(arguments: argparse.Namespace) -> int:
    """Race, print, and write; the exit code is 1 where a bound is broken."""
    jobs, rivals = _jobs(arguments), _peers(arguments.peers)
    measurements = report.race(jobs, rivals, _SECONDS)
    if arguments.json:
        figures = {"machine": info.machine(), "jobs": [report.figures(m) for m in measurements]}
        Path(arguments.json).write_text(json.dumps(figures, indent=1) + "\n")
    return report.tell(measurements, rivals)


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


def _peers(asked: list[str] | None) -> list[str]:
    installed = peers.installed()
    for name in asked or []:
        if name not in installed:
            raise SystemExit(f"no peer {name} here, only {', '.join(installed)}")
    return installed if asked is None else asked

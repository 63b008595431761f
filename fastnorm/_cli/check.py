"""The command without a name: what this machine offers, and each norm and layout in a minute."""

from __future__ import annotations

import argparse

from .._bench import peers
from .._bench.cases import QUICK
from . import info, report

_SECONDS = 0.06  # per implementation and job
_PEERS = ("numpy", "torch")  # the others have to compile every job, which is for `bench`


def run(arguments: argparse.Namespace) -> int:
    """Print both; the exit code is 1 where a bound is broken."""
    info.show()
    print()
    rivals = [name for name in peers.installed() if name in _PEERS]
    return report.tell(report.race(QUICK, rivals, _SECONDS), rivals)

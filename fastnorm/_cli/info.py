"""`info`: what this machine offers."""

from __future__ import annotations

import argparse
import os
import platform
from importlib.metadata import PackageNotFoundError, version

import llvmlite.binding
import numba

import fastnorm

from .._bench.peers import TITLES
from .._cache import kept
from .._floats import installed
from .._launch import launch


def run(arguments: argparse.Namespace) -> int:
    """Print it."""
    show()
    return 0


def show() -> None:
    """A line per fact."""
    facts = machine()
    width = max(map(len, facts))
    for name, fact in facts.items():
        print(f"{name.ljust(width)}  {fact}")


def machine() -> dict[str, str]:
    """Fact -> what it is here."""
    launch()  # until then Numba has no threading layer to name
    versions = {name: _version(name) for name in ("numba", *TITLES)}
    return {
        "fastnorm": fastnorm.__version__,
        "Python": platform.python_version(),
        **{name: found for name, found in versions.items() if found},
        "CPU": f"{os.cpu_count()} x {llvmlite.binding.get_host_cpu_name()} ({platform.machine()})",
        "threads": f"{fastnorm.get_num_threads()} (threading layer {numba.threading_layer()})",
        "dtypes": ", ".join(installed()),
        "cache": str(kept().directory),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None

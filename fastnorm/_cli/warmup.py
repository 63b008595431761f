"""`warmup`: every function called once on a small array, so that its kernels are compiled and cached."""

from __future__ import annotations

import argparse

from .._bench import inputs, peers
from .._bench.cases import TITLES, every
from . import info, show

_SHAPES = [(2, 4), (2, 4, 3, 3)]  # small ones do: a kernel is compiled per dtype, not per shape


def run(arguments: argparse.Namespace) -> int:
    """Compile, and tell where to."""
    jobs = every(arguments.norms or TITLES, _SHAPES, arguments.dtypes or ("float32", "float64"))
    own = peers.load("fastnorm")
    with show.progress(len(jobs)) as begin:
        for job in jobs:
            begin(job.name)
            own.prepare(job, inputs.make(job))()
    files = [file for file in info.cache().iterdir() if file.suffix in (".nbi", ".nbc")]
    print(f"{info.cache()}: {len(files)} files, {sum(file.stat().st_size for file in files) / 2**20:.1f} MiB")
    return 0

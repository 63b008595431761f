"""What the benchmarks share: parameters with readable names, and the jobs that they stand for.

asv forks this process for every combination of parameters. fastnorm stays serial after a fork, so it is imported by
the functions and by no file here; Numba, which takes most of the time to import, is ready when the fork happens.
"""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING

import numba  # noqa: F401

if TYPE_CHECKING:
    from fastnorm._bench.cases import Job
    from fastnorm._bench.measure import Runner

_MEASURING = Path(__file__).parents[2] / "fastnorm" / "_bench"


class _MeasuringFromHere:
    """Finds `fastnorm._bench` beside these files: the commit to be measured may be older, and lack what they need."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if name != "fastnorm._bench":
            return None
        return spec_from_file_location(
            name, _MEASURING / "__init__.py", submodule_search_locations=[str(_MEASURING)]
        )


sys.meta_path.insert(0, _MeasuringFromHere)

# As the dashboard names it -> the public function, and the mode.
ROW_JOBS = {
    "layer norm": ("layer_norm", "forward"),
    "layer norm backward": ("layer_norm", "backward"),
    "RMS norm": ("rms_norm", "forward"),
    "RMS norm backward": ("rms_norm", "backward"),
    "add + layer norm": ("add_layer_norm", "forward"),
    "add + RMS norm": ("add_rms_norm", "forward"),
}
IMAGE_JOBS = {
    "batch norm training": ("batch_norm", "training"),
    "batch norm inference": ("batch_norm", "inference"),
    "batch norm backward": ("batch_norm", "backward"),
    "instance norm": ("instance_norm", "forward"),
    "instance norm backward": ("instance_norm", "backward"),
    "group norm": ("group_norm", "forward"),
    "group norm backward": ("group_norm", "backward"),
    "layer norm over C": ("layer_norm", "forward"),
    "layer norm over C backward": ("layer_norm", "backward"),
}
LAYOUTS = ["NCHW", "NHWC"]
# One, as many as a cache holds, and more: numbers, over which the dashboard draws lines.
ROWS = [1, 4096, 16384]
IMAGES = [1, 8, 32]
OF_ROWS, OF_IMAGES = "rows of 768", "images of 64x56x56"
DTYPES = ["float32", "float64", "float16", "bfloat16"]
MIB = 2**20


def size(layout: str, samples: int) -> str:
    """So many rows, or images."""
    return f"{samples}x768" if layout == "NC" else f"{samples}x64x56x56"


def job(name: str, layout: str, size: str, dtype: str = "float32") -> Job:
    """The job of a combination of parameters; a size is N x C x …, whatever the layout."""
    from fastnorm._bench.cases import Job

    norm, mode = (ROW_JOBS | IMAGE_JOBS)[name]
    return Job(norm, tuple(map(int, size.split("x"))), layout, mode, dtype=dtype)


def start(job: Job) -> Runner:
    """A job ready to be timed; one that fastnorm does not offer is shown as n/a, a wrong one as failed."""
    from fastnorm._bench import exact, repeated
    from fastnorm._bench.inputs import NotOffered

    try:
        runner = repeated.start(job)
    except NotOffered as missing:
        raise NotImplementedError(str(missing)) from None
    if runner.error is None or not runner.error <= exact.bound(job):
        raise AssertionError(f"{job.name}: {runner.error} roundings, at most {exact.bound(job)} are allowed")
    return runner

"""Time, throughput and memory of every norm, each compared with its float64 definition first."""

from __future__ import annotations

from statistics import median

from fastnorm._bench import exact, inputs
from fastnorm._bench.cases import Job, Shape
from fastnorm._bench.measure import start

NORMS = ["layer_norm", "rms_norm", "batch_norm", "instance_norm", "group_norm"]
LAYOUTS = ["NCHW", "NHWC"]


def _sizes(*shapes: Shape) -> list[str]:
    return ["x".join(map(str, shape)) for shape in shapes]


ROWS = _sizes((1, 768), (4096, 768))
IMAGES = _sizes((8, 64, 56, 56), (32, 256, 14, 14))


class _Norm:
    """What is measured of each job; a class below says which jobs."""

    param_names = ["norm", "layout", "N x C x spatial"]  # noqa: RUF012 (asv's way)
    mode = "forward"

    def setup(self, norm: str, layout: str, size: str) -> None:
        mode = "training" if norm == "batch_norm" and self.mode == "forward" else self.mode
        self.job = Job(norm, tuple(map(int, size.split("x"))), layout, mode)
        self.runner = start("fastnorm", self.job, exact.results(self.job, inputs.make(self.job)))
        error, bound = self.runner.error, exact.bound(self.job)
        if error is None or not error <= bound:
            raise AssertionError(f"{self.job.name}: {error} roundings, at most {bound} are allowed")

    def time_call(self, *parameters: str) -> None:
        self.runner.call()

    def peakmem_call(self, *parameters: str) -> None:
        self.runner.call()

    def track_throughput(self, *parameters: str) -> float:
        return self.job.traffic / median(self.runner.burst(0.2)) / 1e9

    track_throughput.unit = "GB/s of least traffic"  # type: ignore[attr-defined]


class RowsForward(_Norm):
    """Layer and RMS norm of rows, as transformers call them."""

    params = (["layer_norm", "rms_norm"], ["NC"], ROWS)


class RowsBackward(RowsForward):
    mode = "backward"


class ImagesForward(_Norm):
    """Every norm of images; batch norm in training."""

    params = (NORMS, LAYOUTS, IMAGES)


class ImagesBackward(ImagesForward):
    mode = "backward"


class ImagesInference(_Norm):
    """Batch norm with running statistics."""

    params = (["batch_norm"], LAYOUTS, IMAGES)
    mode = "inference"

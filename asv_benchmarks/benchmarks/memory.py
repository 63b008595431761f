"""Memory: the peak of a process that makes one call, and what a call takes beyond its arguments and its results."""

from __future__ import annotations

from .common import IMAGE_JOBS, LAYOUTS, MIB, ROW_JOBS, job, start

_WARM_UP = {"NC": "256x1024", "NCHW": "4x64x32x32", "NHWC": "4x64x32x32"}
_GIBIBYTE = {"NC": "262144x1024", "NCHW": "4096x64x32x32", "NHWC": "4096x64x32x32"}


class _Extra:
    """Of a call on 1 GiB, beyond arguments and results, in a process that has made it on 1 MiB before."""

    timeout = 300
    param_names = ["job", "layout"]  # noqa: RUF012 (asv's way)

    def setup(self, name: str, layout: str) -> None:
        from fastnorm._bench import memory, repeated
        from fastnorm._bench.inputs import NotOffered

        start(job(name, layout, _WARM_UP[layout]))
        try:
            self.bytes = memory.extra(repeated.make(job(name, layout, _GIBIBYTE[layout])))
        except NotOffered as missing:
            raise NotImplementedError(str(missing)) from None

    def track_extra(self, *parameters: str) -> float:
        return round(self.bytes / MIB, 2)

    track_extra.unit = "MiB"  # type: ignore[attr-defined]


class RowsExtra(_Extra):
    """Norms along the last axis."""

    params = (list(ROW_JOBS), ["NC"])


class ImagesExtra(_Extra):
    """Norms of images, channels first and channels last."""

    params = (list(IMAGE_JOBS), LAYOUTS)


class Process:
    """The whole process, with Numba, the arrays and the definition in float64 that the result is compared with."""

    timeout = 300
    param_names = ["job", "layout"]  # noqa: RUF012
    params = (list(IMAGE_JOBS), LAYOUTS)

    def setup(self, name: str, layout: str) -> None:
        self.call = start(job(name, layout, "32x64x56x56")).call

    def peakmem_call(self, *parameters: str) -> None:
        self.call()

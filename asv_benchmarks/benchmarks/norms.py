"""fastnorm's time per call: every norm, mode, layout and dtype, from one row to far out of cache."""

from __future__ import annotations

from .common import DTYPES, IMAGE_JOBS, LAYOUTS, ROW_JOBS, job, start


class _Norms:
    """How all of them are timed; a class below says what."""

    timeout = 300
    warmup_time = 0.05
    repeat = (3, 30, 1.0)

    def time_call(self, *parameters: str) -> None:
        self.call()


class Rows(_Norms):
    """Norms along the last axis, as transformers call them."""

    param_names = ["job", "dtype", "size"]  # noqa: RUF012 (asv's way)
    params = (list(ROW_JOBS), DTYPES, ["1x768", "4096x768", "16384x1024"])

    def setup(self, name: str, dtype: str, size: str) -> None:
        self.call = start(job(name, "NC", size, dtype)).call


class Images(_Norms):
    """Norms of images, channels first and channels last: one image, a batch in cache, a batch out of cache."""

    param_names = ["job", "layout", "dtype", "size"]  # noqa: RUF012
    params = (list(IMAGE_JOBS), LAYOUTS, DTYPES, ["1x64x56x56", "8x64x56x56", "32x64x56x56"])

    def setup(self, name: str, layout: str, dtype: str, size: str) -> None:
        self.call = start(job(name, layout, size, dtype)).call

"""fastnorm's time per call: every norm, mode, layout and dtype, from one row to far out of cache."""

from __future__ import annotations

from .common import DTYPES, IMAGE_JOBS, IMAGES, LAYOUTS, OF_IMAGES, OF_ROWS, ROW_JOBS, ROWS, job, size, start


class _Norms:
    """How all of them are timed; a class below says what."""

    timeout = 300
    warmup_time = 0.05
    repeat = (3, 30, 1.0)

    def time_call(self, *parameters: object) -> None:
        self.call()


class Rows(_Norms):
    """Norms along the last axis, as transformers call them."""

    param_names = ["job", "dtype", OF_ROWS]  # noqa: RUF012 (asv's way)
    params = (list(ROW_JOBS), DTYPES, ROWS)

    def setup(self, name: str, dtype: str, rows: int) -> None:
        self.call = start(job(name, "NC", size("NC", rows), dtype)).call


class Images(_Norms):
    """Norms of images, channels first and channels last: one image, a batch in cache, a batch out of cache."""

    param_names = ["job", "layout", "dtype", OF_IMAGES]  # noqa: RUF012
    params = (list(IMAGE_JOBS), LAYOUTS, DTYPES, IMAGES)

    def setup(self, name: str, layout: str, dtype: str, images: int) -> None:
        self.call = start(job(name, layout, size(layout, images), dtype)).call

"""The quick subset that tells in two minutes whether a change made anything slower: `asv continuous -b ^guard main HEAD`."""

from __future__ import annotations

from .common import job, start

# One job per way through the kernels.
JOBS = {
    "a small call": ("layer norm", "NC", "1x768"),
    "rows": ("layer norm", "NC", "4096x768"),
    "rows out of cache": ("RMS norm", "NC", "16384x1024"),
    "rows, backward": ("layer norm backward", "NC", "4096x768"),
    "rows of channels": ("batch norm training", "NCHW", "8x64x56x56"),
    "columns": ("batch norm training", "NHWC", "8x64x56x56"),
    "columns, backward": ("batch norm backward", "NHWC", "8x64x56x56"),
    "columns in groups": ("group norm", "NHWC", "8x64x56x56"),
    "inference": ("batch norm inference", "NHWC", "8x64x56x56"),
}


class Guard:
    """Samples from two processes of each commit, taken in turns."""

    rounds = 2
    repeat = (10, 50, 0.5)
    warmup_time = 0.05
    timeout = 120
    param_names = ["job"]  # noqa: RUF012 (asv's way)
    params = (list(JOBS),)

    def setup(self, name: str) -> None:
        self.call = start(job(*JOBS[name])).call

    def time_call(self, name: str) -> None:
        self.call()

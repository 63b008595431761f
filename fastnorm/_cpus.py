"""How many CPUs this process may use: by its affinity, its container's quota, and OMP_NUM_THREADS."""

from __future__ import annotations

import math
import os
from contextlib import suppress
from functools import cache
from pathlib import Path

# What a container may use in each period, in µs: one file of two words in version 2 of cgroups, two files in version 1.
_CGROUP = Path("/sys/fs/cgroup")
_QUOTAS = (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"))


@cache
def allowed() -> int:
    """The least of these limits, as they are when it is first asked for."""
    limits = [_available(), named(os.environ.get("OMP_NUM_THREADS", ""))]
    for names in _QUOTAS:
        with suppress(OSError):
            limits.append(quota(" ".join((_CGROUP / name).read_text() for name in names)))
    return min(limit for limit in limits if limit is not None)


def _available() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def named(text: str) -> int | None:
    """The threads of a list like OMP_NUM_THREADS, which has a number per level of nesting; None where it isn't one."""
    first = text.split(",")[0].strip()
    return int(first) or None if first.isdecimal() else None


def quota(text: str) -> int | None:
    """The CPUs of a quota and a period, rounded up, for the last of them is there in part; None without a quota."""
    share, period = text.split()
    return math.ceil(int(share) / int(period)) if share.isdecimal() else None

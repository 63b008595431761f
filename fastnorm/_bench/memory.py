"""How much memory a call takes beyond what it is given and what it returns, by the kernel's own count (Linux)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from . import exact, peers
from .inputs import Array, NotOffered
from .repeated import Repeated

_CLEAR = Path("/proc/self/clear_refs")
_RESET_PEAK = "5"  # proc(5): resets the peak resident set size to what is resident now
_STATUS = Path("/proc/self/status")


def extra(repeated: Repeated) -> int:
    """Bytes that fastnorm needs for a job, in a process that has run the same on a few samples."""
    own = peers.load("fastnorm")
    call = own.prepare(repeated.job, repeated.inputs)
    returned, peak = _watched(call)
    results = own.results(repeated.job, returned)
    if not repeated.error(results) <= exact.bound(repeated.job):
        raise AssertionError(f"{repeated.job.name} is wrong")
    return peak - _bytes(results)


def _watched(call: Callable[[], Any]) -> tuple[Any, int]:
    """What a call returns, and by how many bytes its peak exceeds what was resident before."""
    try:
        _CLEAR.write_text(_RESET_PEAK)
    except OSError as error:
        raise NotOffered(f"the peak of the resident memory cannot be reset: {error}") from None
    before = _resident("VmRSS")
    returned = call()
    return returned, _resident("VmHWM") - before


def _resident(field: str) -> int:
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024


def _bytes(arrays: Sequence[Array]) -> int:
    return sum(array.nbytes for array in arrays)

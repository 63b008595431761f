"""What a program waits for before its first result: the import, and a first call with a cold and a warm cache."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from tempfile import TemporaryDirectory

# Of rows, and of columns: the other norms call the same two families of kernels.
JOBS = {"layer_norm": ((64, 512), "NC"), "batch_norm": ((64, 8, 8, 8), "NHWC")}
CACHES = ["cold", "warm"]
MODES = ["forward", "backward"]

# Prints the seconds that each mode took; the clock starts with the data ready and fastnorm imported.
_PROGRAM = """
import json, sys, time
from fastnorm._bench import exact, inputs, peers
from fastnorm._bench.cases import Job, modes
norm, shape, layout, *wanted = json.loads(sys.argv[1])
own, seconds = peers.load("fastnorm"), {}
for mode in wanted:
    job = Job(norm, tuple(shape), layout, modes(norm)[0] if mode == "forward" else mode)
    given = inputs.make(job)
    start = time.perf_counter()
    call = own.prepare(job, given)
    results = own.results(job, call())
    seconds[mode] = time.perf_counter() - start
    assert exact.roundings(job, results, exact.results(job, given)) <= exact.bound(job)
print(json.dumps(seconds))
"""

Seconds = dict[str, float]


def timeraw_import() -> str:
    return "import fastnorm"


def timeraw_import_after_numba() -> tuple[str, str]:
    return "import fastnorm", "import numba"


def _first_calls(norm: str, cache: str) -> Seconds:
    """In a new process, in which forward comes before backward."""
    environment = os.environ | {"NUMBA_CACHE_DIR": cache}
    command = [sys.executable, "-c", _PROGRAM, json.dumps([norm, *JOBS[norm], *MODES])]
    finished = subprocess.run(command, env=environment, capture_output=True, text=True)
    if finished.returncode:
        raise RuntimeError(finished.stderr)
    return json.loads(finished.stdout)


class FirstCall:
    """The first call of a norm in float32; backward's includes a forward call, compiled by then."""

    param_names = ["norm", "mode", "cache"]  # noqa: RUF012 (asv's way)
    params = (list(JOBS), MODES, CACHES)

    def setup_cache(self) -> dict[tuple[str, str], Seconds]:
        results = {}
        for norm in JOBS:
            with TemporaryDirectory(prefix="fastnorm-cache-") as folder:
                for cache in CACHES:
                    results[norm, cache] = _first_calls(norm, folder)
        return results

    setup_cache.timeout = 1800  # type: ignore[attr-defined]

    def track_first_call(
        self, results: dict[tuple[str, str], Seconds], norm: str, mode: str, cache: str
    ) -> float:
        return results[norm, cache][mode]

    track_first_call.unit = "seconds"  # type: ignore[attr-defined]


def track_warmup() -> float:
    """`python -m fastnorm warmup` with a cold cache: every norm, in channels first and last, in float32."""
    with TemporaryDirectory(prefix="fastnorm-cache-") as folder:
        start = time.perf_counter()
        environment = os.environ | {"NUMBA_CACHE_DIR": folder}
        subprocess.run(
            [sys.executable, "-m", "fastnorm", "warmup"], env=environment, check=True, capture_output=True
        )
        return time.perf_counter() - start


track_warmup.unit = "seconds"  # type: ignore[attr-defined]
track_warmup.timeout = 600  # type: ignore[attr-defined]

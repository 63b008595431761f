"""What is promised about threads and forks, on each of Numba's threading layers: a script per promise."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

_SCRIPTS = Path(__file__).parent / "threading_layers"
_LAYERS = ("tbb", "omp", "workqueue")

# A script and its arguments -> what is set for it.
_CASES = {
    "layer.py": {},
    "missing.py": {},
    "setting.py": {},
    "limits.py affinity": {},
    "limits.py OMP_NUM_THREADS": {"OMP_NUM_THREADS": "1"},
    "limits.py NUMBA_NUM_THREADS": {"NUMBA_NUM_THREADS": "1"},
    "callers.py": {"NUMBA_NUM_THREADS": "6"},
    "executors.py": {},
    "asynchronous.py": {},
    "nested.py": {},
    "beside.py": {},
    "fork_before.py": {},
    "fork_after.py": {},
    "fork_meanwhile.py first": {},
    "fork_meanwhile.py later": {},
    "prefork.py": {},
    "processes.py fork": {},
    "processes.py forkserver": {},
    "processes.py spawn": {},
    "interrupt.py": {},
}
# What scripts need that not every system has.
_NEEDS = {
    "limits.py affinity": "sched_setaffinity",
    "fork_before.py": "fork",
    "fork_after.py": "fork",
    "fork_meanwhile.py first": "fork",
    "fork_meanwhile.py later": "fork",
    "prefork.py": "fork",
    "processes.py fork": "fork",
    "processes.py forkserver": "fork",
    "interrupt.py": "fork",  # and setitimer with it
}
# Numba's C code says this, and nothing can silence it, of a fork on tbb from another thread than made the first call, or
# after other threads have been in a region. The children are serial, and need none of what it speaks of.
_TBB_ON_FORKS = {
    "",
    "Unable to join threads to shut down before fork(). This can break multithreading in child processes.",
    "Numba: Attempted to fork from a non-main thread, the TBB library may be in an invalid state in the child process.",
}


def _python(*arguments, layer, **environment):
    inherited = {name: value for name, value in os.environ.items() if name != "LD_LIBRARY_PATH"}
    # Python 3.12 and later warn of every fork in a process with threads, be they Numba's.
    warnings = ("-W", "error", "-W", "ignore:This process:DeprecationWarning")
    # An interrupt may fall between the opening of a file, such as the quota's, and the `with` that would close it.
    warnings += ("-W", "ignore:unclosed file:ResourceWarning")
    return subprocess.run(
        [sys.executable, *warnings, *arguments],
        env=inherited | {"NUMBA_THREADING_LAYER": layer, "NUMBA_NUM_THREADS": "2"} | environment,
        capture_output=True,
        text=True,
        timeout=300,  # three may compile at once, on a cold cache
        check=False,
    )


@cache
def _runs(case):
    """Layer -> how the script ended: the three at once, to spare half of the time."""
    script, *arguments = case.split()

    def run(layer):
        return _python(str(_SCRIPTS / script), *arguments, layer=layer, **_CASES[case])

    with ThreadPoolExecutor(len(_LAYERS)) as pool:
        return dict(zip(_LAYERS, pool.map(run, _LAYERS), strict=True))


@cache
def _lacking(layer):
    """Why a layer can't be loaded on this machine, whatever fastnorm does."""
    if layer == "tbb":
        try:
            version("tbb")
        except PackageNotFoundError as error:
            return str(error)
    if layer == "omp" and (failed := _python("-c", "import numba.np.ufunc.omppool", layer=layer)).returncode:
        return failed.stderr.splitlines()[-1]
    return None


@pytest.mark.parametrize("layer", _LAYERS)
@pytest.mark.parametrize("case", _CASES)
def test_promise(case, layer):
    need = _NEEDS.get(case)
    if need and not hasattr(os, need):
        pytest.skip(f"no os.{need} on this system")
    if reason := _lacking(layer):
        pytest.skip(f"the layer {layer} can't be loaded: {reason}")
    done = _runs(case)[layer]
    assert done.returncode == 0, done.stderr or done.returncode
    known = _TBB_ON_FORKS if layer == "tbb" and need == "fork" else set()
    assert not set(done.stderr.splitlines()) - known

"""Numba's threading layer, loaded before the first kernel asks for it: found, told how long to spin, whole in a fork."""

from __future__ import annotations

import ctypes
import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import NamedTuple

import numba
from numba.core.compiler_lock import global_compiler_lock
from numba.np.ufunc import parallel as _parallel


class Layer(NamedTuple):
    """A threading layer that is loaded: its name, and Numba's own number of threads, which is the user's."""

    name: str
    get: Callable[[], int]
    set: Callable[[int], None]


# What a user may have set about spinning; and what is set where there is none of these.
_SPINNING = {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"}
_SPINS = "10000"
_TBB = {"win32": "tbb12.dll", "darwin": "libtbb.12.dylib"}.get(sys.platform, "libtbb.so.12")

# Reentrant, for the handler of a signal may call fastnorm while its thread is launching.
_launching = threading.RLock()
_launched = False
_layer: Layer | None = None

# A child must not inherit a lock that is held by a thread it lacks: a fork waits until a call in another thread has
# launched and compiled, or has loaded what was compiled before. It takes the last of them first, as `launch` does.
if hasattr(os, "register_at_fork"):
    for _lock in (global_compiler_lock, _launching):
        os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)


def launch() -> Layer | None:
    """Let Numba load its threading layer, once; None, and a warning, where it can't."""
    global _launched, _layer
    if _launched:
        return _layer
    with _launching:
        if not _launched:
            if numba.config.THREADING_LAYER not in ("omp", "workqueue"):
                _open_tbb()
            with _spinning():
                failure = _load()
            if not failure:
                _layer = Layer(
                    numba.threading_layer(),
                    # As these two have it inside: 0.1 µs for their 0.7 and 1.
                    getattr(_parallel, "_get_num_threads", numba.get_num_threads),
                    getattr(_parallel, "_set_num_threads", numba.set_num_threads),
                )
            _launched = True
            if failure:
                warnings.warn(failure, RuntimeWarning, stacklevel=2)
    return _layer


def _open_tbb() -> None:
    """Open the library of the package `tbb`, which lies where no loader looks; Numba, asking by name, gets what is open."""
    found = [Path(sys.prefix, "lib", _TBB)]
    with suppress(PackageNotFoundError):
        found = [Path(file.locate()) for file in files("tbb") or () if file.name == _TBB] or found
    with suppress(OSError):
        ctypes.CDLL(str(found[0]))


@contextmanager
def _spinning() -> Iterator[None]:
    """Tell GNU OpenMP, which reads it when it is loaded, how long its idle threads spin.

    By default for milliseconds, and they keep the cores from other libraries' threads. Batch norm of 0.05 ms and NumPy's
    matmul of 0.4 ms in turn, on two cores, took 32 and 12 ms. With 10,000 spins, some 0.3 ms, they take 0.2 and 0.8 ms since
    short calls try whether more threads pay, which is as long as with 1000. But with 1000 threads fall asleep between calls,
    and where a system brings what sleeps to one core, as that of a virtual machine did, they stay there for long: layer norm
    4096×768 took 0.7 to 1.0 ms, with 10,000 spins 0.4 to 0.6. Larger calls pay for it beside products on BLAS's threads:
    spectral norm of 512×512×3×3 took 0.8 ms with 1000 spins, and 1.4 with these until it left its own threads out.
    """
    if _SPINNING & os.environ.keys():
        yield
        return
    try:
        os.environ["GOMP_SPINCOUNT"] = _SPINS
        yield
    finally:
        os.environ.pop("GOMP_SPINCOUNT", None)


def _load() -> str | None:
    """Load the layer that is asked for, else workqueue, which is always there: kernels are linked to one. What failed."""
    try:
        numba.get_num_threads()
    except ValueError as error:
        asked = numba.config.THREADING_LAYER
        numba.config.THREADING_LAYER = "workqueue"
        try:
            numba.get_num_threads()
        finally:
            numba.config.THREADING_LAYER = asked
        reason = str(error).splitlines()[0]
        return (
            f"fastnorm works on one thread: Numba can't load the threading layer {asked!r} ({reason}) "
            "Install one, pip install 'fastnorm[tbb]', and set NUMBA_THREADING_LAYER to tbb."
        )
    return None

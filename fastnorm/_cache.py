"""Where compiled kernels are kept on disk: a file for each of them, of each signature, on each kind of processor.

Numba's own cache looks at the source of a function, not of what it calls: a kernel would outlive the sums it is made of. It
reads only where it may write, so that an image with a filled cache on a read-only disk compiled anew. It fails a call where
the disk is full; and two processes that fill it at once can give one function another's code, for they share an index.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import sys
import uuid
import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numba
from numba.core.compiler import CompileResult
from numba.core.serialize import dumps
from numba.misc.appdirs import user_cache_dir

_PACKAGE = Path(__file__).parent
# Compiled code calls the interpreter that compiled it: a tree that two of them share has a file for each.
_ENDING = f".{sys.implementation.cache_tag}{getattr(sys, 'abiflags', '')}.nbc"


@cache
def directories() -> tuple[Path, ...]:
    """Where compiled kernels are looked for, and kept in the first that can be written to."""
    chosen = numba.config.CACHE_DIR  # NUMBA_CACHE_DIR
    apart = f"fastnorm_{_digest(str(_PACKAGE).encode())}"  # from other installations
    if chosen:
        return (Path(chosen) / apart,)
    return _PACKAGE / "__pycache__", Path(user_cache_dir("fastnorm", appauthor=False)) / apart


@cache
def _stamp() -> str:
    """What all kernels are made of: their sources, and Numba."""
    sources = [_PACKAGE / "_jit.py", *sorted((_PACKAGE / "kernels").rglob("*.py"))]
    return _digest(numba.__version__.encode(), *map(_source, sources))


@cache
def _source(path: Path) -> bytes:
    with suppress(OSError):  # packed into an executable, without sources
        return path.read_bytes()
    return b""


def _digest(*parts: bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()[:16]


_warned = False


def _warn(problem: OSError) -> None:
    """Say once in a process why kernels are compiled in every process anew."""
    global _warned
    if not _warned:
        _warned = True
        warnings.warn(
            f"fastnorm cannot keep its compiled kernels, so that every process compiles them anew: {problem}. "
            "Set NUMBA_CACHE_DIR to a directory that can be written to.",
            RuntimeWarning,
            stacklevel=2,
        )


class DiskCache:
    """What a function of Numba's asks for compiled code, and gives it to keep."""

    cache_path = None

    def __init__(self, function: Callable[..., Any]) -> None:
        self._name = f"{function.__module__.partition('.')[2]}.{function.__name__}"
        self._source = Path(function.__code__.co_filename)

    def load_overload(self, signature: Any, context: Any) -> Any:
        """The function compiled for a signature, if some directory has it."""
        context.refresh()
        for directory in directories():
            # What is damaged or another version's is compiled anew.
            with suppress(OSError, EOFError, pickle.UnpicklingError, AttributeError, ImportError, ValueError):
                stored = pickle.loads((directory / self._file(signature, context.codegen())).read_bytes())
                return CompileResult._rebuild(context, *stored)
        return None

    def save_overload(self, signature: Any, compiled: Any) -> None:
        """Keep a compiled function, and no longer those made of older sources."""
        name, code = self._file(signature, compiled.codegen), dumps(compiled._reduce())
        problem = OSError("no directory for them")
        for directory in directories():
            try:
                directory.mkdir(parents=True, exist_ok=True)
                _write(directory / name, code)
            except OSError as error:
                problem = error
                continue
            for old in directory.glob(f"{self._name}-*{_ENDING}"):
                if f"-{_stamp()}-" not in old.name:
                    with suppress(OSError):
                        old.unlink()
            return
        _warn(problem)

    def flush(self) -> None:
        """Nothing: what is compiled again replaces what is there."""

    def _file(self, signature: Any, codegen: Any) -> str:
        # Its own source as well: not every function lies among the kernels.
        kind = repr((str(signature), codegen.magic_tuple())).encode()
        return f"{self._name}-{_stamp()}-{_digest(kind, _source(self._source))}{_ENDING}"


def _write(path: Path, content: bytes) -> None:
    """Write a file that others see as a whole or not at all."""
    own = path.with_name(f"{path.name}.{uuid.uuid4().hex[:12]}")
    try:
        own.write_bytes(content)
        os.replace(own, path)
    except OSError:
        with suppress(OSError):
            own.unlink()
        raise


class Kept(NamedTuple):
    """Where compiled kernels are kept."""

    directory: Path
    files: int
    size: int  # bytes


def kept() -> Kept:
    """The directory that has the compiled kernels of these sources, or would have them."""
    for directory in directories():
        files = list(directory.glob(f"*-{_stamp()}-*{_ENDING}"))
        if files:
            return Kept(directory, len(files), sum(file.stat().st_size for file in files))
    return Kept(directories()[0], 0, 0)

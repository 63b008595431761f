"""`warmup`: compile ahead of the first call, and tell where to."""

from __future__ import annotations

import argparse

from .._cache import kept
from .._warmup import compile_parts, parts
from . import show


def run(arguments: argparse.Namespace) -> int:
    """Compile."""
    wanted = parts(arguments.norms, arguments.dtypes or ("float32",), arguments.layouts)
    with show.progress(len(wanted)) as begin:
        compile_parts(wanted, begin)
    found = kept()
    print(f"{found.directory}: {found.files} files, {found.size / 2**20:.1f} MiB")
    return 0

"""Normalization kernels for the CPU: fast, exact, on any layout."""

from . import functional, layers
from ._threads import get_num_threads, num_threads, set_num_threads
from ._warmup import warmup
from .functional import *  # noqa: F403 (what is public is said there, in __all__)
from .layers import *  # noqa: F403

__version__ = "0.1.0"

__all__ = [
    *functional.__all__,
    *layers.__all__,
    "get_num_threads",
    "num_threads",
    "set_num_threads",
    "warmup",
]

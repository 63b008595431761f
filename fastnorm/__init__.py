"""Normalization kernels for the CPU: fast, exact, on any layout."""

from ._threads import get_num_threads, num_threads, set_num_threads
from .functional import *  # noqa: F403
from .functional import __all__ as _functions

__version__ = "0.1.0"

__all__ = ["get_num_threads", "num_threads", "set_num_threads", *_functions]

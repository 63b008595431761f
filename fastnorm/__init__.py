"""Normalization kernels for the CPU: fast, exact, on any layout."""

from typing import TYPE_CHECKING, Any

from . import functional, layers
from ._threads import get_num_threads, num_threads, set_num_threads
from ._warmup import warmup
from .functional import *  # noqa: F403 (what is public is said there, in __all__)
from .layers import *  # noqa: F403
from .moments import Moments
from .whitening import PCAWhitening, ZCAWhitening

__version__ = "0.1.0"

__all__ = [
    *functional.__all__,
    *layers.__all__,
    "Moments",
    "PCAWhitening",
    "ZCAWhitening",
    "get_num_threads",
    "num_threads",
    "set_num_threads",
    "warmup",
]

if TYPE_CHECKING:
    from .standardizer import Standardizer as Standardizer


def __getattr__(name: str) -> Any:
    # Built on scikit-learn's base classes, which are imported when it is asked for.
    if name == "Standardizer":
        from .standardizer import Standardizer

        return Standardizer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

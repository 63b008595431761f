"""Normalization kernels for the CPU: fast, exact, on any layout."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from . import functional, layers
from ._threads import get_num_threads as get_num_threads
from ._threads import num_threads as num_threads
from ._threads import set_num_threads as set_num_threads
from ._warmup import warmup as warmup
from .functional import *  # noqa: F403 (what is public is said there, in __all__)
from .layers import *  # noqa: F403

if TYPE_CHECKING:
    from .family import *  # noqa: F403
    from .standardizer import Standardizer as Standardizer

__version__ = "0.1.0"

_OWN = ["get_num_threads", "num_threads", "set_num_threads", "warmup"]


def __getattr__(name: str) -> Any:
    """A name of the rest of the family, which is imported when one is asked for; or all that are public."""
    if name == "Standardizer":  # built on scikit-learn's classes
        return import_module(".standardizer", __name__).Standardizer
    if name == "__all__" or not name.startswith("_"):
        family = import_module(".family", __name__)
        if name == "__all__":
            return sorted([*functional.__all__, *layers.__all__, *family.__all__, *_OWN])
        if name in family.__all__:
            globals()[name] = found = getattr(family, name)  # to be asked for once: that takes 3 µs
            return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__getattr__("__all__"), "Standardizer"})

"""Normalization kernels for the CPU: fast, exact, on any layout."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ._launch import importing as _importing
from ._threads import get_num_threads as get_num_threads
from ._threads import num_threads as num_threads
from ._threads import set_num_threads as set_num_threads

if TYPE_CHECKING:
    from ._warmup import warmup as warmup
    from .family import *  # noqa: F403
    from .functional import *  # noqa: F403
    from .layers import *  # noqa: F403
    from .standardizer import Standardizer as Standardizer

__version__ = "0.1.0"

_OWN = ["get_num_threads", "num_threads", "set_num_threads"]
# What is public is said there, in `__all__`: the classic norms first, which are asked for most.
_HOMES = ["functional", "layers", "_warmup", "family"]


def __getattr__(name: str) -> Any:
    """A public name, imported when it is asked for: kernels take 60 ms and more, in which Numba reads their signatures."""
    if name == "__all__":
        return sorted([*_OWN, *(own for home in _HOMES for own in _import(home).__all__)])
    if name == "Standardizer":  # built on scikit-learn's classes
        return _import("standardizer").Standardizer
    if not name.startswith("_"):
        for home in _HOMES:
            module = _import(home)
            if name in module.__all__:
                globals()[name] = found = getattr(module, name)  # to be asked for once: that takes 3 µs
                return found
            if name in globals():  # a submodule, imported by now
                return globals()[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _import(home: str) -> Any:
    with _importing:
        return import_module(f".{home}", __name__)


def __dir__() -> list[str]:
    return sorted({*globals(), *__getattr__("__all__"), "Standardizer"})

"""The norms that users compose out of NumPy calls or PyTorch's operators where a library has no function for them."""

from __future__ import annotations

from importlib import import_module

from .case import Case

# A file each, with its CASES.
FAMILIES = (
    "switchable",
    "conditional",
    "variance_only",
    "batches",
    "weights",
    "vectors",
    "response",
    "deep",
    "masked",
    "moments",
    "whitening",
    "elementwise",
    "evo",
)


def cases() -> dict[str, Case]:
    """All of them, by name."""
    return {case.name: case for family in FAMILIES for case in import_module(f"{__name__}.{family}").CASES}

"""One norm, on arrays of one shape, beside what is composed in its place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.random import Generator


@dataclass(frozen=True)
class Case:
    """What to time: the three take the same arguments (as tensors where it is PyTorch's) and return the same arrays."""

    name: str  # "switchable norm, training, 16×64×56×56"
    make: Callable[[Generator], tuple[Any, ...]]  # the arguments, float32
    ours: Callable[..., Any]
    numpy: Callable[..., Any]
    torch: Callable[..., Any] | None = None  # imports torch where it is called


def normals(rng: Generator, count: int, *shape: int) -> tuple[Any, ...]:
    """So many arrays of standard normals."""
    return tuple(rng.standard_normal(shape, np.float32) for _ in range(count))

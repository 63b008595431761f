"""How the time of a job grows with its size: the exponent of a fitted power, and the spread of the time per element."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def exponent(sizes: Sequence[float], seconds: Sequence[float]) -> float:
    """p of the power c·sizeᵖ that fits best on logarithmic scales: 1 is linear growth."""
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])


def spread(sizes: Sequence[float], seconds: Sequence[float]) -> float:
    """By how much the slowest element exceeds the fastest: 0 is a constant time per element."""
    each = np.divide(seconds, sizes)
    return float(each.max() / each.min() - 1)

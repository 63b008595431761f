"""Mergeable statistics: mean and variance of data that come in parts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.random import Generator

from ...moments import Moments
from .case import Case


def _parts(count: int, *shape: int) -> Callable[[Generator], tuple[Any, ...]]:
    return lambda rng: tuple(rng.standard_normal(shape, np.float32) for _ in range(count))


def _ours(*parts: Any) -> Any:
    seen = Moments.of(parts)
    return seen.mean, seen.var()


def _axes(part: Any) -> tuple[int, ...]:
    return tuple(axis for axis in range(part.ndim) if axis != 1)


def _merged(parts: Any, moments: Callable[[Any], tuple[Any, Any, Any]]) -> Any:
    """Chan's formula, over the count, the mean and the variance of each part."""
    count, mean, m2 = 0, 0.0, 0.0
    for part in parts:
        own, own_mean, own_var = moments(part)
        delta = own_mean - mean
        m2 = m2 + own_var * own + delta**2 * (count * own / (count + own))
        mean = mean + delta * (own / (count + own))
        count += own
    return mean, m2 / count


def _numpy(*parts: Any) -> Any:
    def moments(part: Any) -> tuple[Any, Any, Any]:
        return part.size // part.shape[1], part.mean(_axes(part)), part.var(_axes(part))

    return _merged(parts, moments)


def _torch(*parts: Any) -> Any:
    import torch

    def moments(part: Any) -> tuple[Any, Any, Any]:
        var, mean = torch.var_mean(part, _axes(part), correction=0)
        return part.numel() // part.shape[1], mean, var

    return _merged(parts, moments)


def _standard_scaler(*parts: Any) -> Any:
    """The algorithm of scikit-learn's StandardScaler.partial_fit: sums in float64, NaN left out."""
    count, total, m2 = np.zeros(1), np.zeros(1), np.zeros(1)
    for part in parts:
        own = len(part) - np.isnan(part).sum(0)
        own_total = np.nansum(part, 0, dtype=np.float64)
        away = part - own_total / own
        correction = np.nansum(away, 0)
        away **= 2
        own_m2 = np.nansum(away, 0) - correction**2 / own
        if count.any():
            ratio = count / own
            own_m2 += m2 + ratio / (count + own) * (total / ratio - own_total) ** 2
        count, total, m2 = count + own, total + own_total, own_m2
    return total / count, m2 / count


CASES = (
    Case("moments, 4 parts of 4096×64", _parts(4, 4096, 64), _ours, _numpy, _torch),
    Case("moments, 8 parts of 32768×64", _parts(8, 32768, 64), _ours, _numpy, _torch),
    Case("moments, 4 parts of 16×64×56×56", _parts(4, 16, 64, 56, 56), _ours, _numpy, _torch),
    Case("moments, as partial_fit, 4 parts of 4096×64", _parts(4, 4096, 64), _ours, _standard_scaler),
)

"""Each norm's three answers, for one shape: cached, so that a call that was seen before checks nothing twice."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from .. import _checks
from .._layout import Ints, Roles, elements


def trailing(shape: Ints, axis: Any) -> tuple[Roles, Ints, str]:
    """Layer and RMS norm: statistics over `axis`, an affine pair per position in it. (roles, its shape, why that shape)."""
    return _trailing(shape, tuple(axis) if isinstance(axis, list) else axis)


@lru_cache(maxsize=4096)
def _trailing(shape: Ints, axis: Any) -> tuple[Roles, Ints, str]:
    axes = _checks.axes(axis, shape)
    affine = tuple(shape[i] for i in axes)
    return Roles(axes, axes), affine, f"the normalized axes of x, whose shape is {shape}, are {axes}"


@lru_cache(maxsize=4096)
def channels(shape: Ints, layout: Any, per_sample: bool) -> tuple[Roles, Ints, str]:
    """Batch norm: statistics over all but the channels; instance norm (`per_sample`): over the spatial axes."""
    if shape == (0,) and layout is None:  # PyTorch takes it for a batch without channels
        return Roles((), (0,)), shape, "x is empty"
    sample, channel = _checks.layout(layout, len(shape))
    kept = (sample, channel) if per_sample else (channel,)
    reduced = tuple(i for i in range(len(shape)) if i not in kept)
    return Roles(reduced, (channel,)), (shape[channel],), _why(shape, channel, layout)


@lru_cache(maxsize=4096)
def groups(shape: Ints, num_groups: Any, layout: Any) -> tuple[Roles, Ints, str]:
    """Group norm: statistics over the spatial axes and the channels of a group."""
    sample, channel = _checks.layout(layout, len(shape))
    count = _checks.num_groups(num_groups, shape[channel])
    reduced = tuple(i for i in range(len(shape)) if i not in (sample, channel))
    return Roles(reduced, (channel,), count), (shape[channel],), _why(shape, channel, layout)


def _why(shape: Ints, channel: int, layout: str | None) -> str:
    where = "" if layout is None else f' (layout "{layout}")'
    return f"x has {shape[channel]} channels at axis {channel}{where}"


@lru_cache(maxsize=4096)
def for_inference(shape: Ints, strides: Ints, layout: Any) -> Roles:
    """Batch and instance norm with given statistics: rows in the order of memory, or columns of all samples at once."""
    _, channel = _checks.layout(layout, len(shape))
    spatial = [i for i in range(len(shape)) if i != channel and shape[i] > 1]
    outermost = max(spatial, key=lambda i: abs(strides[i]), default=0)
    innermost = all(abs(strides[channel]) < abs(strides[i]) for i in spatial)
    kept = (channel,) if innermost else (channel, outermost)
    return Roles(tuple(i for i in range(len(shape)) if i not in kept), (channel,))


def elements_per_statistic(shape: Ints, roles: Roles) -> int:
    """How many elements share one statistic."""
    count = elements(tuple(shape[i] for i in roles.reduced))
    return count * (shape[roles.affine[0]] // roles.groups) if roles.groups else count

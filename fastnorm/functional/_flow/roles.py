"""Each norm's three answers, for one shape: what shares a statistic, what an affine pair, and which statistic it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache, wraps
from typing import Any, NamedTuple, TypeVar

from ... import _checks
from ..._layout import Ints, Roles, elements
from ...kernels.job import SUM_OF_SQUARES


class Shared(NamedTuple):
    """A norm's answers for one shape."""

    roles: Roles
    parameters: Ints  # the shape of weight and bias …
    why: str  # … and where it comes from
    flipped: bool = (
        False  # is what is given as (N, C), statistics or parameters, the other way round in the array?
    )

    def statistic_shape(self, shape: Ints) -> Ints:
        """The shape of a statistic as the public functions take and return it."""
        own = self.roles.statistic_shape(shape)
        return own[::-1] if self.flipped else own


@dataclass(frozen=True, eq=False)
class Norm:
    """A norm as data: (shape of x, the norm's own argument) -> its answers, and what it makes of them.

    A second moment of `SUM_OF_SQUARES` is Σ x²; eps is then not added to it, but the least that it counts for.
    """

    shared: Callable[[Ints, Any], Shared]
    second_moment: int = False  # is its one statistic E[x²]?
    centred: bool = True  # is the mean, which the variance is about, subtracted from x?


# What equals only what passes the same checks: True equals 1, and is no axis.
_PLAIN = (type(None), str, int)
_Said = TypeVar("_Said")


def remembered(says: Callable[[Ints, Any], _Said]) -> Callable[[Ints, Any], _Said]:
    """What a norm says of a shape: 0.3 µs for 2 to 13, which norms pay that do arithmetic on statistics at every call."""
    once = lru_cache(maxsize=1024)(says)

    @wraps(says)
    def found(shape: Ints, argument: Any) -> _Said:
        parts = argument if argument.__class__ is tuple else (argument,)
        return (once if all(part.__class__ in _PLAIN for part in parts) else says)(shape, argument)

    return found


@remembered
def trailing(shape: Ints, axis: Any) -> Shared:
    """Layer and RMS norm: statistics over `axis`, an affine pair per position in it."""
    axes = _checks.axes(tuple(axis) if isinstance(axis, list) else axis, shape)
    affine = tuple(shape[i] for i in axes)
    return Shared(Roles(axes, axes), affine, f"the normalized axes of x, whose shape is {shape}, are {axes}")


@remembered
def trailing_of_sample(shape: Ints, axis: Any) -> Shared:
    """Adaptive layer norm: statistics over `axis`, an affine pair per sample and position in it."""
    found = trailing(shape, axis)
    axes = found.roles.reduced
    if 0 in axes:
        raise ValueError(
            f"axis is {axis!r}, expected axes of a sample: axis 0 of x (shape {shape}) is the samples'"
        )
    why = f"one for each sample and normalized position of x, whose shape is {shape}"
    return Shared(Roles(axes, (0, *axes)), (shape[0], *found.parameters), why)


@remembered
def per_channel(shape: Ints, layout: Any) -> Shared:
    """Batch norm: statistics over all but the channels."""
    if shape == (0,) and layout is None:  # PyTorch takes it for a batch without channels
        return Shared(Roles((), (0,)), shape, "x is empty")
    channel = _checks.layout(layout, len(shape))[1]
    return Shared(Roles(_others(shape, channel), (channel,)), (shape[channel],), _why(shape, channel, layout))


@remembered
def per_channel_in_training(shape: Ints, layout: Any) -> Shared:
    """The same, for a batch that has a variance."""
    shared = per_channel(shape, layout)
    if elements_per_statistic(shape, shared.roles) == 1 and elements(shape) > 0:
        raise ValueError(
            f"x has one value per channel (shape {shape}), expected more in training: their variance is 0"
        )
    return shared


@remembered
def per_sample_and_channel(shape: Ints, layout: Any) -> Shared:
    """Instance norm: statistics over the spatial axes."""
    sample, channel = _checks.layout(layout, len(shape))
    roles = Roles(_others(shape, sample, channel), (channel,))
    return Shared(roles, (shape[channel],), _why(shape, channel, layout), channel < sample)


@remembered
def per_sample_and_group(shape: Ints, argument: tuple[Any, Any]) -> Shared:
    """Group norm: statistics over the spatial axes and the channels of a group; the argument is (num_groups, layout)."""
    num_groups, layout = argument
    roles, parameters, why, flipped = per_sample_and_channel(shape, layout)
    count = _checks.num_groups(num_groups, *parameters)
    return Shared(replace(roles, groups=count), parameters, why, flipped)


def with_own_pairs(norm: Norm) -> Norm:
    """The same statistics, with an affine pair for each: for each sample and channel, say, in place of each channel."""

    @remembered
    def shared(shape: Ints, argument: Any) -> Shared:
        found = norm.shared(shape, argument)
        own = Roles(found.roles.reduced, _others(shape, *found.roles.reduced))
        parameters = found.statistic_shape(shape)
        return Shared(own, parameters, f"one for each statistic of x, whose shape is {shape}", found.flipped)

    return replace(norm, shared=shared)


def _others(shape: Ints, *kept: int) -> Ints:
    return tuple(i for i in range(len(shape)) if i not in kept)


def _why(shape: Ints, channel: int, layout: str | None) -> str:
    where = "" if layout is None else f' (layout "{layout}")'
    return f"x has {shape[channel]} channels at axis {channel}{where}"


def for_inference(shape: Ints, strides: Ints, layout: Any) -> Roles:
    """Batch and instance norm with given statistics: rows in the order of memory, or columns."""
    _, channel = _checks.layout(layout, len(shape))
    spatial = [i for i in range(len(shape)) if i != channel and shape[i] > 1]
    outermost = max(spatial, key=lambda i: abs(strides[i]), default=channel)
    innermost = all(abs(strides[channel]) < abs(strides[i]) for i in spatial)
    inside = abs(strides[channel]) < abs(strides[outermost])
    kept = (channel, outermost) if inside and not innermost else (channel,)
    return Roles(_others(shape, *kept), (channel,))


def elements_per_statistic(shape: Ints, roles: Roles) -> int:
    """How many elements share one statistic."""
    count = elements(tuple(shape[i] for i in roles.reduced))
    return count * (shape[roles.affine[0]] // roles.groups) if roles.groups else count


LAYER = Norm(trailing)
RMS = Norm(trailing, second_moment=True)
EUCLIDEAN = Norm(trailing, second_moment=SUM_OF_SQUARES)
BATCH = Norm(per_channel)
BATCH_IN_TRAINING = Norm(per_channel_in_training)
INSTANCE = Norm(per_sample_and_channel)
ADAPTIVE_LAYER = Norm(trailing_of_sample)
GROUP = Norm(per_sample_and_group)

"""The state behind mergeable statistics: found in an array, block by block, and merged by Chan's formula."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import _checks
from ._flow.grid import PER_CHANNEL, moments

Array = NDArray[Any]

# Bytes of x that are taken at a time: a copy, where x cannot be walked as it lies or a mask leaves some out, is no larger.
_BLOCK = 32 << 20


class State(NamedTuple):
    """An entry per channel, none where the number of channels is not known yet; never written to, but replaced.

    What rounding takes from mean and m2 is kept beside them: a thousand merges cost no more digits than one.
    """

    counts: Array
    mean: Array
    mean_rest: Array
    m2: Array
    m2_rest: Array


def nothing(channels: int) -> State:
    return State(np.zeros(channels, np.int64), *np.zeros((4, channels)))


def states(x: Any, layout: str | None, mask: Any, expected: int | None) -> Iterator[State]:
    """The states of some samples of x after another, once all that is wrong with the arguments has been said."""
    _checks.array(x[:0] if isinstance(x, np.ndarray) and x.ndim else x, "x")
    sample, channel = _checks.layout(layout, x.ndim)
    if expected is not None and x.shape[channel] != expected:
        raise ValueError(
            f"x has {x.shape[channel]} channels at axis {channel} (shape {x.shape}), expected {expected}, as before"
        )
    keep = None if mask is None else _placed(mask, x.shape, channel)
    if x.size == 0:
        yield nothing(x.shape[channel])
        return
    step = max(1, _BLOCK * x.shape[sample] // x.nbytes)
    for first in range(0, x.shape[sample], step):
        some = (slice(None),) * sample + (slice(first, first + step),)
        yield _state(x[some], layout) if keep is None else _kept_state(x[some], channel, keep[some])


def _placed(mask: Any, shape: tuple[int, ...], channel: int) -> Array:
    """A mask with all axes of x, that of the channels with length 1 where they share it."""
    if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_:
        kind = f"has dtype {mask.dtype}" if isinstance(mask, np.ndarray) else f"is a {type(mask).__name__}"
        raise TypeError(f"mask {kind}, expected a boolean array: mask.astype(bool)")
    others = shape[:channel] + shape[channel + 1 :]
    own = mask.ndim == len(shape) and mask.shape[channel] > 1
    try:
        if own:
            return np.broadcast_to(mask, shape)
        shared = mask.squeeze(channel) if mask.ndim == len(shape) else mask
        return np.expand_dims(np.broadcast_to(shared, others), channel)
    except ValueError:
        raise ValueError(
            f"mask has shape {mask.shape}, expected {others}, that of x without its channels, or {shape}"
        ) from None


def _state(x: Array, layout: str | None) -> State:
    """Of an array."""
    mean, rest, variance = moments(PER_CHANNEL, layout, x)
    if x.size == 0:
        return nothing(mean.size)
    count = x.size // mean.size
    return State(np.full(mean.shape, count, np.int64), mean, rest, variance * count, np.zeros(mean.shape))


def _kept_state(x: Array, channel: int, keep: Array) -> State:
    """Of what a mask keeps, which is packed first."""
    if keep.shape[channel] == 1:
        return _state(np.moveaxis(x, channel, -1)[np.take(keep, 0, channel)], "NC")
    channels = [np.moveaxis(a, channel, 0).reshape(x.shape[channel], -1) for a in (x, keep)]
    columns = [_state(values[kept][np.newaxis], "CN") for values, kept in zip(*channels, strict=True)]
    return State(*map(np.concatenate, zip(*columns, strict=True)))


def merged(a: State, b: State) -> State:
    """Chan's merge, channel by channel."""
    if a.counts.size == 0 or b.counts.size == 0:
        return a if b.counts.size == 0 else b
    counts = a.counts + b.counts
    with np.errstate(all="ignore"):  # of infinities, and of NaN
        delta = (b.mean - a.mean) + (b.mean_rest - a.mean_rest)
        move = delta * (b.counts / np.maximum(counts, 1))
        mean, of_mean = add_exactly(a.mean, move)
        within, of_within = add_exactly(a.m2, b.m2)
        m2, of_m2 = add_exactly(within, delta * move * a.counts)
        m2_rest = (a.m2_rest + b.m2_rest) + (of_within + of_m2)
    merged = State(counts, mean, a.mean_rest + of_mean, m2, m2_rest)
    for state, other in ((a, b), (b, a)):
        empty = other.counts == 0
        if empty.any():
            merged = State(*(np.where(empty, own, new) for own, new in zip(state, merged, strict=True)))
    return merged


def add_exactly(a: Array, b: Array) -> tuple[Array, Array]:
    """a + b, and what its rounding takes."""
    total = a + b
    back = total - a
    return total, (a - (total - back)) + (b - back)

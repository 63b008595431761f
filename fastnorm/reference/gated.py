"""Gated RMS norm, forward and backward."""

import numpy as np
from numpy.typing import ArrayLike

from ._parts import ACTIVATIONS, Array, MaybeArray, wide

# fmt: off

SILU = ACTIVATIONS["silu"]


def gated_rms_norm(x: ArrayLike, gate: ArrayLike, weight: MaybeArray = None, *, group_size: int | None = None,
                   norm_before_gate: bool = False, eps: float = 1e-5) -> tuple[Array, Array]:
    """RMS norm of x·silu(gate), or of x and then gated: (y, rstd) (Dao and Gu 2024, arXiv:2405.21060)."""
    x, opened = wide(x), SILU.value(wide(gate))
    h = x if norm_before_gate else x * opened
    rstd = 1 / np.sqrt(np.square(_split(h, group_size)).mean(-1) + eps)
    y = _scaled(h, rstd) * _ones_for(weight)
    return y * opened if norm_before_gate else y, rstd


def gated_rms_norm_backward(dy: ArrayLike, x: ArrayLike, gate: ArrayLike, rstd: ArrayLike, weight: MaybeArray = None, *,
                            group_size: int | None = None, norm_before_gate: bool = False
                            ) -> tuple[Array, Array, Array]:
    """(dx, dgate, dweight)."""
    dy, x, gate, rstd = wide(dy), wide(x), wide(gate), wide(rstd)
    opened = SILU.value(gate)
    h = x if norm_before_gate else x * opened
    dnormed = dy * opened if norm_before_gate else dy
    h_hat = _scaled(h, rstd)
    dh_hat = dnormed * _ones_for(weight)
    along = _split(dh_hat * h_hat, group_size).mean(-1)
    dh = _scaled(dh_hat - _scaled(h_hat, along), rstd)
    dopened = dy * h_hat * _ones_for(weight) if norm_before_gate else dh * x
    dx = dh if norm_before_gate else dh * opened
    return dx, dopened * SILU.slope(gate), (dnormed * h_hat).sum(tuple(range(x.ndim - 1)))


def _split(x: Array, group_size: int | None) -> Array:
    return x if group_size is None else x.reshape(*x.shape[:-1], -1, group_size)


def _scaled(x: Array, statistic: Array) -> Array:
    """x, each group of its last axis times the group's own number."""
    if statistic.ndim < x.ndim:
        statistic = statistic[..., np.newaxis]
    scaled: Array = x * np.repeat(statistic, x.shape[-1] // statistic.shape[-1], -1)
    return scaled


def _ones_for(weight: MaybeArray) -> Array:
    return np.ones(()) if weight is None else wide(weight)

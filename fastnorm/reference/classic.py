"""Layer, RMS, batch, instance and group norm, forward and backward."""

import numpy as np
from numpy.typing import ArrayLike

from ._parts import (
    Array,
    Axes,
    MaybeArray,
    Triple,
    backward,
    by_channel,
    by_row,
    by_sample_and_channel,
    by_sample_and_group,
    forward,
    from_layout,
    moments,
    split_channels,
    to_layout,
    wide,
)

# fmt: off

# Layer norm and RMS norm: the elements of a row share a statistic; all rows share weight and bias.


def layer_norm(x: ArrayLike, weight: MaybeArray = None, bias: MaybeArray = None, *, axis: Axes = -1,
               eps: float = 1e-5, activation: str | None = None) -> Triple:
    """Normalize each row by its mean and variance (Ba, Kiros and Hinton 2016, arXiv:1607.06450)."""
    x = wide(x)
    shared = by_row(x, axis)
    mean, var = moments(x, shared.statistic)
    y, rstd = forward(x, mean, var, eps, weight, bias, shared, activation)
    return y, mean, rstd


def layer_norm_backward(dy: ArrayLike, x: ArrayLike, mean: ArrayLike, rstd: ArrayLike,
                        weight: MaybeArray = None, bias: MaybeArray = None, *, axis: Axes = -1,
                        activation: str | None = None) -> Triple:
    dy, x = wide(dy), wide(x)
    return backward(dy, x, mean, rstd, weight, bias, by_row(x, axis), activation)


def rms_norm(x: ArrayLike, weight: MaybeArray = None, bias: MaybeArray = None, *, axis: Axes = -1,
             eps: float | None = 1e-5, activation: str | None = None) -> tuple[Array, Array]:
    """Divide each row by its root mean square: (y, rstd) (Zhang and Sennrich 2019, arXiv:1910.07467)."""
    if eps is None:
        eps = float(np.spacing(np.asarray(x).dtype.type(1)))
    x = wide(x)
    shared = by_row(x, axis)
    return forward(x, None, np.square(x).mean(shared.statistic), eps, weight, bias, shared, activation)


def rms_norm_backward(dy: ArrayLike, x: ArrayLike, rstd: ArrayLike, weight: MaybeArray = None,
                      bias: MaybeArray = None, *, axis: Axes = -1, activation: str | None = None) -> Triple:
    dy, x = wide(dy), wide(x)
    return backward(dy, x, None, rstd, weight, bias, by_row(x, axis), activation)


def add_layer_norm(x: ArrayLike, residual: ArrayLike, weight: MaybeArray = None, bias: MaybeArray = None, *,
                   axis: Axes = -1, eps: float = 1e-5) -> tuple[Array, Array]:
    """(y, x + residual), y the layer norm of the sum after its rounding to x's dtype."""
    total = np.add(x, residual)
    return layer_norm(total, weight, bias, axis=axis, eps=eps)[0], total


def add_rms_norm(x: ArrayLike, residual: ArrayLike, weight: MaybeArray = None, bias: MaybeArray = None, *,
                 axis: Axes = -1, eps: float | None = 1e-5) -> tuple[Array, Array]:
    """(y, x + residual), y the RMS norm of the sum after its rounding to x's dtype."""
    total = np.add(x, residual)
    return rms_norm(total, weight, bias, axis=axis, eps=eps)[0], total


# Batch, instance and group norm: x is seen as (N, C, ...); weight and bias belong to a channel.


def batch_norm(x: ArrayLike, running_mean: MaybeArray = None, running_var: MaybeArray = None,
               weight: MaybeArray = None, bias: MaybeArray = None, *, training: bool = False,
               eps: float = 1e-5, layout: str | None = None, activation: str | None = None) -> Triple:
    """Normalize each channel by its moments in the batch (Ioffe and Szegedy 2015, arXiv:1502.03167)."""
    x = from_layout(x, layout)
    shared = by_channel(x)
    if training or running_mean is None or running_var is None:
        mean, var = moments(x, shared.statistic)
    else:
        mean, var = wide(running_mean), wide(running_var)
    y, rstd = forward(x, mean, var, eps, weight, bias, shared, activation)
    return to_layout(y, layout), mean, rstd


def batch_norm_backward(dy: ArrayLike, x: ArrayLike, mean: ArrayLike, rstd: ArrayLike,
                        weight: MaybeArray = None, bias: MaybeArray = None, *, training: bool = True,
                        layout: str | None = None, activation: str | None = None) -> Triple:
    dy, x = from_layout(dy, layout), from_layout(x, layout)
    shared = by_channel(x)
    dx, dweight, dbias = backward(dy, x, mean, rstd, weight, bias, shared, activation, constant=not training)
    return to_layout(dx, layout), dweight, dbias


def update_running(running_mean: ArrayLike, running_var: ArrayLike, mean: ArrayLike, var: ArrayLike,
                   count: int, momentum: float) -> tuple[Array, Array]:
    """The running statistics after a batch with biased moments, each of `count` values: (C,), or instance
    norm's (N, C), which are averaged over the samples. The running variance is unbiased."""
    batch_mean, batch_var = (wide(s).reshape(-1, np.size(running_mean)).mean(0) for s in (mean, var))
    return (
        (1 - momentum) * wide(running_mean) + momentum * batch_mean,
        (1 - momentum) * wide(running_var) + momentum * batch_var * count / (count - 1),
    )


def instance_norm(x: ArrayLike, running_mean: MaybeArray = None, running_var: MaybeArray = None,
                  weight: MaybeArray = None, bias: MaybeArray = None, *, use_input_stats: bool = True,
                  eps: float = 1e-5, layout: str | None = None, activation: str | None = None) -> Triple:
    """Normalize each channel of each sample by its moments (Ulyanov et al. 2016, arXiv:1607.08022)."""
    x = from_layout(x, layout)
    shared = by_sample_and_channel(x)
    if use_input_stats or running_mean is None or running_var is None:
        mean, var = moments(x, shared.statistic)
    else:
        mean, var = (np.broadcast_to(wide(s), x.shape[:2]) for s in (running_mean, running_var))
    y, rstd = forward(x, mean, var, eps, weight, bias, shared, activation)
    return to_layout(y, layout), mean, rstd


def instance_norm_backward(dy: ArrayLike, x: ArrayLike, mean: ArrayLike, rstd: ArrayLike,
                           weight: MaybeArray = None, bias: MaybeArray = None, *, layout: str | None = None,
                           activation: str | None = None) -> Triple:
    dy, x = from_layout(dy, layout), from_layout(x, layout)
    dx, dweight, dbias = backward(dy, x, mean, rstd, weight, bias, by_sample_and_channel(x), activation)
    return to_layout(dx, layout), dweight, dbias


def group_norm(x: ArrayLike, num_groups: int, weight: MaybeArray = None, bias: MaybeArray = None, *,
               eps: float = 1e-5, layout: str | None = None, activation: str | None = None) -> Triple:
    """Normalize each group of channels of each sample by its moments (Wu and He 2018, arXiv:1803.08494)."""
    x = from_layout(x, layout)
    grouped = split_channels(x, num_groups)
    shared = by_sample_and_group(grouped)
    mean, var = moments(grouped, shared.statistic)
    y, rstd = forward(grouped, mean, var, eps, weight, bias, shared, activation)
    return to_layout(y.reshape(x.shape), layout), mean, rstd


def group_norm_backward(dy: ArrayLike, x: ArrayLike, num_groups: int, mean: ArrayLike, rstd: ArrayLike,
                        weight: MaybeArray = None, bias: MaybeArray = None, *, layout: str | None = None,
                        activation: str | None = None) -> Triple:
    dy, x = from_layout(dy, layout), from_layout(x, layout)
    dy_grouped, x_grouped = split_channels(dy, num_groups), split_channels(x, num_groups)
    shared = by_sample_and_group(x_grouped)
    dx, dweight, dbias = backward(dy_grouped, x_grouped, mean, rstd, weight, bias, shared, activation)
    return to_layout(dx.reshape(x.shape), layout), dweight.ravel(), dbias.ravel()

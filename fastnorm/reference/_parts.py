"""What every definition is made of: statistics in two passes, what follows from a norm's three answers, activations."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array: TypeAlias = NDArray[Any]
MaybeArray: TypeAlias = ArrayLike | None
Axes: TypeAlias = int | tuple[int, ...]
Triple: TypeAlias = tuple[Array, Array, Array]

# Signatures stay a few lines each, for the formulas to stay in sight.
# fmt: off


class Shared(NamedTuple):
    """The axes along which elements share a statistic, and those along which they share weight and bias."""

    statistic: tuple[int, ...]
    affine: tuple[int, ...]


def wide(x: ArrayLike) -> Array:
    x = np.asarray(x)
    return x.astype(np.result_type(x.dtype, np.float64))


def moments(x: ArrayLike, axis: Axes) -> tuple[Array, Array]:
    """Mean and biased variance of x over `axis`, in two passes: a large mean costs the variance no digits."""
    axes = (axis,) if isinstance(axis, int) else axis
    x = np.ascontiguousarray(np.moveaxis(wide(x), axes, range(-len(axes), 0)))
    kept = x.ndim - len(axes)
    x = x.reshape(*x.shape[:kept], math.prod(x.shape[kept:]))
    # Along the last axis of contiguous memory NumPy adds up in pairs, along others one by one.
    mean = x.mean(-1, keepdims=True)
    mean = mean + (x - mean).mean(-1, keepdims=True)  # what rounding took from the first sum
    return mean.squeeze(-1), np.square(x - mean).mean(-1)


def x_hat_of(x: Array, mean: MaybeArray, rstd: ArrayLike, shared: Shared) -> Array:
    """(x - mean) * rstd, where mean is None if the norm subtracts none."""
    centred = x if mean is None else x - np.expand_dims(wide(mean), shared.statistic)
    x_hat: Array = centred * np.expand_dims(wide(rstd), shared.statistic)
    return x_hat


def affine(x_hat: Array, weight: MaybeArray, bias: MaybeArray, shared: Shared) -> Array:
    """x_hat * weight + bias, where None stands for ones and zeros."""
    shape = [1 if axis in shared.affine else length for axis, length in enumerate(x_hat.shape)]
    scaled = x_hat if weight is None else x_hat * wide(weight).reshape(shape)
    return scaled if bias is None else scaled + wide(bias).reshape(shape)


def forward(x: Array, mean: MaybeArray, var: Array, eps: float, weight: MaybeArray, bias: MaybeArray,
             shared: Shared, activation: str | None) -> tuple[Array, Array]:
    """y = activation(x_hat * weight + bias), and the rstd in it."""
    rstd = 1 / np.sqrt(var + eps)
    return activated(affine(x_hat_of(x, mean, rstd, shared), weight, bias, shared), activation), rstd


def backward(dy: Array, x: Array, mean: MaybeArray, rstd: ArrayLike, weight: MaybeArray, bias: MaybeArray,
              shared: Shared, activation: str | None, constant: bool = False) -> Triple:
    """The chain rule back through `forward` and, unless they are constant, through rstd and mean."""
    x_hat = x_hat_of(x, mean, rstd, shared)
    g = through(dy, affine(x_hat, weight, bias, shared), activation)
    gw = dx_hat = affine(g, weight, None, shared)
    if not constant:
        dx_hat = dx_hat - x_hat * (gw * x_hat).mean(shared.statistic, keepdims=True)
    if not constant and mean is not None:
        dx_hat = dx_hat - gw.mean(shared.statistic, keepdims=True)
    dx = dx_hat * np.expand_dims(wide(rstd), shared.statistic)
    return dx, (g * x_hat).sum(shared.affine), g.sum(shared.affine)


# Which elements share a statistic, and which weight and bias; channel norms see x as (N, C, ...).


def by_row(x: Array, axis: Axes) -> Shared:
    row = tuple(a % x.ndim for a in ((axis,) if isinstance(axis, int) else axis))
    return Shared(statistic=row, affine=tuple(a for a in range(x.ndim) if a not in row))


def n_and_c(layout: str | None) -> tuple[int, int]:
    return (0, 1) if layout is None else (layout.index("N"), layout.index("C"))


def from_layout(x: ArrayLike, layout: str | None) -> Array:
    return np.moveaxis(wide(x), n_and_c(layout), (0, 1))


def to_layout(x: Array, layout: str | None) -> Array:
    return np.moveaxis(x, (0, 1), n_and_c(layout))


def by_channel(x: Array) -> Shared:
    return Shared(statistic=(0, *range(2, x.ndim)), affine=(0, *range(2, x.ndim)))


def by_sample_and_channel(x: Array) -> Shared:
    return Shared(statistic=tuple(range(2, x.ndim)), affine=(0, *range(2, x.ndim)))


def by_sample_and_group(x: Array) -> Shared:
    return Shared(statistic=tuple(range(2, x.ndim)), affine=(0, *range(3, x.ndim)))


def split_channels(x: Array, num_groups: int) -> Array:
    return x.reshape(x.shape[0], num_groups, x.shape[1] // num_groups, *x.shape[2:])


# Activations of z = x_hat * weight + bias.


def activated(z: Array, activation: str | None) -> Array:
    return z if activation is None else ACTIVATIONS[activation].value(z)


def through(dy: Array, z: Array, activation: str | None) -> Array:
    """The gradient of z, from that of `activated`."""
    return dy if activation is None else dy * ACTIVATIONS[activation].slope(z)


class _Activation(NamedTuple):
    value: Callable[[Array], Array]
    slope: Callable[[Array], Array]


def _times_z(step: Callable[[Array], Array], step_slope: Callable[[Array], Array]) -> _Activation:
    return _Activation(lambda z: z * step(z), lambda z: step(z) + z * step_slope(z))


def _sigmoid(z: Array) -> Any:
    return np.exp(-np.logaddexp(0, -z))  # never overflows, and is exact relative to itself towards 0


def _sigmoid_slope(z: Array) -> Any:
    return _sigmoid(z) * _sigmoid(-z)


def _normal_cdf(z: Array) -> Any:
    return np.vectorize(math.erfc, otypes=[np.float64])(-z / math.sqrt(2)) / 2


def _normal_pdf(z: Array) -> Any:
    return np.exp(-z * z / 2) / math.sqrt(2 * math.pi)


def _tanh_argument(z: Array) -> Array:
    return math.sqrt(2 / math.pi) * (z + 0.044715 * z**3)


def _tanh_argument_slope(z: Array) -> Array:
    return math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * z**2)


ACTIVATIONS = {
    "relu": _Activation(lambda z: np.maximum(z, 0), lambda z: np.heaviside(z, 0)),
    "gelu": _times_z(_normal_cdf, _normal_pdf),
    "gelu_tanh": _times_z(  # (1 + tanh u) / 2 = sigmoid(2u)
        lambda z: _sigmoid(2 * _tanh_argument(z)),
        lambda z: 2 * _sigmoid_slope(2 * _tanh_argument(z)) * _tanh_argument_slope(z),
    ),
    "silu": _times_z(_sigmoid, _sigmoid_slope),
    "sigmoid": _Activation(_sigmoid, _sigmoid_slope),
    "tanh": _Activation(np.tanh, lambda z: 1 - np.tanh(z) ** 2),
}

"""What each normalization means, forward and backward: float64 NumPy, to be read as the definition.

A norm is three answers: which elements share a statistic, which statistic (mean and variance, the second
moment, or one given from outside), and which elements share an affine pair (weight, bias). The first part
below says what follows from the answers; then each norm gives its own. Arguments are those of the public
functions. A forward returns ``(y, mean, rstd)``, a backward ``(dx, dweight, dbias)``, in float64, or in
longdouble where an argument is longdouble. Nothing is checked, and no argument is changed.
"""

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


class _Shared(NamedTuple):
    """The axes along which elements share a statistic, and those along which they share weight and bias."""

    statistic: tuple[int, ...]
    affine: tuple[int, ...]


def _wide(x: ArrayLike) -> Array:
    x = np.asarray(x)
    return x.astype(np.result_type(x.dtype, np.float64))


def moments(x: ArrayLike, axis: Axes) -> tuple[Array, Array]:
    """Mean and biased variance of x over `axis`, in two passes: a large mean costs the variance no digits."""
    axes = (axis,) if isinstance(axis, int) else axis
    x = np.ascontiguousarray(np.moveaxis(_wide(x), axes, range(-len(axes), 0)))
    kept = x.ndim - len(axes)
    x = x.reshape(*x.shape[:kept], math.prod(x.shape[kept:]))
    # Along the last axis of contiguous memory NumPy adds up in pairs, along others one by one.
    mean = x.mean(-1, keepdims=True)
    mean = mean + (x - mean).mean(-1, keepdims=True)  # what rounding took from the first sum
    return mean.squeeze(-1), np.square(x - mean).mean(-1)


def _x_hat(x: Array, mean: MaybeArray, rstd: ArrayLike, shared: _Shared) -> Array:
    """(x - mean) * rstd, where mean is None if the norm subtracts none."""
    centred = x if mean is None else x - np.expand_dims(_wide(mean), shared.statistic)
    x_hat: Array = centred * np.expand_dims(_wide(rstd), shared.statistic)
    return x_hat


def _affine(x_hat: Array, weight: MaybeArray, bias: MaybeArray, shared: _Shared) -> Array:
    """x_hat * weight + bias, where None stands for ones and zeros."""
    shape = [1 if axis in shared.affine else length for axis, length in enumerate(x_hat.shape)]
    scaled = x_hat if weight is None else x_hat * _wide(weight).reshape(shape)
    return scaled if bias is None else scaled + _wide(bias).reshape(shape)


def _forward(x: Array, mean: MaybeArray, var: Array, eps: float, weight: MaybeArray, bias: MaybeArray,
             shared: _Shared, activation: str | None) -> tuple[Array, Array]:
    """y = activation(x_hat * weight + bias), and the rstd in it."""
    rstd = 1 / np.sqrt(var + eps)
    z = _affine(_x_hat(x, mean, rstd, shared), weight, bias, shared)
    return z if activation is None else _ACTIVATIONS[activation].value(z), rstd


def _backward(dy: Array, x: Array, mean: MaybeArray, rstd: ArrayLike, weight: MaybeArray, bias: MaybeArray,
              shared: _Shared, activation: str | None, constant: bool = False) -> Triple:
    """The chain rule back through `_forward` and, unless they are constant, through rstd and mean."""
    x_hat = _x_hat(x, mean, rstd, shared)
    g = dy
    if activation is not None:
        g = dy * _ACTIVATIONS[activation].slope(_affine(x_hat, weight, bias, shared))
    gw = dx_hat = _affine(g, weight, None, shared)
    if not constant:
        dx_hat = dx_hat - x_hat * (gw * x_hat).mean(shared.statistic, keepdims=True)
    if not constant and mean is not None:
        dx_hat = dx_hat - gw.mean(shared.statistic, keepdims=True)
    dx = dx_hat * np.expand_dims(_wide(rstd), shared.statistic)
    return dx, (g * x_hat).sum(shared.affine), g.sum(shared.affine)


# Layer norm and RMS norm: the elements of a row share a statistic; all rows share weight and bias.


def _by_row(x: Array, axis: Axes) -> _Shared:
    row = tuple(a % x.ndim for a in ((axis,) if isinstance(axis, int) else axis))
    return _Shared(statistic=row, affine=tuple(a for a in range(x.ndim) if a not in row))


def layer_norm(x: ArrayLike, weight: MaybeArray = None, bias: MaybeArray = None, *, axis: Axes = -1,
               eps: float = 1e-5, activation: str | None = None) -> Triple:
    """Normalize each row by its mean and variance (Ba, Kiros and Hinton 2016, arXiv:1607.06450)."""
    x = _wide(x)
    shared = _by_row(x, axis)
    mean, var = moments(x, shared.statistic)
    y, rstd = _forward(x, mean, var, eps, weight, bias, shared, activation)
    return y, mean, rstd


def layer_norm_backward(dy: ArrayLike, x: ArrayLike, mean: ArrayLike, rstd: ArrayLike,
                        weight: MaybeArray = None, bias: MaybeArray = None, *, axis: Axes = -1,
                        activation: str | None = None) -> Triple:
    dy, x = _wide(dy), _wide(x)
    return _backward(dy, x, mean, rstd, weight, bias, _by_row(x, axis), activation)


def rms_norm(x: ArrayLike, weight: MaybeArray = None, bias: MaybeArray = None, *, axis: Axes = -1,
             eps: float | None = 1e-5, activation: str | None = None) -> tuple[Array, Array]:
    """Divide each row by its root mean square: (y, rstd) (Zhang and Sennrich 2019, arXiv:1910.07467)."""
    if eps is None:
        eps = float(np.spacing(np.asarray(x).dtype.type(1)))
    x = _wide(x)
    shared = _by_row(x, axis)
    return _forward(x, None, np.square(x).mean(shared.statistic), eps, weight, bias, shared, activation)


def rms_norm_backward(dy: ArrayLike, x: ArrayLike, rstd: ArrayLike, weight: MaybeArray = None,
                      bias: MaybeArray = None, *, axis: Axes = -1, activation: str | None = None) -> Triple:
    dy, x = _wide(dy), _wide(x)
    return _backward(dy, x, None, rstd, weight, bias, _by_row(x, axis), activation)


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


def _n_and_c(layout: str | None) -> tuple[int, int]:
    return (0, 1) if layout is None else (layout.index("N"), layout.index("C"))


def _from_layout(x: ArrayLike, layout: str | None) -> Array:
    return np.moveaxis(_wide(x), _n_and_c(layout), (0, 1))


def _to_layout(x: Array, layout: str | None) -> Array:
    return np.moveaxis(x, (0, 1), _n_and_c(layout))


def _by_channel(x: Array) -> _Shared:
    return _Shared(statistic=(0, *range(2, x.ndim)), affine=(0, *range(2, x.ndim)))


def batch_norm(x: ArrayLike, running_mean: MaybeArray = None, running_var: MaybeArray = None,
               weight: MaybeArray = None, bias: MaybeArray = None, *, training: bool = False,
               eps: float = 1e-5, layout: str | None = None, activation: str | None = None) -> Triple:
    """Normalize each channel by its moments in the batch (Ioffe and Szegedy 2015, arXiv:1502.03167)."""
    x = _from_layout(x, layout)
    shared = _by_channel(x)
    if training or running_mean is None or running_var is None:
        mean, var = moments(x, shared.statistic)
    else:
        mean, var = _wide(running_mean), _wide(running_var)
    y, rstd = _forward(x, mean, var, eps, weight, bias, shared, activation)
    return _to_layout(y, layout), mean, rstd


def batch_norm_backward(dy: ArrayLike, x: ArrayLike, mean: ArrayLike, rstd: ArrayLike,
                        weight: MaybeArray = None, bias: MaybeArray = None, *, training: bool = True,
                        layout: str | None = None, activation: str | None = None) -> Triple:
    dy, x = _from_layout(dy, layout), _from_layout(x, layout)
    shared = _by_channel(x)
    dx, dweight, dbias = _backward(dy, x, mean, rstd, weight, bias, shared, activation, constant=not training)
    return _to_layout(dx, layout), dweight, dbias


def update_running(running_mean: ArrayLike, running_var: ArrayLike, mean: ArrayLike, var: ArrayLike,
                   count: int, momentum: float) -> tuple[Array, Array]:
    """The running statistics after a batch with biased moments, each of `count` values: (C,), or instance
    norm's (N, C), which are averaged over the samples. The running variance is unbiased."""
    batch_mean, batch_var = (_wide(s).reshape(-1, np.size(running_mean)).mean(0) for s in (mean, var))
    return (
        (1 - momentum) * _wide(running_mean) + momentum * batch_mean,
        (1 - momentum) * _wide(running_var) + momentum * batch_var * count / (count - 1),
    )


def _by_sample_and_channel(x: Array) -> _Shared:
    return _Shared(statistic=tuple(range(2, x.ndim)), affine=(0, *range(2, x.ndim)))


def instance_norm(x: ArrayLike, running_mean: MaybeArray = None, running_var: MaybeArray = None,
                  weight: MaybeArray = None, bias: MaybeArray = None, *, use_input_stats: bool = True,
                  eps: float = 1e-5, layout: str | None = None, activation: str | None = None) -> Triple:
    """Normalize each channel of each sample by its moments (Ulyanov et al. 2016, arXiv:1607.08022)."""
    x = _from_layout(x, layout)
    shared = _by_sample_and_channel(x)
    if use_input_stats or running_mean is None or running_var is None:
        mean, var = moments(x, shared.statistic)
    else:
        mean, var = (np.broadcast_to(_wide(s), x.shape[:2]) for s in (running_mean, running_var))
    y, rstd = _forward(x, mean, var, eps, weight, bias, shared, activation)
    return _to_layout(y, layout), mean, rstd


def instance_norm_backward(dy: ArrayLike, x: ArrayLike, mean: ArrayLike, rstd: ArrayLike,
                           weight: MaybeArray = None, bias: MaybeArray = None, *, layout: str | None = None,
                           activation: str | None = None) -> Triple:
    dy, x = _from_layout(dy, layout), _from_layout(x, layout)
    dx, dweight, dbias = _backward(dy, x, mean, rstd, weight, bias, _by_sample_and_channel(x), activation)
    return _to_layout(dx, layout), dweight, dbias


def _by_sample_and_group(x: Array) -> _Shared:
    return _Shared(statistic=tuple(range(2, x.ndim)), affine=(0, *range(3, x.ndim)))


def _split_channels(x: Array, num_groups: int) -> Array:
    return x.reshape(x.shape[0], num_groups, x.shape[1] // num_groups, *x.shape[2:])


def group_norm(x: ArrayLike, num_groups: int, weight: MaybeArray = None, bias: MaybeArray = None, *,
               eps: float = 1e-5, layout: str | None = None, activation: str | None = None) -> Triple:
    """Normalize each group of channels of each sample by its moments (Wu and He 2018, arXiv:1803.08494)."""
    x = _from_layout(x, layout)
    grouped = _split_channels(x, num_groups)
    shared = _by_sample_and_group(grouped)
    mean, var = moments(grouped, shared.statistic)
    y, rstd = _forward(grouped, mean, var, eps, weight, bias, shared, activation)
    return _to_layout(y.reshape(x.shape), layout), mean, rstd


def group_norm_backward(dy: ArrayLike, x: ArrayLike, num_groups: int, mean: ArrayLike, rstd: ArrayLike,
                        weight: MaybeArray = None, bias: MaybeArray = None, *, layout: str | None = None,
                        activation: str | None = None) -> Triple:
    dy, x = _from_layout(dy, layout), _from_layout(x, layout)
    dy_grouped, x_grouped = _split_channels(dy, num_groups), _split_channels(x, num_groups)
    shared = _by_sample_and_group(x_grouped)
    dx, dweight, dbias = _backward(dy_grouped, x_grouped, mean, rstd, weight, bias, shared, activation)
    return _to_layout(dx.reshape(x.shape), layout), dweight.ravel(), dbias.ravel()


# Activations of z = x_hat * weight + bias.


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


_ACTIVATIONS = {
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

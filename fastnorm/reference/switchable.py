"""Switchable norm, forward and backward."""

import numpy as np
from numpy.typing import ArrayLike

from ._parts import ACTIVATIONS, Array, MaybeArray, from_layout, moments, to_layout, wide

# fmt: off


def softmax(logits: MaybeArray) -> Array:
    logits = np.zeros(3) if logits is None else wide(logits)
    powers = np.exp(logits - logits.max())
    shares: Array = powers / powers.sum()
    return shares


def _statistics(x: Array, running_mean: MaybeArray, running_var: MaybeArray, training: bool) -> tuple[Array, Array]:
    """The means, and the variances, of instance, layer and batch: (3, N, C) each, of an x of (N, C, positions)."""
    pairs = [moments(x, 2), moments(x, (1, 2)), moments(x, (0, 2))]
    pairs[1] = tuple(s[:, np.newaxis] for s in pairs[1])  # type: ignore[assignment]
    if not training and running_mean is not None and running_var is not None:
        pairs[2] = wide(running_mean), wide(running_var)
    means, variances = (np.stack([np.broadcast_to(p[i], x.shape[:2]) for p in pairs]) for i in range(2))
    return means, variances


def switchable_norm(x: ArrayLike, mean_weight: MaybeArray = None, var_weight: MaybeArray = None,
                    weight: MaybeArray = None, bias: MaybeArray = None, running_mean: MaybeArray = None,
                    running_var: MaybeArray = None, *, training: bool = False, eps: float = 1e-5,
                    layout: str | None = None, activation: str | None = None) -> tuple[Array, Array, Array]:
    """Normalize by mixed moments (Luo et al. 2018, arXiv:1806.10779): y, and the mean and variance of the instances."""
    images = from_layout(x, layout)
    x = images.reshape(*images.shape[:2], -1)
    means, variances = _statistics(x, running_mean, running_var, training)
    mean = np.tensordot(softmax(mean_weight), means, 1)[..., np.newaxis]
    var = np.tensordot(softmax(var_weight), variances, 1)[..., np.newaxis]
    y = (x - mean) / np.sqrt(var + eps)
    y = y if weight is None else y * wide(weight)[:, np.newaxis]
    y = y if bias is None else y + wide(bias)[:, np.newaxis]
    y = y if activation is None else ACTIVATIONS[activation].value(y)
    return to_layout(y.reshape(images.shape), layout), means[0], variances[0]


def switchable_norm_backward(dy: ArrayLike, x: ArrayLike, mean_weight: MaybeArray = None,
                             var_weight: MaybeArray = None, weight: MaybeArray = None, bias: MaybeArray = None,
                             running_mean: MaybeArray = None, running_var: MaybeArray = None, *,
                             training: bool = False, eps: float = 1e-5, layout: str | None = None,
                             activation: str | None = None) -> tuple[Array, ...]:
    """(dx, dmean_weight, dvar_weight, dweight, dbias), the chain rule statistic by statistic."""
    images = from_layout(x, layout)
    x, g = images.reshape(*images.shape[:2], -1), from_layout(dy, layout).reshape(*images.shape[:2], -1)
    (samples, channels, count), constant = x.shape, not training and running_mean is not None
    shares = softmax(mean_weight), softmax(var_weight)
    means, variances = _statistics(x, running_mean, running_var, training)
    mean, var = (np.tensordot(w, s, 1)[..., np.newaxis] for w, s in zip(shares, (means, variances), strict=True))
    rstd = 1 / np.sqrt(var + eps)
    x_hat = (x - mean) * rstd
    w = np.ones((channels, 1)) if weight is None else wide(weight)[:, np.newaxis]
    if activation is not None:
        g = g * ACTIVATIONS[activation].slope(x_hat * w + (0 if bias is None else wide(bias)[:, np.newaxis]))
    dmean, dvar = (-rstd * g * w).sum(-1), (-rstd**2 / 2 * g * w * x_hat).sum(-1)
    dx = rstd * g * w
    # The mean of instance, layer or batch is one of `size` elements each; so is the variance about it.
    for k, (axes, size) in enumerate([((), count), ((1,), count * channels), ((0,), count * samples)]):
        if k == 2 and constant:
            continue
        from_mean = (shares[0][k] * dmean).sum(axes, keepdims=True)[..., np.newaxis]
        from_var = (shares[1][k] * dvar).sum(axes, keepdims=True)[..., np.newaxis]
        dx = dx + from_mean / size + from_var * 2 * (x - means[k][..., np.newaxis]) / size
    dlogits = []
    for share, gradient, statistics, mixed in ((shares[0], dmean, means, mean), (shares[1], dvar, variances, var)):
        dlogits.append(share * (gradient * (statistics - mixed[..., 0])).sum((1, 2)))
    return to_layout(dx.reshape(images.shape), layout), *dlogits, (g * x_hat).sum((0, 2)), g.sum((0, 2))

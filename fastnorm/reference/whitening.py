"""Whitening: decorrelated batch norm and IterNorm, forward and backward, and the PCA and ZCA whitening of features.

In float64 alone: NumPy has no eigenvalues in longdouble.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from ._parts import ACTIVATIONS, Array, MaybeArray, Triple, from_layout, to_layout, wide

# fmt: off

# A group is a matrix x of its channels by all positions of all samples.


def mean_of(x: Array) -> Array:
    mean: Array = x.mean(-1)
    mean += (x - mean[..., np.newaxis]).mean(-1)  # what rounding took from the first sum
    return mean


def covariance_of(x: Array, mean: Array) -> Array:
    centred = x - mean[..., np.newaxis]
    covariance: Array = centred @ centred.swapaxes(-1, -2) / x.shape[-1]
    return covariance


def inverse_root(covariance: Array, eps: float) -> Array:
    """(covariance + eps I)^(-1/2), the symmetric one."""
    values, vectors = np.linalg.eigh(covariance)
    root: Array = vectors / np.sqrt(values + eps)[..., np.newaxis, :] @ vectors.swapaxes(-1, -2)
    return root


def inverse_root_backward(d_whitening: Array, whitening: Array) -> Array:
    """A step dS of S = W⁻¹ is one dS S + S dS of the covariance S S, and one -W dS W of W."""
    root, identity = np.linalg.inv(whitening), np.eye(len(whitening))
    d_root = -whitening @ (d_whitening + d_whitening.T) / 2 @ whitening
    lyapunov = np.kron(root, identity) + np.kron(identity, root)
    return np.linalg.solve(lyapunov, d_root.ravel()).reshape(root.shape)


def newton_schulz(covariance: Array, eps: float, num_iterations: int) -> Array:
    """Towards (covariance + eps I)^(-1/2), from the identity, for a covariance scaled to trace 1."""
    regular = covariance + eps * np.eye(len(covariance))
    trace = np.trace(regular)
    root = np.eye(len(covariance))
    for _ in range(num_iterations):
        root = (3 * root - root @ root @ root @ (regular / trace)) / 2
    whitening: Array = root / np.sqrt(trace)
    return whitening


def newton_schulz_backward(d_whitening: Array, covariance: Array, eps: float, num_iterations: int) -> Array:
    """d_whitening times what W makes of a step of each element of the covariance, carried through the iterations."""
    size = len(covariance)
    regular = covariance + eps * np.eye(size)
    trace = np.trace(regular)
    scaled, root = regular / trace, np.eye(size)
    steps = np.eye(size * size).reshape(-1, size, size)
    d_trace = np.trace(steps, axis1=1, axis2=2)[:, np.newaxis, np.newaxis]
    d_scaled, d_root = steps / trace - regular * d_trace / trace**2, np.zeros_like(steps)
    for _ in range(num_iterations):
        cube = d_root @ root @ root + root @ d_root @ root + root @ root @ d_root
        d_root = (3 * d_root - cube @ scaled - root @ root @ root @ d_scaled) / 2
        root = (3 * root - root @ root @ root @ scaled) / 2
    d_of_each = d_root / np.sqrt(trace) - root * d_trace / (2 * trace**1.5)
    gradient: Array = (d_of_each * d_whitening).sum((1, 2)).reshape(size, size)
    return (gradient + gradient.T) / 2


# Batch norms: x is seen as (groups, channels of a group, positions); weight and bias belong to a channel.


def decorrelated_batch_norm(x: ArrayLike, num_groups: int, running_mean: MaybeArray = None,
                            running_whitening: MaybeArray = None, weight: MaybeArray = None, bias: MaybeArray = None, *,
                            training: bool = False, eps: float = 1e-5, layout: str | None = None,
                            activation: str | None = None) -> Triple:
    """Whiten each group by the root of its covariance: (y, mean, whitening) (Huang et al. 2018, arXiv:1804.08450)."""
    groups = _grouped(x, num_groups, layout)
    if training or running_mean is None or running_whitening is None:
        mean = mean_of(groups)
        whitening = inverse_root(covariance_of(groups, mean), eps)
    else:
        mean, whitening = wide(running_mean).reshape(num_groups, -1), wide(running_whitening)
    _, z = _forward(groups, mean, whitening, weight, bias)
    y = z if activation is None else ACTIVATIONS[activation].value(z)
    return _ungrouped(y, x, layout), mean.ravel(), whitening


def decorrelated_batch_norm_backward(dy: ArrayLike, x: ArrayLike, num_groups: int, mean: ArrayLike,
                                     whitening: ArrayLike, weight: MaybeArray = None, bias: MaybeArray = None, *,
                                     training: bool = True, layout: str | None = None,
                                     activation: str | None = None) -> Triple:
    def of_root(d_whitening: Array) -> Array:
        return np.stack([inverse_root_backward(d, w) for d, w in zip(d_whitening, wide(whitening), strict=True)])

    root = of_root if training else None
    return _backward(dy, x, num_groups, mean, whitening, weight, bias, layout, activation, root)


def iter_norm(x: ArrayLike, num_groups: int, running_mean: MaybeArray = None, running_whitening: MaybeArray = None,
              weight: MaybeArray = None, bias: MaybeArray = None, *, num_iterations: int = 5, training: bool = False,
              eps: float = 1e-5, layout: str | None = None,
              activation: str | None = None) -> tuple[Array, Array, Array, Array | None]:
    """Whiten each group as far as Newton-Schulz comes: (y, mean, whitening, covariance) (Huang et al. 2019,
    arXiv:1904.03441)."""
    groups, covariance = _grouped(x, num_groups, layout), None
    if training or running_mean is None or running_whitening is None:
        mean = mean_of(groups)
        covariance = covariance_of(groups, mean)
        whitening = np.stack([newton_schulz(c, eps, num_iterations) for c in covariance])
    else:
        mean, whitening = wide(running_mean).reshape(num_groups, -1), wide(running_whitening)
    _, z = _forward(groups, mean, whitening, weight, bias)
    y = z if activation is None else ACTIVATIONS[activation].value(z)
    return _ungrouped(y, x, layout), mean.ravel(), whitening, covariance


def iter_norm_backward(dy: ArrayLike, x: ArrayLike, num_groups: int, mean: ArrayLike, whitening: ArrayLike,
                       covariance: MaybeArray, weight: MaybeArray = None, bias: MaybeArray = None, *,
                       num_iterations: int = 5, training: bool = True, eps: float = 1e-5, layout: str | None = None,
                       activation: str | None = None) -> Triple:
    def of_root(d_whitening: Array) -> Array:
        pairs = zip(d_whitening, wide(np.asarray(covariance)), strict=True)
        return np.stack([newton_schulz_backward(d, c, eps, num_iterations) for d, c in pairs])

    root = of_root if training else None
    return _backward(dy, x, num_groups, mean, whitening, weight, bias, layout, activation, root)


def _forward(x: Array, mean: Array, whitening: Array, weight: MaybeArray, bias: MaybeArray) -> tuple[Array, Array]:
    """x_hat, and z = x_hat * weight + bias."""
    x_hat = whitening @ (x - mean[..., np.newaxis])
    scaled = x_hat if weight is None else x_hat * wide(weight).reshape(*mean.shape, 1)
    return x_hat, scaled if bias is None else scaled + wide(bias).reshape(*mean.shape, 1)


def _backward(dy: ArrayLike, x: ArrayLike, num_groups: int, mean: ArrayLike, whitening: ArrayLike, weight: MaybeArray,
              bias: MaybeArray, layout: str | None, activation: str | None,
              of_root: Callable[[Array], Array] | None) -> Triple:
    """The chain rule back through `_forward` and, unless they are constant, through whitening and mean."""
    shape, whitening = x, wide(whitening)
    g, x, mean = _grouped(dy, num_groups, layout), _grouped(x, num_groups, layout), wide(mean).reshape(num_groups, -1)
    x_hat, z = _forward(x, mean, whitening, weight, bias)
    if activation is not None:
        g = g * ACTIVATIONS[activation].slope(z)
    gw = g if weight is None else g * wide(weight).reshape(*mean.shape, 1)
    d_centred = whitening.swapaxes(1, 2) @ gw
    if of_root is not None:
        centred = x - mean[..., np.newaxis]
        d_covariance = of_root(gw @ centred.swapaxes(1, 2))
        d_centred = d_centred + 2 / x.shape[-1] * d_covariance @ centred
        d_centred = d_centred - d_centred.mean(-1, keepdims=True)
    return _ungrouped(d_centred, shape, layout), (g * x_hat).sum(-1).ravel(), g.sum(-1).ravel()


def _grouped(x: ArrayLike, num_groups: int, layout: str | None) -> Array:
    channels_first = np.moveaxis(from_layout(x, layout), 1, 0)
    return channels_first.reshape(num_groups, len(channels_first) // num_groups, -1)


def _ungrouped(groups: Array, like: ArrayLike, layout: str | None) -> Array:
    shape = np.moveaxis(from_layout(like, layout), 1, 0).shape
    return to_layout(np.moveaxis(groups.reshape(shape), 0, 1), layout)


# Features: x is (samples, features).


def whitening_of_features(x: ArrayLike, *, zca: bool, eps: float = 0.0, n_components: int | None = None) -> Triple:
    """(mean, matrix, explained variance): (x - mean) @ matrix.T has uncorrelated features of variance λ/(λ + eps), with
    the eigenvalues λ of the unbiased covariance in falling order; ZCA turns them back (Kessy et al. 2018,
    arXiv:1512.00809)."""
    x = wide(x)
    mean = mean_of(x.T)
    values, vectors = np.linalg.eigh(np.cov(x.T).reshape(x.shape[1], x.shape[1]))
    values, vectors = values[::-1][:n_components], vectors[:, ::-1][:, :n_components]
    vectors = vectors * np.sign(vectors[np.abs(vectors).argmax(0), range(len(values))])
    matrix = vectors.T / np.sqrt(values + eps)[:, np.newaxis]
    return mean, vectors @ matrix if zca else matrix, values

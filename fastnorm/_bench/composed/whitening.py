"""Whitening: decorrelated batch norm, IterNorm, and the PCA and ZCA whitening of features."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.random import Generator

from ...functional.whitening import (
    decorrelated_batch_norm,
    decorrelated_batch_norm_backward,
    iter_norm,
)
from ...whitening import PCAWhitening, ZCAWhitening
from .case import Case

_EPS = 1e-5
_ITERATIONS = 5


def _images(count: int, *shape: int) -> Callable[[Generator], tuple[Any, ...]]:
    """So many arrays of images; then weight and bias."""

    def make(rng: Generator) -> tuple[Any, ...]:
        images = (rng.standard_normal(shape, np.float32) for _ in range(count))
        return *images, rng.uniform(0.5, 2, shape[1]).astype(np.float32), rng.random(shape[1], np.float32)

    return make


def _features(*shape: int) -> Callable[[Generator], tuple[Any, ...]]:
    """Features that are sums of others."""
    return lambda rng: (
        rng.standard_normal(shape, np.float32) @ rng.standard_normal(shape[1:] * 2, np.float32),
    )


# -- What users compose: groups of channels by all positions, a root, and back ------------------------------------------


def _zca_numpy(covariance: Any) -> Any:
    values, vectors = np.linalg.eigh(covariance)
    return (vectors / np.sqrt(values)[:, np.newaxis]) @ vectors.swapaxes(1, 2)


def _zca_torch(covariance: Any) -> Any:
    import torch

    values, vectors = torch.linalg.eigh(covariance)
    return (vectors * values.rsqrt()[:, None]) @ vectors.mT


def _newton_schulz(covariance: Any, trace: Any, root: Any) -> Any:
    """NumPy's and PyTorch's: the trace of each group, and an identity."""
    scaled = covariance / trace
    for _ in range(_ITERATIONS):
        root = 1.5 * root - 0.5 * root @ root @ root @ scaled
    return root / trace**0.5


def _newton_schulz_numpy(covariance: Any) -> Any:
    trace = np.trace(covariance, axis1=1, axis2=2)[:, np.newaxis, np.newaxis]
    return _newton_schulz(covariance, trace, np.eye(covariance.shape[-1]))


def _newton_schulz_torch(covariance: Any) -> Any:
    import torch

    trace = covariance.diagonal(dim1=1, dim2=2).sum(-1)[:, None, None]
    return _newton_schulz(covariance, trace, torch.eye(covariance.shape[-1]))


def _numpy(root: Callable[[Any], Any], num_groups: int) -> Callable[..., Any]:
    def whiten(x: Any, weight: Any, bias: Any) -> Any:
        channels_first = x.swapaxes(0, 1)
        groups = channels_first.reshape(num_groups, x.shape[1] // num_groups, -1)
        # A covariance deserves float64, which np.cov takes by itself.
        covariance = np.stack([np.cov(group, bias=True) for group in groups]) + _EPS * np.eye(groups.shape[1])
        centred = groups - groups.mean(-1, keepdims=True)
        y = (root(covariance).astype(x.dtype) @ centred).reshape(channels_first.shape).swapaxes(0, 1)
        result = np.multiply(y, weight.reshape(-1, 1, 1), out=np.empty_like(x))
        result += bias.reshape(-1, 1, 1)
        return result

    return whiten


def _torch(root: Callable[[Any], Any], num_groups: int) -> Callable[..., Any]:
    def whiten(x: Any, weight: Any, bias: Any) -> Any:
        import torch

        channels_first = x.transpose(0, 1)
        groups = channels_first.reshape(num_groups, x.shape[1] // num_groups, -1)
        centred = groups - groups.mean(-1, keepdim=True)
        covariance = centred @ centred.mT / groups.shape[-1] + _EPS * torch.eye(groups.shape[1])
        y = (root(covariance) @ centred).reshape(channels_first.shape).transpose(0, 1)
        return torch.addcmul(bias.reshape(-1, 1, 1), y, weight.reshape(-1, 1, 1)).contiguous()

    return whiten


# -- A step of training: forward and backward ------------------------------------------------------------------------


def _both_numpy(dy: Any, x: Any, weight: Any, bias: Any, *, num_groups: int) -> Any:
    """Decorrelated batch norm by the formulas, with divided differences of eigenvalues."""
    shape = x.swapaxes(0, 1).shape
    groups = x.swapaxes(0, 1).reshape(num_groups, shape[0] // num_groups, -1)
    covariance = np.stack([np.cov(group, bias=True) for group in groups]) + _EPS * np.eye(groups.shape[1])
    values, vectors = np.linalg.eigh(covariance)
    whitening = (vectors / np.sqrt(values)[:, np.newaxis]) @ vectors.swapaxes(1, 2)
    centred, narrow = groups - groups.mean(-1, keepdims=True), whitening.astype(x.dtype)
    x_hat, scale = narrow @ centred, weight.reshape(num_groups, -1, 1)
    g = dy.swapaxes(0, 1).reshape(groups.shape)
    gw = g * scale
    d_whitening = vectors.swapaxes(1, 2) @ (gw @ centred.swapaxes(1, 2)) @ vectors
    w = values[:, np.newaxis] ** -0.5
    differences = -((w * w.swapaxes(1, 2)) ** 2) / (w + w.swapaxes(1, 2))
    d_covariance = (
        vectors @ (differences * (d_whitening + d_whitening.swapaxes(1, 2)) / 2) @ vectors.swapaxes(1, 2)
    )
    d_groups = narrow @ gw
    d_groups += (2 / groups.shape[2] * d_covariance).astype(x.dtype) @ centred
    d_groups -= d_groups.mean(-1, keepdims=True)
    y, dx = np.empty_like(x), np.empty_like(x)
    np.multiply(x_hat.reshape(shape).swapaxes(0, 1), weight.reshape(-1, 1, 1), out=y)
    y += bias.reshape(-1, 1, 1)
    np.copyto(dx, d_groups.reshape(shape).swapaxes(0, 1))
    return y, dx, np.einsum("gdn,gdn->gd", g, x_hat).ravel(), g.sum(-1).ravel()


def _both_torch(forward: Callable[..., Any]) -> Callable[..., Any]:
    """Through autograd."""

    def both(dy: Any, x: Any, weight: Any, bias: Any) -> Any:
        import torch

        leaves = [a.detach().requires_grad_() for a in (x, weight, bias)]
        y = forward(*leaves)
        return y.detach(), *torch.autograd.grad(y, leaves, dy)

    return both


def _both(norm: Callable[..., Any], backward: Callable[..., Any], num_groups: int) -> Callable[..., Any]:
    def both(dy: Any, x: Any, weight: Any, bias: Any) -> Any:
        y, *statistics = norm(x, num_groups, None, None, weight, bias, training=True, return_stats=True)
        return y, *backward(dy, x, num_groups, *statistics, weight, bias)

    return both


# -- Features -----------------------------------------------------------------------------------------------------------


def _features_numpy(x: Any, *, kept: int | None, zca: bool) -> Any:
    values, vectors = np.linalg.eigh(np.cov(x, rowvar=False))
    values, vectors = values[::-1][:kept], vectors[:, ::-1][:, :kept]
    vectors = vectors * np.sign(np.take_along_axis(vectors, np.abs(vectors).argmax(0)[np.newaxis], 0))
    matrix = vectors / np.sqrt(values + _EPS)
    return (x - x.mean(0)) @ (matrix @ vectors.T if zca else matrix).astype(x.dtype)


def _features_torch(x: Any, *, kept: int | None, zca: bool) -> Any:
    import torch

    values, vectors = torch.linalg.eigh(torch.cov(x.T))
    values, vectors = values.flip(0)[:kept], vectors.flip(1)[:, :kept]
    vectors = vectors * torch.sign(torch.take_along_dim(vectors, vectors.abs().argmax(0)[None], 0))
    matrix = vectors * torch.rsqrt(values + _EPS)
    return (x - x.mean(0)) @ (matrix @ vectors.T if zca else matrix)


# -- Cases --------------------------------------------------------------------------------------------------------------


def _forward_case(
    name: str, norm: Callable[..., Any], roots: tuple[Any, Any], groups: int, *shape: int
) -> Case:
    return Case(
        f"{name}, training, {'×'.join(map(str, shape))}, {groups} groups",
        _images(1, *shape),
        lambda x, weight, bias: norm(x, groups, None, None, weight, bias, training=True),
        _numpy(roots[0], groups),
        _torch(roots[1], groups),
    )


def _features_case(name: str, estimator: Any, kept: int | None, *shape: int) -> Case:
    options: dict[str, Any] = {"kept": kept, "zca": isinstance(estimator, ZCAWhitening)}
    return Case(
        f"{name}, fitted and applied, {'×'.join(map(str, shape))}",
        _features(*shape),
        estimator.fit_transform,
        partial(_features_numpy, **options),
        partial(_features_torch, **options),
    )


_ZCA = _zca_numpy, _zca_torch
_NEWTON = _newton_schulz_numpy, _newton_schulz_torch

CASES: tuple[Case, ...] = (
    _forward_case("decorrelated batch norm", decorrelated_batch_norm, _ZCA, 4, 16, 64, 32, 32),
    _forward_case("decorrelated batch norm", decorrelated_batch_norm, _ZCA, 8, 32, 128, 64, 64),
    Case(
        "decorrelated batch norm, forward and backward, 32×128×64×64, 8 groups",
        _images(2, 32, 128, 64, 64),
        _both(decorrelated_batch_norm, decorrelated_batch_norm_backward, 8),
        partial(_both_numpy, num_groups=8),
        _both_torch(_torch(_zca_torch, 8)),
    ),
    _forward_case("IterNorm", iter_norm, _NEWTON, 1, 16, 64, 32, 32),
    _forward_case("IterNorm", iter_norm, _NEWTON, 2, 32, 128, 64, 64),
    _features_case("PCA whitening", PCAWhitening(16), 16, 16384, 64),
    _features_case("ZCA whitening", ZCAWhitening(), None, 262144, 64),
)

"""Norms of weights, and of the product with them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from ...functional.cosine import cosine_norm
from ...functional.spectral import spectral_norm
from ...functional.weight import weight_norm, weight_standardization
from .case import Case

Array = NDArray[Any]

_CONVOLUTION, _LINEAR = (512, 512, 3, 3), (4096, 4096)  # 9 MiB, 64 MiB


def _normals(rng: Generator, *shape: int) -> Array:
    return rng.standard_normal(shape, np.float32)


# Weight norm


def _weight_norm_arguments(shape: tuple[int, ...]) -> Any:
    lengths = (shape[0],) + (1,) * (len(shape) - 1)
    return lambda rng: (_normals(rng, *shape), rng.uniform(0.5, 1.5, lengths).astype(np.float32))


def _weight_norm_numpy(v: Array, g: Array) -> Array:
    norm = np.linalg.norm(v.reshape(len(v), -1), axis=1)
    return v * (g / norm.reshape(g.shape))  # type: ignore[no-any-return]


def _weight_norm_torch(v: Any, g: Any) -> Any:
    import torch

    return torch._weight_norm(v, g, 0)


# Weight standardization


def _weight_standardization_numpy(w: Array) -> Array:
    rows = w.reshape(len(w), -1)
    w_hat = rows - rows.mean(1, keepdims=True)
    w_hat /= np.sqrt(np.einsum("ij,ij->i", w_hat, w_hat) / w_hat.shape[1] + 1e-5)[:, np.newaxis]
    return np.reshape(w_hat, w.shape)


def _weight_standardization_torch(w: Any) -> Any:
    from torch.nn.functional import batch_norm

    return batch_norm(w.reshape(1, len(w), -1), None, None, training=True, eps=1e-5).reshape(w.shape)


# Spectral norm; copies of u and v, for every call to begin from the same


def _spectral_arguments(shape: tuple[int, ...]) -> Any:
    def make(rng: Generator) -> tuple[Array, ...]:
        w = _normals(rng, *shape)
        return w, _normals(rng, shape[0]), _normals(rng, w.size // shape[0])

    return make


def _spectral_ours(w: Array, u: Array, v: Array) -> Any:
    return spectral_norm(w, u.copy(), v.copy(), training=True)


def _spectral_numpy(w: Array, u: Array, v: Array) -> Array:
    matrix = w.reshape(len(w), -1)
    u = matrix @ v
    u /= np.maximum(np.linalg.norm(u), 1e-12)
    v = matrix.T @ u
    v /= np.maximum(np.linalg.norm(v), 1e-12)
    return w / (u @ (matrix @ v))  # type: ignore[no-any-return]


def _spectral_torch(w: Any, u: Any, v: Any) -> Any:
    import torch
    from torch.nn.functional import normalize

    matrix = w.flatten(1)
    u = normalize(torch.mv(matrix, v), dim=0, eps=1e-12)
    v = normalize(torch.mv(matrix.T, u), dim=0, eps=1e-12)
    return w / torch.vdot(u, torch.mv(matrix, v))


# Cosine norm


def _cosine_numpy(x: Array, weight: Array) -> Array:
    x_hat = x / np.linalg.norm(x, axis=1, keepdims=True)
    w_hat = weight / np.linalg.norm(weight, axis=1, keepdims=True)
    return x_hat @ w_hat.T  # type: ignore[no-any-return]


def _cosine_torch(x: Any, weight: Any) -> Any:
    from torch.nn.functional import linear, normalize

    return linear(normalize(x, dim=1), normalize(weight, dim=1))


def _of_two_sizes(name: str, arguments: Any, *implementations: Any) -> tuple[Case, ...]:
    sizes = (("512×512×3×3", _CONVOLUTION), ("4096×4096", _LINEAR))
    return tuple(Case(f"{name}, {size}", arguments(shape), *implementations) for size, shape in sizes)


CASES: tuple[Case, ...] = (
    *_of_two_sizes(
        "weight norm", _weight_norm_arguments, weight_norm, _weight_norm_numpy, _weight_norm_torch
    ),
    *_of_two_sizes(
        "weight standardization",
        lambda shape: lambda rng: (_normals(rng, *shape),),
        weight_standardization,
        _weight_standardization_numpy,
        _weight_standardization_torch,
    ),
    *_of_two_sizes(
        "spectral norm, training", _spectral_arguments, _spectral_ours, _spectral_numpy, _spectral_torch
    ),
    Case(
        "cosine norm, 512×1024 by 1024×1024",
        lambda rng: (_normals(rng, 512, 1024), _normals(rng, 1024, 1024)),
        cosine_norm,
        _cosine_numpy,
        _cosine_torch,
    ),
)

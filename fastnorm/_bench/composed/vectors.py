"""Norms of vectors: normalize, scale norm, QK norm."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.random import Generator

from ...functional.heads import qk_norm
from ...functional.vectors import normalize, normalize_backward, scale_norm
from .case import Case

_G = 28.0


def _normals(count: int, *shape: int) -> Callable[[Generator], tuple[Any, ...]]:
    """So many arrays of standard normals."""
    return lambda rng: tuple(rng.standard_normal(shape, np.float32) for _ in range(count))


# -- Normalize -----------------------------------------------------------------------------------------------------


def _normalize_numpy(x: Any) -> Any:
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)


def _normalize_torch(x: Any) -> Any:
    import torch

    return torch.nn.functional.normalize(x)


def _there_and_back(dy: Any, x: Any) -> Any:
    y, norm = normalize(x, return_norm=True)
    return y, normalize_backward(dy, x, norm)


def _there_and_back_numpy(dy: Any, x: Any) -> Any:
    norm = np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
    y = x / norm
    dx = y * np.sum(dy * y, axis=1, keepdims=True)
    np.subtract(dy, dx, out=dx)
    dx /= norm
    return y, dx


def _there_and_back_torch(dy: Any, x: Any) -> Any:
    import torch

    x = x.detach().requires_grad_()
    y = torch.nn.functional.normalize(x)
    return y.detach(), torch.autograd.grad(y, x, dy)[0]


# -- Scale norm ----------------------------------------------------------------------------------------------------


def _scale_numpy(x: Any) -> Any:
    return x * (_G / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-5))


def _scale_torch(x: Any) -> Any:
    import torch

    return x * (_G / torch.linalg.vector_norm(x, dim=-1, keepdim=True).clamp(min=1e-5))


# -- QK norm -------------------------------------------------------------------------------------------------------


def _projected(rng: Generator) -> tuple[Any, ...]:
    """Queries and keys as they lie in one projection, and their weights."""
    projection = rng.standard_normal((1, 256, 3, 16, 128), np.float32)
    q, k = (projection[:, :, i].transpose(0, 2, 1, 3) for i in range(2))
    return q, k, *rng.uniform(0.5, 2, (2, 128)).astype(np.float32)


def _qk_numpy(q: Any, k: Any, q_weight: Any, k_weight: Any) -> Any:
    def rms(x: Any, weight: Any) -> Any:
        y = x / np.sqrt(np.mean(np.square(x), axis=-1, keepdims=True) + 1e-6)
        y *= weight
        return y

    return rms(q, q_weight), rms(k, k_weight)


def _qk_torch(q: Any, k: Any, q_weight: Any, k_weight: Any) -> Any:
    import torch

    rms = torch.nn.functional.rms_norm
    return rms(q, (128,), q_weight, 1e-6), rms(k, (128,), k_weight, 1e-6)


CASES: tuple[Case, ...] = (
    *(
        Case(f"normalize, {name}", _normals(1, *shape), normalize, _normalize_numpy, _normalize_torch)
        for name, shape in (
            ("1024×768", (1024, 768)),
            ("16384×1024", (16384, 1024)),
            ("channels of 8×256×784", (8, 256, 784)),
        )
    ),
    Case(
        "normalize and its gradient, 1024×768",
        _normals(2, 1024, 768),
        _there_and_back,
        _there_and_back_numpy,
        _there_and_back_torch,
    ),
    Case(
        "scale norm, 1024×768",
        _normals(1, 1024, 768),
        lambda x: scale_norm(x, _G),
        _scale_numpy,
        _scale_torch,
    ),
    Case("QK norm, 16 heads of 256×128", _projected, qk_norm, _qk_numpy, _qk_torch),
)

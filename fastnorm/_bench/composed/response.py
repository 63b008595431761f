"""Global response norm, as the authors compose it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.random import Generator

from ...functional.response import global_response_norm, global_response_norm_backward
from .case import Case


def _make(*shape: int, copies: int = 1) -> Any:
    def make(rng: Generator) -> tuple[Any, ...]:
        arrays = (rng.standard_normal(shape, np.float32) for _ in range(copies))
        return *arrays, *rng.standard_normal((2, shape[-1]), np.float32)

    return make


def _ours(x: Any, weight: Any, bias: Any) -> Any:
    return global_response_norm(x, weight, bias, layout="NHWC")


def _with_norm(x: Any, weight: Any, bias: Any) -> Any:
    norm = np.sqrt(np.sum(np.square(x), axis=(1, 2), keepdims=True))
    response = norm / (np.mean(norm, axis=-1, keepdims=True) + 1e-6)
    y = x * response
    y *= weight
    y += bias
    y += x
    return y, norm


def _numpy(x: Any, weight: Any, bias: Any) -> Any:
    return _with_norm(x, weight, bias)[0]


def _torch(x: Any, weight: Any, bias: Any) -> Any:
    import torch

    norm = torch.norm(x, p=2, dim=(1, 2), keepdim=True)
    response = norm / (norm.mean(dim=-1, keepdim=True) + 1e-6)
    return weight * (x * response) + bias + x


def _both(dy: Any, x: Any, weight: Any, bias: Any) -> Any:
    y, norm = global_response_norm(x, weight, bias, layout="NHWC", return_norm=True)
    return y, *global_response_norm_backward(dy, x, norm, weight, bias, layout="NHWC")


def _both_numpy(dy: Any, x: Any, weight: Any, bias: Any) -> Any:
    y, norm = _with_norm(x, weight, bias)
    mean = np.mean(norm, axis=-1, keepdims=True) + 1e-6
    scale = 1 + weight * norm / mean
    product = np.sum(dy * x, axis=(1, 2), keepdims=True)
    p = weight * product
    slope = p / mean - np.mean(p * norm, axis=-1, keepdims=True) / mean**2
    dx = dy * scale
    dx += x * (slope / norm)
    return y, dx, np.sum(product * norm / mean, axis=(0, 1, 2)), np.sum(dy, axis=(0, 1, 2))


def _both_torch(dy: Any, x: Any, weight: Any, bias: Any) -> Any:
    import torch

    leaves = [t.detach().requires_grad_() for t in (x, weight, bias)]
    y = _torch(*leaves)
    return y.detach(), *torch.autograd.grad(y, leaves, dy)


CASES: tuple[Case, ...] = (
    Case("global response norm, 4×14×14×1024", _make(4, 14, 14, 1024), _ours, _numpy, _torch),
    Case("global response norm, 32×28×28×640", _make(32, 28, 28, 640), _ours, _numpy, _torch),
    Case(
        "global response norm and its gradients, 4×14×14×1024",
        _make(4, 14, 14, 1024, copies=2),
        _both,
        _both_numpy,
        _both_torch,
    ),
)

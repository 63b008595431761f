"""Variance-only layer and batch norm, and simple layer norm."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...functional.variance_only import (
    simple_layer_norm,
    variance_only_batch_norm,
    variance_only_layer_norm,
    variance_only_layer_norm_backward,
)
from .case import Case, normals

_EPS = 1e-5


def _with_pair(*shape: int, copies: int = 1) -> Any:
    def make(rng: Any) -> tuple[Any, ...]:
        channels = shape[1] if len(shape) == 4 else shape[-1]
        return *normals(rng, copies, *shape), *rng.uniform(0.5, 1.5, (2, channels)).astype(np.float32)

    return make


def _layer_numpy(x: Any, weight: Any, bias: Any) -> Any:
    return x / np.sqrt(x.var(-1, keepdims=True) + _EPS) * weight + bias


def _layer_torch(x: Any, weight: Any, bias: Any) -> Any:
    return x / (x.var(-1, keepdim=True, correction=0) + _EPS).sqrt() * weight + bias


def _layer_both(dy: Any, x: Any, weight: Any, bias: Any) -> Any:
    y, mean, rstd = variance_only_layer_norm(x, weight, bias, return_stats=True)
    return y, *variance_only_layer_norm_backward(dy, x, mean, rstd, weight)


def _layer_both_numpy(dy: Any, x: Any, weight: Any, bias: Any) -> Any:
    centred = x - x.mean(-1, keepdims=True)
    rstd = 1 / np.sqrt(np.square(centred).mean(-1, keepdims=True) + _EPS)
    divided = x * rstd
    gw = dy * weight
    dx = rstd * (gw - centred * rstd * (gw * divided).mean(-1, keepdims=True))
    return divided * weight + bias, dx, (dy * divided).sum(0), dy.sum(0)


def _layer_both_torch(dy: Any, x: Any, weight: Any, bias: Any) -> Any:
    import torch

    given = [a.detach().requires_grad_() for a in (x, weight, bias)]
    y = _layer_torch(*given)
    return y.detach(), *torch.autograd.grad(y, given, dy)


def _batch(x: Any, weight: Any, bias: Any) -> Any:
    return variance_only_batch_norm(x, None, weight, bias, training=True)


def _batch_numpy(x: Any, weight: Any, bias: Any) -> Any:
    scale = weight / np.sqrt(x.var((0, 2, 3)) + _EPS)
    return x * scale[:, None, None] + bias[:, None, None]


def _batch_torch(x: Any, weight: Any, bias: Any) -> Any:
    scale = weight / (x.var((0, 2, 3), correction=0) + _EPS).sqrt()
    return x * scale[:, None, None] + bias[:, None, None]


def _simple_numpy(x: Any) -> Any:
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt(np.square(centred).mean(-1, keepdims=True) + _EPS)


def _simple_torch(x: Any) -> Any:
    import torch

    return torch.nn.functional.layer_norm(x, x.shape[-1:])


CASES = (
    Case("variance-only layer norm, 4096×256", _with_pair(4096, 256),
         variance_only_layer_norm, _layer_numpy, _layer_torch),
    Case("variance-only layer norm, 16384×1024", _with_pair(16384, 1024),
         variance_only_layer_norm, _layer_numpy, _layer_torch),
    Case("variance-only layer norm and its gradients, 4096×256", _with_pair(4096, 256, copies=2),
         _layer_both, _layer_both_numpy, _layer_both_torch),
    Case("variance-only batch norm, 16×64×28×28", _with_pair(16, 64, 28, 28), _batch, _batch_numpy, _batch_torch),
    Case("simple layer norm, 4096×256", lambda rng: normals(rng, 1, 4096, 256),
         simple_layer_norm, _simple_numpy, _simple_torch),
)  # fmt: skip

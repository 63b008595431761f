"""Adaptive layer norm, adaptive instance norm, FiLM."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...functional.conditional import (
    adaptive_instance_norm,
    adaptive_layer_norm,
    adaptive_layer_norm_backward,
    film,
)
from .case import Case, normals

_EPS = 1e-5


def _given(x: tuple[int, ...], pair: tuple[int, ...], copies: int = 1) -> Any:
    def make(rng: Any) -> tuple[Any, ...]:
        return *normals(rng, copies, *x), *rng.uniform(0.5, 1.5, (2, *pair)).astype(np.float32)

    return make


def _layer_numpy(x: Any, weight: Any, bias: Any) -> Any:
    centred = x - x.mean(-1, keepdims=True)
    x_hat = centred / np.sqrt(np.square(centred).mean(-1, keepdims=True) + _EPS)
    return x_hat * weight[:, None] + bias[:, None]


def _layer_torch(x: Any, weight: Any, bias: Any) -> Any:
    import torch

    return torch.nn.functional.layer_norm(x, x.shape[-1:]) * weight[:, None] + bias[:, None]


def _layer_both(dy: Any, x: Any, weight: Any, bias: Any) -> Any:
    y, mean, rstd = adaptive_layer_norm(x, weight, bias, return_stats=True)
    return y, *adaptive_layer_norm_backward(dy, x, mean, rstd, weight)


def _layer_both_numpy(dy: Any, x: Any, weight: Any, bias: Any) -> Any:
    centred = x - x.mean(-1, keepdims=True)
    rstd = 1 / np.sqrt(np.square(centred).mean(-1, keepdims=True) + _EPS)
    x_hat = centred * rstd
    gw = dy * weight[:, None]
    dx = rstd * (gw - gw.mean(-1, keepdims=True) - x_hat * (gw * x_hat).mean(-1, keepdims=True))
    return x_hat * weight[:, None] + bias[:, None], dx, (dy * x_hat).sum(1), dy.sum(1)


def _layer_both_torch(dy: Any, x: Any, weight: Any, bias: Any) -> Any:
    import torch

    given = [a.detach().requires_grad_() for a in (x, weight, bias)]
    y = _layer_torch(*given)
    return y.detach(), *torch.autograd.grad(y, given, dy)


def _instance_numpy(x: Any, weight: Any, bias: Any) -> Any:
    centred = x - x.mean((2, 3), keepdims=True)
    scale = weight[..., None, None] / np.sqrt(np.square(centred).mean((2, 3), keepdims=True) + _EPS)
    return centred * scale + bias[..., None, None]


def _instance_torch(x: Any, weight: Any, bias: Any) -> Any:
    import torch

    return torch.nn.functional.instance_norm(x) * weight[..., None, None] + bias[..., None, None]


def _film(x: Any, weight: Any, bias: Any) -> Any:
    return film(x, weight, bias, activation="relu")


def _film_numpy(x: Any, weight: Any, bias: Any) -> Any:
    y = x * weight[..., None, None] + bias[..., None, None]
    return np.maximum(y, 0, out=y)


def _film_torch(x: Any, weight: Any, bias: Any) -> Any:
    return (x * weight[..., None, None] + bias[..., None, None]).relu_()


_TOKENS, _IMAGES = ((16, 256, 384), (16, 384)), ((8, 64, 56, 56), (8, 64))
_MANY, _LARGE = ((64, 256, 1024), (64, 1024)), ((32, 64, 112, 112), (32, 64))

CASES = (
    Case("adaptive layer norm, 16×256×384", _given(*_TOKENS), adaptive_layer_norm, _layer_numpy, _layer_torch),
    Case("adaptive layer norm, 64×256×1024", _given(*_MANY), adaptive_layer_norm, _layer_numpy, _layer_torch),
    Case("adaptive layer norm and its gradients, 16×256×384", _given(*_TOKENS, copies=2),
         _layer_both, _layer_both_numpy, _layer_both_torch),
    Case("adaptive instance norm, 8×64×56×56", _given(*_IMAGES),
         adaptive_instance_norm, _instance_numpy, _instance_torch),
    Case("adaptive instance norm, 32×64×112×112", _given(*_LARGE),
         adaptive_instance_norm, _instance_numpy, _instance_torch),
    Case("FiLM + ReLU, 8×64×56×56", _given(*_IMAGES), _film, _film_numpy, _film_torch),
    Case("FiLM + ReLU, 32×64×112×112", _given(*_LARGE), _film, _film_numpy, _film_torch),
)  # fmt: skip

"""Switchable norm, and the instance norm beside it that its time is measured by."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...functional import instance_norm
from ...functional.switchable import switchable_norm, switchable_norm_backward
from .case import Case, normals

_EPS = 1e-5


def _parameters(channels: int, *of_x: int, copies: int = 1) -> Any:
    def make(rng: Any) -> tuple[Any, ...]:
        arrays = normals(rng, copies, *of_x)
        logits = rng.standard_normal((2, 3), np.float32)
        return *arrays, *logits, *rng.uniform(0.5, 1.5, (2, channels)).astype(np.float32)

    return make


def _ours(x: Any, mean_weight: Any, var_weight: Any, weight: Any, bias: Any) -> Any:
    return switchable_norm(x, mean_weight, var_weight, weight, bias, training=True)


def _composed(lib: Any, softmax: Any, x: Any, *parameters: Any) -> Any:
    """The authors' code: layer and batch statistics from the instances'."""
    mean_weight, var_weight, weight, bias = parameters
    flat = x.reshape(*x.shape[:2], -1)
    mean_in = flat.mean(-1)[..., None]
    var_in = lib.square(flat - mean_in).mean(-1)[..., None]
    square = var_in + mean_in**2
    mean_ln, mean_bn = mean_in.mean(1)[:, None], mean_in.mean(0)[None]
    var_ln, var_bn = square.mean(1)[:, None] - mean_ln**2, square.mean(0)[None] - mean_bn**2
    w, v = softmax(mean_weight), softmax(var_weight)
    mean = w[0] * mean_in + w[1] * mean_ln + w[2] * mean_bn
    var = v[0] * var_in + v[1] * var_ln + v[2] * var_bn
    y = (flat - mean) / lib.sqrt(var + _EPS)
    return (y * weight[:, None] + bias[:, None]).reshape(x.shape)


def _softmax(logits: Any) -> Any:
    powers = np.exp(logits - logits.max())
    return powers / powers.sum()


def _numpy(*arguments: Any) -> Any:
    return _composed(np, _softmax, *arguments)


def _torch(*arguments: Any) -> Any:
    import torch

    return _composed(torch, lambda logits: logits.softmax(0), *arguments)


def _both(dy: Any, x: Any, *parameters: Any) -> Any:
    y, mean, var = switchable_norm(x, *parameters, training=True, return_stats=True)
    return y, switchable_norm_backward(dy, x, mean, var, *parameters, training=True).dx


def _both_numpy(dy: Any, x: Any, mean_weight: Any, var_weight: Any, weight: Any, bias: Any) -> Any:
    y = _numpy(x, mean_weight, var_weight, weight, bias)
    (samples, channels), flat = x.shape[:2], x.reshape(*x.shape[:2], -1)
    g, count = dy.reshape(flat.shape) * weight[:, None], flat.shape[-1]
    w, v = _softmax(mean_weight), _softmax(var_weight)
    mean_in, var_in = flat.mean(-1), flat.var(-1)
    mean_ln, mean_bn = mean_in.mean(1, keepdims=True), mean_in.mean(0, keepdims=True)
    var_ln = var_in.mean(1, keepdims=True) + mean_in.var(1, keepdims=True)
    var_bn = var_in.mean(0, keepdims=True) + mean_in.var(0, keepdims=True)
    mean = w[0] * mean_in + w[1] * mean_ln + w[2] * mean_bn
    rstd = 1 / np.sqrt(v[0] * var_in + v[1] * var_ln + v[2] * var_bn + _EPS)
    centred = flat - mean[..., None]
    dmean, dvar = -rstd * g.sum(-1), -0.5 * rstd**3 * (g * centred).sum(-1)
    of_ln, of_bn = v[1] * dvar.sum(1, keepdims=True) / channels, v[2] * dvar.sum(0, keepdims=True) / samples
    into_var = v[0] * dvar + of_ln + of_bn
    into_mean = w[0] * dmean + w[1] * dmean.sum(1, keepdims=True) / channels
    into_mean += w[2] * dmean.sum(0, keepdims=True) / samples
    into_mean += 2 * of_ln * (mean_in - mean_ln) + 2 * of_bn * (mean_in - mean_bn)
    dx = g * rstd[..., None] + (into_mean / count)[..., None]
    dx += (2 / count * into_var)[..., None] * (flat - mean_in[..., None])
    return y, dx.reshape(x.shape)


def _both_torch(dy: Any, x: Any, *parameters: Any) -> Any:
    import torch

    x = x.detach().requires_grad_()
    y = _torch(x, *parameters)
    return y.detach(), torch.autograd.grad(y, x, dy)[0]


def _instance(x: Any, *parameters: Any) -> Any:
    return instance_norm(x, None, None, *parameters[2:])


def _instance_numpy(x: Any, *parameters: Any) -> Any:
    mean, var = x.mean((2, 3), keepdims=True), x.var((2, 3), keepdims=True)
    weight, bias = (p[:, None, None] for p in parameters[2:])
    return (x - mean) / np.sqrt(var + _EPS) * weight + bias


def _instance_torch(x: Any, *parameters: Any) -> Any:
    import torch

    return torch.nn.functional.instance_norm(x, None, None, *parameters[2:])


_IN, _OUT, _BOTH = (8, 64, 28, 28), (32, 64, 112, 112), (8, 64, 28, 28)

CASES = (
    Case("switchable norm, 8×64×28×28", _parameters(64, *_IN), _ours, _numpy, _torch),
    Case("switchable norm, 32×64×112×112", _parameters(64, *_OUT), _ours, _numpy, _torch),
    Case("switchable norm and its gradient, 8×64×28×28", _parameters(64, *_BOTH, copies=2),
         _both, _both_numpy, _both_torch),
    Case("instance norm beside it, 8×64×28×28", _parameters(64, *_IN), _instance, _instance_numpy, _instance_torch),
    Case("instance norm beside it, 32×64×112×112", _parameters(64, *_OUT),
         _instance, _instance_numpy, _instance_torch),
)  # fmt: skip

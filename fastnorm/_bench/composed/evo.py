"""EvoNorm S0 and B0, as the authors compose them."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...functional.evo_b0 import evo_norm_b0, evo_norm_b0_backward
from ...functional.evo_s0 import evo_norm_s0, evo_norm_s0_backward
from .case import Case, normals

_EPS, _GROUPS = np.float32(1e-5), 16


def _make(*shape: int, copies: int = 1) -> Any:
    def make(rng: Any) -> tuple[Any, ...]:
        parameters = rng.uniform(0.5, 1.5, (3, shape[1])).astype(np.float32)
        return *normals(rng, copies, *shape), *parameters

    return make


def _gradients(function: Any) -> Any:
    def both(dy: Any, *arguments: Any) -> Any:
        import torch

        leaves = [t.detach().requires_grad_() for t in arguments]
        y = function(*leaves)
        return y.detach(), *torch.autograd.grad(y, leaves, dy)

    return both


def _of_channels(*parameters: Any) -> Any:
    return (p[:, None, None] for p in parameters)


# S0


def _s0(x: Any, weight: Any, bias: Any, v: Any) -> Any:
    return evo_norm_s0(x, _GROUPS, weight, bias, v)


def _s0_numpy(x: Any, *parameters: Any) -> Any:
    weight, bias, v = _of_channels(*parameters)
    rstd = 1 / np.sqrt(x.reshape(len(x), _GROUPS, -1).var(-1) + _EPS)
    y = x * -v
    np.exp(y, out=y)
    y += 1
    np.divide(x, y, out=y)
    y *= np.repeat(rstd, x.shape[1] // _GROUPS, 1)[..., None, None] * weight
    y += bias
    return y


def _s0_torch(x: Any, *parameters: Any) -> Any:
    import torch

    weight, bias, v = _of_channels(*parameters)
    groups = x.reshape(len(x), _GROUPS, -1)
    std = torch.sqrt(groups.var(-1, unbiased=False, keepdim=True) + _EPS).expand_as(groups).reshape(x.shape)
    return x * torch.sigmoid(v * x) / std * weight + bias


def _s0_both(dy: Any, x: Any, weight: Any, bias: Any, v: Any) -> Any:
    y, mean, rstd = evo_norm_s0(x, _GROUPS, weight, bias, v, return_stats=True)
    return y, *evo_norm_s0_backward(dy, x, _GROUPS, mean, rstd, weight, bias, v)


def _s0_both_numpy(dy: Any, x: Any, *parameters: Any) -> Any:
    weight, bias, v = _of_channels(*parameters)
    groups, per_group = x.reshape(len(x), _GROUPS, -1), x.shape[1] // _GROUPS
    mean, var = groups.mean(-1), groups.var(-1)
    rstd = 1 / np.sqrt(var + _EPS)
    r, m = (np.repeat(s, per_group, 1)[..., None, None] for s in (rstd, mean))
    sigmoid = 1 / (1 + np.exp(x * -v))
    h, slope = x * sigmoid, 1 - sigmoid
    slope *= h  # x·σ'
    products = np.einsum("nchw,nchw->nc", dy, h)
    dv = np.einsum("nchw,nchw,nchw->nc", dy, x, slope)
    drstd = (products * parameters[0]).reshape(len(x), _GROUPS, per_group).sum(-1)
    slope *= v
    slope += sigmoid
    slope *= dy
    slope *= r * weight
    of_x = np.repeat(-drstd * rstd**3 / np.float32(groups.shape[-1]), per_group, 1)[..., None, None]
    slope += (x - m) * of_x
    h *= r * weight
    h += bias
    return (
        h,
        slope,
        (products * r[..., 0, 0]).sum(0),
        dy.sum((0, 2, 3)),
        (dv * r[..., 0, 0]).sum(0) * parameters[0],
    )


# B0


def _b0(x: Any, weight: Any, bias: Any, v: Any) -> Any:
    return evo_norm_b0(x, None, weight, bias, v, training=True)


def _b0_numpy(x: Any, *parameters: Any) -> Any:
    weight, bias, v = _of_channels(*parameters)
    divisor = x * v
    divisor += np.sqrt(x.var((2, 3), keepdims=True) + _EPS)
    np.maximum(divisor, np.sqrt(x.var((0, 2, 3), keepdims=True) + _EPS), out=divisor)
    y = np.divide(x, divisor, out=divisor)
    y *= weight
    y += bias
    return y


def _b0_torch(x: Any, *parameters: Any) -> Any:
    import torch

    weight, bias, v = _of_channels(*parameters)
    of_batch = torch.sqrt(x.var((0, 2, 3), unbiased=False, keepdim=True) + _EPS)
    of_instance = torch.sqrt(x.var((2, 3), unbiased=False, keepdim=True) + _EPS)
    return x / torch.max(of_batch, v * x + of_instance) * weight + bias


def _b0_both(dy: Any, x: Any, weight: Any, bias: Any, v: Any) -> Any:
    y, mean, var = evo_norm_b0(x, None, weight, bias, v, training=True, return_stats=True)
    return y, *evo_norm_b0_backward(dy, x, mean, var, None, weight, v, training=True)


def _b0_both_numpy(dy: Any, x: Any, *parameters: Any) -> Any:
    weight, bias, v = _of_channels(*parameters)
    mean, var = x.mean((2, 3), keepdims=True), x.var((2, 3), keepdims=True)
    batch_mean, batch_var = x.mean((0, 2, 3), keepdims=True), x.var((0, 2, 3), keepdims=True)
    of_instance, of_batch = np.sqrt(var + _EPS), np.sqrt(batch_var + _EPS)
    divisor = x * v
    divisor += of_instance
    own = divisor > of_batch
    np.maximum(divisor, of_batch, out=divisor)
    ratio = x / divisor
    dx = dy * weight
    dx /= divisor
    ddivisor = dx * ratio
    np.negative(ddivisor, out=ddivisor)
    to_own = ddivisor * own
    ddivisor -= to_own
    dv = np.einsum("nchw,nchw->c", to_own, x)
    dx += to_own * v
    count = np.float32(x[0, 0].size)
    dx += (x - mean) * (to_own.sum((2, 3), keepdims=True) / of_instance / count)
    dx += (x - batch_mean) * (ddivisor.sum((0, 2, 3), keepdims=True) / of_batch / (count * len(x)))
    dweight = np.einsum("nchw,nchw->c", dy, ratio)
    ratio *= weight
    ratio += bias
    return ratio, dx, dweight, dy.sum((0, 2, 3)), dv


_IN, _OUT = (8, 64, 28, 28), (32, 64, 96, 96)

CASES: tuple[Case, ...] = (
    Case("EvoNorm-S0, 8×64×28×28", _make(*_IN), _s0, _s0_numpy, _s0_torch),
    Case("EvoNorm-S0, 32×64×96×96", _make(*_OUT), _s0, _s0_numpy, _s0_torch),
    Case("EvoNorm-S0 and its gradients, 8×64×28×28", _make(*_IN, copies=2), _s0_both, _s0_both_numpy,
         _gradients(_s0_torch)),
    Case("EvoNorm-B0, 8×64×28×28", _make(*_IN), _b0, _b0_numpy, _b0_torch),
    Case("EvoNorm-B0, 32×64×96×96", _make(*_OUT), _b0, _b0_numpy, _b0_torch),
    Case("EvoNorm-B0 and its gradients, 8×64×28×28", _make(*_IN, copies=2), _b0_both, _b0_both_numpy,
         _gradients(_b0_torch)),
)  # fmt: skip

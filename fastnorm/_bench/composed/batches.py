"""Variations on batch norm: batch renormalization, ghost batch norm, frozen batch norm."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.random import Generator

from ...functional.frozen import frozen_batch_norm, frozen_batch_norm_backward
from ...functional.ghost import ghost_batch_norm, ghost_batch_norm_backward
from ...functional.renorm import batch_renorm, batch_renorm_backward
from .case import Case

_EPS = 1e-5
_AXES = (0, 2, 3)
_GHOST = 8


def _images(count: int, *shape: int) -> Callable[[Generator], tuple[Any, ...]]:
    """So many arrays of images; then weight, bias, a running mean and a running deviation or variance."""

    def make(rng: Generator) -> tuple[Any, ...]:
        images = (rng.standard_normal(shape, np.float32) for _ in range(count))
        low, high = np.array([[0.5, -1, -0.1, 0.8], [2, 1, 0.1, 1.2]], np.float32)[..., np.newaxis]
        return *images, *(low + (high - low) * rng.random((4, shape[1]), np.float32))

    return make


def _each(*parameters: Any) -> list[Any]:
    """Parameters of channels, for images."""
    return [p.reshape(-1, 1, 1) for p in parameters]


# -- Batch renormalization; the running statistics are left, for every call to find the same ---------------------------


def _renorm(x: Any, weight: Any, bias: Any, mean: Any, std: Any) -> Any:
    return batch_renorm(x, mean, std, weight, bias, training=True, momentum=0)


def _renorm_numpy(x: Any, weight: Any, bias: Any, running_mean: Any, running_std: Any) -> Any:
    mean = x.mean(_AXES)
    y = x - _each(mean)[0]
    std = np.sqrt(np.square(y).mean(_AXES) + np.float32(_EPS))
    r = np.clip(std / running_std, 1 / 3, 3).astype(np.float32)
    d = np.clip((mean - running_mean) / running_std, -5, 5)
    scale, shift = _each(r / std * weight, d * weight + bias)
    y *= scale
    y += shift
    return y


def _renorm_torch(x: Any, weight: Any, bias: Any, running_mean: Any, running_std: Any) -> Any:
    import torch

    var, mean = torch.var_mean(x, _AXES, correction=0)
    std = torch.sqrt(var + _EPS)
    r = (std / running_std).clamp(1 / 3, 3).detach()
    d = ((mean - running_mean) / running_std).clamp(-5, 5).detach()
    mean, scale, shift = _each(mean, r / std * weight, d * weight + bias)
    return (x - mean) * scale + shift


def _renorm_both(dy: Any, x: Any, weight: Any, bias: Any, mean: Any, std: Any) -> Any:
    y, mean, rstd, r, d = batch_renorm(
        x, mean, std, weight, bias, training=True, momentum=0, return_stats=True
    )
    return y, *batch_renorm_backward(dy, x, mean, rstd, r, d, weight, bias)


def _renorm_both_numpy(dy: Any, x: Any, weight: Any, bias: Any, running_mean: Any, running_std: Any) -> Any:
    mean = x.mean(_AXES)
    x_hat = x - _each(mean)[0]
    std = np.sqrt(np.square(x_hat).mean(_AXES) + np.float32(_EPS))
    x_hat /= _each(std)[0]
    r = np.clip(std / running_std, 1 / 3, 3).astype(np.float32)
    d = np.clip((mean - running_mean) / running_std, -5, 5)
    scale, shift = _each(r * weight, d * weight + bias)
    y = x_hat * scale
    y += shift
    of_g, of_product = dy.sum(_AXES), (dy * x_hat).sum(_AXES)
    count = x.size // of_g.size
    x_hat *= _each(of_product / count)[0]
    dx = dy - x_hat
    dx -= _each(of_g / count)[0]
    dx *= _each(r * weight / std)[0]
    return y, dx, r * of_product + d * of_g, of_g


def _renorm_both_torch(dy: Any, x: Any, weight: Any, bias: Any, *running: Any) -> Any:
    return _through_autograd(_renorm_torch, dy, x, weight, bias, *running)


def _through_autograd(
    forward: Callable[..., Any], dy: Any, x: Any, weight: Any, bias: Any, *rest: Any
) -> Any:
    import torch

    leaves = [a.detach().requires_grad_() for a in (x, weight, bias)]
    y = forward(*leaves, *rest)
    return y.detach(), *torch.autograd.grad(y, leaves, dy)


# -- Ghost batch norm --------------------------------------------------------------------------------------------------


def _ghosts(x: Any, weight: Any, bias: Any, *_: Any) -> Any:
    return ghost_batch_norm(x, _GHOST, None, None, weight, bias, training=True)


def _ghosts_numpy(x: Any, weight: Any, bias: Any, *_: Any) -> Any:
    split = x.reshape(-1, _GHOST, *x.shape[1:])
    axes = (1, 3, 4)
    y = split - split.mean(axes, keepdims=True)
    var = np.square(y).mean(axes, keepdims=True)
    weight, bias = _each(weight, bias)
    y *= weight / np.sqrt(var + np.float32(_EPS))
    y += bias
    return y.reshape(x.shape)


def _ghosts_torch(x: Any, weight: Any, bias: Any, *_: Any) -> Any:
    import torch

    norm = torch.nn.functional.batch_norm
    return torch.cat([norm(part, None, None, weight, bias, training=True) for part in x.split(_GHOST)])


def _ghosts_both(dy: Any, x: Any, weight: Any, bias: Any, *_: Any) -> Any:
    y, mean, rstd = ghost_batch_norm(x, _GHOST, None, None, weight, bias, training=True, return_stats=True)
    return y, *ghost_batch_norm_backward(dy, x, _GHOST, mean, rstd, weight, bias)


def _ghosts_both_numpy(dy: Any, x: Any, weight: Any, bias: Any, *_: Any) -> Any:
    g, x_hat = (a.reshape(-1, _GHOST, *x.shape[1:]) for a in (dy, x))
    axes, count = (1, 3, 4), _GHOST * x.shape[2] * x.shape[3]
    x_hat = x_hat - x_hat.mean(axes, keepdims=True)
    rstd = 1 / np.sqrt(np.square(x_hat).mean(axes, keepdims=True) + np.float32(_EPS))
    x_hat *= rstd
    w, b = _each(weight, bias)
    y = x_hat * w
    y += b
    of_g, of_product = g.sum(axes, keepdims=True), (g * x_hat).sum(axes, keepdims=True)
    x_hat *= of_product / count
    dx = g - x_hat
    dx -= of_g / count
    dx *= rstd * w
    return y.reshape(x.shape), dx.reshape(x.shape), of_product.sum(0).ravel(), of_g.sum(0).ravel()


def _ghosts_both_torch(dy: Any, x: Any, weight: Any, bias: Any, *_: Any) -> Any:
    return _through_autograd(_ghosts_torch, dy, x, weight, bias)


# -- Frozen batch norm -------------------------------------------------------------------------------------------------


def _frozen(x: Any, weight: Any, bias: Any, mean: Any, var: Any) -> Any:
    return frozen_batch_norm(x, mean, var, weight, bias)


def _frozen_numpy(x: Any, weight: Any, bias: Any, mean: Any, var: Any) -> Any:
    scale = weight / np.sqrt(var + np.float32(_EPS))
    y = x * _each(scale)[0]
    y += _each(bias - mean * scale)[0]
    return y


def _frozen_torch(x: Any, weight: Any, bias: Any, mean: Any, var: Any) -> Any:
    """As torchvision's FrozenBatchNorm2d."""
    scale = weight * (var + _EPS).rsqrt()
    scale, shift = _each(scale, bias - mean * scale)
    return x * scale + shift


def _frozen_both(dy: Any, x: Any, weight: Any, bias: Any, mean: Any, var: Any) -> Any:
    y = frozen_batch_norm(x, mean, var, weight, bias, activation="relu")
    return y, frozen_batch_norm_backward(dy, x, mean, var, weight, bias, activation="relu")


def _frozen_both_numpy(dy: Any, x: Any, weight: Any, bias: Any, mean: Any, var: Any) -> Any:
    y = _frozen_numpy(x, weight, bias, mean, var)
    np.maximum(y, 0, out=y)
    dx = dy * (y > 0)
    dx *= _each(weight / np.sqrt(var + np.float32(_EPS)))[0]
    return y, dx


def _frozen_both_torch(dy: Any, x: Any, *constants: Any) -> Any:
    import torch

    x = x.detach().requires_grad_()
    y = torch.relu(_frozen_torch(x, *constants))
    return y.detach(), torch.autograd.grad(y, x, dy)[0]


_IN, _OUT, _BOTH = (32, 32, 28, 28), (64, 64, 64, 64), (16, 32, 28, 28)
CASES = (
    Case("batch renorm, training, 32×32×28×28", _images(1, *_IN), _renorm, _renorm_numpy, _renorm_torch),
    Case("batch renorm, training, 64×64×64×64", _images(1, *_OUT), _renorm, _renorm_numpy, _renorm_torch),
    Case("batch renorm, there and back, 16×32×28×28", _images(2, *_BOTH),
         _renorm_both, _renorm_both_numpy, _renorm_both_torch),
    Case("ghost batch norm of 8, 32×32×28×28", _images(1, *_IN), _ghosts, _ghosts_numpy, _ghosts_torch),
    Case("ghost batch norm of 8, 64×64×64×64", _images(1, *_OUT), _ghosts, _ghosts_numpy, _ghosts_torch),
    Case("ghost batch norm of 8, there and back, 16×32×28×28", _images(2, *_BOTH),
         _ghosts_both, _ghosts_both_numpy, _ghosts_both_torch),
    Case("frozen batch norm, 32×32×28×28", _images(1, *_IN), _frozen, _frozen_numpy, _frozen_torch),
    Case("frozen batch norm, 64×64×64×64", _images(1, *_OUT), _frozen, _frozen_numpy, _frozen_torch),
    Case("frozen batch norm + ReLU, there and back, 16×32×28×28", _images(2, *_BOTH),
         _frozen_both, _frozen_both_numpy, _frozen_both_torch),
)  # fmt: skip

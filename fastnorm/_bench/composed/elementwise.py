"""Dynamic tanh, filter response, gated RMS and local response norm, as their authors compose them, or PyTorch does."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...functional.dynamic_tanh import dynamic_tanh, dynamic_tanh_backward
from ...functional.filter_response import filter_response_norm, filter_response_norm_backward
from ...functional.gated import gated_rms_norm, gated_rms_norm_backward
from ...functional.local_response import local_response_norm, local_response_norm_backward
from .case import Case, normals


def _make(*shape: int, copies: int = 1, parameters: int = 0, axis: int = -1) -> Any:
    """Arrays of a shape, then parameters of its length along an axis."""

    def make(rng: Any) -> tuple[Any, ...]:
        own = (rng.uniform(0.5, 1.5, shape[axis]).astype(np.float32) for _ in range(parameters))
        return *normals(rng, copies, *shape), *own

    return make


def _gradients(function: Any, count: int) -> Any:
    """Of a function composed of PyTorch's operators: its result, and the gradients of its first arguments."""

    def both(dy: Any, *arguments: Any) -> Any:
        import torch

        leaves = [t.detach().requires_grad_() for t in arguments[:count]]
        y = function(*leaves, *arguments[count:])
        return y.detach(), *torch.autograd.grad(y, leaves, dy)

    return both


# Dynamic tanh

_ALPHA = 0.5


def _tanh(x: Any, weight: Any, bias: Any) -> Any:
    return dynamic_tanh(x, _ALPHA, weight, bias)


def _tanh_numpy(x: Any, weight: Any, bias: Any) -> Any:
    y = x * np.float32(_ALPHA)
    np.tanh(y, out=y)
    y *= weight
    y += bias
    return y


def _tanh_torch(x: Any, weight: Any, bias: Any) -> Any:
    import torch

    return torch.tanh(_ALPHA * x) * weight + bias


def _tanh_both(dy: Any, x: Any, weight: Any, bias: Any) -> Any:
    found = dynamic_tanh_backward(dy, x, _ALPHA, weight)
    return _tanh(x, weight, bias), found.dx, found.dweight, found.dbias


def _tanh_both_numpy(dy: Any, x: Any, weight: Any, bias: Any) -> Any:
    t = np.tanh(x * np.float32(_ALPHA))
    slope = 1 - t * t
    slope *= dy
    dweight = np.einsum("ij,ij->j", dy, t)
    dalpha = np.einsum("ij,ij,j->", slope, x, weight)
    slope *= weight * np.float32(_ALPHA)
    t *= weight
    t += bias
    assert np.isfinite(dalpha)  # a gradient, too, that the others return elsewhere
    return t, slope, dweight, dy.sum(0)


# Filter response norm

_EPS = np.float32(1e-6)


def _response(x: Any, weight: Any, bias: Any, tau: Any) -> Any:
    return filter_response_norm(x, weight, bias, tau)


def _response_numpy(x: Any, weight: Any, bias: Any, tau: Any) -> Any:
    weight, bias, tau = (p[:, None, None] for p in (weight, bias, tau))
    square = np.einsum("nchw,nchw->nc", x, x) / np.float32(x[0, 0].size)
    y = x * (weight / np.sqrt(square + _EPS)[..., None, None])
    y += bias
    return np.maximum(y, tau, out=y)


def _response_torch(x: Any, weight: Any, bias: Any, tau: Any) -> Any:
    import torch

    weight, bias, tau = (p[:, None, None] for p in (weight, bias, tau))
    square = x.pow(2).mean((2, 3), keepdim=True)
    return torch.max(x * torch.rsqrt(square + _EPS) * weight + bias, tau)


def _response_both(dy: Any, x: Any, *parameters: Any) -> Any:
    y, rstd = filter_response_norm(x, *parameters, return_stats=True)
    return y, *filter_response_norm_backward(dy, x, rstd, *parameters)


def _response_both_numpy(dy: Any, x: Any, *parameters: Any) -> Any:
    weight, bias, tau = (p[:, None, None] for p in parameters)
    square = np.einsum("nchw,nchw->nc", x, x)[..., None, None] / np.float32(x[0, 0].size)
    rstd = 1 / np.sqrt(square + _EPS)
    x_hat = x * rstd
    y = x_hat * weight
    y += bias
    g = dy * (y > tau)
    products = np.einsum("nchw,nchw->nc", g, x_hat)
    dbias = g.sum((0, 2, 3))
    dx = g * weight
    x_hat *= weight * products[..., None, None] / np.float32(x[0, 0].size)
    dx -= x_hat
    dx *= rstd
    np.maximum(y, tau, out=y)
    return y, dx, products.sum(0), dbias, dy.sum((0, 2, 3)) - dbias


# Gated RMS norm


def _gated_numpy(x: Any, gate: Any, weight: Any) -> Any:
    y = np.negative(gate)
    np.exp(y, out=y)
    y += 1
    np.divide(gate, y, out=y)
    y *= x
    square = np.einsum("ij,ij->i", y, y) / np.float32(x.shape[-1])
    y *= (1 / np.sqrt(square + np.float32(1e-5)))[:, None]
    y *= weight
    return y


def _gated_torch(x: Any, gate: Any, weight: Any) -> Any:
    import torch

    h = x * torch.nn.functional.silu(gate)
    return h * torch.rsqrt(h.square().mean(-1, keepdim=True) + 1e-5) * weight


def _gated_both(dy: Any, x: Any, gate: Any, weight: Any) -> Any:
    y, rstd = gated_rms_norm(x, gate, weight, return_stats=True)
    return y, *gated_rms_norm_backward(dy, x, gate, rstd, weight)


def _gated_both_numpy(dy: Any, x: Any, gate: Any, weight: Any) -> Any:
    sigmoid = 1 / (1 + np.exp(-gate))
    opened = gate * sigmoid
    h_hat = x * opened
    square = np.einsum("ij,ij->i", h_hat, h_hat) / np.float32(x.shape[-1])
    rstd = (1 / np.sqrt(square + np.float32(1e-5)))[:, None]
    h_hat *= rstd
    dh = dy * weight
    dh -= h_hat * (np.einsum("ij,ij->i", dh, h_hat) / np.float32(x.shape[-1]))[:, None]
    dh *= rstd
    slope = sigmoid * (1 + gate * (1 - sigmoid))
    slope *= x
    slope *= dh
    dh *= opened
    dweight = np.einsum("ij,ij->j", dy, h_hat)
    h_hat *= weight
    return h_hat, dh, slope, dweight


# Local response norm

_WINDOW = 5, 1.0, 0.75, 1.0  # size, alpha, beta, k


def _local(x: Any) -> Any:
    return local_response_norm(x, *_WINDOW)


def _window_sums(x: Any) -> Any:
    """Over two channels to either side."""
    sums = x.copy()
    for away in (1, 2):
        sums[:, away:] += x[:, :-away]
        sums[:, :-away] += x[:, away:]
    return sums


def _local_numpy(x: Any) -> Any:
    t = _window_sums(x * x)
    t *= np.float32(0.2)
    t += 1
    y = np.power(t, np.float32(-0.75), out=t)
    y *= x
    return y


def _local_torch(x: Any) -> Any:
    import torch

    return torch.nn.functional.local_response_norm(x, *_WINDOW)


def _local_both(dy: Any, x: Any) -> Any:
    return _local(x), local_response_norm_backward(dy, x, *_WINDOW)


def _local_both_numpy(dy: Any, x: Any) -> Any:
    t = _window_sums(x * x)
    t *= np.float32(0.2)
    t += 1
    power = np.power(t, np.float32(-0.75))
    slope = dy * x
    slope *= power
    slope /= t
    dx = _window_sums(slope)
    dx *= x
    dx *= np.float32(-0.3)
    dx += dy * power
    power *= x
    return power, dx


_ROWS, _MANY_ROWS = (1024, 768), (16384, 1024)
_IMAGES, _MANY_IMAGES = (8, 64, 28, 28), (32, 64, 96, 96)

CASES: tuple[Case, ...] = (
    Case("dynamic tanh, 1024×768", _make(*_ROWS, parameters=2), _tanh, _tanh_numpy, _tanh_torch),
    Case("dynamic tanh, 16384×1024", _make(*_MANY_ROWS, parameters=2), _tanh, _tanh_numpy, _tanh_torch),
    Case("dynamic tanh and its gradients, 1024×768", _make(*_ROWS, copies=2, parameters=2),
         _tanh_both, _tanh_both_numpy, _gradients(_tanh_torch, 3)),
    Case("filter response norm, 8×64×28×28", _make(*_IMAGES, parameters=3, axis=1),
         _response, _response_numpy, _response_torch),
    Case("filter response norm, 32×64×96×96", _make(*_MANY_IMAGES, parameters=3, axis=1),
         _response, _response_numpy, _response_torch),
    Case("filter response norm and its gradients, 8×64×28×28", _make(*_IMAGES, copies=2, parameters=3, axis=1),
         _response_both, _response_both_numpy, _gradients(_response_torch, 4)),
    Case("gated RMS norm, 256×2048", _make(256, 2048, copies=2, parameters=1),
         gated_rms_norm, _gated_numpy, _gated_torch),
    Case("gated RMS norm, 4096×4096", _make(4096, 4096, copies=2, parameters=1),
         gated_rms_norm, _gated_numpy, _gated_torch),
    Case("gated RMS norm and its gradients, 256×2048", _make(256, 2048, copies=3, parameters=1),
         _gated_both, _gated_both_numpy, _gradients(_gated_torch, 3)),
    Case("local response norm, 8×64×28×28", _make(*_IMAGES), _local, _local_numpy, _local_torch),
    Case("local response norm, 32×64×96×96", _make(*_MANY_IMAGES), _local, _local_numpy, _local_torch),
    Case("local response norm and its gradient, 8×64×28×28", _make(*_IMAGES, copies=2),
         _local_both, _local_both_numpy, _gradients(_local_torch, 1)),
)  # fmt: skip

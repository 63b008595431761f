"""Deep norm: a scaled residual connection, then layer norm."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.random import Generator

from ...functional.deep import deep_norm
from .case import Case

_ALPHA = 2.0


def _make(*shape: int) -> Any:
    def make(rng: Generator) -> tuple[Any, ...]:
        x, residual = (rng.standard_normal(shape, np.float32) for _ in range(2))
        return x, residual, *rng.standard_normal((2, shape[-1]), np.float32)

    return make


def _ours(x: Any, residual: Any, weight: Any, bias: Any) -> Any:
    return deep_norm(x, residual, weight, bias, alpha=_ALPHA)


def _numpy(x: Any, residual: Any, weight: Any, bias: Any) -> Any:
    y = _ALPHA * x
    y += residual
    y -= np.mean(y, axis=-1, keepdims=True)
    y /= np.sqrt(np.mean(np.square(y), axis=-1, keepdims=True) + 1e-5)
    y *= weight
    y += bias
    return y


def _torch(x: Any, residual: Any, weight: Any, bias: Any) -> Any:
    import torch

    return torch.nn.functional.layer_norm(_ALPHA * x + residual, x.shape[-1:], weight, bias)


CASES: tuple[Case, ...] = (
    Case("deep norm, 1024×768", _make(1024, 768), _ours, _numpy, _torch),
    Case("deep norm, 16384×1024", _make(16384, 1024), _ours, _numpy, _torch),
)

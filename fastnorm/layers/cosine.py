"""Cosine norm as a linear layer."""

import math
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import DTypeLike

from .. import _checks
from ..functional.cosine import cosine_norm, cosine_norm_backward
from .base import Array, Layer, Needs, count


class CosineLinear(Layer):
    """A linear layer of cosines: every result is that of the angle between x and a row of the weight::

        y = (x / norm(x)) @ (weight / norm(weight)).T

    Parameters
    ----------
    in_features, out_features : int
        The sizes of the last axis of x and of y.
    centered : bool
        Whether to subtract the mean of x and of each row of the weight first: Pearson's correlation.
    eps : float
        The least norm that is divided by.
    rng : numpy.random.Generator, optional
        Where the weight comes from: uniform within 1/sqrt(in_features), as in PyTorch's Linear.
    dtype : dtype
        Of the weight.

    References
    ----------
    Luo, Zhan, Wang and Yang, "Cosine Normalization: Using Cosine Similarity Instead of Dot Product in Neural Networks",
    2017, https://arxiv.org/abs/1702.05870

    Examples
    --------
    >>> import numpy as np
    >>> from fastnorm import CosineLinear
    >>> layer = CosineLinear(2, 3)
    >>> layer.weight[:] = [[5, 0], [0, -2], [3, 4]]
    >>> layer(np.array([[3, 4]], np.float32)).round(3)
    array([[ 0.6, -0.8,  1. ]], dtype=float32)
    """

    _parameters = ("weight",)

    def __init__(
        self,
        in_features: int,
        out_features: int,
        centered: bool = False,
        eps: float = 1e-8,
        *,
        rng: Generator | None = None,
        dtype: DTypeLike = np.float32,
    ) -> None:
        self.in_features = count("in_features", in_features)
        self.out_features = count("out_features", out_features)
        super().__init__((self.out_features, self.in_features), (-1,), True, False, dtype)
        self.centered = centered
        self.eps = _checks.eps(eps)
        bound = 1 / math.sqrt(self.in_features)
        rng = np.random.default_rng() if rng is None else rng
        assert self.weight is not None
        self.weight[...] = rng.uniform(-bound, bound, self.weight.shape)

    def _forward(self, x: Array) -> Any:
        assert self.weight is not None
        y = cosine_norm(x, self.weight, centered=self.centered, eps=self.eps)
        return (y,) if self.training else y

    def _backward(self, dy: Array, saved: tuple[Array, ...], needs: Needs) -> Any:
        assert self.weight is not None
        (x,) = saved
        return cosine_norm_backward(dy, x, self.weight, centered=self.centered, eps=self.eps)

    def _extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}, centered={self.centered}, eps={self.eps}"

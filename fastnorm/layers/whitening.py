"""Decorrelated batch norm and IterNorm as layers: they own the running statistics and decide how they move."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from .. import _checks
from ..functional.whitening import (
    decorrelated_batch_norm,
    decorrelated_batch_norm_backward,
    iter_norm,
    iter_norm_backward,
)
from .base import Array, Needs, TrackingLayer, count


class DecorrelatedBatchNorm(TrackingLayer):
    """Decorrelated batch normalization: every group of channels whitened over the batch and all positions::

        y = (covariance + eps * I) ** (-1/2) @ (x - mean) * weight + bias

    In training mean and covariance are the batch's; in evaluation mean and whitening matrix are the running ones, and
    without those the batch's again.

    Parameters
    ----------
    num_features : int
        The number of channels C.
    num_groups : int
        The number of groups G that are whitened, each of C/G neighbouring channels.
    eps : float
        Added to the eigenvalues of the covariance.
    momentum : float or None
        The share of the batch in running ← (1 - momentum) · running + momentum · batch. None gives each of n
        batches so far the same share, 1/n: the cumulative average.
    affine, bias : bool
        Whether there is a weight, and with it a bias, both of shape (C,).
    track_running_stats : bool
        Whether there are running statistics: `running_mean` of shape (C,), `running_whitening` of shape
        (G, C/G, C/G), and `num_batches_tracked`.
    layout : str or None
        The axes of x by letter, such as "NHWC"; None means channels at axis 1.
    dtype : dtype
        Of the parameters and running statistics.

    References
    ----------
    Huang, Yang, Lang and Deng, "Decorrelated Batch Normalization", 2018, https://arxiv.org/abs/1804.08450

    Examples
    --------
    >>> import numpy as np
    >>> from fastnorm.layers.whitening import DecorrelatedBatchNorm
    >>> layer = DecorrelatedBatchNorm(2, eps=0)
    >>> x = np.array([[3, 3], [1, 3], [-1, -3], [-3, -3]], np.float32)
    >>> y = layer(x)
    >>> (y.T @ y / 4).round(3) + 0
    array([[1., 0.],
           [0., 1.]], dtype=float32)
    >>> layer.backward(np.ones_like(x))[0]
    array([0., 0.], dtype=float32)
    >>> layer.grads["bias"]
    array([4., 4.], dtype=float32)
    """

    _buffers = ("running_mean", "running_whitening", "num_batches_tracked")

    def __init__(
        self,
        num_features: int,
        num_groups: int = 1,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        *,
        bias: bool = True,
        layout: str | None = None,
        dtype: DTypeLike = np.float32,
    ) -> None:
        self.num_groups = count("num_groups", num_groups)
        if count("num_features", num_features) % self.num_groups:
            raise ValueError(f"num_features ({num_features}) must be divisible by num_groups ({num_groups})")
        super().__init__(num_features, affine, track_running_stats, bias, layout, dtype)
        self.eps = _checks.eps(eps)
        self.momentum = None if momentum is None else _checks.momentum(momentum)

    def _track_spread(self, dtype: np.dtype[Any]) -> None:
        one = np.eye(self.num_features // self.num_groups, dtype=dtype)
        self.running_whitening = np.tile(one, (self.num_groups, 1, 1)) if self.track_running_stats else None

    def _forward(self, x: Array) -> Any:
        result = self._whiten(
            x,
            self.num_groups,
            self.running_mean,
            self.running_whitening,
            self.weight,
            self.bias,
            training=self.training,
            momentum=self._momentum_now(),
            eps=self.eps,
            layout=self.layout,
            return_stats=self.training,
        )
        self._count_batch(x)
        return result

    def _whiten(self, *arguments: Any, **options: Any) -> Any:
        return decorrelated_batch_norm(*arguments, **options)

    def _backward(self, dy: Array, saved: tuple[Array, ...], needs: Needs) -> Any:
        x, mean, whitening = saved
        return decorrelated_batch_norm_backward(
            dy, x, self.num_groups, mean, whitening, self.weight, layout=self.layout, needs=needs
        )

    def _extra_repr(self) -> str:
        return super()._extra_repr().replace(", eps", f", num_groups={self.num_groups}, eps", 1)


class IterNorm(DecorrelatedBatchNorm):
    """IterNorm: every group of channels whitened as far as a few Newton-Schulz iterations do, without eigenvalues::

        y = newton_schulz(covariance + eps * I, num_iterations) @ (x - mean) * weight + bias

    Parameters
    ----------
    num_features, num_groups, eps, momentum, affine, track_running_stats, bias, layout, dtype
        Those of `DecorrelatedBatchNorm`.
    num_iterations : int
        With more the result comes closer to that of `DecorrelatedBatchNorm`.

    References
    ----------
    Huang, Zhou, Zhu, Liu and Shao, "Iterative Normalization: Beyond Standardization towards Efficient Whitening", 2019,
    https://arxiv.org/abs/1904.03441

    Examples
    --------
    >>> import numpy as np
    >>> from fastnorm.layers.whitening import IterNorm
    >>> layer = IterNorm(2, num_iterations=9)
    >>> x = np.array([[3, 3], [1, 3], [-1, -3], [-3, -3]], np.float32)
    >>> y = layer(x)
    >>> (y.T @ y / 4).round(3) + 0
    array([[1., 0.],
           [0., 1.]], dtype=float32)
    """

    def __init__(
        self,
        num_features: int,
        num_groups: int = 1,
        num_iterations: int = 5,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        *,
        bias: bool = True,
        layout: str | None = None,
        dtype: DTypeLike = np.float32,
    ) -> None:
        options: dict[str, Any] = {"bias": bias, "layout": layout, "dtype": dtype}
        super().__init__(num_features, num_groups, eps, momentum, affine, track_running_stats, **options)
        self.num_iterations = _checks.num_iterations(num_iterations)

    def _whiten(self, *arguments: Any, **options: Any) -> Any:
        return iter_norm(*arguments, num_iterations=self.num_iterations, **options)

    def _backward(self, dy: Array, saved: tuple[Array, ...], needs: Needs) -> Any:
        x, mean, whitening, covariance = saved
        return iter_norm_backward(
            dy,
            x,
            self.num_groups,
            mean,
            whitening,
            covariance,
            self.weight,
            num_iterations=self.num_iterations,
            eps=self.eps,
            layout=self.layout,
            needs=needs,
        )

    def _extra_repr(self) -> str:
        return super()._extra_repr().replace(", eps", f", num_iterations={self.num_iterations}, eps", 1)

"""Switchable norm as a layer."""

from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from ..functional.switchable import switchable_norm, switchable_norm_backward
from .base import Array, Needs
from .batch import BatchNorm


class SwitchableNorm(BatchNorm):
    """Switchable normalization: a learned mixture of instance, layer and batch statistics::

        y = (x - sum(w * means)) / sqrt(sum(w' * vars) + eps) * weight + bias

    where w and w' are the softmax of `mean_weight` and `var_weight`. In evaluation the batch's statistics are the running
    ones. A call takes `mask`, `lengths` and `keep_padding` as `fastnorm.switchable_norm` does.

    Parameters
    ----------
    num_features, eps, momentum, affine, track_running_stats, bias, layout, dtype
        As those of `BatchNorm`.

    Attributes
    ----------
    mean_weight, var_weight : arrays of shape (3,)
        The logits of instance, layer and batch: parameters beside `weight` and `bias`.

    References
    ----------
    Luo, Ren, Peng, Zhang and Li, "Differentiable Learning-to-Normalize via Switchable Normalization", 2018,
    https://arxiv.org/abs/1806.10779

    Examples
    --------
    >>> import numpy as np
    >>> from fastnorm import SwitchableNorm
    >>> layer = SwitchableNorm(1)
    >>> y = layer(np.array([[[1, 3]], [[20, 10]]], np.float32))
    >>> dx = layer.backward(np.ones_like(y))
    >>> sorted(layer.grads)
    ['bias', 'mean_weight', 'var_weight', 'weight']
    """

    _parameters = ("mean_weight", "var_weight", "weight", "bias")

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        *,
        bias: bool = True,
        layout: str | None = None,
        dtype: DTypeLike = np.float32,
    ) -> None:
        super().__init__(
            num_features, eps, momentum, affine, track_running_stats, bias=bias, layout=layout, dtype=dtype
        )
        self.mean_weight = np.ones(3, self.dtype)
        self.var_weight = np.ones(3, self.dtype)

    def _normalized(self, x: Array, **padding: Any) -> Any:
        return switchable_norm(
            x,
            self.mean_weight,
            self.var_weight,
            self.weight,
            self.bias,
            self.running_mean,
            self.running_var,
            training=self.training,
            momentum=self._momentum_now(),
            eps=self.eps,
            layout=self.layout,
            return_stats=self.training,
            **padding,
        )

    def _backward(self, dy: Array, saved: tuple[Array, ...], needs: Needs, **padding: Any) -> Any:
        x, mean, var = saved
        return switchable_norm_backward(
            dy,
            x,
            mean,
            var,
            self.mean_weight,
            self.var_weight,
            self.weight,
            self.bias,
            training=True,
            eps=self.eps,
            layout=self.layout,
            **padding,
        )

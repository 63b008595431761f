"""Variance-only layer and batch norm, and simple layer norm, as layers."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from ..functional.variance_only import (
    variance_only_batch_norm,
    variance_only_batch_norm_backward,
    variance_only_layer_norm,
    variance_only_layer_norm_backward,
)
from .base import Array, Needs
from .batch import BatchNorm
from .layer import LayerNorm


class VarianceOnlyLayerNorm(LayerNorm):
    """Layer normalization that divides by the standard deviation and subtracts no mean::

        y = x / sqrt(var + eps) * weight + bias

    Parameters
    ----------
    normalized_shape, eps, elementwise_affine, bias, axis, dtype
        As those of `LayerNorm`.

    References
    ----------
    Wang, She, Zhang and Zhang, "Correct Normalization Matters", 2020, https://arxiv.org/abs/2006.12753

    Examples
    --------
    >>> import numpy as np
    >>> from fastnorm import VarianceOnlyLayerNorm
    >>> VarianceOnlyLayerNorm(2, eps=0)(np.array([[1, 3], [20, 10]], np.float32))
    array([[1., 3.],
           [4., 2.]], dtype=float32)
    """

    _padding = ()
    _functions = variance_only_layer_norm, variance_only_layer_norm_backward


class SimpleLayerNorm(LayerNorm):
    """Layer normalization without weight and bias::

        y = (x - mean) / sqrt(var + eps)

    Parameters
    ----------
    normalized_shape, eps, axis, dtype
        As those of `LayerNorm`.

    References
    ----------
    Wang, She, Zhang and Zhang, "Correct Normalization Matters", 2020, https://arxiv.org/abs/2006.12753

    Examples
    --------
    >>> import numpy as np
    >>> from fastnorm import SimpleLayerNorm
    >>> SimpleLayerNorm(2, eps=0)(np.array([[1, 3], [20, 10]], np.float32))
    array([[-1.,  1.],
           [ 1., -1.]], dtype=float32)
    """

    _padding = ()

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        *,
        axis: int | Sequence[int] | None = None,
        dtype: DTypeLike = np.float32,
    ) -> None:
        super().__init__(normalized_shape, eps, False, axis=axis, dtype=dtype)

    def _extra_repr(self) -> str:
        return f"{self.normalized_shape}, eps={self.eps}"


class VarianceOnlyBatchNorm(BatchNorm):
    """Batch normalization that divides by the standard deviation and subtracts no mean::

        y = x / sqrt(var + eps) * weight + bias

    Parameters
    ----------
    num_features, eps, momentum, affine, track_running_stats, bias, layout, dtype
        As those of `BatchNorm`; the one running statistic is the variance.

    References
    ----------
    Wang, She, Zhang and Zhang, "Correct Normalization Matters", 2020, https://arxiv.org/abs/2006.12753

    Examples
    --------
    >>> import numpy as np
    >>> from fastnorm import VarianceOnlyBatchNorm
    >>> VarianceOnlyBatchNorm(2, eps=0)(np.array([[1, 3], [3, 1]], np.float32))
    array([[1., 3.],
           [3., 1.]], dtype=float32)
    """

    _buffers = ("running_var", "num_batches_tracked")
    _padding = ()

    def _normalized(self, x: Array) -> Any:  # type: ignore[override]
        return variance_only_batch_norm(
            x,
            self.running_var,
            self.weight,
            self.bias,
            training=self.training,
            momentum=self._momentum_now(),
            eps=self.eps,
            layout=self.layout,
            return_stats=self.training,
        )

    def _backward(self, dy: Array, saved: tuple[Array, ...], needs: Needs) -> Any:  # type: ignore[override]
        x, mean, rstd = saved
        return variance_only_batch_norm_backward(
            dy, x, mean, rstd, self.weight, layout=self.layout, needs=needs
        )

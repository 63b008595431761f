"""Batch norm as a layer: it owns the running statistics and decides how they move."""

from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from .. import _checks
from ..functional import batch_norm, batch_norm_backward
from .base import PADDING, Array, Needs, TrackingLayer


class BatchNorm(TrackingLayer):
    """Batch normalization: every channel over the batch and all positions::

        y = (x - mean) / sqrt(var + eps) * weight + bias

    In training mean and variance are the batch's; in evaluation they are the running statistics, and without
    those the batch's again. A call takes `mask`, `lengths` and `keep_padding` as `fastnorm.batch_norm` does.

    Parameters
    ----------
    num_features : int
        The number of channels C.
    eps : float
        Added to the variance.
    momentum : float or None
        The share of the batch in running ← (1 - momentum) · running + momentum · batch. None gives each of n
        batches so far the same share, 1/n: the cumulative average.
    affine, bias : bool
        Whether there is a weight, and with it a bias, both of shape (C,).
    track_running_stats : bool
        Whether there are running statistics: `running_mean` and `running_var` of shape (C,), and
        `num_batches_tracked`.
    layout : str or None
        The axes of x by letter, such as "NHWC"; None means channels at axis 1.
    dtype : dtype
        Of the parameters and running statistics.

    References
    ----------
    Ioffe and Szegedy, "Batch Normalization", 2015, https://arxiv.org/abs/1502.03167

    Examples
    --------
    >>> import numpy as np
    >>> from fastnorm import BatchNorm
    >>> layer = BatchNorm(3, eps=0, layout="NC")
    >>> x = np.array([[1, 2, 3], [3, 6, 9]], np.float32)
    >>> layer(x)
    array([[-1., -1., -1.],
           [ 1.,  1.,  1.]], dtype=float32)
    >>> layer.backward(np.ones_like(x))
    array([[0., 0., 0.],
           [0., 0., 0.]], dtype=float32)
    >>> layer.grads["bias"]
    array([2., 2., 2.], dtype=float32)
    >>> layer.running_mean
    array([0.2, 0.4, 0.6], dtype=float32)
    """

    _padding = PADDING

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
        super().__init__(num_features, affine, track_running_stats, bias, layout, dtype)
        self.eps = _checks.eps(eps)
        self.momentum = None if momentum is None else _checks.momentum(momentum)

    def _forward(self, x: Array, **padding: Any) -> Any:
        result = self._normalized(x, **padding)
        self._count_batch(x, padding.get("mask"), padding.get("lengths"))
        return result

    def _normalized(self, x: Array, **padding: Any) -> Any:
        return batch_norm(
            x,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            training=self.training,
            momentum=self._momentum_now(),
            eps=self.eps,
            layout=self.layout,
            return_stats=self.training,
            **padding,
        )

    def _backward(self, dy: Array, saved: tuple[Array, ...], needs: Needs, **padding: Any) -> Any:
        x, mean, rstd = saved
        return batch_norm_backward(dy, x, mean, rstd, self.weight, layout=self.layout, needs=needs, **padding)

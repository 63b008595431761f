"""Instance norm as a layer, with running statistics where they are asked for."""

from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from .. import _checks
from ..functional import instance_norm, instance_norm_backward
from .base import PADDING, Array, Needs, TrackingLayer


class InstanceNorm(TrackingLayer):
    """Instance normalization: every channel of every sample over all its positions::

        y = (x - mean) / sqrt(var + eps) * weight + bias

    With running statistics, evaluation uses those instead of the sample's own. A call takes `mask`, `lengths`,
    `cu_seqlens` and `keep_padding` as `fastnorm.instance_norm` does.

    Parameters
    ----------
    num_features : int
        The number of channels C.
    eps : float
        Added to the variance.
    momentum : float
        The share of the batch in running ← (1 - momentum) · running + momentum · batch, where the batch's
        statistics are the means of its samples'.
    affine, bias : bool
        Whether there is a weight, and with it a bias, both of shape (C,).
    track_running_stats : bool
        Whether there are running statistics: `running_mean` and `running_var` of shape (C,), and
        `num_batches_tracked`, which stays 0 as it does in PyTorch.
    layout : str or None
        The axes of x by letter, such as "NHWC"; None means channels at axis 1.
    dtype : dtype
        Of the parameters and running statistics.

    References
    ----------
    Ulyanov, Vedaldi and Lempitsky, "Instance Normalization", 2016, https://arxiv.org/abs/1607.08022

    Examples
    --------
    >>> import numpy as np
    >>> from fastnorm import InstanceNorm
    >>> layer = InstanceNorm(1, eps=0)
    >>> layer(np.array([[[1, 3]], [[20, 10]]], np.float32))
    array([[[-1.,  1.]],
    <BLANKLINE>
           [[ 1., -1.]]], dtype=float32)
    """

    _padding = (*PADDING, "cu_seqlens")
    momentum: float

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
        *,
        bias: bool = True,
        layout: str | None = None,
        dtype: DTypeLike = np.float32,
    ) -> None:
        super().__init__(num_features, affine, track_running_stats, bias, layout, dtype)
        self.eps = _checks.eps(eps)
        self.momentum = _checks.momentum(momentum)

    def _forward(self, x: Array, **padding: Any) -> Any:
        return instance_norm(
            x,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            use_input_stats=self.training or not self.track_running_stats,
            momentum=self.momentum,
            eps=self.eps,
            layout=self.layout,
            return_stats=self.training,
            **padding,
        )

    def _backward(self, dy: Array, saved: tuple[Array, ...], needs: Needs, **padding: Any) -> Any:
        x, mean, rstd = saved
        options: Any = {"layout": self.layout, "needs": needs, **padding}
        return instance_norm_backward(dy, x, mean, rstd, self.weight, **options)

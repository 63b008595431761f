"""Ghost batch norm as a layer: it owns the running statistics."""

from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from .. import _checks
from ..functional.ghost import ghost_batch_norm, ghost_batch_norm_backward
from .base import Array, Needs, TrackingLayer, count


class GhostBatchNorm(TrackingLayer):
    """Ghost batch normalization: batch norm of small batches that a large one is split into::

        y = (x - mean) / sqrt(var + eps) * weight + bias

    In training mean and variance are those of a ghost batch; in evaluation they are the running statistics, and without
    those the ghost batches' again.

    Parameters
    ----------
    num_features : int
        The number of channels C.
    ghost_batch_size : int
        Samples of a ghost batch; the last may have fewer.
    eps : float
        Added to the variance.
    momentum : float
        The share of each ghost batch in running ← (1 - momentum) · running + momentum · ghost.
    affine, bias : bool
        Whether there is a weight, and with it a bias, both of shape (C,).
    track_running_stats : bool
        Whether there are running statistics: `running_mean` and `running_var` of shape (C,), and
        `num_batches_tracked`, which counts ghost batches.
    layout : str or None
        The axes of x by letter, such as "NHWC"; None means channels at axis 1.
    dtype : dtype
        Of the parameters and running statistics.

    References
    ----------
    Hoffer, Hubara, Soudry, "Train longer, generalize better: closing the generalization gap in large batch training of
    neural networks", 2017, https://arxiv.org/abs/1705.08741

    Examples
    --------
    >>> import numpy as np
    >>> from fastnorm.layers.ghost import GhostBatchNorm
    >>> layer = GhostBatchNorm(2, 2, eps=0, layout="NC")
    >>> layer(np.array([[1, 2], [3, 6], [9, 4], [5, 5]], np.float32))
    array([[-1., -1.],
           [ 1.,  1.],
           [ 1., -1.],
           [-1.,  1.]], dtype=float32)
    >>> layer.num_batches_tracked
    array(2)
    """

    momentum: float

    def __init__(
        self,
        num_features: int,
        ghost_batch_size: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        *,
        bias: bool = True,
        layout: str | None = None,
        dtype: DTypeLike = np.float32,
    ) -> None:
        super().__init__(num_features, affine, track_running_stats, bias, layout, dtype)
        self.ghost_batch_size = count("ghost_batch_size", ghost_batch_size)
        self.eps = _checks.eps(eps)
        self.momentum = _checks.momentum(momentum)

    def _forward(self, x: Array) -> Any:
        result = ghost_batch_norm(
            x,
            self.ghost_batch_size,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            training=self.training,
            momentum=self.momentum,
            eps=self.eps,
            layout=self.layout,
            return_stats=self.training,
        )
        if self.training and self.num_batches_tracked is not None and x.size:
            _, mean, _ = result
            self.num_batches_tracked += len(mean)
        return result

    def _backward(self, dy: Array, saved: tuple[Array, ...], needs: Needs) -> Any:
        x, mean, rstd = saved
        size = self.ghost_batch_size
        return ghost_batch_norm_backward(
            dy, x, size, mean, rstd, self.weight, layout=self.layout, needs=needs
        )

    def _extra_repr(self) -> str:
        features, rest = super()._extra_repr().split(", ", 1)
        return f"{features}, {self.ghost_batch_size}, {rest}"

"""Batch renormalization as a layer: it owns the running statistics, and how far they correct the batch's."""

from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from .. import _checks
from .._floats import computed
from ..functional.renorm import batch_renorm, batch_renorm_backward
from .base import Array, ChannelLayer, Needs, count


class BatchRenorm(ChannelLayer):
    """Batch renormalization: batch norm that corrects the batch's statistics towards the running ones::

        y = ((x - mean) / std * r + d) * weight + bias

    with r = std / running_std, held to 1/r_max … r_max, and d = (mean - running_mean) / running_std, held to
    -d_max … d_max. In evaluation y is (x - running_mean) / running_std * weight + bias.

    Parameters
    ----------
    num_features : int
        The number of channels C.
    eps : float
        Added to the variance.
    momentum : float
        The share of the batch in the running statistics.
    affine, bias : bool
        Whether there is a weight, and with it a bias, both of shape (C,).
    r_max, d_max : float
        The limits. As attributes they may be changed from step to step: the paper trains with 1 and 0, that is by batch
        norm, until the running statistics have settled, then lets them grow to 3 and 5.
    layout : str or None
        The axes of x by letter, such as "NHWC"; None means channels at axis 1.
    dtype : dtype
        Of the parameters and running statistics.

    References
    ----------
    Ioffe, "Batch Renormalization: Towards Reducing Minibatch Dependence in Batch-Normalized Models", 2017,
    https://arxiv.org/abs/1702.03275

    Examples
    --------
    >>> import numpy as np
    >>> from fastnorm.layers.renorm import BatchRenorm
    >>> layer = BatchRenorm(2, eps=0, momentum=0.5, layout="NC")
    >>> x = np.array([[1, 2], [3, 6]], np.float32)
    >>> layer(x)
    array([[1., 2.],
           [3., 6.]], dtype=float32)
    >>> layer.running_mean, layer.running_std
    (array([1., 2.], dtype=float32), array([1. , 1.5], dtype=float32))
    """

    _buffers = ("running_mean", "running_std", "num_batches_tracked")

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.01,
        affine: bool = True,
        *,
        r_max: float = 3.0,
        d_max: float = 5.0,
        bias: bool = True,
        layout: str | None = None,
        dtype: DTypeLike = np.float32,
    ) -> None:
        self.num_features = count("num_features", num_features)
        super().__init__(self.num_features, affine, bias, layout, dtype)
        self.eps = _checks.eps(eps)
        self.momentum = _checks.momentum(momentum)
        self.r_max = _checks.at_least(r_max, "r_max", 1)
        self.d_max = _checks.at_least(d_max, "d_max", 0)
        wide = computed(self.dtype)
        self.running_mean = np.zeros(self._sizes, wide)
        self.running_std = np.ones(self._sizes, wide)
        self.num_batches_tracked = np.zeros((), np.int64)

    def _forward(self, x: Array) -> Any:
        result = batch_renorm(
            x,
            self.running_mean,
            self.running_std,
            self.weight,
            self.bias,
            training=self.training,
            r_max=self.r_max,
            d_max=self.d_max,
            momentum=self.momentum,
            eps=self.eps,
            layout=self.layout,
            return_stats=self.training,
        )
        if self.training and x.size:
            self.num_batches_tracked += 1
        return result

    def _backward(self, dy: Array, saved: tuple[Array, ...], needs: Needs) -> Any:
        x, mean, rstd, r, d = saved
        return batch_renorm_backward(dy, x, mean, rstd, r, d, self.weight, layout=self.layout, needs=needs)

    def _extra_repr(self) -> str:
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"r_max={self.r_max}, d_max={self.d_max}, bias={self.bias is not None}"
        )

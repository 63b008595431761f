"""Group norm as a layer."""

from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from .. import _checks
from ..functional import group_norm, group_norm_backward
from .base import PADDING, Array, ChannelLayer, Needs, count


class GroupNorm(ChannelLayer):
    """Group normalization: every group of channels of every sample over all its positions::

        y = (x - mean) / sqrt(var + eps) * weight + bias

    A call takes `mask`, `lengths` and `keep_padding` as `fastnorm.group_norm` does.

    Parameters
    ----------
    num_groups : int
        The number of groups, which divides the number of channels.
    num_channels : int
        The number of channels C.
    eps : float
        Added to the variance.
    affine, bias : bool
        Whether there is a weight, and with it a bias, both of shape (C,).
    layout : str or None
        The axes of x by letter, such as "NHWC"; None means channels at axis 1.
    dtype : dtype
        Of the parameters.

    References
    ----------
    Wu and He, "Group Normalization", 2018, https://arxiv.org/abs/1803.08494

    Examples
    --------
    >>> import numpy as np
    >>> from fastnorm import GroupNorm
    >>> layer = GroupNorm(2, 4, eps=0, layout="NC")
    >>> layer(np.array([[1, 3, 20, 10]], np.float32))
    array([[-1.,  1.,  1., -1.]], dtype=float32)
    """

    _padding = PADDING

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        *,
        bias: bool = True,
        layout: str | None = None,
        dtype: DTypeLike = np.float32,
    ) -> None:
        self.num_groups = count("num_groups", num_groups)
        self.num_channels = count("num_channels", num_channels)
        if self.num_channels % self.num_groups:
            raise ValueError(f"num_channels ({num_channels}) must be divisible by num_groups ({num_groups})")
        super().__init__(self.num_channels, affine, bias, layout, dtype)
        self.eps = _checks.eps(eps)

    def _forward(self, x: Array, **padding: Any) -> Any:
        return group_norm(
            x,
            self.num_groups,
            self.weight,
            self.bias,
            eps=self.eps,
            layout=self.layout,
            return_stats=self.training,
            **padding,
        )

    def _backward(self, dy: Array, saved: tuple[Array, ...], needs: Needs, **padding: Any) -> Any:
        x, mean, rstd = saved
        options: Any = {"layout": self.layout, "needs": needs, **padding}
        return group_norm_backward(dy, x, self.num_groups, mean, rstd, self.weight, **options)

    def _extra_repr(self) -> str:
        bias = self.bias is not None
        return f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.affine}, bias={bias}"

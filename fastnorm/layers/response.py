"""Global response norm as a layer."""

from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from .. import _checks
from ..functional.response import global_response_norm, global_response_norm_backward
from .base import Array, ChannelLayer, Needs, count


class GlobalResponseNorm(ChannelLayer):
    """Global response normalization: each channel is raised by its share in the norms of the sample's channels::

        g = norm of x over all positions
        y = x * (1 + weight * g / (mean of g over channels + eps)) + bias

    Parameters
    ----------
    dim : int
        The number of channels C.
    eps : float
        Added to the mean of the norms.
    layout : str or None
        The axes of x by letter; ConvNeXt V2 has "NHWC". None means channels at axis 1.
    dtype : dtype
        Of the weight and bias, of shape (C,). Both are 0 at first, and y is x.

    References
    ----------
    Woo et al., "ConvNeXt V2: Co-designing and Scaling ConvNets with Masked Autoencoders", 2023,
    https://arxiv.org/abs/2301.00808

    Examples
    --------
    >>> import numpy as np
    >>> from fastnorm.layers.response import GlobalResponseNorm
    >>> layer = GlobalResponseNorm(2, layout="NLC")
    >>> layer.weight[:] = 1
    >>> layer(np.array([[[3, 0], [4, 5]]], np.float32)).round(3)
    array([[[ 6.,  0.],
            [ 8., 10.]]], dtype=float32)
    """

    def __init__(
        self, dim: int, eps: float = 1e-6, *, layout: str | None = None, dtype: DTypeLike = np.float32
    ) -> None:
        self.dim = count("dim", dim)
        super().__init__(self.dim, True, True, layout, dtype)
        self.weight = np.zeros_like(self.bias)
        self.eps = _checks.eps(eps)

    def _forward(self, x: Array) -> Any:
        options: Any = {"layout": self.layout, "eps": self.eps, "return_norm": self.training}
        return global_response_norm(x, self.weight, self.bias, **options)

    def _backward(self, dy: Array, saved: tuple[Array, ...], needs: Needs) -> Any:
        x, norm = saved
        options: Any = {"layout": self.layout, "eps": self.eps, "needs": needs}
        return global_response_norm_backward(dy, x, norm, self.weight, self.bias, **options)

    def _extra_repr(self) -> str:
        return f"{self.dim}, eps={self.eps}"

"""Filter response norm as a layer."""

from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from .. import _checks
from ..functional.filter_response import filter_response_norm, filter_response_norm_backward
from .base import Array, ChannelLayer, Needs, count


class FilterResponseNorm(ChannelLayer):
    """Filter response normalization with its thresholded linear unit, for every channel of every sample::

        y = max(x / sqrt(mean(x ** 2) + eps) * weight + bias, tau)

    Parameters
    ----------
    num_features : int
        The number of channels C.
    eps : float
        Added to the mean square.
    affine, bias : bool
        Whether there is a weight, and with it a bias, both of shape (C,).
    threshold : bool
        Whether there is a threshold, `tau` of shape (C,), which begins with zeros.
    layout : str or None
        The axes of x by letter, such as "NHWC"; None means channels at axis 1.
    dtype : dtype
        Of the parameters.

    References
    ----------
    Singh and Krishnan, "Filter Response Normalization Layer", 2020, https://arxiv.org/abs/1911.09737

    Examples
    --------
    >>> import numpy as np
    >>> from fastnorm import FilterResponseNorm
    >>> layer = FilterResponseNorm(1, eps=0)
    >>> layer(np.array([[[1, -7]]], np.float32))
    array([[[0.2, 0. ]]], dtype=float32)
    """

    _parameters = ("weight", "bias", "tau")

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-6,
        affine: bool = True,
        *,
        bias: bool = True,
        threshold: bool = True,
        layout: str | None = None,
        dtype: DTypeLike = np.float32,
    ) -> None:
        self.num_features = count("num_features", num_features)
        super().__init__(self.num_features, affine, bias, layout, dtype)
        self.eps = _checks.eps(eps)
        self.tau = np.zeros(self.num_features, self.dtype) if threshold else None

    def _forward(self, x: Array) -> Any:
        return filter_response_norm(
            x,
            self.weight,
            self.bias,
            self.tau,
            eps=self.eps,
            layout=self.layout,
            return_stats=self.training,
        )

    def _backward(self, dy: Array, saved: tuple[Array, ...], needs: Needs) -> Any:
        x, rstd = saved
        return filter_response_norm_backward(
            dy, x, rstd, self.weight, self.bias, self.tau, layout=self.layout
        )

    def _extra_repr(self) -> str:
        affine, bias, threshold = self.affine, self.bias is not None, self.tau is not None
        return f"{self.num_features}, eps={self.eps}, affine={affine}, bias={bias}, threshold={threshold}"

"""RMS norm as a layer."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from .. import _checks
from ..functional import rms_norm, rms_norm_backward
from .base import Array, ElementLayer, Needs


class RMSNorm(ElementLayer):
    """Root mean square normalization: layer norm without the mean, over the trailing axes or over `axis`::

        y = x / sqrt(mean(x ** 2) + eps) * weight

    Parameters
    ----------
    normalized_shape : int or tuple of int
        The sizes of the normalized axes, in the order of the array.
    eps : float or None
        Added to the mean square; None means the epsilon of x's dtype.
    elementwise_affine : bool
        Whether there is a weight, of shape `normalized_shape`.
    axis : int, tuple of int or None
        The normalized axes; None means the trailing ones.
    dtype : dtype
        Of the weight.

    References
    ----------
    Zhang and Sennrich, "Root Mean Square Layer Normalization", 2019, https://arxiv.org/abs/1910.07467

    Examples
    --------
    >>> import numpy as np
    >>> from fastnorm import RMSNorm
    >>> layer = RMSNorm(2, eps=0)
    >>> layer(np.array([[3, 3], [-5, 5]], np.float32))
    array([[ 1.,  1.],
           [-1.,  1.]], dtype=float32)
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float | None = None,
        elementwise_affine: bool = True,
        *,
        axis: int | Sequence[int] | None = None,
        dtype: DTypeLike = np.float32,
    ) -> None:
        super().__init__(normalized_shape, elementwise_affine, False, axis, dtype)
        self.eps = None if eps is None else _checks.eps(eps)

    def _forward(self, x: Array) -> Any:
        return rms_norm(x, self.weight, axis=self._axes, eps=self.eps, return_stats=self.training)

    def _backward(self, dy: Array, saved: tuple[Array, ...], needs: Needs) -> Any:
        x, rstd = saved
        return rms_norm_backward(dy, x, rstd, self.weight, axis=self._axes, needs=needs)

    def _extra_repr(self) -> str:
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"

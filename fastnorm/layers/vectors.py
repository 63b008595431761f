"""Normalize and scale norm as layers."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from .. import _checks
from ..functional.vectors import normalize, normalize_backward, scale_norm, scale_norm_backward
from .base import Array, Layer, Needs, count


class Normalize(Layer):
    """Vectors brought to the length 1, by any p-norm::

        y = x / max(norm(x, p), eps)

    Parameters
    ----------
    p : float
        Above 0; infinity is the largest absolute value.
    axis : int or tuple of int
        Along which the vectors lie.
    eps : float
        The least that a norm counts for.

    References
    ----------
    PyTorch's `torch.nn.functional.normalize`

    Examples
    --------
    >>> import numpy as np
    >>> from fastnorm.layers.vectors import Normalize
    >>> layer = Normalize(p=1)
    >>> layer(np.array([[1, -3], [0, 5]], np.float32))
    array([[ 0.25, -0.75],
           [ 0.  ,  1.  ]], dtype=float32)
    """

    _place = "axis"
    _parameters = ()

    def __init__(self, p: float = 2.0, axis: int | Sequence[int] = 1, eps: float = 1e-12) -> None:
        super().__init__((), (), False, False, np.float32)
        self.p, self.eps = _checks.order(p), _checks.least(eps)
        self.axis = axis if isinstance(axis, int) else tuple(axis)

    def _forward(self, x: Array) -> Any:
        return normalize(x, self.p, self.axis, self.eps, return_norm=self.training)

    def _backward(self, dy: Array, saved: tuple[Array, ...], needs: Needs) -> Any:
        x, norm = saved
        return (normalize_backward(dy, x, norm, self.p, self.axis, self.eps),)

    def _extra_repr(self) -> str:
        return f"p={self.p}, eps={self.eps}"


class ScaleNorm(Layer):
    """Vectors brought to one learned length::

        y = scale * x / max(norm(x), eps)

    Parameters
    ----------
    dim : int
        The size of the vectors. Its root is the initial scale.
    eps : float
        The least that a norm counts for.
    axis : int
        Along which the vectors lie.
    dtype : dtype
        Of the scale.

    Attributes
    ----------
    scale : array of shape ()
        The length g, under the name that the authors' code gives it.

    References
    ----------
    Nguyen and Salazar, "Transformers without Tears", 2019, https://arxiv.org/abs/1910.05895

    Examples
    --------
    >>> import numpy as np
    >>> from fastnorm.layers.vectors import ScaleNorm
    >>> layer = ScaleNorm(4)
    >>> layer(np.array([[3, 0, 4, 0]], np.float32)).round(3)
    array([[1.2, 0. , 1.6, 0. ]], dtype=float32)
    """

    _place = "axis"
    _parameters = ("scale",)

    def __init__(self, dim: int, eps: float = 1e-5, *, axis: int = -1, dtype: DTypeLike = np.float32) -> None:
        self.dim = count("dim", dim)
        super().__init__((self.dim,), (axis,), False, False, dtype)
        self.eps, self.axis = _checks.least(eps), axis
        self.scale = np.full((), np.sqrt(self.dim), self.dtype)

    def _forward(self, x: Array) -> Any:
        return scale_norm(x, self.scale, axis=self.axis, eps=self.eps, return_norm=self.training)

    def _backward(self, dy: Array, saved: tuple[Array, ...], needs: Needs) -> Any:
        x, norm = saved
        return scale_norm_backward(dy, x, norm, self.scale, axis=self.axis, eps=self.eps)

    def _extra_repr(self) -> str:
        return f"{self.dim}, eps={self.eps}"

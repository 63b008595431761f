"""Dynamic tanh as a layer."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from ..functional.dynamic_tanh import dynamic_tanh, dynamic_tanh_backward
from .base import Array, ElementLayer, Needs


class DynamicTanh(ElementLayer):
    """A tanh of learned steepness where a transformer has layer norm::

        y = tanh(alpha * x) * weight + bias

    Parameters
    ----------
    normalized_shape : int or tuple of int
        The sizes of the axes along which weight and bias lie, in the order of the array.
    alpha_init : float
        What `alpha`, a parameter of shape (1,), begins with.
    elementwise_affine, bias : bool
        Whether there is a weight, and with it a bias, both of shape `normalized_shape`.
    axis : int, tuple of int or None
        The axes of weight and bias; None means the trailing ones. With `axis=1` they are those of NCHW's channels.
    dtype : dtype
        Of the parameters.

    References
    ----------
    Zhu, Chen, He, LeCun and Liu, "Transformers without Normalization", 2025, https://arxiv.org/abs/2503.10622

    Examples
    --------
    >>> import numpy as np
    >>> from fastnorm import DynamicTanh
    >>> layer = DynamicTanh(2)
    >>> layer(np.array([[0, 9], [-9, 1]], np.float32)).round(2)
    array([[ 0.  ,  1.  ],
           [-1.  ,  0.46]], dtype=float32)
    """

    _parameters = ("alpha", "weight", "bias")

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        alpha_init: float = 0.5,
        elementwise_affine: bool = True,
        bias: bool = True,
        *,
        axis: int | Sequence[int] | None = None,
        dtype: DTypeLike = np.float32,
    ) -> None:
        super().__init__(normalized_shape, elementwise_affine, bias, axis, dtype)
        self.alpha_init = float(alpha_init)
        self.alpha = np.full(1, alpha_init, self.dtype)

    def _forward(self, x: Array) -> Any:
        y = dynamic_tanh(x, self.alpha, self.weight, self.bias, axis=self._axes)
        return (y,) if self.training else y

    def _backward(self, dy: Array, saved: tuple[Array, ...], needs: Needs) -> Any:
        return dynamic_tanh_backward(dy, saved[0], self.alpha, self.weight, axis=self._axes)

    def _extra_repr(self) -> str:
        affine, bias = self.elementwise_affine, self.bias is not None
        return (
            f"{self.normalized_shape}, alpha_init={self.alpha_init}, elementwise_affine={affine}, bias={bias}"
        )

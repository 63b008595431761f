"""Layer norm as a layer."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import DTypeLike

from .. import _checks
from ..functional import layer_norm, layer_norm_backward
from .base import PADDING, Array, ElementLayer, Needs


class LayerNorm(ElementLayer):
    """Layer normalization: every sample, or every position of it, over its trailing axes or over `axis`::

        y = (x - mean) / sqrt(var + eps) * weight + bias

    A call takes `mask`, `lengths` and `keep_padding` as `fastnorm.layer_norm` does.

    Parameters
    ----------
    normalized_shape : int or tuple of int
        The sizes of the normalized axes, in the order of the array.
    eps : float
        Added to the variance.
    elementwise_affine, bias : bool
        Whether there is a weight, and with it a bias, both of shape `normalized_shape`.
    axis : int, tuple of int or None
        The normalized axes; None means the trailing ones. With `axis=1` it normalizes NCHW over its channels.
    dtype : dtype
        Of the parameters.

    References
    ----------
    Ba, Kiros and Hinton, "Layer Normalization", 2016, https://arxiv.org/abs/1607.06450

    Examples
    --------
    >>> import numpy as np
    >>> from fastnorm import LayerNorm
    >>> layer = LayerNorm(2, eps=0)
    >>> layer(np.array([[1, 3], [20, 10]], np.float32))
    array([[-1.,  1.],
           [ 1., -1.]], dtype=float32)
    """

    _padding = PADDING
    _functions: ClassVar[tuple[Callable[..., Any], ...]] = (layer_norm, layer_norm_backward)

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        *,
        axis: int | Sequence[int] | None = None,
        dtype: DTypeLike = np.float32,
    ) -> None:
        super().__init__(normalized_shape, elementwise_affine, bias, axis, dtype)
        self.eps = _checks.eps(eps)

    def _forward(self, x: Array, **padding: Any) -> Any:
        options: Any = {"axis": self._axes, "eps": self.eps, "return_stats": self.training, **padding}
        return self._functions[0](x, self.weight, self.bias, **options)

    def _backward(self, dy: Array, saved: tuple[Array, ...], needs: Needs, **padding: Any) -> Any:
        x, mean, rstd = saved
        options: Any = {"axis": self._axes, "needs": needs, **padding}
        return self._functions[1](dy, x, mean, rstd, self.weight, **options)

    def _extra_repr(self) -> str:
        affine, bias = self.elementwise_affine, self.bias is not None
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={affine}, bias={bias}"

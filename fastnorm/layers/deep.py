"""Deep norm as a layer."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from .. import _checks
from ..functional.deep import deep_norm, deep_norm_backward
from .base import Array, ElementLayer, Needs


class DeepNorm(ElementLayer):
    """Deep normalization: layer norm behind a residual connection that is scaled up::

        total = alpha * x + residual
        y = (total - mean) / sqrt(var + eps) * weight + bias

    Parameters
    ----------
    normalized_shape : int or tuple of int
        The sizes of the normalized axes, in the order of the array.
    alpha : float
        What x is multiplied by; `deep_norm_constants` gives the paper's, and the gain of initial weights that goes with it.
    eps : float
        Added to the variance.
    elementwise_affine, bias : bool
        Whether there is a weight, and with it a bias, both of shape `normalized_shape`.
    axis : int, tuple of int or None
        The normalized axes; None means the trailing ones.
    dtype : dtype
        Of the parameters.

    References
    ----------
    Wang et al., "DeepNet: Scaling Transformers to 1,000 Layers", 2022, https://arxiv.org/abs/2203.00555

    Examples
    --------
    >>> import numpy as np
    >>> from fastnorm.functional.deep import deep_norm_constants
    >>> from fastnorm.layers.deep import DeepNorm
    >>> _, decoder = deep_norm_constants(decoder_layers=8)
    >>> layer = DeepNorm(2, decoder.alpha, eps=0)
    >>> layer(np.array([[1, 2]], np.float32), np.array([[3, 3]], np.float32))
    array([[-1.,  1.]], dtype=float32)
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        alpha: float,
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        *,
        axis: int | Sequence[int] | None = None,
        dtype: DTypeLike = np.float32,
    ) -> None:
        super().__init__(normalized_shape, elementwise_affine, bias, axis, dtype)
        self.alpha, self.eps = _checks.number(alpha, "alpha", "2.0"), _checks.eps(eps)

    def __call__(self, x: Array, residual: Array) -> Array:  # type: ignore[override]
        """Normalize alpha·x + residual; in training, keep what `backward` needs.

        Parameters
        ----------
        x, residual : arrays of floats
            The residual stream and what the sublayer made of it, of one shape and dtype.

        Returns
        -------
        array of x's shape, dtype and memory order
        """
        if self.weight is None:
            self._check_sizes(x)
        y = self._forward(x, residual)
        self._saved = None
        if self.training:
            y, *saved = y
            self._saved = ({}, *saved)
        return y  # type: ignore[no-any-return]

    def backward(self, dy: Array) -> tuple[Array, Array]:  # type: ignore[override]
        """Return (dx, dresidual) of the last call, and leave the parameters' gradients in `grads` in place of older ones.

        Parameters
        ----------
        dy : array of x's shape
            The gradient of the loss with respect to the result of the last call, which was in training.

        Returns
        -------
        two arrays of x's shape, dtype and memory order

        Raises
        ------
        RuntimeError
            If the last call was not in training, or there was none.
        """
        return super().backward(dy)  # type: ignore[return-value]

    def _forward(self, x: Array, residual: Array) -> Any:  # type: ignore[override]
        options: Any = {"alpha": self.alpha, "axis": self._axes, "eps": self.eps}
        return deep_norm(x, residual, self.weight, self.bias, return_stats=self.training, **options)

    def _backward(self, dy: Array, saved: tuple[Array, ...], needs: Needs) -> Any:
        options: Any = {"alpha": self.alpha, "axis": self._axes, "needs": needs}
        total, mean, rstd = saved
        found = deep_norm_backward(dy, total, mean, rstd, self.weight, self.bias, **options)
        dx, dresidual, *gradients = found
        return (dx, dresidual), *gradients

    def _extra_repr(self) -> str:
        affine, bias = self.elementwise_affine, self.bias is not None
        shape = f"{self.normalized_shape}, alpha={self.alpha}, eps={self.eps}"
        return f"{shape}, elementwise_affine={affine}, bias={bias}"

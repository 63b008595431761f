"""Gated RMS norm as a layer."""

import numpy as np
from numpy.typing import DTypeLike

from .. import _checks
from ..functional.gated import gated_rms_norm, gated_rms_norm_backward
from .base import Array, Stateful, count


class GatedRMSNorm(Stateful):
    """Gated root mean square normalization over the last axis, called as `layer(x, gate)`::

        y = rms_norm(x * silu(gate)) * weight

    or with `norm_before_gate` `rms_norm(x) * weight * silu(gate)`.

    Parameters
    ----------
    normalized_shape : int
        The size of the last axis.
    eps : float
        Added to the mean square.
    group_size : int or None
        How many neighbours share a mean square; None means all of them.
    norm_before_gate : bool
        Whether x is normalized, and the result gated.
    dtype : dtype
        Of the weight.

    References
    ----------
    Dao and Gu, "Transformers are SSMs", 2024, https://arxiv.org/abs/2405.21060

    Examples
    --------
    >>> import numpy as np
    >>> from fastnorm import GatedRMSNorm
    >>> layer = GatedRMSNorm(2, eps=0)
    >>> layer(np.array([[3, 4]], np.float32), np.array([[1, 1]], np.float32)).round(3)
    array([[0.849, 1.131]], dtype=float32)
    >>> dx = layer.backward(np.ones((1, 2), np.float32))
    >>> sorted(layer.grads)
    ['gate', 'weight']
    """

    _parameters = ("weight",)

    def __init__(
        self,
        normalized_shape: int,
        eps: float = 1e-5,
        *,
        group_size: int | None = None,
        norm_before_gate: bool = False,
        dtype: DTypeLike = np.float32,
    ) -> None:
        super().__init__(dtype)
        self.normalized_shape = count("normalized_shape", normalized_shape)
        self.eps = _checks.eps(eps)
        self.group_size = None if group_size is None else count("group_size", group_size)
        if self.group_size is not None and self.normalized_shape % self.group_size:
            raise ValueError(
                f"normalized_shape ({normalized_shape}) must be divisible by group_size ({group_size})"
            )
        self.norm_before_gate = bool(norm_before_gate)
        self.weight = np.ones(self.normalized_shape, self.dtype)

    def __call__(self, x: Array, gate: Array) -> Array:
        """Gate and normalize x; in training, keep what `backward` needs.

        Parameters
        ----------
        x, gate : arrays of floats of one shape (…, normalized_shape)

        Returns
        -------
        array of x's shape, dtype and memory order
        """
        y, rstd = gated_rms_norm(
            x,
            gate,
            self.weight,
            group_size=self.group_size,
            norm_before_gate=self.norm_before_gate,
            eps=self.eps,
            return_stats=True,
        )
        self._saved = (x, gate, rstd) if self.training else None
        return y  # type: ignore[no-any-return]

    def backward(self, dy: Array) -> Array:
        """Return dx of the last call, and leave the gradients of its gate and of the weight in `grads`.

        Parameters
        ----------
        dy : array of x's shape

        Returns
        -------
        array of x's shape, dtype and memory order

        Raises
        ------
        RuntimeError
            If the last call was not in training, or there was none.
        """
        x, gate, rstd = self._kept("y = layer(x, gate)", "layer.backward(dy)")
        dx, dgate, dweight = gated_rms_norm_backward(
            dy,
            x,
            gate,
            rstd,
            self.weight,
            group_size=self.group_size,
            norm_before_gate=self.norm_before_gate,
        )
        self.grads = {"gate": dgate, "weight": dweight}
        return dx

    def _extra_repr(self) -> str:
        return (
            f"{self.normalized_shape}, eps={self.eps}, group_size={self.group_size}, "
            f"norm_before_gate={self.norm_before_gate}"
        )

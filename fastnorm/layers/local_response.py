"""Local response norm as a layer."""

import numpy as np
from numpy.typing import DTypeLike

from ..functional.local_response import local_response_norm, local_response_norm_backward
from .base import Array, Stateful, count


class LocalResponseNorm(Stateful):
    """Local response normalization: each element over a power of the mean square of `size` channels around it::

        y = x / (k + alpha * mean(x ** 2)) ** beta

    It has no parameters.

    Parameters
    ----------
    size : int
        The channels of a window.
    alpha, beta, k : float
        The factor of the mean square, the power, and what the former is added to.
    layout : str or None
        The axes of x by letter, such as "NHWC"; None means channels at axis 1.
    dtype : dtype
        Of nothing that the layer owns.

    References
    ----------
    Krizhevsky, Sutskever and Hinton, "ImageNet Classification with Deep Convolutional Neural Networks", 2012

    Examples
    --------
    >>> import numpy as np
    >>> from fastnorm import LocalResponseNorm
    >>> layer = LocalResponseNorm(2, alpha=2, beta=0.5, k=0)
    >>> layer(np.array([[3, 0, 1]], np.float32))
    array([[1., 0., 1.]], dtype=float32)
    """

    _place = "layout"
    _parameters = ()

    def __init__(
        self,
        size: int,
        alpha: float = 1e-4,
        beta: float = 0.75,
        k: float = 1.0,
        *,
        layout: str | None = None,
        dtype: DTypeLike = np.float32,
    ) -> None:
        super().__init__(dtype)
        self.size, self.layout = count("size", size), layout
        self.alpha, self.beta, self.k = float(alpha), float(beta), float(k)

    def __call__(self, x: Array) -> Array:
        """Normalize x; in training, keep what `backward` needs.

        Parameters
        ----------
        x : array of floats

        Returns
        -------
        array of x's shape, dtype and memory order
        """
        y = local_response_norm(x, self.size, self.alpha, self.beta, self.k, layout=self.layout)
        self._saved = (x,) if self.training else None
        return y

    def backward(self, dy: Array) -> Array:
        """Return dx of the last call.

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
        (x,) = self._kept("y = layer(x)", "layer.backward(dy)")
        return local_response_norm_backward(
            dy, x, self.size, self.alpha, self.beta, self.k, layout=self.layout
        )

    def _extra_repr(self) -> str:
        return f"{self.size}, alpha={self.alpha}, beta={self.beta}, k={self.k}"

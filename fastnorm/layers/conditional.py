"""Norms whose scale and shift come with each call, as layers: adaptive layer norm, adaptive instance norm, FiLM."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from .. import _checks
from ..functional.conditional import (
    adaptive_instance_norm,
    adaptive_instance_norm_backward,
    adaptive_layer_norm,
    adaptive_layer_norm_backward,
    film,
    film_backward,
)
from .base import Array, ChannelLayer, ElementLayer, Layer, Needs, count


class ConditionalLayer(Layer):
    """A layer without parameters, called as `layer(x, weight, bias)`; `backward` leaves their gradients in `grads`."""

    def __call__(  # type: ignore[override]
        self, x: Array, weight: Array | None = None, bias: Array | None = None
    ) -> Array:
        """Normalize x, then scale and shift it as the condition says; in training, keep what `backward` needs.

        Parameters
        ----------
        x : array of floats
        weight, bias : arrays, optional
            One for each sample: of shape (N, C), or (N, *normalized_shape).

        Returns
        -------
        array of x's shape, dtype and memory order
        """
        self._check_sizes(x)
        y, *stats = self._conditioned(x, weight, bias)
        self._saved, self._pair = ((x, *stats) if self.training else None), (weight, bias)
        return y

    def backward(self, dy: Array) -> Array:
        """Return dx of the last call, and leave the gradients of its weight and bias in `grads`.

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
        saved = self._kept("y = layer(x, weight, bias)", "layer.backward(dy)")
        dx, *gradients = self._backward(dy, saved, (True, True, True))
        given = zip(("weight", "bias"), self._pair, gradients, strict=True)
        self.grads = {name: gradient for name, array, gradient in given if array is not None}
        return dx  # type: ignore[no-any-return]

    @abstractmethod
    def _conditioned(self, x: Array, weight: Array | None, bias: Array | None) -> tuple[Array, ...]:
        """y and the statistics its backward takes."""

    def _forward(self, x: Array) -> Any:
        return self._conditioned(x, None, None)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_pair": (None, None)}


class AdaptiveLayerNorm(ConditionalLayer, ElementLayer):
    """Layer normalization with a scale and shift of each sample's own: `layer(x, weight, bias)`.

    Parameters
    ----------
    normalized_shape : int or tuple of int
        The sizes of the normalized axes, in the order of the array.
    eps : float
        Added to the variance.
    axis : int, tuple of int or None
        The normalized axes; None means the trailing ones.
    dtype : dtype
        Of nothing that the layer owns: it has no parameters.

    References
    ----------
    Peebles and Xie, "Scalable Diffusion Models with Transformers", 2022, https://arxiv.org/abs/2212.09748

    Examples
    --------
    >>> import numpy as np
    >>> from fastnorm import AdaptiveLayerNorm
    >>> layer = AdaptiveLayerNorm(2, eps=0)
    >>> layer(np.array([[1, 3], [20, 10]], np.float32), np.array([[1, 1], [5, 5]], np.float32))
    array([[-1.,  1.],
           [ 5., -5.]], dtype=float32)
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        *,
        axis: int | Sequence[int] | None = None,
        dtype: DTypeLike = np.float32,
    ) -> None:
        super().__init__(normalized_shape, False, False, axis, dtype)
        self.eps = _checks.eps(eps)

    def _conditioned(self, x: Array, weight: Array | None, bias: Array | None) -> tuple[Array, ...]:
        found: tuple[Array, ...] = adaptive_layer_norm(
            x, weight, bias, axis=self._axes, eps=self.eps, return_stats=True
        )
        return found

    def _backward(self, dy: Array, saved: tuple[Array, ...], needs: Needs) -> Any:
        (x, mean, rstd), (weight, bias) = saved, self._pair
        return adaptive_layer_norm_backward(dy, x, mean, rstd, weight, bias, axis=self._axes, needs=needs)

    def _extra_repr(self) -> str:
        return f"{self.normalized_shape}, eps={self.eps}"


class _ConditionalChannels(ConditionalLayer, ChannelLayer):
    """What adaptive instance norm and FiLM share."""

    def __init__(self, num_features: int, layout: str | None, dtype: DTypeLike) -> None:
        self.num_features = count("num_features", num_features)
        super().__init__(self.num_features, False, False, layout, dtype)


class AdaptiveInstanceNorm(_ConditionalChannels):
    """Instance normalization with a scale and shift for each channel of each sample: `layer(x, weight, bias)`.

    Parameters
    ----------
    num_features : int
        The number of channels C.
    eps : float
        Added to the variance.
    layout : str or None
        The axes of x by letter, such as "NHWC"; None means channels at axis 1.
    dtype : dtype
        Of nothing that the layer owns: it has no parameters.

    References
    ----------
    Huang and Belongie, "Arbitrary Style Transfer in Real-time with Adaptive Instance Normalization", 2017,
    https://arxiv.org/abs/1703.06868

    Examples
    --------
    >>> import numpy as np
    >>> from fastnorm import AdaptiveInstanceNorm
    >>> layer = AdaptiveInstanceNorm(1, eps=0)
    >>> layer(np.array([[[1, 3]], [[20, 10]]], np.float32), np.array([[1], [5]], np.float32))
    array([[[-1.,  1.]],
    <BLANKLINE>
           [[ 5., -5.]]], dtype=float32)
    """

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        *,
        layout: str | None = None,
        dtype: DTypeLike = np.float32,
    ) -> None:
        super().__init__(num_features, layout, dtype)
        self.eps = _checks.eps(eps)

    def _conditioned(self, x: Array, weight: Array | None, bias: Array | None) -> tuple[Array, ...]:
        found: tuple[Array, ...] = adaptive_instance_norm(
            x, weight, bias, eps=self.eps, layout=self.layout, return_stats=True
        )
        return found

    def _backward(self, dy: Array, saved: tuple[Array, ...], needs: Needs) -> Any:
        (x, mean, rstd), (weight, bias) = saved, self._pair
        return adaptive_instance_norm_backward(
            dy, x, mean, rstd, weight, bias, layout=self.layout, needs=needs
        )

    def _extra_repr(self) -> str:
        return f"{self.num_features}, eps={self.eps}"


class FiLM(_ConditionalChannels):
    """Feature-wise linear modulation, `layer(x, weight, bias)`: x * weight + bias for each channel of each sample.

    Parameters
    ----------
    num_features : int
        The number of channels C.
    layout : str or None
        The axes of x by letter, such as "NHWC"; None means channels at axis 1.
    dtype : dtype
        Of nothing that the layer owns: it has no parameters.

    References
    ----------
    Perez, Strub, de Vries, Dumoulin and Courville, "FiLM", 2017, https://arxiv.org/abs/1709.07871

    Examples
    --------
    >>> import numpy as np
    >>> from fastnorm import FiLM
    >>> FiLM(2)(np.array([[1, 2]], np.float32), np.array([[2, 3]], np.float32))
    array([[2., 6.]], dtype=float32)
    """

    def __init__(
        self, num_features: int, *, layout: str | None = None, dtype: DTypeLike = np.float32
    ) -> None:
        super().__init__(num_features, layout, dtype)

    def _conditioned(self, x: Array, weight: Array | None, bias: Array | None) -> tuple[Array, ...]:
        return (film(x, weight, bias, layout=self.layout),)

    def _backward(self, dy: Array, saved: tuple[Array, ...], needs: Needs) -> Any:
        (x,), (weight, bias) = saved, self._pair
        return film_backward(dy, x, weight, bias, layout=self.layout)

    def _extra_repr(self) -> str:
        return f"{self.num_features}"

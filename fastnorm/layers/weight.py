"""Weight norm and weight standardization as layers."""

from collections.abc import Mapping
from typing import Any

from numpy.typing import ArrayLike

from .. import _checks
from .._floats import cast
from ..functional.weight import (
    weight_norm,
    weight_norm_backward,
    weight_standardization,
    weight_standardization_backward,
)
from .base import IncompatibleKeys
from .parametrization import Array, Parametrization, own

# The keys of torch.nn.utils.weight_norm, before there were parametrizations.
_LEGACY = {"weight_g": "original0", "weight_v": "original1"}


class WeightNorm(Parametrization):
    """A weight as a direction v and lengths g::

        w = g * v / norm(v)

    Parameters
    ----------
    weight : array of floats
        What w is at first: v is a copy of it, and g its norms.
    dim : int, tuple of int or None
        The axes that keep norms of their own; None means one norm of the whole weight.

    Attributes
    ----------
    original0 : array
        The lengths g: the weight's shape with 1 for every axis but `dim`, or () for `dim=None`.
    original1 : array
        The direction v, of the weight's shape.

    References
    ----------
    Salimans and Kingma, "Weight Normalization", 2016, https://arxiv.org/abs/1602.07868

    Examples
    --------
    >>> import numpy as np
    >>> from fastnorm import WeightNorm
    >>> layer = WeightNorm(np.array([[3, 4], [0, 2]], np.float32))
    >>> layer.original0[:] = 10
    >>> layer()
    array([[ 6.,  8.],
           [ 0., 10.]], dtype=float32)
    >>> layer.backward(np.array([[1, 1], [1, 1]], np.float32)).round(2)
    array([[ 0.32, -0.24],
           [ 5.  ,  0.  ]], dtype=float32)
    >>> layer.grads["original0"].round(3)
    array([[1.4],
           [1. ]], dtype=float32)
    """

    _parameters = ("original0", "original1")
    _weight = "original1"

    def __init__(self, weight: Array, dim: int | tuple[int, ...] | None = 0) -> None:
        self.original1 = own(weight)
        super().__init__(self.original1.dtype)
        _, norm = weight_norm(self.original1, dim=dim, return_norm=True)
        self.original0 = cast(norm, self.dtype)
        self.dim = dim

    def _forward(self) -> tuple[Any, ...]:
        w, norm = weight_norm(self.original1, self.original0, self.dim, return_norm=True)
        return w, norm

    def _backward(self, dw: Array, saved: tuple[Any, ...]) -> tuple[Array, ...]:
        (norm,) = saved
        dv, dg = weight_norm_backward(dw, self.original1, self.original0, norm, self.dim)
        return dg, dv

    def load_state_dict(self, state: Mapping[str, ArrayLike], strict: bool = True) -> IncompatibleKeys:
        """As every layer does; "weight_g" and "weight_v", PyTorch's older keys, are known too."""
        renamed = {_LEGACY.get(key, key): value for key, value in state.items()}
        return super().load_state_dict(renamed, strict)

    def _extra_repr(self) -> str:
        return f"{self.original1.shape}, dim={self.dim}"


class WeightStandardization(Parametrization):
    """A weight whose outputs have a mean of 0 and a variance of 1 each, whatever the parameter behind them::

        w = (original - mean) / sqrt(var + eps)

    Parameters
    ----------
    weight : array of floats
        What the parameter is at first: a copy of it.
    eps : float
        Added to the variance.
    axis : int, tuple of int or None
        The axes that share a mean and a variance; None means all but axis 0, the outputs.

    Attributes
    ----------
    original : array
        The parameter.

    References
    ----------
    Qiao, Wang, Liu, Shen and Yuille, "Micro-Batch Training with Batch-Channel Normalization and Weight Standardization",
    2019, https://arxiv.org/abs/1903.10520

    Examples
    --------
    >>> import numpy as np
    >>> from fastnorm import WeightStandardization
    >>> layer = WeightStandardization(np.array([[3, 5], [-2, 2]], np.float32), eps=0)
    >>> layer()
    array([[-1.,  1.],
           [-1.,  1.]], dtype=float32)
    """

    _place = "axis"
    _parameters = ("original",)

    def __init__(
        self, weight: Array, eps: float = 1e-5, *, axis: int | tuple[int, ...] | None = None
    ) -> None:
        self.original = own(weight)
        super().__init__(self.original.dtype)
        self.eps = _checks.eps(eps)
        self.axis = axis

    def _forward(self) -> tuple[Any, ...]:
        w, mean, rstd = weight_standardization(self.original, axis=self.axis, eps=self.eps, return_stats=True)
        return w, mean, rstd

    def _backward(self, dw: Array, saved: tuple[Any, ...]) -> tuple[Array, ...]:
        return (weight_standardization_backward(dw, self.original, *saved, axis=self.axis),)

    def _extra_repr(self) -> str:
        return f"{self.original.shape}, eps={self.eps}"

"""EvoNorm S0 and B0 as layers."""

from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from .. import _checks
from .._floats import computed
from ..functional.evo_b0 import evo_norm_b0, evo_norm_b0_backward
from ..functional.evo_s0 import evo_norm_s0, evo_norm_s0_backward
from .base import Array, ChannelLayer, Needs, count


class EvoNormS0(ChannelLayer):
    """EvoNorm S0, in the place of group norm and the activation behind it::

        y = x * sigmoid(v * x) / sqrt(var + eps) * weight + bias

    with the variance of a group of channels in each sample.

    Parameters
    ----------
    num_features : int
        The number of channels C.
    num_groups : int
        The number of groups, which divides it.
    eps : float
        Added to the variance.
    affine, bias : bool
        Whether there is a weight, and with it a bias, both of shape (C,).
    gate : bool
        Whether there is a gate, its `v` of shape (C,), which begins with ones.
    layout : str or None
        The axes of x by letter, such as "NHWC"; None means channels at axis 1.
    dtype : dtype
        Of the parameters.

    References
    ----------
    Liu, Brock, Simonyan and Le, "Evolving Normalization-Activation Layers", 2020, https://arxiv.org/abs/2004.02967

    Examples
    --------
    >>> import numpy as np
    >>> from fastnorm import EvoNormS0
    >>> layer = EvoNormS0(2, num_groups=2, eps=0)
    >>> layer(np.array([[[0, 2], [10, 30]]], np.float32)).round(2)
    array([[[0.  , 1.76],
            [1.  , 3.  ]]], dtype=float32)
    """

    _parameters = ("weight", "bias", "v")

    def __init__(
        self,
        num_features: int,
        num_groups: int = 32,
        eps: float = 1e-5,
        affine: bool = True,
        *,
        bias: bool = True,
        gate: bool = True,
        layout: str | None = None,
        dtype: DTypeLike = np.float32,
    ) -> None:
        self.num_features = count("num_features", num_features)
        self.num_groups = count("num_groups", num_groups)
        if self.num_features % self.num_groups:
            raise ValueError(f"num_features ({num_features}) must be divisible by num_groups ({num_groups})")
        super().__init__(self.num_features, affine, bias, layout, dtype)
        self.eps = _checks.eps(eps)
        self.v = np.ones(self.num_features, self.dtype) if gate else None

    def _forward(self, x: Array) -> Any:
        return evo_norm_s0(
            x,
            self.num_groups,
            self.weight,
            self.bias,
            self.v,
            eps=self.eps,
            layout=self.layout,
            return_stats=self.training,
        )

    def _backward(self, dy: Array, saved: tuple[Array, ...], needs: Needs) -> Any:
        x, mean, rstd = saved
        return evo_norm_s0_backward(
            dy, x, self.num_groups, mean, rstd, self.weight, self.bias, self.v, layout=self.layout
        )

    def _extra_repr(self) -> str:
        affine, bias, gate = self.affine, self.bias is not None, self.v is not None
        return (
            f"{self.num_features}, num_groups={self.num_groups}, eps={self.eps}, "
            f"affine={affine}, bias={bias}, gate={gate}"
        )


class EvoNormB0(ChannelLayer):
    """EvoNorm B0, in the place of batch norm and the activation behind it::

        y = x / max(sqrt(var_batch + eps), v * x + sqrt(var_instance + eps)) * weight + bias

    In training the batch's variance is its own; in evaluation it is the running one, if there is one.

    Parameters
    ----------
    num_features : int
        The number of channels C.
    eps : float
        Added to the variances.
    momentum : float
        The share of the batch in running ← (1 - momentum) · running + momentum · batch.
    affine, bias : bool
        Whether there is a weight, and with it a bias, both of shape (C,).
    track_running_stats : bool
        Whether there is a running variance, `running_var` of shape (C,).
    layout : str or None
        The axes of x by letter, such as "NHWC"; None means channels at axis 1.
    dtype : dtype
        Of the parameters and the running variance.

    Attributes
    ----------
    v : array of shape (C,)
        A parameter beside `weight` and `bias`; it begins with ones.

    References
    ----------
    Liu, Brock, Simonyan and Le, "Evolving Normalization-Activation Layers", 2020, https://arxiv.org/abs/2004.02967

    Examples
    --------
    >>> import numpy as np
    >>> from fastnorm import EvoNormB0
    >>> layer = EvoNormB0(1)
    >>> layer(np.array([[[-2, 0]], [[1, 3]]], np.float32)).round(3)
    array([[[-1.109,  0.   ]],
    <BLANKLINE>
           [[ 0.5  ,  0.75 ]]], dtype=float32)
    >>> layer.running_var
    array([1.3333334], dtype=float32)
    """

    _parameters = ("weight", "bias", "v")
    _buffers = ("running_var",)

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        *,
        bias: bool = True,
        layout: str | None = None,
        dtype: DTypeLike = np.float32,
    ) -> None:
        self.num_features = count("num_features", num_features)
        self.track_running_stats = track_running_stats
        super().__init__(self.num_features, affine, bias, layout, dtype)
        self.eps, self.momentum = _checks.eps(eps), _checks.momentum(momentum)
        self.v = np.ones(self.num_features, self.dtype)
        self.running_var = np.ones(self.num_features, computed(self.dtype)) if track_running_stats else None

    def _forward(self, x: Array) -> Any:
        return evo_norm_b0(
            x,
            self.running_var,
            self.weight,
            self.bias,
            self.v,
            training=self.training,
            momentum=self.momentum,
            eps=self.eps,
            layout=self.layout,
            return_stats=self.training,
        )

    def _backward(self, dy: Array, saved: tuple[Array, ...], needs: Needs) -> Any:
        x, mean, var = saved
        return evo_norm_b0_backward(
            dy, x, mean, var, None, self.weight, self.v, training=True, eps=self.eps, layout=self.layout
        )

    def _extra_repr(self) -> str:
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"bias={self.bias is not None}, track_running_stats={self.track_running_stats}"
        )

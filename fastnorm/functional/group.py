"""Group norm: mean and variance over the channels of a group in each sample, an affine pair per channel."""

from __future__ import annotations

from typing import Any

from .. import _checks
from ..kernels.activations import CODES
from . import _roles
from ._forward import Array, normalize


def group_norm(
    x: Array,
    num_groups: int,
    weight: Array | None = None,
    bias: Array | None = None,
    *,
    eps: float = 1e-5,
    layout: str | None = None,
    activation: str | None = None,
    out: Array | None = None,
    return_stats: bool = False,
) -> Any:
    r"""Normalize each group of channels of each sample to mean 0 and variance 1, then scale and shift every channel.

    .. math:: y = \mathrm{activation}\left(\frac{x - \mathrm{mean}_{ng}}{\sqrt{\mathrm{var}_{ng} + \mathrm{eps}}} \cdot
              \mathrm{weight}_c + \mathrm{bias}_c\right)

    Parameters
    ----------
    x : float32 or float64 array with an axis of samples and one of C channels, of any strides
    num_groups : int
        G, a divisor of C; group g holds channels g·C/G to (g + 1)·C/G - 1.
    weight, bias : arrays of shape (C,), optional
    eps : float
        Added to the biased variance, inside the square root.
    layout : str, optional
        The axes, a capital letter each, with one N and one C, such as "NHWC"; None means channels at axis 1.
    activation : {"relu", "gelu", "gelu_tanh", "silu", "sigmoid", "tanh"}, optional
        Applied to the result in the same trip.
    out : array of x's shape and dtype, optional
        Where to write y; it may be x itself.
    return_stats : bool
        Whether to return what `group_norm_backward` takes.

    Returns
    -------
    y : array with x's dtype, shape and memory order
    mean, rstd : float64 arrays of shape (N, G)
        Only with `return_stats=True`.

    Raises
    ------
    TypeError, ValueError
        An argument has the wrong type, dtype, shape or value; nothing has been written.

    References
    ----------
    Wu, He, "Group Normalization", 2018, https://arxiv.org/abs/1803.08494

    Examples
    --------
    >>> import numpy as np, fastnorm
    >>> x = np.array([[1, 3, 10, 14]], np.float32)
    >>> fastnorm.group_norm(x, 2).round(3)
    array([[-1.,  1., -1.,  1.]], dtype=float32)
    """
    x = _checks.array(x, "x")
    roles, shape, why = _roles.groups(x.shape, num_groups, layout)
    weight, bias = _checks.affine_pair(weight, bias, shape, x.dtype, why)
    code = _checks.activation(activation, CODES)
    y, statistics = normalize(
        x, roles, weight, bias, _checks.eps(eps), code, _checks.result(out, "out", x), statistics=return_stats
    )
    return (y, statistics.mean, statistics.rstd) if return_stats else y

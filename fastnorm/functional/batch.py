"""Batch norm: mean and variance of each channel over a whole batch, or running ones, an affine pair per channel."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import _checks
from ..kernels.activations import CODES
from . import _roles, _running
from ._forward import Array, normalize, standardize


def batch_norm(
    x: Array,
    running_mean: Array | None = None,
    running_var: Array | None = None,
    weight: Array | None = None,
    bias: Array | None = None,
    *,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    layout: str | None = None,
    activation: str | None = None,
    out: Array | None = None,
    return_stats: bool = False,
) -> Any:
    r"""Normalize each channel by the batch's statistics or by running ones, then scale and shift it.

    .. math:: y = \mathrm{activation}\left(\frac{x - \mathrm{mean}_c}{\sqrt{\mathrm{var}_c + \mathrm{eps}}} \cdot
              \mathrm{weight}_c + \mathrm{bias}_c\right)

    Parameters
    ----------
    x : float32 or float64 array with an axis of samples and one of C channels, of any strides
    running_mean, running_var : float32 or float64 arrays of shape (C,), optional
        Used in inference; in training updated in place to (1 - momentum)·running + momentum·batch, the variance unbiased.
    weight, bias : arrays of shape (C,), optional
    training : bool
        Whether to use the batch's statistics; without running ones they are used in any case.
    momentum : float
        The share of the batch in the running statistics.
    eps : float
        Added to the biased variance, inside the square root.
    layout : str, optional
        The axes, a capital letter each, with one N and one C, such as "NHWC"; None means channels at axis 1.
    activation : {"relu", "gelu", "gelu_tanh", "silu", "sigmoid", "tanh"}, optional
        Applied to the result in the same trip.
    out : array of x's shape and dtype, optional
        Where to write y; it may be x itself.
    return_stats : bool
        Whether to return what `batch_norm_backward` takes.

    Returns
    -------
    y : array with x's dtype, shape and memory order
    mean, rstd : float64 arrays of shape (C,)
        Only with `return_stats=True`; in inference running_mean and 1/√(running_var + eps).

    Raises
    ------
    TypeError, ValueError
        An argument has the wrong type, dtype, shape or value, or training has one value per channel; nothing has been
        written, running statistics included.

    References
    ----------
    Ioffe, Szegedy, "Batch Normalization", 2015, https://arxiv.org/abs/1502.03167

    Examples
    --------
    >>> import numpy as np, fastnorm
    >>> x = np.array([[4, 3, 2], [3, 3, 2], [2, 2, 2]], np.float32)
    >>> fastnorm.batch_norm(x, training=True).round(3)
    array([[ 1.225,  0.707,  0.   ],
           [ 0.   ,  0.707,  0.   ],
           [-1.225, -1.414,  0.   ]], dtype=float32)
    """
    x = _checks.array(x, "x")
    roles, shape, why = _roles.channels(x.shape, layout, False)
    weight, bias = _checks.affine_pair(weight, bias, shape, x.dtype, why)
    code, eps, momentum = _checks.activation(activation, CODES), _checks.eps(eps), _checks.momentum(momentum)
    out = _checks.result(out, "out", x)
    running = _running.checked(running_mean, running_var, shape, why, training)
    if running is not None and not training:
        roles = _roles.for_inference(x.shape, x.strides, layout)
        y = standardize(x, roles, *running.for_inference(), weight, bias, eps, code, out)
        if not return_stats:
            return y
        return y, running.mean.astype(np.float64), 1 / np.sqrt(running.var.astype(np.float64) + eps)
    count = x.size // shape[0] if shape[0] else 0
    if count == 1:
        raise ValueError(f"x has one value per channel (shape {x.shape}), expected more in training: their variance is 0")
    wanted = return_stats or running is not None
    y, statistics = normalize(x, roles, weight, bias, eps, code, out, statistics=wanted)
    if running is not None and count > 0:
        running.update(statistics.mean, statistics.variance, count, momentum)
    return (y, statistics.mean, statistics.rstd) if return_stats else y

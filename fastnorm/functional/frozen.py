"""Frozen batch norm: running statistics, weight and bias, all of them constants, as a pretrained backbone has them."""

from __future__ import annotations

import numpy as np

from .. import _checks
from ._flow import grid as _grid
from ._flow.forward import Array, standardize
from ._flow.roles import BATCH
from ._flow.running import as_statistics, checked


def frozen_batch_norm(
    x: Array,
    running_mean: Array,
    running_var: Array,
    weight: Array | None = None,
    bias: Array | None = None,
    *,
    eps: float = 1e-5,
    layout: str | None = None,
    activation: str | None = None,
    out: Array | None = None,
) -> Array:
    r"""Normalize each channel by running statistics, then scale and shift it: batch norm in inference, in training too.

    .. math:: y = \mathrm{activation}\left(\frac{x - \mathrm{running\_mean}_c}{\sqrt{\mathrm{running\_var}_c +
              \mathrm{eps}}} \cdot \mathrm{weight}_c + \mathrm{bias}_c\right)

    Parameters
    ----------
    x : floating array with an axis of samples and one of C channels, of any strides
    running_mean, running_var : float32 or float64 arrays of shape (C,)
    weight, bias : arrays of shape (C,), optional
    eps : float
        Added to the variance, inside the square root.
    layout : str, optional
        The axes, a capital letter each, with one N and one C, such as "NHWC"; None means channels at axis 1.
    activation : {"relu", "gelu", "gelu_tanh", "silu", "sigmoid", "tanh"}, optional
        Applied to the result in the same trip.
    out : array of x's shape and dtype, optional
        Where to write y; it may be x itself.

    Returns
    -------
    array with x's dtype, shape and memory order

    Raises
    ------
    TypeError, ValueError
        An argument has the wrong type, dtype, shape or value; nothing has been written.

    References
    ----------
    Ioffe, Szegedy, "Batch Normalization", 2015, https://arxiv.org/abs/1502.03167; frozen in the detectors of He, Gkioxari,
    Dollár, Girshick, "Mask R-CNN", 2017, https://arxiv.org/abs/1703.06870

    Examples
    --------
    >>> import numpy as np
    >>> from fastnorm.functional.frozen import frozen_batch_norm
    >>> x, mean, var = np.array([[4, 3], [2, 2]], np.float32), np.array([1.0, 2.0]), np.array([4, 0.25])
    >>> frozen_batch_norm(x, mean, var, eps=0)
    array([[1.5, 2. ],
           [0.5, 0. ]], dtype=float32)
    """
    return standardize(BATCH, layout, x, running_mean, running_var, weight, bias, eps, activation, out)


def frozen_batch_norm_backward(
    dy: Array,
    x: Array | None,
    running_mean: Array,
    running_var: Array,
    weight: Array | None = None,
    bias: Array | None = None,
    *,
    eps: float = 1e-5,
    layout: str | None = None,
    activation: str | None = None,
) -> Array:
    r"""Gradient of `frozen_batch_norm` with respect to x; all else is constant.

    .. math:: dx = dy \cdot \mathrm{activation}'(z) \cdot \frac{\mathrm{weight}_c}{\sqrt{\mathrm{running\_var}_c +
              \mathrm{eps}}}

    Parameters
    ----------
    dy, x : floating arrays of one shape and dtype
        The gradient of the result, and the forward call's input; without an activation x may be None, and need not be kept.
    running_mean, running_var, weight, bias, eps, layout, activation
        The forward call's; running_mean and bias matter to an activation alone.

    Returns
    -------
    array with x's dtype, shape and memory order (dy's, where x is None)

    Raises
    ------
    TypeError, ValueError
        An argument has the wrong type, dtype, shape or value.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnorm.functional.frozen import frozen_batch_norm_backward
    >>> dy, mean, var = np.ones((2, 2), np.float32), np.array([1.0, 2.0]), np.array([4, 0.25])
    >>> frozen_batch_norm_backward(dy, None, mean, var, eps=0)
    array([[0.5, 2. ],
           [0.5, 2. ]], dtype=float32)
    """
    like = _checks.array(dy, "dy") if x is None and activation is None else _checks.array(x, "x")
    dy = _checks.like(dy, "dy", like)
    shared = BATCH.shared(like.shape, layout)
    running = checked(running_mean, running_var, shared, False, like, None)
    if activation is not None:
        weight, bias = _checks.affine_pair(weight, bias, shared.parameters, like.dtype, shared.why)
        mean, rstd = as_statistics(running.mean, running.var, _checks.eps(eps))
        terms = rstd, np.zeros_like(rstd), np.zeros_like(rstd)
        return _grid.gradient(
            _grid.PER_CHANNEL, layout, dy, like, mean, rstd, terms, weight, bias, activation=activation
        )
    # What scales dy is inference without means and bias.
    out = None if dy.strides == like.strides else np.empty_like(like)
    none = np.zeros_like(running.mean)
    return standardize(BATCH, layout, dy, none, running.var, weight, None, eps, None, out)

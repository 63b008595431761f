"""Local response norm: each element over a power of the mean square of the channels around it."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import _checks
from .._floats import cast, computed
from ..kernels.maps import windows
from ..kernels.maps.windows import ALPHA, BETA, BETA_LOW, IN_RUN, SIZE, K
from ._flow.arrange import arrange
from ._flow.forward import Array
from ._flow.recall import Call, free, new_call, recall
from ._flow.roles import LAYER


def local_response_norm(
    x: Array,
    size: int,
    alpha: float = 1e-4,
    beta: float = 0.75,
    k: float = 1.0,
    *,
    layout: str | None = None,
    out: Array | None = None,
) -> Array:
    r"""Divide each element by a power of the mean square of `size` channels around it.

    .. math:: y_c = x_c \left(k + \frac{\mathrm{alpha}}{\mathrm{size}} \sum_{i = c - \lfloor \mathrm{size}/2 \rfloor}^{c +
              \lfloor (\mathrm{size} - 1)/2 \rfloor} x_i^2\right)^{-\mathrm{beta}}

    Channels beyond the first and the last are zeros: the sum is divided by `size` there, too.

    Parameters
    ----------
    x : floating array with an axis of samples and one of C channels, of any strides
    size : int
        The channels of a window, of which one more lies before an element than behind it where it is even.
    alpha, k : numbers of at least 0
        The factor of the mean square, and what it is added to.
    beta : number of at least 0
        The power.
    layout : str, optional
        The axes, a capital letter each, with one N and one C, such as "NHWC"; None means channels at axis 1.
    out : array of x's shape and dtype, optional
        Where to write y; it may be x itself.

    Returns
    -------
    y : array with x's dtype, shape and memory order

    Raises
    ------
    TypeError, ValueError
        An argument has the wrong type, dtype, shape or value; nothing has been written.

    References
    ----------
    Krizhevsky, Sutskever, Hinton, "ImageNet Classification with Deep Convolutional Neural Networks", 2012,
    https://papers.nips.cc/paper/4824-imagenet-classification-with-deep-convolutional-neural-networks

    Examples
    --------
    >>> import numpy as np, fastnorm
    >>> fastnorm.local_response_norm(np.array([[3, 0, 1]], np.float32), 2, alpha=2, beta=0.5, k=0).round(3)
    array([[1., 0., 1.]], dtype=float32)
    """
    argument = layout, size, alpha, beta, k
    key, call = recall("local response", LAYER, argument, None, None, x)
    at = None
    if call is not None and (out is None or free(out, call, x)):
        y = y_to = call.new() if out is None else out
    else:
        given, x = x, _checks.array(x, "x")
        shared = LAYER.shared(x.shape, _checks.layout(layout, x.ndim)[1])
        out = _checks.result(out, "out", x)
        _check(size, alpha, beta, k)
        if x.size == 0:
            return np.empty_like(x) if out is None else out
        at = arrange(x, None, [out], shared.roles, (0, 0))
        key = key if x is given and at.plain else None
        call = new_call(key, at.plan, shared, windows.forward, x)
        x, y_to = at.x, at.results[0]
    call.kernel(1, x, y_to, _options(call, size, alpha, beta, k))
    return y if at is None else at.given_back()[0]


def local_response_norm_backward(
    dy: Array,
    x: Array,
    size: int,
    alpha: float = 1e-4,
    beta: float = 0.75,
    k: float = 1.0,
    *,
    layout: str | None = None,
) -> Array:
    r"""The gradient of `local_response_norm` with respect to x.

    .. math:: dx_c = dy_c \, t_c^{-\mathrm{beta}} - \frac{2\,\mathrm{alpha}\,\mathrm{beta}}{\mathrm{size}} \, x_c
              \sum_{i : c \in \mathrm{window}(i)} dy_i \, x_i \, t_i^{-\mathrm{beta} - 1}

    where t is what stands under the power.

    Parameters
    ----------
    dy, x : floating arrays of one shape and dtype
        The gradient of the result, and the forward call's input.
    size, alpha, beta, k, layout
        The forward call's.

    Returns
    -------
    dx : array with x's dtype, shape and memory order

    Raises
    ------
    TypeError, ValueError
        An argument has the wrong type, dtype, shape or value.

    Examples
    --------
    >>> import numpy as np, fastnorm
    >>> x = np.array([[3, 0, 1]], np.float32)
    >>> fastnorm.local_response_norm_backward(np.ones_like(x), x, 1, alpha=1, beta=0.5).round(3)
    array([[0.032, 1.   , 0.354]], dtype=float32)
    """
    argument = layout, size, alpha, beta, k
    key, call = recall("local response backward", LAYER, argument, None, None, x)
    at = None
    if call is not None and call.alike(dy, x):
        dx = dx_to = call.new()
    else:
        given, x = (dy, x), _checks.array(x, "x")
        dy = _checks.like(dy, "dy", x)
        shared = LAYER.shared(x.shape, _checks.layout(layout, x.ndim)[1])
        _check(size, alpha, beta, k)
        if x.size == 0:
            return np.empty_like(x)
        at = arrange(x, dy, [None], shared.roles, (0, 0))
        key = key if dy is given[0] and x is given[1] and at.plain else None
        call = new_call(key, at.plan, shared, windows.backward, x)
        dy, x, dx_to = at.beside, at.x, at.results[0]
    call.kernel(1, dy, x, dx_to, _options(call, size, alpha, beta, k))
    return dx if at is None else at.given_back()[0]


def _check(size: Any, alpha: Any, beta: Any, k: Any) -> None:
    if isinstance(size, bool) or not isinstance(size, int | np.integer):
        raise TypeError(f"size is {_checks.shown(size)}, expected an int")
    if size < 1:
        raise ValueError(f"size is {size}, expected at least 1")
    for name, value in (("alpha", alpha), ("beta", beta), ("k", k)):
        try:
            number = float(value)
        except (TypeError, ValueError):
            raise TypeError(f"{name} is {_checks.shown(value)}, expected a number of at least 0") from None
        if not 0 <= number < np.inf:
            raise ValueError(f"{name} is {value!r}, expected a number of at least 0")


def _options(call: Call, size: int, alpha: float, beta: float, k: float) -> Array:
    """What the kernels are told."""
    options = np.empty(6)
    high = float(cast(np.asarray(beta, np.float64), computed(call.own_dtype)))
    options[[SIZE, IN_RUN, K]] = size, not call.plan.columns, k
    options[[ALPHA, BETA, BETA_LOW]] = float(alpha) / size, high, beta - high
    return options

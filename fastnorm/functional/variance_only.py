"""Norms that divide by the standard deviation and subtract nothing, and layer norm without parameters."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import _checks
from ._flow.backward import Gradients, backward
from ._flow.forward import Array, normalize, standardize
from ._flow.roles import BATCH, BATCH_IN_TRAINING, LAYER, Norm
from ._flow.running import Update, as_statistics
from .layer import layer_norm, layer_norm_backward

_LAYER = Norm(LAYER.shared, centred=False)
_BATCH = Norm(BATCH.shared, centred=False)
_BATCH_IN_TRAINING = Norm(BATCH_IN_TRAINING.shared, centred=False)


def variance_only_layer_norm(
    x: Array,
    weight: Array | None = None,
    bias: Array | None = None,
    *,
    axis: int | tuple[int, ...] = -1,
    eps: float = 1e-5,
    activation: str | None = None,
    out: Array | None = None,
    return_stats: bool = False,
) -> Any:
    r"""Divide x by its standard deviation over `axis`, without centring it, then scale and shift every position.

    .. math:: y = \mathrm{activation}\left(\frac{x}{\sqrt{\mathrm{var} + \mathrm{eps}}} \cdot \mathrm{weight} +
              \mathrm{bias}\right)

    where the variance is about the mean, which is not subtracted.

    Parameters
    ----------
    x : floating array of any shape and strides
    weight, bias : arrays of the shape of the normalized axes, in the order of the array, optional
    axis : int or tuple of ints
        The axes that share a statistic, in any place.
    eps : float
        Added to the biased variance, inside the square root.
    activation : {"relu", "gelu", "gelu_tanh", "silu", "sigmoid", "tanh"}, optional
        Applied to the result in the same trip.
    out : array of x's shape and dtype, optional
        Where to write y; it may be x itself.
    return_stats : bool
        Whether to return what `variance_only_layer_norm_backward` takes.

    Returns
    -------
    y : array with x's dtype, shape and memory order
    mean, rstd : float64 arrays shaped like x without `axis`
        Only with `return_stats=True`.

    Raises
    ------
    TypeError, ValueError
        An argument has the wrong type, dtype, shape or value; nothing has been written.

    References
    ----------
    Wang, She, Zhang, Zhang, "Correct Normalization Matters: Understanding the Effect of Normalization on Deep Neural Network
    Models For Click-Through Rate Prediction", 2020, https://arxiv.org/abs/2006.12753

    Examples
    --------
    >>> import numpy as np, fastnorm
    >>> fastnorm.variance_only_layer_norm(np.array([[4, 3, 2], [1, 0, 5]], np.float32)).round(3)
    array([[4.899, 3.674, 2.449],
           [0.463, 0.   , 2.315]], dtype=float32)
    """
    y, statistics = normalize(_LAYER, axis, x, weight, bias, eps, activation, out, return_stats)
    return y if statistics is None else (y, statistics.mean, statistics.rstd)


def variance_only_layer_norm_backward(
    dy: Array,
    x: Array,
    mean: Array,
    rstd: Array,
    weight: Array | None = None,
    bias: Array | None = None,
    *,
    axis: int | tuple[int, ...] = -1,
    activation: str | None = None,
    needs: tuple[bool, bool, bool] = (True, True, True),
) -> Gradients:
    r"""Gradients of `variance_only_layer_norm` with respect to x, weight and bias.

    .. math:: g = dy \cdot \mathrm{activation}'(z), \quad
              dx = \mathrm{rstd} \cdot \left(g \cdot \mathrm{weight} - (x - \mathrm{mean}) \cdot \mathrm{rstd} \cdot
              \overline{g \cdot \mathrm{weight} \cdot x \cdot \mathrm{rstd}}\right)

    where the mean is taken over the elements that share a statistic; dweight and dbias are the sums of
    :math:`g \cdot x \cdot \mathrm{rstd}` and of :math:`g` over the elements that share a pair.

    Parameters
    ----------
    dy, x : floating arrays of one shape and dtype
        The gradient of the result, and the forward call's input.
    mean, rstd : float64 arrays
        As `variance_only_layer_norm` returned them with `return_stats=True`.
    weight, bias : arrays, optional
        The forward call's; the bias matters to an activation alone.
    axis : int or tuple of ints
        The forward call's.
    activation : str, optional
        The forward call's.
    needs : three booleans
        Whether to compute dx, dweight and dbias; None stands in the place of those that are not.

    Returns
    -------
    Gradients
        The named tuple (dx, dweight, dbias): dx with x's dtype and memory order, the others with weight's dtype (without
        one x's, or float32 where that has 16 bits).

    Raises
    ------
    TypeError, ValueError
        An argument has the wrong type, dtype, shape or value.

    Examples
    --------
    >>> import numpy as np, fastnorm
    >>> x = np.array([[0, 1, 2], [3, 1, 2]], np.float32)
    >>> y, mean, rstd = fastnorm.variance_only_layer_norm(x, return_stats=True)
    >>> fastnorm.variance_only_layer_norm_backward(np.ones_like(x), x, mean, rstd).dbias
    array([2., 2., 2.], dtype=float32)
    """
    return backward(_LAYER, axis, dy, x, mean, rstd, weight, bias, activation, needs)


def variance_only_batch_norm(
    x: Array,
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
    r"""Divide each channel by the batch's standard deviation or a running one, without centring it; scale and shift it.

    .. math:: y = \mathrm{activation}\left(\frac{x}{\sqrt{\mathrm{var}_c + \mathrm{eps}}} \cdot \mathrm{weight}_c +
              \mathrm{bias}_c\right)

    where the variance is about the mean, which is not subtracted.

    Parameters
    ----------
    x : floating array with an axis of samples and one of C channels, of any strides
    running_var : float32 or float64 array of shape (C,), optional
        Used in inference; in training updated in place to (1 - momentum)·running + momentum·batch, unbiased.
    weight, bias : arrays of shape (C,), optional
    training : bool
        Whether to use the batch's variance; without a running one it is used in any case.
    momentum : float
        The share of the batch in the running variance.
    eps : float
        Added to the biased variance, inside the square root.
    layout : str, optional
        The axes, a capital letter each, with one N and one C, such as "NHWC"; None means channels at axis 1.
    activation : {"relu", "gelu", "gelu_tanh", "silu", "sigmoid", "tanh"}, optional
        Applied to the result in the same trip.
    out : array of x's shape and dtype, optional
        Where to write y; it may be x itself.
    return_stats : bool
        Whether to return what `variance_only_batch_norm_backward` takes.

    Returns
    -------
    y : array with x's dtype, shape and memory order
    mean, rstd : float64 arrays of shape (C,)
        Only with `return_stats=True`; in inference 0 and 1/√(running_var + eps).

    Raises
    ------
    TypeError, ValueError
        An argument has the wrong type, dtype, shape or value, or training has one value per channel; nothing has been
        written, the running variance included.

    References
    ----------
    Wang, She, Zhang, Zhang, "Correct Normalization Matters", 2020, https://arxiv.org/abs/2006.12753

    Examples
    --------
    >>> import numpy as np, fastnorm
    >>> fastnorm.variance_only_batch_norm(np.array([[4, 3], [3, 3], [2, 0]], np.float32), training=True).round(3)
    array([[4.899, 2.121],
           [3.674, 2.121],
           [2.449, 0.   ]], dtype=float32)
    """
    momentum = _checks.momentum(momentum)
    # The mean is not asked for, but kept beside: statistics come in pairs.
    mean = None if running_var is None else np.zeros(np.shape(running_var))
    if not training and running_var is not None:
        y = standardize(BATCH, layout, x, mean, running_var, weight, bias, eps, activation, out)
        return (y, *as_statistics(mean, running_var, eps)) if return_stats else y
    update = Update(mean, running_var, momentum)
    y, statistics = normalize(
        _BATCH_IN_TRAINING, layout, x, weight, bias, eps, activation, out, return_stats, update
    )
    return y if statistics is None else (y, statistics.mean, statistics.rstd)


def variance_only_batch_norm_backward(
    dy: Array,
    x: Array,
    mean: Array,
    rstd: Array,
    weight: Array | None = None,
    bias: Array | None = None,
    *,
    training: bool = True,
    layout: str | None = None,
    activation: str | None = None,
    needs: tuple[bool, bool, bool] = (True, True, True),
) -> Gradients:
    r"""Gradients of `variance_only_batch_norm` with respect to x, weight and bias.

    The formulas are those of `variance_only_layer_norm_backward`; where `training` is False, rstd is a constant, and dx is
    rstd·g·weight.

    Parameters
    ----------
    dy, x : floating arrays of one shape and dtype
        The gradient of the result, and the forward call's input.
    mean, rstd : float64 arrays
        As `variance_only_batch_norm` returned them with `return_stats=True`.
    weight, bias : arrays, optional
        The forward call's; the bias matters to an activation alone.
    training : bool
        Whether rstd is the batch's, and depends on x, or a constant.
    layout : str, optional
        The forward call's.
    activation : str, optional
        The forward call's.
    needs : three booleans
        Whether to compute dx, dweight and dbias; None stands in the place of those that are not.

    Returns
    -------
    Gradients
        The named tuple (dx, dweight, dbias): dx with x's dtype and memory order, the others with weight's dtype (without
        one x's, or float32 where that has 16 bits).

    Raises
    ------
    TypeError, ValueError
        An argument has the wrong type, dtype, shape or value.

    Examples
    --------
    >>> import numpy as np, fastnorm
    >>> x = np.array([[0, 3], [1, 1], [2, 2]], np.float32)
    >>> y, mean, rstd = fastnorm.variance_only_batch_norm(x, training=True, return_stats=True)
    >>> fastnorm.variance_only_batch_norm_backward(np.ones_like(x), x, mean, rstd).dbias
    array([3., 3.], dtype=float32)
    """
    return backward(_BATCH, layout, dy, x, mean, rstd, weight, bias, activation, needs, constant=not training)


def simple_layer_norm(
    x: Array,
    *,
    axis: int | tuple[int, ...] = -1,
    eps: float = 1e-5,
    activation: str | None = None,
    out: Array | None = None,
    return_stats: bool = False,
) -> Any:
    r"""Layer norm without weight and bias.

    .. math:: y = \mathrm{activation}\left(\frac{x - \mathrm{mean}}{\sqrt{\mathrm{var} + \mathrm{eps}}}\right)

    Parameters
    ----------
    x, axis, eps, activation, out, return_stats
        As those of `layer_norm`.

    Returns
    -------
    y : array with x's dtype, shape and memory order
    mean, rstd : float64 arrays shaped like x without `axis`
        Only with `return_stats=True`.

    Raises
    ------
    TypeError, ValueError
        As `layer_norm` raises them.

    References
    ----------
    Wang, She, Zhang, Zhang, "Correct Normalization Matters", 2020, https://arxiv.org/abs/2006.12753

    Examples
    --------
    >>> import numpy as np, fastnorm
    >>> fastnorm.simple_layer_norm(np.array([[4, 3, 2]], np.float32)).round(3)
    array([[ 1.225,  0.   , -1.225]], dtype=float32)
    """
    return layer_norm(x, axis=axis, eps=eps, activation=activation, out=out, return_stats=return_stats)


def simple_layer_norm_backward(
    dy: Array,
    x: Array,
    mean: Array,
    rstd: Array,
    *,
    axis: int | tuple[int, ...] = -1,
    activation: str | None = None,
) -> Array:
    """dx of `simple_layer_norm`: that of `layer_norm` without a weight.

    Parameters
    ----------
    dy, x, mean, rstd, axis, activation
        As those of `layer_norm_backward`.

    Returns
    -------
    dx : array with x's dtype, shape and memory order

    Raises
    ------
    TypeError, ValueError
        As `layer_norm_backward` raises them.

    Examples
    --------
    >>> import numpy as np, fastnorm
    >>> x = np.array([[0, 1, 2], [3, 1, 2]], np.float32)
    >>> y, mean, rstd = fastnorm.simple_layer_norm(x, return_stats=True)
    >>> fastnorm.simple_layer_norm_backward(np.ones_like(x), x, mean, rstd)
    array([[0., 0., 0.],
           [0., 0., 0.]], dtype=float32)
    """
    needs = (True, False, False)
    dx = layer_norm_backward(dy, x, mean, rstd, axis=axis, activation=activation, needs=needs).dx
    assert dx is not None, "it was asked for"
    return dx

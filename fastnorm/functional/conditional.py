"""Norms whose scale and shift are given for each sample: adaptive layer norm, adaptive instance norm, FiLM."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import _checks
from .._floats import cast, computed
from ._flow import grid as _grid
from ._flow.backward import Gradients, backward
from ._flow.forward import Array, normalize
from ._flow.roles import ADAPTIVE_LAYER, INSTANCE, elements_per_statistic, with_own_pairs

_INSTANCE = with_own_pairs(INSTANCE)


def adaptive_layer_norm(
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
    r"""Layer norm with a scale and shift of each sample's own, as a network made them from a condition (AdaLN).

    .. math:: y_n = \mathrm{activation}\left(\frac{x_n - \mathrm{mean}}{\sqrt{\mathrm{var} + \mathrm{eps}}} \cdot
              \mathrm{weight}_n + \mathrm{bias}_n\right)

    Parameters
    ----------
    x : floating array whose axis 0 is the samples', of any strides
    weight, bias : arrays of shape (N, …), optional
        The samples, then the normalized axes in the order of the array. (DiT's scale is weight - 1.)
    axis : int or tuple of ints
        The axes of a sample that share a statistic.
    eps : float
        Added to the biased variance, inside the square root.
    activation : {"relu", "gelu", "gelu_tanh", "silu", "sigmoid", "tanh"}, optional
        Applied to the result in the same trip.
    out : array of x's shape and dtype, optional
        Where to write y; it may be x itself.
    return_stats : bool
        Whether to return what `adaptive_layer_norm_backward` takes.

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
    Peebles, Xie, "Scalable Diffusion Models with Transformers", 2022, https://arxiv.org/abs/2212.09748
    Perez, Strub, de Vries, Dumoulin, Courville, "FiLM", 2017, https://arxiv.org/abs/1709.07871

    Examples
    --------
    >>> import numpy as np, fastnorm
    >>> x = np.array([[[4, 3, 2]], [[4, 3, 2]]], np.float32)
    >>> weight = np.array([[1, 1, 1], [2, 2, 2]], np.float32)
    >>> fastnorm.adaptive_layer_norm(x, weight).round(3)
    array([[[ 1.225,  0.   , -1.225]],
    <BLANKLINE>
           [[ 2.449,  0.   , -2.449]]], dtype=float32)
    """
    y, statistics = normalize(ADAPTIVE_LAYER, axis, x, weight, bias, eps, activation, out, return_stats)
    return y if statistics is None else (y, statistics.mean, statistics.rstd)


def adaptive_layer_norm_backward(
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
    r"""Gradients of `adaptive_layer_norm` with respect to x, weight and bias.

    .. math:: g = dy \cdot \mathrm{activation}'(z), \quad
              dx = \mathrm{rstd} \cdot \left(g \cdot \mathrm{weight} - \overline{g \cdot \mathrm{weight}} -
              \hat x \cdot \overline{g \cdot \mathrm{weight} \cdot \hat x}\right)

    where the means are taken over the elements that share a statistic; dweight and dbias are the sums of
    :math:`g \cdot \hat x` and of :math:`g` over the elements of a sample that share a pair.

    Parameters
    ----------
    dy, x : floating arrays of one shape and dtype
        The gradient of the result, and the forward call's input.
    mean, rstd : float64 arrays
        As `adaptive_layer_norm` returned them with `return_stats=True`.
    weight, bias : arrays of shape (N, …), optional
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
        The named tuple (dx, dweight, dbias): dx with x's dtype and memory order, the others, of shape (N, …), with weight's
        dtype (without one x's, or float32 where that has 16 bits).

    Raises
    ------
    TypeError, ValueError
        An argument has the wrong type, dtype, shape or value.

    Examples
    --------
    >>> import numpy as np, fastnorm
    >>> x = np.array([[[0, 1, 2], [3, 1, 2]]], np.float32)
    >>> y, mean, rstd = fastnorm.adaptive_layer_norm(x, return_stats=True)
    >>> fastnorm.adaptive_layer_norm_backward(np.ones_like(x), x, mean, rstd).dbias
    array([[2., 2., 2.]], dtype=float32)
    """
    return backward(ADAPTIVE_LAYER, axis, dy, x, mean, rstd, weight, bias, activation, needs)


def adaptive_instance_norm(
    x: Array,
    weight: Array | None = None,
    bias: Array | None = None,
    *,
    eps: float = 1e-5,
    layout: str | None = None,
    activation: str | None = None,
    out: Array | None = None,
    return_stats: bool = False,
) -> Any:
    r"""Instance norm with a scale and shift for each channel of each sample, such as another image's statistics (AdaIN).

    .. math:: y = \mathrm{activation}\left(\frac{x - \mathrm{mean}_{nc}}{\sqrt{\mathrm{var}_{nc} + \mathrm{eps}}} \cdot
              \mathrm{weight}_{nc} + \mathrm{bias}_{nc}\right)

    Parameters
    ----------
    x : floating array with an axis of samples, one of C channels and others to average over, of any strides
    weight, bias : arrays of shape (N, C), optional
        In style transfer the standard deviations and means of the style's channels.
    eps : float
        Added to the biased variance, inside the square root.
    layout : str, optional
        The axes, a capital letter each, with one N and one C, such as "NHWC"; None means channels at axis 1.
    activation : {"relu", "gelu", "gelu_tanh", "silu", "sigmoid", "tanh"}, optional
        Applied to the result in the same trip.
    out : array of x's shape and dtype, optional
        Where to write y; it may be x itself.
    return_stats : bool
        Whether to return what `adaptive_instance_norm_backward` takes.

    Returns
    -------
    y : array with x's dtype, shape and memory order
    mean, rstd : float64 arrays of shape (N, C)
        Only with `return_stats=True`.

    Raises
    ------
    TypeError, ValueError
        An argument has the wrong type, dtype, shape or value; nothing has been written.

    References
    ----------
    Huang, Belongie, "Arbitrary Style Transfer in Real-time with Adaptive Instance Normalization", 2017,
    https://arxiv.org/abs/1703.06868

    Examples
    --------
    >>> import numpy as np, fastnorm
    >>> x = np.array([[[1, 2, 3], [0, 0, 6]]], np.float32)
    >>> fastnorm.adaptive_instance_norm(x, np.array([[1, 10]], np.float32)).round(3)
    array([[[-1.225,  0.   ,  1.225],
            [-7.071, -7.071, 14.142]]], dtype=float32)
    """
    _has_positions(x, layout)
    y, statistics = normalize(_INSTANCE, layout, x, weight, bias, eps, activation, out, return_stats)
    return y if statistics is None else (y, statistics.mean, statistics.rstd)


def adaptive_instance_norm_backward(
    dy: Array,
    x: Array,
    mean: Array,
    rstd: Array,
    weight: Array | None = None,
    bias: Array | None = None,
    *,
    layout: str | None = None,
    activation: str | None = None,
    needs: tuple[bool, bool, bool] = (True, True, True),
) -> Gradients:
    """Gradients of `adaptive_instance_norm` with respect to x, weight and bias.

    The formulas are those of `instance_norm_backward`; dweight and dbias are sums over the positions of an instance.

    Parameters
    ----------
    dy, x : floating arrays of one shape and dtype
        The gradient of the result, and the forward call's input.
    mean, rstd : float64 arrays of shape (N, C)
        As `adaptive_instance_norm` returned them with `return_stats=True`.
    weight, bias : arrays of shape (N, C), optional
        The forward call's; the bias matters to an activation alone.
    layout : str, optional
        The forward call's.
    activation : str, optional
        The forward call's.
    needs : three booleans
        Whether to compute dx, dweight and dbias; None stands in the place of those that are not.

    Returns
    -------
    Gradients
        The named tuple (dx, dweight, dbias): dx with x's dtype and memory order, the others, of shape (N, C), with weight's
        dtype (without one x's, or float32 where that has 16 bits).

    Raises
    ------
    TypeError, ValueError
        An argument has the wrong type, dtype, shape or value.

    Examples
    --------
    >>> import numpy as np, fastnorm
    >>> x = np.array([[[1, 2, 3], [0, 0, 6]]], np.float32)
    >>> y, mean, rstd = fastnorm.adaptive_instance_norm(x, return_stats=True)
    >>> fastnorm.adaptive_instance_norm_backward(np.ones_like(x), x, mean, rstd).dbias
    array([[3., 3.]], dtype=float32)
    """
    return backward(_INSTANCE, layout, dy, x, mean, rstd, weight, bias, activation, needs)


def film(
    x: Array,
    weight: Array | None = None,
    bias: Array | None = None,
    *,
    layout: str | None = None,
    activation: str | None = None,
    out: Array | None = None,
) -> Array:
    r"""Scale and shift each channel of each sample (feature-wise linear modulation).

    .. math:: y = \mathrm{activation}(x \cdot \mathrm{weight}_{nc} + \mathrm{bias}_{nc})

    Parameters
    ----------
    x : floating array with an axis of samples and one of C channels, of any strides
    weight, bias : arrays of shape (N, C), optional
    layout : str, optional
        The axes, a capital letter each, with one N and one C, such as "NHWC"; None means channels at axis 1.
    activation : {"relu", "gelu", "gelu_tanh", "silu", "sigmoid", "tanh"}, optional
        Applied to the result in the same trip.
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
    Perez, Strub, de Vries, Dumoulin, Courville, "FiLM: Visual Reasoning with a General Conditioning Layer", 2017,
    https://arxiv.org/abs/1709.07871

    Examples
    --------
    >>> import numpy as np, fastnorm
    >>> fastnorm.film(np.array([[1, 2]], np.float32), np.array([[2, 3]], np.float32), np.array([[0, 1]], np.float32))
    array([[2., 7.]], dtype=float32)
    """
    given, x = x, _checks.array(x, "x")
    shared = _INSTANCE.shared(x.shape, layout)
    out = _checks.result(out, "out", x)
    pair = _checks.affine_pair(weight, bias, shared.parameters, x.dtype, shared.why, out)
    return _grid.apply(
        _INSTANCE, layout, given, _plain(shared.parameters), *pair, activation=activation, out=out
    )


def film_backward(
    dy: Array,
    x: Array,
    weight: Array | None = None,
    bias: Array | None = None,
    *,
    layout: str | None = None,
    activation: str | None = None,
) -> Gradients:
    r"""Gradients of `film` with respect to x, weight and bias.

    .. math:: g = dy \cdot \mathrm{activation}'(z), \quad dx = g \cdot \mathrm{weight}, \quad
              d\mathrm{weight} = \sum g \cdot x, \quad d\mathrm{bias} = \sum g

    Parameters
    ----------
    dy, x : floating arrays of one shape and dtype
        The gradient of the result, and the forward call's input.
    weight, bias, layout, activation
        The forward call's.

    Returns
    -------
    Gradients
        The named tuple (dx, dweight, dbias): dx with x's dtype and memory order, the others, of shape (N, C), with weight's
        dtype.

    Raises
    ------
    TypeError, ValueError
        An argument has the wrong type, dtype, shape or value.

    Examples
    --------
    >>> import numpy as np, fastnorm
    >>> x = np.array([[[1, 2], [3, 4]]], np.float32)
    >>> fastnorm.film_backward(np.ones_like(x), x, np.array([[2, 3]], np.float32)).dweight
    array([[3., 7.]], dtype=float32)
    """
    given, x = x, _checks.array(x, "x")
    shared = _INSTANCE.shared(x.shape, layout)
    dtype = computed(x.dtype) if not isinstance(weight, np.ndarray) else weight.dtype
    pair = _checks.affine_pair(weight, bias, shared.parameters, x.dtype, shared.why)
    shape = shared.parameters
    plain = np.zeros(shape), np.ones(shape)
    sums = _grid.sums(_INSTANCE, layout, dy, given, *plain, *pair, activation=activation)
    terms = np.ones(shape), np.zeros(shape), np.zeros(shape)
    dx = _grid.gradient(_INSTANCE, layout, dy, given, *plain, terms, *pair, activation=activation)
    return Gradients(dx, cast(sums.of_product, dtype), cast(sums.of_g, dtype))


def _plain(shape: tuple[int, ...]) -> _grid.Moments:
    """Statistics by which x stays what it is."""
    zeros = np.zeros(shape)
    return _grid.Moments(zeros, zeros, np.ones(shape))


def _has_positions(x: Array, layout: str | None) -> None:
    shape = _checks.array(x, "x").shape
    if elements_per_statistic(shape, _INSTANCE.shared(shape, layout).roles) == 0:
        raise ValueError(f"x has shape {shape}, with no element to average over in a channel of a sample")

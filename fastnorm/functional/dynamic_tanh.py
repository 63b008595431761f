"""Dynamic tanh: a tanh of learned steepness in the place of a norm, an affine pair per position."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .. import _checks
from .._floats import cast, computed
from ..kernels.activations import CODES
from ..kernels.maps import elementwise
from ._flow.map import Array, run


class DynamicTanhGradients(NamedTuple):
    """What `dynamic_tanh_backward` returns."""

    dx: Array
    dalpha: Array
    dweight: Array
    dbias: Array


def dynamic_tanh(
    x: Array,
    alpha: float | Array,
    weight: Array | None = None,
    bias: Array | None = None,
    *,
    axis: int | tuple[int, ...] = -1,
    activation: str | None = None,
    out: Array | None = None,
) -> Array:
    r"""Squash x by a tanh of learned steepness, then scale and shift every position along `axis`.

    .. math:: y = \mathrm{activation}(\tanh(\mathrm{alpha} \cdot x) \cdot \mathrm{weight} + \mathrm{bias})

    It stands where a transformer has layer or RMS norm, and takes no statistics.

    Parameters
    ----------
    x : floating array of any shape and strides
    alpha : number, or array of one
        How steep the tanh is at 0.
    weight, bias : arrays of the shape of x along `axis`, in the order of the array, optional
    axis : int or tuple of ints
        The axes along which weight and bias lie, in any place: `axis=1` for the channels of an NCHW array.
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
    Zhu, Chen, He, LeCun, Liu, "Transformers without Normalization", 2025, https://arxiv.org/abs/2503.10622

    Examples
    --------
    >>> import numpy as np, fastnorm
    >>> fastnorm.dynamic_tanh(np.array([[-9, 0, 1]], np.float32), 0.5).round(3)
    array([[-1.   ,  0.   ,  0.462]], dtype=float32)
    """
    x = _checks.array(x, "x")
    axes, why = _along(x, axis)
    out = _checks.result(out, "out", x)
    pair = _checks.affine_pair(weight, bias, tuple(x.shape[i] for i in axes), x.dtype, why)
    _checks.activation(activation, CODES)
    forward, _ = elementwise.dynamic_tanh(activation)
    return run(forward, [x], _placed(x, axes, _one(alpha), pair), out=out).outputs[0]


def dynamic_tanh_backward(
    dy: Array,
    x: Array,
    alpha: float | Array,
    weight: Array | None = None,
    bias: Array | None = None,
    *,
    axis: int | tuple[int, ...] = -1,
    activation: str | None = None,
) -> DynamicTanhGradients:
    r"""Gradients of `dynamic_tanh` with respect to x, alpha, weight and bias.

    .. math:: g = dy \cdot \mathrm{activation}'(z), \quad
              h = g \cdot \mathrm{weight} \cdot (1 - \tanh^2(\mathrm{alpha} \cdot x)), \quad
              dx = \mathrm{alpha} \cdot h, \quad d\mathrm{alpha} = \sum h \cdot x

    dweight and dbias are the sums of :math:`g \cdot \tanh(\mathrm{alpha} \cdot x)` and of g over the elements that share a
    pair.

    Parameters
    ----------
    dy, x : floating arrays of one shape and dtype
        The gradient of the result, and the forward call's input.
    alpha : number, or array of one
        The forward call's.
    weight, bias : arrays, optional
        The forward call's; the bias matters to an activation alone.
    axis : int or tuple of ints
        The forward call's.
    activation : str, optional
        The forward call's.

    Returns
    -------
    DynamicTanhGradients
        The named tuple (dx, dalpha, dweight, dbias): dx with x's dtype and memory order, dalpha of alpha's shape and dtype,
        the others with weight's dtype (without one x's, or float32 where that has 16 bits).

    Raises
    ------
    TypeError, ValueError
        An argument has the wrong type, dtype, shape or value.

    Examples
    --------
    >>> import numpy as np, fastnorm
    >>> x = np.array([[0, 1], [0, 3]], np.float32)
    >>> fastnorm.dynamic_tanh_backward(np.ones_like(x), x, 0.5).dx.round(3)
    array([[0.5  , 0.393],
           [0.5  , 0.09 ]], dtype=float32)
    """
    x = _checks.array(x, "x")
    dy = _checks.like(dy, "dy", x)
    axes, why = _along(x, axis)
    shape = tuple(x.shape[i] for i in axes)
    own = computed(x.dtype) if weight is None else np.asarray(weight).dtype
    pair = _checks.affine_pair(weight, bias, shape, x.dtype, why)
    steepness = _one(alpha)
    _checks.activation(activation, CODES)
    _, backward = elementwise.dynamic_tanh(activation)
    others = tuple(i for i in range(x.ndim) if i not in axes)
    found = run(backward, [dy, x], _placed(x, axes, steepness, pair), others)
    of_alpha, dweight, dbias = found.sums
    dalpha = cast(np.full(steepness.shape, of_alpha.sum()), steepness.dtype)
    dweight, dbias = (cast(s.reshape(shape), own) for s in (dweight, dbias))
    return DynamicTanhGradients(found.outputs[0], dalpha, dweight, dbias)


def _along(x: Array, axis: Any) -> tuple[tuple[int, ...], str]:
    """The axes of weight and bias, and why."""
    axes = _checks.axes(tuple(axis) if isinstance(axis, list) else axis, x.shape)
    return axes, f"axis is {axis}, and x has shape {x.shape}"


def _placed(
    x: Array, axes: tuple[int, ...], alpha: Array, pair: tuple[Array | None, Array | None]
) -> tuple[Array, ...]:
    """Steepness, weight and bias as coefficients of the maps."""
    one, along = (1,) * x.ndim, tuple(n if i in axes else 1 for i, n in enumerate(x.shape))
    weight, bias = (
        np.full(one, missing, computed(x.dtype)) if p is None else p.reshape(along)
        for p, missing in zip(pair, (1.0, 0.0), strict=True)
    )
    return cast(alpha, computed(x.dtype)).reshape(one), weight, bias


def _one(alpha: Any) -> Array:
    """A number, or an array of one, as an array of its shape and floating dtype."""
    result = np.asarray(alpha)
    if result.dtype.kind in "iu":
        result = result.astype(np.float64)
    if result.dtype.kind != "f" and result.dtype.name != "bfloat16":
        raise TypeError(f"alpha is {_checks.shown(alpha)}, expected a number, or an array of one")
    if result.size != 1:
        raise ValueError(f"alpha has shape {result.shape}, expected a number, or an array of one")
    return result

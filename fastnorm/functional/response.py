"""Global response norm: channels compete by their lengths over all positions."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .. import _checks
from .._floats import FLOAT64, cast, computed
from ..kernels.activations import CODES
from ..kernels.job import SUM_OF_SQUARES
from ._flow.backward import Gradients
from ._flow.forward import Array
from ._flow.grid import apply, gradient, moments, of_samples, sums, unmoved
from ._flow.roles import INSTANCE, Norm, with_own_pairs

_RESPONSE = with_own_pairs(Norm(INSTANCE.shared, second_moment=SUM_OF_SQUARES))

_NO_PAIR: tuple[Array | None, Array | None] = (None, None)


class _Response(NamedTuple):
    """What the norms of a sample's channels say, of shape (N, C) or (N, 1)."""

    mean: Array  # of the norms, and eps
    shares: Array  # the norms over it
    scale: Array  # what x is multiplied by

    @classmethod
    def of(cls, norm: Array, weight: Array | None, eps: float) -> _Response:
        mean = np.sum(norm, 1, keepdims=True) / max(norm.shape[1], 1) + eps
        shares = norm / mean
        return cls(mean, shares, 1 + (shares if weight is None else weight * shares))


def global_response_norm(
    x: Array,
    weight: Array | None = None,
    bias: Array | None = None,
    *,
    layout: str | None = None,
    eps: float = 1e-6,
    activation: str | None = None,
    out: Array | None = None,
    return_norm: bool = False,
) -> Any:
    r"""Raise each channel by the share that its norm over all positions has in the sample.

    .. math:: g_{nc} = \lVert x_{nc} \rVert_2, \quad y = \mathrm{activation}\left(x \cdot
              \left(1 + \mathrm{weight} \cdot \frac{g}{\mathrm{mean}_c(g) + \mathrm{eps}}\right) + \mathrm{bias}\right)

    Parameters
    ----------
    x : floating array of any strides
    weight, bias : arrays of shape (C,), optional
    layout : str or None
        The axes by letter, such as "NHWC", in which ConvNeXt V2 has them; None means channels at axis 1.
    eps : float
        Added to the mean of a sample's norms.
    activation : {"relu", "gelu", "gelu_tanh", "silu", "sigmoid", "tanh"}, optional
        Applied to the result in the same trip.
    out : array of x's shape and dtype, optional
        Where to write y; it may be x itself.
    return_norm : bool
        Whether to return what `global_response_norm_backward` takes.

    Returns
    -------
    y : array with x's dtype, shape and memory order
    norm : float64 array of shape (N, C)
        Only with `return_norm=True`.

    Raises
    ------
    TypeError, ValueError
        An argument has the wrong type, dtype, shape or value; nothing has been written.

    References
    ----------
    Woo et al., "ConvNeXt V2: Co-designing and Scaling ConvNets with Masked Autoencoders", 2023,
    https://arxiv.org/abs/2301.00808

    Examples
    --------
    >>> import numpy as np
    >>> from fastnorm.functional.response import global_response_norm
    >>> x = np.array([[[3, 4], [0, 5], [2, 0]]], np.float32)
    >>> global_response_norm(x, np.full(3, 4, np.float32)).round(3)
    array([[[18., 24.],
            [ 0., 30.],
            [ 6.,  0.]]], dtype=float32)
    """
    x = _checks.array(x, "x")
    shared, added = INSTANCE.shared(x.shape, layout), _checks.eps(eps)
    out = _checks.result(out, "out", x)
    weight, bias = _checks.affine_pair(weight, bias, shared.parameters, x.dtype, shared.why, out)
    _checks.activation(activation, CODES)
    norm = np.sqrt(moments(_RESPONSE, layout, x).variance)
    with np.errstate(all="ignore"):  # as in the kernels
        pair = _Response.of(norm, weight, added).scale, of_samples(bias, norm.shape)
        y = apply(_RESPONSE, layout, x, unmoved(norm.shape), *pair, activation=activation, out=out)
    return (y, norm) if return_norm else y


def global_response_norm_backward(
    dy: Array,
    x: Array,
    norm: Array,
    weight: Array | None = None,
    bias: Array | None = None,
    *,
    layout: str | None = None,
    eps: float = 1e-6,
    activation: str | None = None,
    needs: tuple[bool, bool, bool] = (True, True, True),
) -> Gradients:
    r"""Gradients of `global_response_norm` with respect to x, weight and bias.

    With :math:`dz = dy \cdot \mathrm{activation}'(z)`,

    .. math:: p = \mathrm{weight} \cdot \sum dz \cdot x, \quad m = \mathrm{mean}_c(g) + \mathrm{eps}, \quad
              dx = dz \cdot \left(1 + \mathrm{weight} \cdot \frac{g}{m}\right) +
              \frac{x}{g} \cdot \left(\frac{p}{m} - \frac{\mathrm{mean}_c(p \cdot g)}{m^2}\right)

    where the sum is taken over the positions of a sample's channel; dweight and dbias are the sums of
    :math:`dz \cdot x \cdot g / m` and of dz over all elements of a channel.

    Parameters
    ----------
    dy, x : floating arrays of one shape and dtype
        The gradient of the result, and the forward call's input.
    norm : float64 array of shape (N, C)
        As `global_response_norm` returned it with `return_norm=True`.
    weight, bias, layout, eps, activation
        The forward call's; the bias matters to an activation alone.
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
    >>> import numpy as np
    >>> from fastnorm.functional.response import global_response_norm, global_response_norm_backward
    >>> x = np.array([[[3, 4], [0, 5], [2, 0]]], np.float32)
    >>> y, norm = global_response_norm(x, return_norm=True)
    >>> global_response_norm_backward(np.ones_like(x), x, norm).dbias
    array([2., 2., 2.], dtype=float32)
    """
    x = _checks.array(x, "x")
    shared, added = INSTANCE.shared(x.shape, layout), _checks.eps(eps)
    dy, needs = _checks.like(dy, "dy", x), _checks.needs(needs)
    pair = _checks.affine_pair(weight, bias, shared.parameters, x.dtype, shared.why)
    dtype = computed(x.dtype) if weight is None else weight.dtype
    shape = shared.statistic_shape(x.shape)
    norm = _checks.parameter(norm, "norm", shape, FLOAT64, "that of what the forward call returned")
    with np.errstate(all="ignore"):
        mean, shares, scale = _Response.of(norm, pair[0], added)
        length = np.where(norm == 0, 1, norm)  # of zeros, which stay zeros
        inverse, nothing = 1 / length, np.zeros(shape)
        of_g, own = scale, _NO_PAIR
        if activation is not None:  # the kernels know z as x_hat·weight + bias
            of_g, own = inverse, (scale * length, of_samples(pair[1], shape))
        of_dz, product = sums(_RESPONSE, layout, dy, x, nothing, inverse, *own, activation=activation)
        product = product * norm  # Σ dz·x
        dx = None
        if needs[0]:
            p = product if pair[0] is None else pair[0] * product
            of_mean = np.sum(p * norm, 1, keepdims=True) / (max(norm.shape[1], 1) * np.square(mean))
            terms = of_g, p / mean - of_mean, nothing
            dx = gradient(_RESPONSE, layout, dy, x, nothing, inverse, terms, *own, activation=activation)
        dweight = cast(np.sum(product * shares, 0), dtype) if needs[1] else None
        dbias = cast(np.sum(of_dz, 0), dtype) if needs[2] else None
    return Gradients(dx, dweight, dbias)

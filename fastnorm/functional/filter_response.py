"""Filter response norm: the mean square of each channel of a sample, an affine pair per channel, a learned threshold."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .. import _checks
from .._floats import FLOAT64, cast, computed
from ..kernels.maps.elementwise import FILTER_RESPONSE, FILTER_RESPONSE_GRADIENT, FILTER_RESPONSE_SUMS
from ._flow.backward import backward
from ._flow.forward import Array, normalize
from ._flow.grid import moments
from ._flow.map import Channels, run
from ._flow.roles import INSTANCE, Norm

_RESPONSE = Norm(INSTANCE.shared, second_moment=True)


class FilterResponseGradients(NamedTuple):
    """What `filter_response_norm_backward` returns; dtau is None where there is no threshold."""

    dx: Array | None
    dweight: Array | None
    dbias: Array | None
    dtau: Array | None


def filter_response_norm(
    x: Array,
    weight: Array | None = None,
    bias: Array | None = None,
    tau: Array | None = None,
    *,
    eps: float = 1e-6,
    layout: str | None = None,
    activation: str | None = None,
    out: Array | None = None,
    return_stats: bool = False,
) -> Any:
    r"""Divide each channel of each sample by its root mean square, scale and shift every channel, and apply a threshold.

    .. math:: y = \max\left(\frac{x}{\sqrt{\mathrm{mean}_{nc}(x^2) + |\mathrm{eps}|}} \cdot \mathrm{weight}_c +
              \mathrm{bias}_c, \ \mathrm{tau}_c\right)

    Nothing is centred, and nothing depends on the batch. The threshold, the paper's TLU, stands in place of an activation.

    Parameters
    ----------
    x : floating array with an axis of samples and one of C channels, of any strides
    weight, bias : arrays of shape (C,), optional
    tau : array of shape (C,), optional
        The least that a channel's result is; without it there is no threshold.
    eps : float
        Added to the mean square, inside the square root, by its magnitude.
    layout : str, optional
        The axes, a capital letter each, with one N and one C, such as "NHWC"; None means channels at axis 1.
    activation : {"relu", "gelu", "gelu_tanh", "silu", "sigmoid", "tanh"}, optional
        Applied to the result in the same trip, where there is no threshold.
    out : array of x's shape and dtype, optional
        Where to write y; it may be x itself.
    return_stats : bool
        Whether to return what `filter_response_norm_backward` takes.

    Returns
    -------
    y : array with x's dtype, shape and memory order
    rstd : float64 array of shape (N, C)
        Only with `return_stats=True`.

    Raises
    ------
    TypeError, ValueError
        An argument has the wrong type, dtype, shape or value; nothing has been written.

    References
    ----------
    Singh, Krishnan, "Filter Response Normalization Layer: Eliminating Batch Dependence in the Training of Deep Neural
    Networks", 2020, https://arxiv.org/abs/1911.09737

    Examples
    --------
    >>> import numpy as np, fastnorm
    >>> x = np.array([[[3, -4], [0, 2]]], np.float32)
    >>> fastnorm.filter_response_norm(x, tau=np.zeros(2, np.float32)).round(3)
    array([[[0.849, 0.   ],
            [0.   , 1.414]]], dtype=float32)
    """
    eps = abs(_checks.eps(eps))
    if tau is None:
        y, found = normalize(_RESPONSE, layout, x, weight, bias, eps, activation, out, return_stats)
        return y if found is None else (y, found.rstd)
    _only_one(activation)
    x = _checks.array(x, "x")
    shared = _RESPONSE.shared(x.shape, layout)
    out = _checks.result(out, "out", x)
    pair = _checks.affine_pair(weight, bias, shared.parameters, x.dtype, shared.why)
    tau = _checks.parameter(tau, "tau", shared.parameters, computed(x.dtype), shared.why)
    rstd = 1 / np.sqrt(moments(_RESPONSE, layout, x).variance + eps)
    y = run(
        FILTER_RESPONSE, [x], _coefficients(Channels.of(x, layout), rstd, *pair, tau), out=out, again=True
    ).outputs[0]
    return (y, rstd) if return_stats else y


def filter_response_norm_backward(
    dy: Array,
    x: Array,
    rstd: Array,
    weight: Array | None = None,
    bias: Array | None = None,
    tau: Array | None = None,
    *,
    layout: str | None = None,
    activation: str | None = None,
) -> FilterResponseGradients:
    r"""Gradients of `filter_response_norm` with respect to x, weight, bias and tau.

    .. math:: g = dy \cdot [z > \mathrm{tau}], \quad
              dx = \mathrm{rstd} \cdot \left(g \cdot \mathrm{weight} -
              \hat x \cdot \overline{g \cdot \mathrm{weight} \cdot \hat x}\right)

    where z is what the threshold is put to and the mean is taken over a channel of a sample; dweight and dbias are the sums
    of :math:`g \cdot \hat x` and of g over a channel, dtau that of dy where z is no more than tau.

    Parameters
    ----------
    dy, x : floating arrays of one shape and dtype
        The gradient of the result, and the forward call's input.
    rstd : float64 array of shape (N, C)
        As `filter_response_norm` returned it with `return_stats=True`.
    weight, bias, tau : arrays, optional
        The forward call's.
    layout, activation : str, optional
        The forward call's.

    Returns
    -------
    FilterResponseGradients
        The named tuple (dx, dweight, dbias, dtau): dx with x's dtype and memory order, the others with weight's dtype, dtau
        with tau's (without one x's, or float32 where that has 16 bits).

    Raises
    ------
    TypeError, ValueError
        An argument has the wrong type, dtype, shape or value.

    Examples
    --------
    >>> import numpy as np, fastnorm
    >>> x, tau = np.array([[[3, -4], [0, 2]]], np.float32), np.zeros(2, np.float32)
    >>> y, rstd = fastnorm.filter_response_norm(x, tau=tau, return_stats=True)
    >>> fastnorm.filter_response_norm_backward(np.ones_like(x), x, rstd, tau=tau).dtau
    array([1., 1.], dtype=float32)
    """
    if tau is None:
        every = (True, True, True)
        found = backward(_RESPONSE, layout, dy, x, None, rstd, weight, bias, activation, every)
        return FilterResponseGradients(found.dx, found.dweight, found.dbias, None)
    _only_one(activation)
    x = _checks.array(x, "x")
    shared = _RESPONSE.shared(x.shape, layout)
    dy, own = _checks.like(dy, "dy", x), computed(x.dtype)
    dtypes = own if weight is None else weight.dtype, tau.dtype
    pair = _checks.affine_pair(weight, bias, shared.parameters, x.dtype, shared.why)
    tau = _checks.parameter(tau, "tau", shared.parameters, own, shared.why)
    rstd = _checks.parameter(
        rstd, "rstd", shared.statistic_shape(x.shape), FLOAT64, "as the forward call returned it"
    )
    channels = Channels.of(x, layout)
    known = _coefficients(channels, rstd, *pair, tau)
    products, passed, stopped = channels.sums(run(FILTER_RESPONSE_SUMS, [dy, x], known, channels.others))
    mean = products * (1.0 if weight is None else pair[0]) / max(1, channels.size)
    gradient = run(FILTER_RESPONSE_GRADIENT, [dy, x], [*known, channels.of_both(mean)], again=True)
    sums = (cast(s.sum(0), d) for s, d in zip((products, passed, stopped), (dtypes[0], *dtypes), strict=True))
    return FilterResponseGradients(gradient.outputs[0], *sums)


def _only_one(activation: Any) -> None:
    if activation is not None:
        raise ValueError(
            f"activation is {activation!r}, expected None beside tau, which is in the place of one"
        )


def _coefficients(
    channels: Channels, rstd: Array, weight: Array | None, bias: Array | None, tau: Array
) -> list[Array]:
    """What the maps take."""
    pair = channels.of_channel(weight), channels.of_channel(bias, missing=0.0)
    return [channels.of_both(rstd), *pair, channels.of_channel(tau)]

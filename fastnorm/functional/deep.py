"""Deep norm: the residual stream is scaled up before a sublayer's result is added, and the sum normalized, in one trip."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .. import _checks
from ._flow.backward import backward
from ._flow.forward import Array, normalize_sum
from ._flow.roles import LAYER
from ._lengths import scaled


class DeepGradients(NamedTuple):
    """What `deep_norm_backward` returns; None where `needs` switches a gradient off."""

    dx: Array | None
    dresidual: Array | None
    dweight: Array | None
    dbias: Array | None


def deep_norm(
    x: Array,
    residual: Array,
    weight: Array | None = None,
    bias: Array | None = None,
    *,
    alpha: float,
    axis: int | tuple[int, ...] = -1,
    eps: float = 1e-5,
    activation: str | None = None,
    out: Array | None = None,
    return_stats: bool = False,
) -> Any:
    r"""Multiply x by alpha, add `residual`, and take the layer norm of the sum over `axis`, in one trip over memory.

    .. math:: s = \alpha x + \mathrm{residual}, \quad y = \mathrm{activation}(\mathrm{layer\_norm}(s))

    Parameters
    ----------
    x, residual : floating arrays of one shape and dtype
        The residual stream, and what the sublayer made of it: f(x).
    weight, bias : arrays of the shape of the normalized axes, optional
    alpha : float
        Above 1, the more layers the larger: `deep_norm_constants` has the paper's.
    axis : int or tuple of ints
        The axes that share a statistic, as in `layer_norm`.
    eps : float
        Added to the biased variance, inside the square root.
    activation : {"relu", "gelu", "gelu_tanh", "silu", "sigmoid", "tanh"}, optional
        Applied to the result in the same trip.
    out : array of x's shape and dtype, optional
        Where to write y; it may be x or residual itself.
    return_stats : bool
        Whether to return what `deep_norm_backward` takes.

    Returns
    -------
    y : array with x's dtype, shape and memory order
    total : the sum, likewise
    mean, rstd : float64 arrays shaped like x without `axis`
        These three only with `return_stats=True`.

    Raises
    ------
    TypeError, ValueError
        An argument has the wrong type, dtype, shape or value; nothing has been written.

    References
    ----------
    Wang et al., "DeepNet: Scaling Transformers to 1,000 Layers", 2022, https://arxiv.org/abs/2203.00555

    Examples
    --------
    >>> import numpy as np
    >>> from fastnorm.functional.deep import deep_norm
    >>> x = np.array([[1, 2, 1, 2]], np.float32)
    >>> y, total, mean, rstd = deep_norm(x, -x, alpha=3, eps=0, return_stats=True)
    >>> y, total
    (array([[-1.,  1., -1.,  1.]], dtype=float32), array([[2., 4., 2., 4.]], dtype=float32))
    """
    factor = _checks.number(alpha, "alpha", "2.0")
    arguments = LAYER, axis, x, residual, weight, bias, eps, out, None
    options: Any = {"activation": activation, "factor": factor}
    y, total, found = normalize_sum(*arguments, **options, wanted=return_stats, summed=return_stats)
    return y if found is None else (y, total, found.mean, found.rstd)


def deep_norm_backward(
    dy: Array,
    total: Array,
    mean: Array,
    rstd: Array,
    weight: Array | None = None,
    bias: Array | None = None,
    *,
    alpha: float,
    axis: int | tuple[int, ...] = -1,
    activation: str | None = None,
    needs: tuple[bool, bool, bool] = (True, True, True),
) -> DeepGradients:
    r"""Gradients of `deep_norm` with respect to x, residual, weight and bias.

    .. math:: d\mathrm{residual} = ds, \quad dx = \alpha \cdot ds

    where ds, dweight and dbias are those of the layer norm of the sum s.

    Parameters
    ----------
    dy, total : floating arrays of one shape and dtype
        The gradient of the result, and the sum.
    mean, rstd : float64 arrays
        Like the sum, as `deep_norm` returned them with `return_stats=True`.
    weight, bias, alpha, axis, activation
        The forward call's; the bias matters to an activation alone.
    needs : three booleans
        Whether to compute dx with dresidual, dweight and dbias; None stands in the place of those that are not.

    Returns
    -------
    DeepGradients
        The named tuple (dx, dresidual, dweight, dbias): the first two with the sum's dtype and memory order, the others with
        weight's dtype (without one the sum's, or float32 where that has 16 bits).

    Raises
    ------
    TypeError, ValueError
        An argument has the wrong type, dtype, shape or value.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnorm.functional.deep import deep_norm, deep_norm_backward
    >>> x = np.array([[1, 2, 4, 5]], np.float32)
    >>> y, *saved = deep_norm(x, x, alpha=3, return_stats=True)
    >>> gradients = deep_norm_backward(x, *saved, alpha=3)
    >>> bool(np.allclose(gradients.dx, 3 * gradients.dresidual))
    True
    """
    total, factor = _checks.array(total, "total"), _checks.number(alpha, "alpha", "2.0")
    ds, dweight, dbias = backward(LAYER, axis, dy, total, mean, rstd, weight, bias, activation, needs)
    dx = None
    if ds is not None:
        dx = scaled(ds, _checks.axes(axis, total.shape), np.full(mean.shape, factor))
    return DeepGradients(dx, ds, dweight, dbias)


class DeepConstants(NamedTuple):
    """Alpha, and the gain of the initial weights of feed-forward, value and output projections."""

    alpha: float
    beta: float


def deep_norm_constants(
    encoder_layers: int = 0, decoder_layers: int = 0
) -> tuple[DeepConstants, DeepConstants]:
    r"""Alpha and beta of an encoder and of a decoder of so many layers.

    An encoder or a decoder alone of N layers has :math:`\alpha = (2N)^{1/4}, \beta = (8N)^{-1/4}`. Beside a decoder of M
    layers an encoder has :math:`\alpha = 0.81\,(N^4 M)^{1/16}, \beta = 0.87\,(N^4 M)^{-1/16}`, and the decoder
    :math:`\alpha = (3M)^{1/4}, \beta = (12M)^{-1/4}`.

    Parameters
    ----------
    encoder_layers, decoder_layers : int
        How many layers each has; 0 where there is none.

    Returns
    -------
    encoder, decoder : DeepConstants
        The named tuples (alpha, beta); (1, 1) for one without layers.

    Raises
    ------
    TypeError, ValueError
        A number is none, or below 0.

    References
    ----------
    Wang et al., "DeepNet: Scaling Transformers to 1,000 Layers", 2022, https://arxiv.org/abs/2203.00555, figure 2

    Examples
    --------
    >>> from fastnorm.functional.deep import deep_norm_constants
    >>> _, decoder = deep_norm_constants(decoder_layers=8)
    >>> decoder.alpha, round(decoder.beta, 4)
    (2.0, 0.3536)
    """
    n, m = _count("encoder_layers", encoder_layers), _count("decoder_layers", decoder_layers)
    if n and m:
        both = (n**4 * m) ** (1 / 16)
        return DeepConstants(0.81 * both, 0.87 / both), DeepConstants((3 * m) ** 0.25, (12 * m) ** -0.25)
    return _alone(n), _alone(m)


def _alone(layers: int) -> DeepConstants:
    return DeepConstants((2 * layers) ** 0.25, (8 * layers) ** -0.25) if layers else DeepConstants(1.0, 1.0)


def _count(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{name} is {_checks.shown(value)}, expected how many layers there are")
    if value < 0:
        raise ValueError(f"{name} is {value}, expected how many layers there are, 0 for none")
    return int(value)

"""Batch renormalization: the batch's statistics, corrected towards the running ones that inference will use."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import _checks
from .._floats import FLOAT64, cast, computed
from ._flow import grid as _grid
from ._flow.backward import Gradients, backward
from ._flow.forward import Array
from ._flow.roles import BATCH, BATCH_IN_TRAINING
from ._flow.running import checked, move
from ._states import add_exactly

_RUNNING = ("running_mean", "running_std")


def batch_renorm(
    x: Array,
    running_mean: Array,
    running_std: Array,
    weight: Array | None = None,
    bias: Array | None = None,
    *,
    training: bool = False,
    r_max: float = 3.0,
    d_max: float = 5.0,
    momentum: float = 0.01,
    eps: float = 1e-5,
    layout: str | None = None,
    activation: str | None = None,
    out: Array | None = None,
    return_stats: bool = False,
) -> Any:
    r"""Normalize each channel by the batch, corrected to what the running statistics would give, then scale and shift it.

    .. math:: y = \mathrm{activation}\left(\left(\frac{x - \mathrm{mean}_c}{\mathrm{std}_c} \cdot r_c + d_c\right) \cdot
              \mathrm{weight}_c + \mathrm{bias}_c\right), \quad
              r_c = \mathrm{clip}_{1/r_{\max}}^{r_{\max}}\left(\frac{\mathrm{std}_c}{\mathrm{running\_std}_c}\right), \quad
              d_c = \mathrm{clip}_{-d_{\max}}^{d_{\max}}
              \left(\frac{\mathrm{mean}_c - \mathrm{running\_mean}_c}{\mathrm{running\_std}_c}\right)

    with :math:`\mathrm{std} = \sqrt{\mathrm{var} + \mathrm{eps}}`. Where nothing is clipped, training and inference give the
    same result. r and d are constants to the gradient.

    Parameters
    ----------
    x : floating array with an axis of samples and one of C channels, of any strides
    running_mean, running_std : float32 or float64 arrays of shape (C,)
        In training updated in place to running + momentum·(batch - running), after they have served for r and d; the
        standard deviation is that of the formula, biased and with eps.
    weight, bias : arrays of shape (C,), optional
    training : bool
        Whether to use the batch's statistics; if not, the result is (x - running_mean) / running_std.
    r_max, d_max : float
        At least 1, and at least 0. 1 and 0 make it batch norm; infinities leave r and d as they are.
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
        Whether to return what `batch_renorm_backward` takes.

    Returns
    -------
    y : array with x's dtype, shape and memory order
    mean, rstd, r, d : float64 arrays of shape (C,)
        Only with `return_stats=True`; in inference running_mean, 1/running_std, ones and zeros.

    Raises
    ------
    TypeError, ValueError
        An argument has the wrong type, dtype, shape or value, or training has one value per channel; nothing has been
        written, running statistics included.

    References
    ----------
    Ioffe, "Batch Renormalization: Towards Reducing Minibatch Dependence in Batch-Normalized Models", 2017,
    https://arxiv.org/abs/1702.03275

    Examples
    --------
    >>> import numpy as np
    >>> from fastnorm.functional.renorm import batch_renorm
    >>> x = np.array([[4, 3], [3, 3], [2, 0]], np.float32)
    >>> running_mean, running_std = np.array([2, 2], np.float32), np.array([1, 1], np.float32)
    >>> y = batch_renorm(x, running_mean, running_std, training=True, momentum=0.5)
    >>> np.allclose(y, x - 2)
    True
    >>> running_mean, running_std.round(3)
    (array([2.5, 2. ], dtype=float32), array([0.908, 1.207], dtype=float32))
    """
    given, x = x, _checks.array(x, "x")
    shared = (BATCH_IN_TRAINING if training else BATCH).shared(x.shape, layout)
    out = _checks.result(out, "out", x)
    weight, bias = _checks.affine_pair(weight, bias, shared.parameters, x.dtype, shared.why, out)
    momentum, added = _checks.momentum(momentum), _checks.eps(eps)
    limits = _checks.at_least(r_max, "r_max", 1), _checks.at_least(d_max, "d_max", 0)
    running = checked(running_mean, running_std, shared, training, x, out, momentum, _RUNNING)
    mean, std = (s.astype(np.float64) for s in (running.mean, running.var))
    r, d = np.ones_like(std), np.zeros_like(mean)
    if training:
        found = _grid.moments(_grid.PER_CHANNEL, layout, given)
        corrected, r, d = _corrected(found, added, mean, std, limits)
        mean, std = found.mean + found.tail, np.sqrt(found.variance + added)
    else:
        corrected = _grid.Moments(mean, d, np.square(std))
    y = _grid.apply(_grid.PER_CHANNEL, layout, given, corrected, weight, bias, activation=activation, out=out)
    if training and x.size:
        for statistic, batch in ((running.mean, mean), (running.var, std)):
            move(statistic, 1 - momentum, momentum * batch)
    with np.errstate(divide="ignore"):
        return (y, mean, 1 / std, r, d) if return_stats else y


def _corrected(
    found: _grid.Moments, eps: float, mean: Array, std: Array, limits: tuple[float, float]
) -> tuple[_grid.Moments, Array, Array]:
    """The mean and variance by which (x - mean)/√variance is the corrected x_hat; and r and d."""
    r_max, d_max = limits
    with np.errstate(all="ignore"):
        own = np.sqrt(found.variance + eps)
        r = np.clip(own / std, 1 / r_max, r_max)
        d = np.clip(((found.mean - mean) + found.tail) / std, -d_max, d_max)
        centre, tail = add_exactly(found.mean, -d * own / r)
        return _grid.Moments(centre, tail + found.tail, (found.variance + eps) / np.square(r)), r, d


def batch_renorm_backward(
    dy: Array,
    x: Array,
    mean: Array,
    rstd: Array,
    r: Array,
    d: Array,
    weight: Array | None = None,
    bias: Array | None = None,
    *,
    training: bool = True,
    layout: str | None = None,
    activation: str | None = None,
    needs: tuple[bool, bool, bool] = (True, True, True),
) -> Gradients:
    r"""Gradients of `batch_renorm` with respect to x, weight and bias.

    .. math:: g = dy \cdot \mathrm{activation}'(z), \quad
              dx = r \cdot \mathrm{weight} \cdot \mathrm{rstd} \cdot \left(g - \overline{g} -
              \hat x \cdot \overline{g \cdot \hat x}\right)

    where :math:`\hat x = (x - \mathrm{mean}) \cdot \mathrm{rstd}` and the means are taken over the elements of a channel;
    dweight and dbias are the sums of :math:`g \cdot (\hat x \cdot r + d)` and of :math:`g` over them.

    Parameters
    ----------
    dy, x : floating arrays of one shape and dtype
        The gradient of the result, and the forward call's input.
    mean, rstd, r, d : float64 arrays of shape (C,)
        As `batch_renorm` returned them with `return_stats=True`.
    weight, bias : arrays, optional
        The forward call's; the bias matters to an activation alone.
    training : bool
        Whether mean and rstd are the batch's, and depend on x, or constants: then dx is rstd·g·weight.
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
    >>> import numpy as np
    >>> from fastnorm.functional.renorm import batch_renorm, batch_renorm_backward
    >>> x = np.array([[0, 3], [1, 1], [2, 2]], np.float32)
    >>> running = np.array([1, 2], np.float32), np.array([1, 1], np.float32)
    >>> y, *statistics = batch_renorm(x, *running, training=True, return_stats=True)
    >>> batch_renorm_backward(np.ones_like(x), x, *statistics).dbias
    array([3., 3.], dtype=float32)
    """
    own = computed(_checks.array(x, "x").dtype)
    shared = BATCH.shared(x.shape, layout)
    dtype = own if weight is None else weight.dtype
    weight, bias = _checks.affine_pair(weight, bias, shared.parameters, x.dtype, shared.why)
    r, d = (
        _checks.parameter(s, name, shared.parameters, FLOAT64, shared.why) for s, name in ((r, "r"), (d, "d"))
    )
    of_x, of_weight, of_bias = _checks.needs(needs)
    # y is batch norm's with this pair.
    scale, shift = (r, d) if weight is None else (r * weight, d * weight)
    scale, shift = (p.astype(own) for p in (scale, shift if bias is None else shift + bias))
    wanted = of_x, of_weight, of_weight or of_bias
    found = backward(
        BATCH, layout, dy, x, mean, rstd, scale, shift, activation, wanted, constant=not training
    )
    dweight = dbias = None
    if found.dbias is not None:
        dbias = cast(found.dbias, dtype) if of_bias else None
        dweight = None if found.dweight is None else cast(r * found.dweight + d * found.dbias, dtype)
    return Gradients(found.dx, dweight, dbias)

"""Decorrelated batch norm and IterNorm: groups of channels whitened over a whole batch, an affine pair per channel."""

from __future__ import annotations

from functools import partial
from typing import Any

from .. import _checks
from ._flow.backward import Gradients
from ._flow.forward import Array
from ._whitening.backward import whiten_backward
from ._whitening.forward import whiten
from ._whitening.roots import inverse_root, inverse_root_backward, newton_schulz, newton_schulz_backward


def decorrelated_batch_norm(
    x: Array,
    num_groups: int,
    running_mean: Array | None = None,
    running_whitening: Array | None = None,
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
    r"""Whiten each group of channels by the batch's covariance (ZCA) or by a running matrix, then scale and shift channels.

    .. math:: y = \mathrm{activation}\left((\Sigma_g + \mathrm{eps} \cdot I)^{-1/2} (x - \mathrm{mean}) \cdot
              \mathrm{weight}_c + \mathrm{bias}_c\right), \quad
              \Sigma_g = \overline{(x - \mathrm{mean})(x - \mathrm{mean})^\top}

    over the D = C/G channels of a group, with averages over samples and positions, and the symmetric root.

    Parameters
    ----------
    x : floating array with an axis of samples and one of C channels, of any strides
    num_groups : int
        G, a divisor of C; a group is D neighbouring channels, fewer than the values that a channel has in the batch.
    running_mean : float32 or float64 array of shape (C,), optional
    running_whitening : float32 or float64 array of shape (G, D, D), optional
        Used in inference; in training updated in place to (1 - momentum)·running + momentum·batch.
    weight, bias : arrays of shape (C,), optional
    training : bool
        Whether to use the batch's statistics; without running ones they are used in any case.
    momentum : float
        The share of the batch in the running statistics.
    eps : float
        Added to the eigenvalues of the batch's (biased) covariance.
    layout : str, optional
        The axes, a capital letter each, with one N and one C, such as "NHWC"; None means channels at axis 1.
    activation : {"relu", "gelu", "gelu_tanh", "silu", "sigmoid", "tanh"}, optional
        Applied to the result in the same trip.
    out : array of x's shape and dtype, optional
        Where to write y; it may be x itself.
    return_stats : bool
        Whether to return what `decorrelated_batch_norm_backward` takes.

    Returns
    -------
    y : array with x's dtype, shape and memory order
    mean : float64 array of shape (C,)
    whitening : float64 array of shape (G, D, D)
        Both only with `return_stats=True`; in inference the running ones.

    Raises
    ------
    TypeError, ValueError
        An argument has the wrong type, dtype, shape or value, or a group has too many channels for the batch; nothing has
        been written, running statistics included.

    References
    ----------
    Huang, Yang, Lang, Deng, "Decorrelated Batch Normalization", 2018, https://arxiv.org/abs/1804.08450

    Examples
    --------
    >>> import numpy as np
    >>> from fastnorm.functional.whitening import decorrelated_batch_norm
    >>> x = np.array([[3, 3], [1, 3], [-1, -3], [-3, -3]], np.float32)
    >>> decorrelated_batch_norm(x, 1, eps=0).round(3)
    array([[ 1.342,  0.447],
           [-0.447,  1.342],
           [ 0.447, -1.342],
           [-1.342, -0.447]], dtype=float32)
    """
    root = partial(inverse_root, eps=_checks.eps(eps))
    running = running_mean, running_whitening
    y, used = whiten(root, x, num_groups, *running, weight, bias, training, momentum, layout, activation, out)
    return (y, used.mean, used.whitening) if return_stats else y


def decorrelated_batch_norm_backward(
    dy: Array,
    x: Array,
    num_groups: int,
    mean: Array,
    whitening: Array,
    weight: Array | None = None,
    bias: Array | None = None,
    *,
    training: bool = True,
    layout: str | None = None,
    activation: str | None = None,
    needs: tuple[bool, bool, bool] = (True, True, True),
) -> Gradients:
    r"""Gradients of `decorrelated_batch_norm` with respect to x, weight and bias.

    .. math:: g = dy \cdot \mathrm{activation}'(z), \quad dx = W (g - \overline g) \cdot \mathrm{weight} +
              \frac 2n \Gamma (x - \mathrm{mean}), \quad \Gamma = U \left(F \circ U^\top dW\, U\right) U^\top

    with W the whitening matrix, w its eigenvalues and U its eigenvectors, dW the symmetric part of the sum of
    :math:`(g \cdot \mathrm{weight})(x - \mathrm{mean})^\top`, and :math:`F_{ij} = -w_i^2 w_j^2 / (w_i + w_j)`, which is
    finite for equal eigenvalues; dweight and dbias are the sums of :math:`g \cdot \hat x` and of :math:`g`.

    Parameters
    ----------
    dy, x : floating arrays of one shape and dtype
        The gradient of the result, and the forward call's input.
    num_groups : int
        The forward call's.
    mean, whitening : float64 arrays
        As `decorrelated_batch_norm` returned them with `return_stats=True`.
    weight, bias : arrays, optional
        The forward call's; the bias matters to an activation alone.
    training : bool
        Whether mean and whitening are the batch's, and depend on x, or constants: then dx is W·g·weight.
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
    >>> from fastnorm.functional.whitening import decorrelated_batch_norm, decorrelated_batch_norm_backward
    >>> x = np.array([[0, 3], [1, 1], [2, 2]], np.float32)
    >>> y, mean, whitening = decorrelated_batch_norm(x, 1, return_stats=True)
    >>> decorrelated_batch_norm_backward(np.ones_like(x), x, 1, mean, whitening).dbias
    array([3., 3.], dtype=float32)
    """
    return whiten_backward(
        lambda d_whitening, used: inverse_root_backward(d_whitening, used["whitening"]),
        dy,
        x,
        num_groups,
        mean,
        {"whitening": whitening},
        weight,
        bias,
        training,
        layout,
        activation,
        needs,
    )


def iter_norm(
    x: Array,
    num_groups: int,
    running_mean: Array | None = None,
    running_whitening: Array | None = None,
    weight: Array | None = None,
    bias: Array | None = None,
    *,
    num_iterations: int = 5,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    layout: str | None = None,
    activation: str | None = None,
    out: Array | None = None,
    return_stats: bool = False,
) -> Any:
    r"""Whiten each group of channels as far as a few Newton-Schulz iterations do, then scale and shift channels.

    .. math:: y = \mathrm{activation}\left(W_g (x - \mathrm{mean}) \cdot \mathrm{weight}_c + \mathrm{bias}_c\right), \quad
              W_g = \frac{P_T}{\sqrt{t}}, \quad P_0 = I, \quad P_k = \tfrac 12 \left(3 P_{k-1} - P_{k-1}^3\, S\right), \quad
              S = \frac{\Sigma_g + \mathrm{eps} \cdot I}{t}

    with the covariance :math:`\Sigma_g` over the D = C/G channels of a group, t the trace of :math:`\Sigma_g +
    \mathrm{eps} \cdot I`, and T iterations: directions of little variance stay below variance 1.

    Parameters
    ----------
    x : floating array with an axis of samples and one of C channels, of any strides
    num_groups : int
        G, a divisor of C; a group is D neighbouring channels, fewer than the values that a channel has in the batch.
    running_mean : float32 or float64 array of shape (C,), optional
    running_whitening : float32 or float64 array of shape (G, D, D), optional
        Used in inference; in training updated in place to (1 - momentum)·running + momentum·batch.
    weight, bias : arrays of shape (C,), optional
    num_iterations : int
        T; with more the result comes closer to that of `decorrelated_batch_norm`.
    training : bool
        Whether to use the batch's statistics; without running ones they are used in any case.
    momentum : float
        The share of the batch in the running statistics.
    eps : float
        Added to the eigenvalues of the batch's (biased) covariance.
    layout : str, optional
        The axes, a capital letter each, with one N and one C, such as "NHWC"; None means channels at axis 1.
    activation : {"relu", "gelu", "gelu_tanh", "silu", "sigmoid", "tanh"}, optional
        Applied to the result in the same trip.
    out : array of x's shape and dtype, optional
        Where to write y; it may be x itself.
    return_stats : bool
        Whether to return what `iter_norm_backward` takes.

    Returns
    -------
    y : array with x's dtype, shape and memory order
    mean : float64 array of shape (C,)
    whitening, covariance : float64 arrays of shape (G, D, D)
        All three only with `return_stats=True`; in inference the running ones, and None for the covariance.

    Raises
    ------
    TypeError, ValueError
        An argument has the wrong type, dtype, shape or value, or a group has too many channels for the batch; nothing has
        been written, running statistics included.

    References
    ----------
    Huang, Zhou, Zhu, Liu, Shao, "Iterative Normalization: Beyond Standardization towards Efficient Whitening", 2019,
    https://arxiv.org/abs/1904.03441

    Examples
    --------
    >>> import numpy as np
    >>> from fastnorm.functional.whitening import iter_norm
    >>> x = np.array([[3, 3], [1, 3], [-1, -3], [-3, -3]], np.float32)
    >>> iter_norm(x, 1, num_iterations=9).round(3)
    array([[ 1.342,  0.447],
           [-0.447,  1.342],
           [ 0.447, -1.342],
           [-1.342, -0.447]], dtype=float32)
    """
    root = partial(newton_schulz, eps=_checks.eps(eps), iterations=_checks.num_iterations(num_iterations))
    running = running_mean, running_whitening
    y, used = whiten(root, x, num_groups, *running, weight, bias, training, momentum, layout, activation, out)
    return (y, *used) if return_stats else y


def iter_norm_backward(
    dy: Array,
    x: Array,
    num_groups: int,
    mean: Array,
    whitening: Array,
    covariance: Array | None,
    weight: Array | None = None,
    bias: Array | None = None,
    *,
    num_iterations: int = 5,
    training: bool = True,
    eps: float = 1e-5,
    layout: str | None = None,
    activation: str | None = None,
    needs: tuple[bool, bool, bool] = (True, True, True),
) -> Gradients:
    r"""Gradients of `iter_norm` with respect to x, weight and bias, back through its iterations.

    .. math:: g = dy \cdot \mathrm{activation}'(z), \quad dx = W (g - \overline g) \cdot \mathrm{weight} +
              \frac 2n \Gamma (x - \mathrm{mean})

    with W the whitening matrix, and :math:`\Gamma` the gradient with respect to the covariance, by the chain rule through
    the trace and every :math:`P_k`; dweight and dbias are the sums of :math:`g \cdot \hat x` and of :math:`g`.

    Parameters
    ----------
    dy, x : floating arrays of one shape and dtype
        The gradient of the result, and the forward call's input.
    num_groups : int
        The forward call's.
    mean, whitening, covariance : float64 arrays
        As `iter_norm` returned them with `return_stats=True`; the covariance is used in training alone.
    weight, bias : arrays, optional
        The forward call's; the bias matters to an activation alone.
    num_iterations : int
        The forward call's.
    training : bool
        Whether mean and whitening are the batch's, and depend on x, or constants: then dx is W·g·weight.
    eps : float
        The forward call's.
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
    >>> from fastnorm.functional.whitening import iter_norm, iter_norm_backward
    >>> x = np.array([[0, 3], [1, 1], [2, 2]], np.float32)
    >>> y, *statistics = iter_norm(x, 1, return_stats=True)
    >>> iter_norm_backward(np.ones_like(x), x, 1, *statistics).dbias
    array([3., 3.], dtype=float32)
    """
    eps, iterations = _checks.eps(eps), _checks.num_iterations(num_iterations)
    matrices: dict[str, Any] = {"whitening": whitening}
    if training:
        matrices["covariance"] = covariance
    return whiten_backward(
        lambda d_whitening, used: newton_schulz_backward(d_whitening, used["covariance"], eps, iterations),
        dy,
        x,
        num_groups,
        mean,
        matrices,
        weight,
        bias,
        training,
        layout,
        activation,
        needs,
    )

"""Ghost batch norm: batch norm of small batches that a large one is split into."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .. import _checks
from .._floats import FLOAT64
from .._layout import Ints, Roles, elements
from ._flow.backward import Gradients, backward
from ._flow.forward import Array, normalize, standardize
from ._flow.results import new
from ._flow.roles import BATCH, Norm, Shared
from ._flow.running import Running, Update, as_statistics, move


def ghost_batch_norm(
    x: Array,
    ghost_batch_size: int,
    running_mean: Array | None = None,
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
    r"""Normalize each channel by the statistics of its ghost batch, or by running ones, then scale and shift it.

    .. math:: y = \mathrm{activation}\left(\frac{x - \mathrm{mean}_{gc}}{\sqrt{\mathrm{var}_{gc} + \mathrm{eps}}} \cdot
              \mathrm{weight}_c + \mathrm{bias}_c\right)

    where g, the ghost batch, is `ghost_batch_size` samples that follow one another; the last may be smaller.

    Parameters
    ----------
    x : floating array with an axis of samples and one of C channels, of any strides
    ghost_batch_size : int
        Samples of a ghost batch.
    running_mean, running_var : float32 or float64 arrays of shape (C,), optional
        Used in inference; in training updated in place as by `batch_norm` of one ghost batch after another.
    weight, bias : arrays of shape (C,), optional
    training : bool
        Whether to use the ghost batches' statistics; without running ones they are used in any case.
    momentum : float
        The share of each ghost batch in the running statistics.
    eps : float
        Added to the biased variance, inside the square root.
    layout : str, optional
        The axes, a capital letter each, with one N and one C, such as "NHWC"; None means channels at axis 1.
    activation : {"relu", "gelu", "gelu_tanh", "silu", "sigmoid", "tanh"}, optional
        Applied to the result in the same trip.
    out : array of x's shape and dtype, optional
        Where to write y; it may be x itself.
    return_stats : bool
        Whether to return what `ghost_batch_norm_backward` takes.

    Returns
    -------
    y : array with x's dtype, shape and memory order
    mean, rstd : float64 arrays of shape (ghost batches, C)
        Only with `return_stats=True`; in inference, of shape (C,), running_mean and 1/√(running_var + eps).

    Raises
    ------
    TypeError, ValueError
        An argument has the wrong type, dtype, shape or value, or a ghost batch has one value per channel; nothing has been
        written, running statistics included.

    References
    ----------
    Hoffer, Hubara, Soudry, "Train longer, generalize better: closing the generalization gap in large batch training of
    neural networks", 2017, https://arxiv.org/abs/1705.08741

    Examples
    --------
    >>> import numpy as np
    >>> from fastnorm.functional.ghost import ghost_batch_norm
    >>> x = np.array([[1, 2], [3, 6], [9, 5], [5, 5]], np.float32)
    >>> ghost_batch_norm(x, 2, eps=0.01).round(2)
    array([[-1., -1.],
           [ 1.,  1.],
           [ 1.,  0.],
           [-1.,  0.]], dtype=float32)
    """
    size, momentum = _size(ghost_batch_size), _checks.momentum(momentum)
    if not training and (running_mean is not None or running_var is not None):
        y = standardize(BATCH, layout, x, running_mean, running_var, weight, bias, eps, activation, out)
        return (y, *as_statistics(running_mean, running_var, eps)) if return_stats else y
    x = _checks.array(x, "x")
    parts = _parts(x.shape, size, layout)
    out = _checks.result(out, "out", x)
    running = Update(running_mean, running_var, momentum).checked(BATCH.shared(x.shape, layout), x, out)
    # Of two parts the first must not be written to where the second is still to be read.
    y = out if out is not None and len(parts) == 1 else new(x)
    wanted = return_stats or running is not None
    found = []
    for part in parts:
        x_in, y_to = part.of(x), part.of(y)
        found.append(normalize(_GHOSTS, layout, x_in, weight, bias, eps, activation, y_to, wanted)[1])
    if out is not None and out is not y:
        np.copyto(out, y)
        y = out
    if not wanted:
        return y
    mean, variance, rstd = (np.concatenate(s) for s in zip(*found, strict=True))
    if running is not None and x.size:
        _update(running, mean, variance, x.size // (mean.shape[1] * x.shape[parts[0].axis]), parts)
    return (y, mean, rstd) if return_stats else y


def ghost_batch_norm_backward(
    dy: Array,
    x: Array,
    ghost_batch_size: int,
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
    r"""Gradients of `ghost_batch_norm` with respect to x, weight and bias.

    .. math:: g = dy \cdot \mathrm{activation}'(z), \quad
              dx = \mathrm{rstd} \cdot \left(g \cdot \mathrm{weight} - \overline{g \cdot \mathrm{weight}} -
              \hat x \cdot \overline{g \cdot \mathrm{weight} \cdot \hat x}\right)

    where the means are taken over the elements of a channel in a ghost batch; dweight and dbias are the sums of
    :math:`g \cdot \hat x` and of :math:`g` over a channel.

    Parameters
    ----------
    dy, x : floating arrays of one shape and dtype
        The gradient of the result, and the forward call's input.
    ghost_batch_size : int
        The forward call's.
    mean, rstd : float64 arrays
        As `ghost_batch_norm` returned them with `return_stats=True`.
    weight, bias : arrays, optional
        The forward call's; the bias matters to an activation alone.
    training : bool
        Whether mean and rstd are the ghost batches', and depend on x, or constants of shape (C,): then dx is rstd·g·weight.
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
    >>> from fastnorm.functional.ghost import ghost_batch_norm, ghost_batch_norm_backward
    >>> x = np.array([[1, 2], [3, 6], [9, 5], [5, 5]], np.float32)
    >>> y, mean, rstd = ghost_batch_norm(x, 2, return_stats=True)
    >>> ghost_batch_norm_backward(np.ones_like(x), x, 2, mean, rstd).dbias
    array([4., 4.], dtype=float32)
    """
    size = _size(ghost_batch_size)
    if not training:
        return backward(BATCH, layout, dy, x, mean, rstd, weight, bias, activation, needs, constant=True)
    x = _checks.array(x, "x")
    dy = _checks.like(dy, "dy", x)
    parts = _parts(x.shape, size, layout)
    shape = sum(part.ghosts for part in parts), *BATCH.shared(x.shape, layout).parameters
    mean, rstd = (
        _checks.parameter(s, name, shape, FLOAT64, "a ghost batch's each")
        for s, name in ((mean, "mean"), (rstd, "rstd"))
    )
    found, first = [], 0
    for part in parts:
        own = slice(first, first := first + part.ghosts)
        arrays = part.of(dy), part.of(x), mean[own], rstd[own]
        found.append(backward(_GHOSTS, layout, *arrays, weight, bias, activation, needs))
    dx, dweight, dbias = zip(*found, strict=True)
    return Gradients(_rejoined(dx, parts, x), _added(dweight), _added(dbias))


# -- Parts ---------------------------------------------------------------------------------------------------------


class _Part(NamedTuple):
    """Ghost batches of one size among the samples."""

    axis: int
    first: int
    ghosts: int
    size: int

    def of(self, array: Array) -> Array:
        """Their samples, the axis split in two: a view, for an axis can always be split."""
        before, after = array.shape[: self.axis], array.shape[self.axis + 1 :]
        some = (slice(None),) * self.axis + (slice(self.first, self.first + self.ghosts * self.size),)
        return array[some].reshape(*before, self.ghosts, self.size, *after)


def _parts(shape: Ints, size: int, layout: str | None) -> list[_Part]:
    """All of the samples: ghost batches of the given size, then what is left, as a smaller one."""
    axis, _ = _checks.layout(layout, len(shape))
    ghosts, rest = divmod(shape[axis], size)
    parts = [_Part(axis, 0, ghosts, size)] if ghosts or not rest else []
    if rest:
        parts.append(_Part(axis, ghosts * size, 1, rest))
    _, channel = _checks.layout(layout, len(shape))
    if parts[-1].size * elements(shape) == shape[axis] * shape[channel] > 0:
        raise ValueError(
            f"x has one value per channel in the last ghost batch (shape {shape}, {shape[axis]} samples in ghost batches "
            f"of {size}), expected more in training: their variance is 0"
        )
    return parts


def _per_ghost(shape: Ints, layout: Any) -> Shared:
    """Statistics of each ghost batch and channel, of an x whose samples were split by `_Part.of`."""
    sample, channel = _checks.layout(layout, len(shape) - 1)
    whole = (*shape[:sample], shape[sample] * shape[sample + 1], *shape[sample + 2 :])
    of_batch = BATCH.shared(whole, layout)
    place = channel + (channel > sample)
    reduced = tuple(i for i in range(len(shape)) if i not in (sample, place))
    return Shared(Roles(reduced, (place,)), of_batch.parameters, of_batch.why, channel < sample)


_GHOSTS = Norm(_per_ghost)


def _size(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"ghost_batch_size is {_checks.shown(value)}, expected an int")
    if value < 1:
        raise ValueError(
            f"ghost_batch_size is {value}, expected at least 1 (and 2 where there is one position)"
        )
    return int(value)


def _update(running: Running, mean: Array, variance: Array, positions: int, parts: list[_Part]) -> None:
    """The running statistics after one ghost batch after another; mean and variance: (ghost batches, C)."""
    counts = np.repeat([part.size * positions for part in parts], [part.ghosts for part in parts])
    later = np.arange(len(counts))[::-1]
    kept = 1 - running.momentum
    shares = (running.momentum * kept**later)[:, np.newaxis]
    unbiased = (counts / np.maximum(counts - 1, 1))[:, np.newaxis]
    move(running.mean, kept ** len(counts), np.sum(shares * mean, 0))
    move(running.var, kept ** len(counts), np.sum(shares * unbiased * variance, 0))


def _rejoined(found: tuple[Any, ...], parts: list[_Part], x: Array) -> Any:
    """The gradient of x from those of its parts."""
    if found[0] is None:
        return None
    result = np.empty_like(x)
    if len(parts) == 1 and (whole := found[0].reshape(x.shape)).strides == result.strides:
        return whole
    for part, dx in zip(parts, found, strict=True):
        np.copyto(part.of(result), dx)
    return result


def _added(found: tuple[Any, ...]) -> Any:
    """The gradient of a parameter from those of the parts."""
    return None if found[0] is None else sum(found[1:], found[0])

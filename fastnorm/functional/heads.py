"""QK norm: queries and keys are normalized over the head dimension before they meet."""

from __future__ import annotations

from typing import Any, NamedTuple

from .. import _checks
from ._flow.backward import backward
from ._flow.forward import Array, normalize
from ._flow.roles import LAYER, RMS
from .vectors import scale_norm, scale_norm_backward

_KINDS = {"rms": RMS, "layer": LAYER, "l2": None}
Statistics = tuple[Array, ...]


class QKGradients(NamedTuple):
    """What `qk_norm_backward` returns; None where there is no such parameter."""

    dq: Array
    dk: Array
    dq_weight: Array | None
    dk_weight: Array | None
    dscale: Array | None


def qk_norm(
    q: Array,
    k: Array,
    q_weight: Array | None = None,
    k_weight: Array | None = None,
    *,
    kind: str = "rms",
    scale: float | Array | None = None,
    eps: float = 1e-6,
    return_stats: bool = False,
) -> Any:
    r"""Normalize each head's queries and keys, the vectors along the last axis.

    .. math:: \mathrm{rms}: \frac{q}{\sqrt{\mathrm{mean}(q^2) + \mathrm{eps}}} \cdot \mathrm{q\_weight}, \quad
              \mathrm{layer}: \frac{q - \mathrm{mean}(q)}{\sqrt{\mathrm{var}(q) + \mathrm{eps}}} \cdot \mathrm{q\_weight},
              \quad \mathrm{l2}: \mathrm{scale} \cdot \frac{q}{\max(\lVert q \rVert, \mathrm{eps})}

    and k likewise; the scale of l2, which stands in for :math:`1/\sqrt{\mathrm{head\_dim}}`, is the queries' alone.

    Parameters
    ----------
    q, k : floating arrays of any shape and strides, (..., head_dim)
        Such as (N, L, heads, head_dim) or (N, heads, L, head_dim), or slices of one projection; k may have fewer heads.
    q_weight, k_weight : arrays of shape (head_dim,), optional
        Shared by all heads. Not for l2.
    kind : {"rms", "layer", "l2"}
    scale : float, or array of one number, optional
        The learned temperature of l2, and of that alone; 1 if it is None.
    eps : float
        Added to the mean square or variance; for l2 the least that a length counts for.
    return_stats : bool
        Whether to return what `qk_norm_backward` takes.

    Returns
    -------
    q, k : new arrays with the dtype, shapes and memory orders of those given
    q_stats, k_stats : tuples of float64 arrays
        (rstd,), (mean, rstd) or (norm,) of each. Only with `return_stats=True`.

    Raises
    ------
    TypeError, ValueError
        An argument has the wrong type, dtype, shape or value.

    References
    ----------
    Henry et al., "Query-Key Normalization for Transformers", 2020, https://arxiv.org/abs/2010.04245 (l2);
    Dehghani et al., "Scaling Vision Transformers to 22 Billion Parameters", 2023, https://arxiv.org/abs/2302.05442 (layer);
    Yang et al., "Qwen3 Technical Report", 2025, https://arxiv.org/abs/2505.09388 (rms)

    Examples
    --------
    >>> import numpy as np
    >>> from fastnorm.functional.heads import qk_norm
    >>> q = np.array([[3, 4], [0, 2]], np.float32)
    >>> q_hat, k_hat = qk_norm(q, 7 * q, kind="l2", scale=10)
    >>> q_hat.round(3), k_hat.round(3)
    (array([[ 6.,  8.],
           [ 0., 10.]], dtype=float32), array([[0.6, 0.8],
           [0. , 1. ]], dtype=float32))
    """
    q, k = _checked(q, k, q_weight, k_weight, kind, scale)
    q_hat, q_stats = _forward(q, q_weight, kind, scale, eps, return_stats)
    k_hat, k_stats = _forward(k, k_weight, kind, None, eps, return_stats)
    return (q_hat, k_hat, q_stats, k_stats) if return_stats else (q_hat, k_hat)


def qk_norm_backward(
    dq_hat: Array,
    dk_hat: Array,
    q: Array,
    k: Array,
    q_stats: Statistics,
    k_stats: Statistics,
    q_weight: Array | None = None,
    k_weight: Array | None = None,
    *,
    kind: str = "rms",
    scale: float | Array | None = None,
    eps: float = 1e-6,
) -> QKGradients:
    """Gradients of `qk_norm` with respect to q, k and the parameters: those of RMS, layer or scale norm.

    Parameters
    ----------
    dq_hat, dk_hat : floating arrays like q and k
        The gradients of the results.
    q, k : floating arrays
        The forward call's.
    q_stats, k_stats : tuples of arrays
        As `qk_norm` returned them with `return_stats=True`.
    q_weight, k_weight, kind, scale, eps
        The forward call's.

    Returns
    -------
    QKGradients
        The named tuple (dq, dk, dq_weight, dk_weight, dscale): the first two with the dtype and memory orders of q and k,
        the others with those of the parameters, None where these are.

    Raises
    ------
    TypeError, ValueError
        An argument has the wrong type, dtype, shape or value.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnorm.functional.heads import qk_norm, qk_norm_backward
    >>> q, weight = np.array([[3, 4], [-4, 3]], np.float32), np.ones(2, np.float32)
    >>> q_hat, k_hat, *stats = qk_norm(q, q, weight, weight, return_stats=True)
    >>> qk_norm_backward(q, q, q, q, *stats, weight, weight).dq_weight.round(2)
    array([7.07, 7.07], dtype=float32)
    """
    q, k = _checked(q, k, q_weight, k_weight, kind, scale)
    dq_hat, dk_hat = _checks.like(dq_hat, "dq_hat", q, "q"), _checks.like(dk_hat, "dk_hat", k, "k")
    dq, dq_weight, dscale = _backward(dq_hat, q, q_stats, q_weight, kind, scale, eps)
    dk, dk_weight, _ = _backward(dk_hat, k, k_stats, k_weight, kind, None, eps)
    return QKGradients(dq, dk, dq_weight, dk_weight, dscale)


def _checked(q: Any, k: Any, q_weight: Any, k_weight: Any, kind: Any, scale: Any) -> tuple[Array, Array]:
    """q and k, once they and the parameters go together."""
    if kind not in list(_KINDS):
        raise ValueError(f"kind is {kind!r}, expected one of {', '.join(map(repr, _KINDS))}")
    q, k = _checks.array(q, "q"), _checks.array(k, "k")
    if k.dtype != q.dtype:
        raise TypeError(f"k has dtype {k.dtype}, expected {q.dtype}, the dtype of q: k.astype(q.dtype)")
    if k.shape[-1:] != q.shape[-1:]:
        raise ValueError(f"k has shape {k.shape}, expected a last axis like that of q: {q.shape[-1:]}")
    for name, weight in (("q_weight", q_weight), ("k_weight", k_weight)):
        if weight is not None and kind == "l2":
            raise ValueError(f'{name} is given, expected None: kind "l2" has a scale in its place')
        if weight is not None:
            why = f"the last axis of q, whose shape is {q.shape}"
            _checks.parameter(weight, name, q.shape[-1:], q.dtype, why)
    if scale is not None and kind != "l2":
        raise ValueError(f'scale is {scale!r}, expected None: it belongs to kind "l2", and this is "{kind}"')
    return q, k


def _forward(
    x: Array, weight: Array | None, kind: str, scale: Any, eps: float, wanted: bool
) -> tuple[Array, Statistics]:
    norm = _KINDS[kind]
    if norm is None:
        y, length = scale_norm(x, 1.0 if scale is None else scale, eps=eps, return_norm=True)
        return y, (length,)
    y, found = normalize(norm, -1, x, weight, None, eps, None, None, wanted)
    if found is None:
        return y, ()
    return y, (found.rstd,) if norm.second_moment else (found.mean, found.rstd)


def _backward(
    dy: Array, x: Array, stats: Any, weight: Array | None, kind: str, scale: Any, eps: float
) -> tuple[Any, Any, Any]:
    """dx, and the gradients of weight and scale, where there are any."""
    norm = _KINDS[kind]
    count = 2 if kind == "layer" else 1
    if not isinstance(stats, tuple | list) or len(stats) != count:
        raise ValueError(f"the statistics are {stats!r}, expected {count} of each, as qk_norm returned them")
    if norm is None:
        dx, dg = scale_norm_backward(dy, x, stats[0], 1.0 if scale is None else scale, eps=eps)
        return dx, None, None if scale is None else dg
    mean = None if norm.second_moment else stats[0]
    needs = (True, weight is not None, False)
    return *backward(norm, -1, dy, x, mean, stats[-1], weight, None, None, needs)[:2], None

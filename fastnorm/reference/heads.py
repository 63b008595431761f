"""QK norm, forward and backward: RMS, layer or scale norm of queries and keys over the last axis."""

from typing import Any

from numpy.typing import ArrayLike

from ._parts import Array, MaybeArray
from .classic import layer_norm, layer_norm_backward, rms_norm, rms_norm_backward
from .vectors import scale_norm, scale_norm_backward

# fmt: off


def qk_norm(q: ArrayLike, k: ArrayLike, q_weight: MaybeArray = None, k_weight: MaybeArray = None, *,
            kind: str = "rms", scale: MaybeArray = None, eps: float = 1e-6) -> tuple[Any, ...]:
    """(q, k, their statistics) (Henry et al. 2020, arXiv:2010.04245; Dehghani et al. 2023, arXiv:2302.05442)."""
    found: list[Any] = []
    for x, weight, factor in ((q, q_weight, 1.0 if scale is None else scale), (k, k_weight, 1.0)):
        if kind == "l2":
            found.append(scale_norm(x, factor, eps=eps))
        else:
            found.append({"rms": rms_norm, "layer": layer_norm}[kind](x, weight, eps=eps))
    (q_hat, *q_stats), (k_hat, *k_stats) = found
    return q_hat, k_hat, tuple(q_stats), tuple(k_stats)


def qk_norm_backward(dq_hat: ArrayLike, dk_hat: ArrayLike, q: ArrayLike, k: ArrayLike, q_stats: tuple[Array, ...],
                     k_stats: tuple[Array, ...], q_weight: MaybeArray = None, k_weight: MaybeArray = None, *,
                     kind: str = "rms", scale: MaybeArray = None, eps: float = 1e-6) -> tuple[Any, ...]:
    """(dq, dk, dq_weight, dk_weight, dscale), the last three None where the forward call had none."""
    if kind == "l2":
        dq, dscale = scale_norm_backward(dq_hat, q, q_stats[0], 1.0 if scale is None else scale, eps=eps)
        dk, _ = scale_norm_backward(dk_hat, k, k_stats[0], 1.0, eps=eps)
        return dq, dk, None, None, None if scale is None else dscale
    backward: Any = {"rms": rms_norm_backward, "layer": layer_norm_backward}[kind]
    dq, dq_weight, _ = backward(dq_hat, q, *q_stats, q_weight)
    dk, dk_weight, _ = backward(dk_hat, k, *k_stats, k_weight)
    return dq, dk, None if q_weight is None else dq_weight, None if k_weight is None else dk_weight, None

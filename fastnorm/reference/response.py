"""Global response norm, forward and backward."""

import numpy as np
from numpy.typing import ArrayLike

from ._parts import (
    ACTIVATIONS,
    Array,
    MaybeArray,
    Triple,
    affine,
    by_sample_and_channel,
    from_layout,
    to_layout,
    wide,
)

# fmt: off


def global_response_norm(x: ArrayLike, weight: MaybeArray = None, bias: MaybeArray = None, *,
                         layout: str | None = None, eps: float = 1e-6, activation: str | None = None
                         ) -> tuple[Array, Array]:
    """activation(x + weight · x · response + bias): (y, the norms of the channels) (Woo et al. 2023, arXiv:2301.00808)."""
    x = from_layout(x, layout)
    shared = by_sample_and_channel(x)
    norm = np.sqrt(np.square(x).sum(shared.statistic, keepdims=True))
    response = norm / (norm.mean(1, keepdims=True) + eps)
    y = x + affine(x * response, weight, bias, shared)
    y = y if activation is None else ACTIVATIONS[activation].value(y)
    return to_layout(y, layout), norm.squeeze(shared.statistic)


def global_response_norm_backward(dy: ArrayLike, x: ArrayLike, norm: ArrayLike, weight: MaybeArray = None,
                                  bias: MaybeArray = None, *, layout: str | None = None,
                                  eps: float = 1e-6, activation: str | None = None) -> Triple:
    """Through x itself, and through the norms, each of which is in the response of its own channel and in all means."""
    dy, x = from_layout(dy, layout), from_layout(x, layout)
    shared = by_sample_and_channel(x)
    norm = np.expand_dims(wide(norm), shared.statistic)
    mean = norm.mean(1, keepdims=True) + eps
    if activation is not None:
        dy = dy * ACTIVATIONS[activation].slope(x + affine(x * norm / mean, weight, bias, shared))
    scaled = affine(dy, weight, None, shared)
    dresponse = (scaled * x).sum(shared.statistic, keepdims=True)
    dnorm = dresponse / mean - (dresponse * norm / mean**2).mean(1, keepdims=True)
    slope = np.divide(x, norm, out=np.zeros_like(x), where=norm != 0)
    dx = dy + scaled * norm / mean + dnorm * slope
    return to_layout(dx, layout), (dy * x * norm / mean).sum(shared.affine), dy.sum(shared.affine)

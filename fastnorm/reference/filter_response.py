"""Filter response norm, forward and backward."""

import numpy as np
from numpy.typing import ArrayLike

from ._parts import (
    Array,
    MaybeArray,
    affine,
    backward,
    by_sample_and_channel,
    forward,
    from_layout,
    to_layout,
    x_hat_of,
)

# fmt: off


def filter_response_norm(x: ArrayLike, weight: MaybeArray = None, bias: MaybeArray = None, tau: MaybeArray = None, *,
                         eps: float = 1e-6, layout: str | None = None, activation: str | None = None
                         ) -> tuple[Array, Array]:
    """Divide each channel of each sample by its root mean square, then max(·, tau): (y, rstd) (Singh and Krishnan 2020,
    arXiv:1911.09737)."""
    x = from_layout(x, layout)
    shared = by_sample_and_channel(x)
    nu2 = np.square(x).mean(shared.statistic)
    y, rstd = forward(x, None, nu2, abs(eps), weight, bias, shared, activation)
    if tau is not None:
        y = np.maximum(y, affine(np.ones_like(x), tau, None, shared))
    return to_layout(y, layout), rstd


def filter_response_norm_backward(dy: ArrayLike, x: ArrayLike, rstd: ArrayLike, weight: MaybeArray = None,
                                  bias: MaybeArray = None, tau: MaybeArray = None, *, layout: str | None = None,
                                  activation: str | None = None) -> tuple[Array, Array, Array, Array | None]:
    """(dx, dweight, dbias, dtau): where the threshold is the greater, y is tau, and the gradient tau's."""
    dy, x = from_layout(dy, layout), from_layout(x, layout)
    shared, dtau = by_sample_and_channel(x), None
    if tau is not None:
        z = affine(x_hat_of(x, None, rstd, shared), weight, bias, shared)
        above = z > affine(np.ones_like(x), tau, None, shared)
        dy, dtau = dy * above, (dy * ~above).sum(shared.affine)
    dx, dweight, dbias = backward(dy, x, None, rstd, weight, bias, shared, activation)
    return to_layout(dx, layout), dweight, dbias, dtau

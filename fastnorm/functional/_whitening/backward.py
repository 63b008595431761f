"""The flow of every whitening norm backward: through activation and weight, the map of x, and the root of its covariance."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ... import _checks
from ..._floats import FLOAT64, DType, cast, computed
from ...kernels.activations import CODES
from .._flow.backward import Gradients
from .._flow.results import new
from .affine import Affine, activation_backward
from .blocks import Blocks, Index, Space, crew
from .forward import grouped, map_of
from .scatter import Load, Scatter, loader, scatter

Array = NDArray[Any]

# The gradient of a covariance goes with the inverse square of x: within these, its products are numbers of float32.
_LEAST, _MOST = 2.0**-80, 2.0**80


def whiten_backward(
    root_backward: Callable[[Array, Mapping[str, Array]], Array],
    dy: Array,
    x: Array,
    num_groups: int,
    mean: Array,
    matrices: Mapping[str, Array],
    weight: Array | None,
    bias: Array | None,
    training: bool,
    layout: str | None,
    activation: str | None,
    needs: tuple[bool, bool, bool],
) -> Gradients:
    """dx, dweight, dbias; `root_backward` makes the gradient of the covariance of that of the whitening matrix.

    The forward call's matrices come by their names, the whitening matrix among them.
    """
    x = _checks.array(x, "x")
    at = grouped(x, num_groups, layout)
    why = "that of what the forward call returned"
    mean = _checks.parameter(mean, "mean", at.parameters, FLOAT64, why)
    matrices = {n: _checks.parameter(m, n, at.matrices, FLOAT64, why) for n, m in matrices.items()}
    dy = _checks.like(dy, "dy", x)
    dtype = computed(x.dtype) if weight is None else weight.dtype
    weight, bias = _checks.affine_pair(weight, bias, at.parameters, x.dtype, at.why)
    _checks.activation(activation, CODES)
    needs = _checks.needs(needs)
    dx = new(x) if needs[0] else None
    if x.size == 0 or not any(needs):
        return Gradients(dx, *(np.zeros(at.parameters, dtype) if need else None for need in needs[1:]))
    blocks, whitening, weights = at.blocks(x), matrices["whitening"], at.split(weight, 1.0)
    size = whitening.shape[1]
    with crew(blocks, size, 2 * size) as workers, np.errstate(all="ignore"):
        g, load = blocks.view(dy), loader(blocks.view(dy))
        if activation is not None:
            g = blocks.view(_storage(x, dx))
            load = _through(activation, map_of(at, blocks, x, mean, whitening, weight, bias), load, g)
        total = scatter(workers, computed(x.dtype), load, loader(blocks.view(x)))
        against_x = total.matrix if training else _about(total, at.split(mean))
        if dx is not None:
            d_whitening = weights[:, :, np.newaxis] * against_x
            d_covariance = root_backward(d_whitening, matrices) if training else None
            of_g = whitening.swapaxes(1, 2) * weights[:, np.newaxis, :]
            back = _map_back(blocks, computed(x.dtype), g, blocks.view(x), total, of_g, d_covariance)
            back.write(workers, blocks.view(dx))
        dweight = np.einsum("gij,gij->gi", whitening, against_x)
        dbias = total.positions * total.mean
    return Gradients(
        dx,
        cast(dweight.ravel(), dtype) if needs[1] else None,
        cast(dbias.ravel(), dtype) if needs[2] else None,
    )


def _storage(x: Array, dx: Array | None) -> Array:
    """Where g is kept until dx takes its place, in the dtype it is computed in."""
    dtype = computed(x.dtype)
    return dx if dx is not None and dx.dtype == dtype else np.empty_like(x, dtype)


def _through(activation: str, forward: Affine, load_dy: Load, g: Array) -> Load:
    """What brings blocks of g = dy · activation'(z) into buffers, and into the view `g` as well."""

    def load(index: Index, space: Space, name: str) -> Array:
        z = forward.at(index, space)
        buffer = load_dy(index, space, name)
        stored, _ = space.stored(buffer)
        np.copyto(stored, activation_backward(stored, space.stored(z)[0], activation))
        np.copyto(g[index], buffer.reshape(g[index].shape))
        return buffer

    return load


def _about(total: Scatter, mean: Array) -> Array:
    """Σ g (x - mean)ᵀ, where mean is not that of the batch."""
    off = total.other_mean - mean
    found: Array = total.matrix + total.positions * total.mean[:, :, np.newaxis] * off[:, np.newaxis, :]
    return found


def _map_back(
    blocks: Blocks, dtype: DType, g: Array, x: Array, total: Scatter, of_g: Array, d_covariance: Array | None
) -> Affine:
    """What dx is of g, and of x unless the whitening matrix is a constant."""
    none = np.zeros_like(total.mean)
    if d_covariance is None:
        return Affine(blocks, dtype, [g], none, of_g, none)
    of_x = d_covariance * (2 / total.positions)
    mean = np.concatenate([total.mean, total.other_mean], 1)
    return Affine(blocks, _wide_enough(of_x, dtype), [g, x], mean, np.concatenate([of_g, of_x], 2), none)


def _wide_enough(matrices: Array, dtype: DType) -> DType:
    """The dtype in which to multiply by these."""
    peaks = np.abs(matrices).max((1, 2))
    within = (peaks > _LEAST) & (peaks < _MOST)
    return dtype if np.all(within | (peaks == 0) | ~np.isfinite(peaks)) else FLOAT64

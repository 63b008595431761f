"""Inverse square roots of covariances, a matrix for each group, in float64; and what their gradients are."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]  # (groups, channels of a group, channels of a group) float64


def inverse_root(covariance: Array, eps: float) -> Array:
    """(Σ + eps·I)^(-1/2), symmetric."""
    usable = _usable(covariance)
    values, vectors = np.linalg.eigh(np.where(usable, covariance, np.eye(covariance.shape[-1])))
    with np.errstate(all="ignore"):
        # What rounding left below 0 is 0.
        roots = 1 / np.sqrt(np.maximum(values, 0) + eps)
        return np.where(usable, (vectors * roots[:, np.newaxis]) @ vectors.swapaxes(1, 2), np.nan)


def inverse_root_backward(d_whitening: Array, whitening: Array) -> Array:
    """The gradient with respect to Σ, from that with respect to W = (Σ + eps·I)^(-1/2).

    With W = U diag(w) Uᵀ it is U (F ∘ Uᵀ dW U) Uᵀ, where F holds the divided differences of λ^(-1/2). In w = λ^(-1/2) these
    are -w_i² w_j² / (w_i + w_j): nothing is subtracted, and equal eigenvalues are as any.
    """
    usable = _usable(whitening)
    values, vectors = np.linalg.eigh(np.where(usable, whitening, np.eye(whitening.shape[-1])))
    with np.errstate(all="ignore"):
        column, row = values[:, :, np.newaxis], values[:, np.newaxis]
        inside = vectors.swapaxes(1, 2) @ _symmetric(d_whitening) @ vectors
        # Each factor by itself is a number wherever the quotient is.
        inside *= -column * row / (column + row) * column * row
        return np.where(usable, vectors @ inside @ vectors.swapaxes(1, 2), np.nan)


def newton_schulz(covariance: Array, eps: float, iterations: int) -> Array:
    """(Σ + eps·I)^(-1/2) as far as so many iterations come."""
    with np.errstate(all="ignore"):
        trace, steps = _iterate(covariance, eps, iterations)
        _, inverse, _ = steps[-1]
        whitening: Array = inverse / np.sqrt(trace)
    return whitening


def newton_schulz_backward(d_whitening: Array, covariance: Array, eps: float, iterations: int) -> Array:
    """The gradient with respect to Σ, back through every iteration and through the trace."""
    with np.errstate(all="ignore"):
        trace, steps = _iterate(covariance, eps, iterations)
        scaled, (_, inverse, _) = steps[0].root, steps.pop()
        d_inverse = d_whitening / np.sqrt(trace)
        d_trace = -_inner(d_inverse, inverse) / (2 * trace)
        d_root = np.zeros_like(scaled)
        for root, inverse, factor in reversed(steps):
            half = (root @ d_root + d_inverse @ inverse) / 2
            d_root = d_root @ factor - inverse @ half
            d_inverse = factor @ d_inverse - half @ root
        d_trace -= _inner(d_root, scaled) / trace
        d_covariance: Array = _symmetric(d_root) / trace + d_trace * np.eye(scaled.shape[-1])
    return d_covariance


class _Step(NamedTuple):
    """Y towards S^(1/2) and P towards S^(-1/2), all polynomials of S; (3·I - P·Y)/2 leads from both to the next."""

    root: Array
    inverse: Array
    factor: Array


def _iterate(covariance: Array, eps: float, iterations: int) -> tuple[Array, list[_Step]]:
    """The trace of Σ + eps·I; and the steps for S, which is that over its trace, so that no eigenvalue is above 1.

    P goes its way as by (3·P - P³·S)/2, which alone would multiply by half the condition number, each time, what rounding
    adds: of a matrix with 100 no digit was right after 15 steps.
    """
    identity = np.eye(covariance.shape[-1])
    regular = covariance + eps * identity
    trace = np.trace(regular, axis1=1, axis2=2)[:, np.newaxis, np.newaxis]
    root, inverse = regular / trace, np.broadcast_to(identity, regular.shape)
    steps = []
    for _ in range(iterations):
        factor = 1.5 * identity - inverse @ root / 2
        steps.append(_Step(root, inverse, factor))
        root, inverse = root @ factor, factor @ inverse
    return trace, [*steps, _Step(root, inverse, identity)]


def _usable(matrices: Array) -> Array:
    """Which have only finite elements, to be broadcast: LAPACK may refuse others, and all groups with them."""
    return np.asarray(np.isfinite(matrices).all((1, 2), keepdims=True))


def _symmetric(matrices: Array) -> Array:
    return (matrices + matrices.swapaxes(1, 2)) / 2


def _inner(a: Array, b: Array) -> Array:
    """Σ a_ij b_ij of each group, to be broadcast."""
    return np.asarray((a * b).sum((1, 2), keepdims=True))

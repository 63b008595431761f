"""Derivatives along a direction, by central differences: what a gradient's algebra cannot agree with by mistake."""

from collections.abc import Callable, Sequence

import numpy as np

from .oracle import Array


def slope_along(function: Callable[[Array], Array], at: Array, direction: Array) -> Array:
    """d function(at + t * direction) / dt at 0, by the four-point formula, whose error is of order h**4."""
    h = 1e-5
    values = {k: function(at + k * h * direction.astype(np.longdouble)) for k in (-2, -1, 1, 2)}
    return (8 * (values[1] - values[-1]) - (values[2] - values[-2])) / (12 * h)


def assert_slopes(
    function: Callable[..., Sequence[Array]],
    arguments: Sequence[Array],
    seeds: Sequence[Array],
    gradients: Sequence[Array],
    rng: np.random.Generator,
) -> None:
    """The gradients of Σ seed·result over all results of a function of some arrays, each along a random direction."""
    for position, gradient in enumerate(gradients):
        direction = rng.standard_normal(np.shape(arguments[position]))

        def projected(value: Array, position: int = position) -> Array:
            changed = [*arguments[:position], value, *arguments[position + 1 :]]
            return np.sum([np.sum(s * r) for s, r in zip(seeds, function(*changed), strict=True)])

        expected = slope_along(projected, np.asarray(arguments[position]), direction)
        scale = np.linalg.norm(gradient) * np.linalg.norm(direction)
        assert abs(np.sum(gradient * direction) - expected) <= 1e-9 * scale, position

"""The whitening norms as the tests of them see them: how called, in which layouts, against which definition."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastnorm.functional import whitening as ours
from fastnorm.reference import whitening as reference

from .norms import _LAYOUTS, _LENGTHS
from .oracle import FORWARD_ROUNDINGS, GRADIENT_ROUNDINGS, gradient_roundings


@dataclass(frozen=True)
class Whitening:
    """One public function, in one layout and with one number of groups."""

    name: str
    layout: str
    num_groups: int = 2

    def __str__(self) -> str:
        return f"{self.name} {self.layout} {self.num_groups} groups"

    @property
    def shape(self) -> tuple[int, ...]:
        """Every axis of another length, and more samples than a group has channels."""
        return tuple((_LENGTHS | {"N": 8})[letter] for letter in self.layout)

    @property
    def channels(self) -> int:
        return self.shape[self.layout.index("C")]

    @property
    def others(self) -> tuple[int, ...]:
        """The axes that share a statistic."""
        return tuple(axis for axis, letter in enumerate(self.layout) if letter != "C")

    def __call__(self, x, *parameters, **options):
        """(y, mean, whitening, …) as fastnorm computes them."""
        function = getattr(ours, self.name)
        return function(x, self.num_groups, *parameters, layout=self.layout, return_stats=True, **options)

    def backward(self, dy, x, statistics, *parameters, **options):
        function = getattr(ours, f"{self.name}_backward")
        return function(dy, x, self.num_groups, *statistics, *parameters, layout=self.layout, **options)

    def exact(self, x, *parameters, **options):
        """(y, mean, whitening, …) by the definition."""
        function = getattr(reference, self.name)
        return function(
            self._near_zero(x), self.num_groups, *_wide(parameters), layout=self.layout, **options
        )

    def exact_backward(self, dy, x, *parameters, **options):
        """(dx, dweight, dbias) by the definition, through statistics by the definition."""
        forward = {name: value for name, value in options.items() if name != "activation"}
        _, *statistics = self.exact(x, **forward)
        function = getattr(reference, f"{self.name}_backward")
        arguments = *_wide([dy]), self._near_zero(x), self.num_groups, *statistics, *_wide(parameters)
        return function(*arguments, layout=self.layout, **options)

    def magnitude(self, x, statistics, weight=None, bias=None):
        """What y would be of sizes alone, without a sign: its terms may be larger than their sum."""
        mean, whitening = statistics[:2]
        x = reference._grouped(self._near_zero(x), self.num_groups, self.layout)
        sizes = np.abs(x - mean.reshape(*x.shape[:2], 1)), np.zeros(x.shape[:2]), np.abs(whitening)
        parameters = [None if p is None else np.abs(p) for p in _wide((weight, bias))]
        _, z = reference._forward(*sizes, *parameters)
        return reference._ungrouped(z, np.empty(self.shape), self.layout)

    def _near_zero(self, x):
        """x less what its means round to, which is exact, and which whitening does not see."""
        (x,) = _wide([x])
        return x - x.mean(self.others, keepdims=True).astype(np.float32) if x.size else x


def _wide(arrays):
    return [None if array is None else np.asarray(array, np.float64) for array in arrays]


NAMES = ("decorrelated_batch_norm", "iter_norm")
EVERY = [Whitening(name, layout) for name in NAMES for layout in _LAYOUTS]
EVERY += [Whitening(name, "NCHW", num_groups) for name in NAMES for num_groups in (1, 6)]
TWO = [Whitening(name, layout) for name in NAMES for layout in ("NCHW", "NHWC")]


def condition(statistics: Sequence[Any]) -> float:
    """The largest condition number of a group's covariance: its whitening matrix has the square root of it.

    A covariance is known to roundings of its largest eigenvalue, so its smallest, which whitening divides by, to as many
    times this number; and what a gradient is made of, likewise.
    """
    return float(np.linalg.cond(statistics[1]).max() ** 2)


def assert_forward(y, exact, dtype, magnitude=1):
    """To roundings of the terms of y."""
    assert y.dtype == dtype and y.shape == exact[0].shape
    error = np.abs(np.asarray(y, np.float64) - exact[0])
    bound = FORWARD_ROUNDINGS * condition(exact[1:]) * np.finfo(dtype).eps
    if (
        dtype == np.float64
    ):  # eigenvectors are as exact on both sides: to roundings of the largest eigenvalue per channel
        bound *= 1 + exact[2].shape[1]
    assert np.all(error <= bound * np.maximum(1, magnitude))


def assert_gradients(found, exact, dtype, statistics):
    for name, gradient, wanted in zip(("dx", "dweight", "dbias"), found, exact, strict=True):
        assert gradient.shape == wanted.shape, name
        bound = GRADIENT_ROUNDINGS * (1 if name == "dbias" else condition(statistics))
        assert gradient_roundings(gradient, wanted, dtype) <= bound, name

"""The one table of norms the tests run over: in which layouts, how called, what shares a statistic."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, overload

import numpy as np
from numpy.random import Generator
from numpy.typing import DTypeLike, NDArray

import fastnorm
from fastnorm import reference

from .oracle import INPUTS

Array: TypeAlias = NDArray[Any]
OrNone: TypeAlias = Array | None
Shape: TypeAlias = tuple[int, ...]


@dataclass(frozen=True)
class Norm:
    """One public function in one layout, or over one choice of axes."""

    name: str
    shape: Shape  # a small shape in this layout, every axis of another length, so that mixed-up axes show
    layout: str | None = None
    axis: int | Shape | None = None
    num_groups: int | None = None

    def __str__(self) -> str:
        groups = f" {self.num_groups} groups" if self.num_groups else ""
        return f"{self.name} {self.layout or f'axis {self.axis} of {len(self.shape)}'}{groups}"

    # -- Calling --------------------------------------------------------------------------------------------

    def __call__(self, x: Array, weight: OrNone = None, bias: OrNone = None, **options: Any) -> Any:
        """(y, *statistics) as fastnorm computes them."""
        function = getattr(fastnorm, self.name)
        options = self.forward_options(options) | {"weight": weight, "bias": bias}
        return function(x, *self.groups, return_stats=True, **options)

    def exact(self, x: Array, weight: OrNone = None, bias: OrNone = None, **options: Any) -> Any:
        """(y, *statistics) in at least twice the precision of x."""
        centred, pivot = self._centred(x) if "running_mean" not in options else (widen(x), None)
        options = self.forward_options(options) | {"weight": widen(weight), "bias": widen(bias)}
        y, *statistics = getattr(reference, self.name)(centred, *self.groups, **options)
        if pivot is not None:
            statistics[0] = statistics[0] + pivot
        return y, *statistics

    def backward(self, dy: Array, x: Array, statistics: Sequence[Array], weight: OrNone = None,
                 bias: OrNone = None, **options: Any) -> Any:  # fmt: skip
        """Gradients(dx, dweight, dbias) as fastnorm computes them."""
        function = getattr(fastnorm, f"{self.name}_backward")
        return function(dy, x, *self.groups, *statistics, weight=weight, bias=bias, **self.where, **options)

    def exact_backward(self, dy: Array, x: Array, weight: OrNone = None, bias: OrNone = None,
                       **options: Any) -> Any:  # fmt: skip
        """(dx, dweight, dbias) in at least twice the precision of x, through statistics of that precision."""
        centred, _ = self._centred(x)
        _, *statistics = getattr(reference, self.name)(centred, *self.groups, **self.forward_options({}))
        options = self.where | options | {"weight": widen(weight), "bias": widen(bias)}
        function = getattr(reference, f"{self.name}_backward")
        return function(widen(dy), centred, *self.groups, *statistics, **options)

    def _centred(self, x: Array) -> tuple[Array, Array | None]:
        """x less the mean of each group as it rounds, which no norm but RMS norm sees, and those means.

        A mean of 1e5 takes the eleven bits by which extended precision is wider than float64.
        """
        if self.name == "rms_norm" or x.size == 0:
            return widen(x), None
        split, axes = self._split(x.shape)
        wide = widen(x).reshape(split)
        # Of x's own digits: then the differences, and the sums of as many as a test has, are exact.
        pivot = wide.mean(axes, keepdims=True).astype(x.dtype).astype(wide.dtype)
        means = pivot.squeeze(axes)
        by_channel_first = self.layout is not None and self.layout.index("C") < self.layout.index("N")
        return (wide - pivot).reshape(x.shape), means.T if by_channel_first else means

    @property
    def where(self) -> dict[str, Any]:
        return {"axis": self.axis} if self.layout is None else {"layout": self.layout}

    @property
    def groups(self) -> tuple[int, ...]:
        return () if self.num_groups is None else (self.num_groups,)

    def forward_options(self, options: dict[str, Any]) -> dict[str, Any]:
        training = {"training": True} if self.name == "batch_norm" else {}
        return training | self.where | options

    # -- Shapes ---------------------------------------------------------------------------------------------

    @property
    def axes(self) -> Shape:
        """The axes that share a statistic; for group norm, without the channels that share it too."""
        if self.layout is None:
            axes = self.axis if isinstance(self.axis, tuple) else (self.axis,)
            return tuple(sorted(axis % len(self.shape) for axis in axes))
        kept = "C" if self.name == "batch_norm" else "NC"
        return tuple(axis for axis, letter in enumerate(self.layout) if letter not in kept)

    def affine_shape(self, shape: Shape) -> Shape:
        """The shape of weight and bias."""
        if self.layout is None:
            return tuple(shape[axis] for axis in self.axes)
        return (shape[self.layout.index("C")],)

    def statistics_shape(self, shape: Shape) -> Shape:
        """The shape of mean and rstd."""
        if self.layout is None:
            return tuple(length for axis, length in enumerate(shape) if axis not in self.axes)
        samples, channels = (shape[self.layout.index(letter)] for letter in "NC")
        return {
            "batch_norm": (channels,),
            "instance_norm": (samples, channels),
            "group_norm": (samples, self.num_groups or 0),
        }[self.name]

    def sized(self, count: int) -> Shape:
        """`shape` with its last reduced axis long enough that at least `count` elements share a statistic."""
        shape = list(self.shape)
        if not self.axes:  # group norm of "NC", where only channels are left to grow
            shape[self.layout.index("C")] = self.num_groups * count  # type: ignore[union-attr,operator]
            return tuple(shape)
        grown = self.axes[-1]
        others = math.prod(shape[axis] for axis in self.axes if axis != grown)
        if self.num_groups:
            others *= shape[self.layout.index("C")] // self.num_groups  # type: ignore[union-attr]
        shape[grown] = -(-count // others)
        return tuple(shape)

    def inputs(self, name: str, shape: Shape, rng: Generator, dtype: DTypeLike) -> Array:
        """The input `name` of the accuracy table, a row of it laid along whatever shares a statistic."""
        split, axes = self._split(shape)
        return INPUTS[name](split, axes, rng, dtype).reshape(shape)

    def _split(self, shape: Shape) -> tuple[Shape, Shape]:
        """`shape`, channels split into groups where there are any, and the axes that share a statistic."""
        if self.layout is None or self.num_groups is None:
            return shape, self.axes
        c = self.layout.index("C")
        split = (*shape[:c], self.num_groups, shape[c] // self.num_groups, *shape[c + 1 :])
        return split, (c + 1, *(axis + (axis > c) for axis in self.axes))


@overload
def widen(array: Array) -> Array: ...
@overload
def widen(array: None) -> None: ...
def widen(array: OrNone) -> OrNone:
    """`array` in at least twice its precision, or the widest there is."""
    if array is None:
        return None
    return np.asarray(array, np.float64 if array.dtype.itemsize < 8 else np.longdouble)


def affine(norm: Norm, shape: Shape, rng: Generator, dtype: DTypeLike) -> tuple[Array, Array]:
    """A weight and a bias that leave the result its scale, for the accuracy bounds are those of 1 and 0."""
    size = norm.affine_shape(shape)
    return rng.uniform(0.5, 2, size).astype(dtype), rng.uniform(-1, 1, size).astype(dtype)


_LENGTHS = {"N": 4, "C": 6, "D": 2, "H": 5, "W": 7, "L": 11}
_LAYOUTS = ("NC", "NCL", "NLC", "NCHW", "NHWC", "NCDHW", "NDHWC", "HWNC", "CHWN", "WCNH", "LNC")
_AXES: tuple[tuple[Shape, int | Shape], ...] = (
    ((5, 7), -1),
    ((5, 7), 0),
    ((7,), 0),
    ((3, 4, 5), (0, 1, 2)),  # one statistic for the whole array
    ((3, 4, 5), (-2, -1)),
    ((3, 4, 5), (0, 2)),  # around a kept axis
    ((4, 5, 6), -2),
    ((3, 4, 5, 6), 1),  # channels first
    ((3, 4, 5, 6), (1, 3)),
    ((3, 4, 5, 6), (3, 1, 2)),  # not in order: weight is all the same in the order of the array
)

BY_AXIS = [Norm(name, shape, axis=axis) for name in ("layer_norm", "rms_norm") for shape, axis in _AXES]
_CHANNEL_NORMS = (("batch_norm", None), ("instance_norm", None), ("group_norm", 3), ("group_norm", 1))
BY_LAYOUT = [
    Norm(name, tuple(_LENGTHS[letter] for letter in layout), layout=layout, num_groups=num_groups)
    for name, num_groups in _CHANNEL_NORMS
    for layout in _LAYOUTS
    if not (name == "instance_norm" and layout == "NC")  # a single element: nothing to normalize
]
NORMS = BY_AXIS + BY_LAYOUT


def one_of_each(norms: Sequence[Norm]) -> list[Norm]:
    """The least that reaches every norm by rows and by columns, for tests too dear for the whole table."""
    layouts = ("NCHW", "NHWC")
    chosen = [norm for norm in norms if norm.layout in layouts and norm.num_groups != 1]
    return chosen + [norm for norm in norms if norm.shape == (5, 7) or norm.axis == 1]

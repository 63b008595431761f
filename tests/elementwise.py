"""The one table of elementwise norms their tests run over: what each takes, in which layouts, and how it is called."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.random import Generator
from numpy.typing import DTypeLike, NDArray

from .checks import ACTIVATIONS
from .family import WITH_POSITIONS, in_layout
from .norms import widen

Array: TypeAlias = NDArray[Any]
Shape: TypeAlias = tuple[int, ...]


@dataclass(frozen=True)
class Elementwise:
    """One public function in one layout, or along one choice of axes; all arguments go by their names."""

    name: str
    family: str  # the modules it lives in
    shape: Shape  # every axis of another length, so that mixed-up axes show
    options: dict[str, Any]
    parameters: tuple[str, ...]  # of the shape of the channels, or of one number
    beside: tuple[str, ...] = ()  # inputs like x
    statistics: tuple[str, ...] = ()  # what a forward call returns for the backward one
    file: str = ""  # of the definition, if not the family's name

    def __str__(self) -> str:
        options = " ".join(f"{key}={value}" for key, value in self.options.items())
        return f"{self.name} {len(self.shape)} axes {options}"

    @property
    def definition(self) -> str:
        return self.file or self.family

    def of_shape(self, shape: Shape) -> Elementwise:
        return replace(self, shape=shape)

    @property
    def channels(self) -> Shape:
        """The shape of a parameter."""
        if "layout" in self.options:
            layout = self.options["layout"]
            return (self.shape[layout.index("C")],)
        axis = self.options.get("axis", -1)
        axes = axis if isinstance(axis, tuple) else (axis,)
        return tuple(self.shape[i] for i in sorted(a % len(self.shape) for a in axes))

    def arguments(self, rng: Generator, dtype: DTypeLike, shape: Shape | None = None) -> dict[str, Array]:
        """x, what is like it, and parameters that leave the result its scale."""
        shape = self.shape if shape is None else shape
        found = {name: rng.standard_normal(shape).astype(dtype) for name in ("x", *self.beside)}
        for name in self.parameters:
            low, high = {"bias": (-1, 1), "tau": (-1, 0.5)}.get(name, (0.5, 2))
            size = (1,) if name == "alpha" else self.channels
            found[name] = rng.uniform(low, high, size).astype(dtype)
        return found

    # -- Calling: both return (y, statistics by name), and gradients by name ---------------------------------

    def forward(self, arguments: dict[str, Any], **more: Any) -> tuple[Array, dict[str, Array]]:
        function = getattr(importlib.import_module(f"fastnorm.functional.{self.family}"), self.name)
        if self.statistics:
            more["return_stats"] = True
        return self._result(function(**arguments, **self.options, **more))

    def exact(self, arguments: dict[str, Any], **more: Any) -> tuple[Array, dict[str, Array]]:
        """In at least twice the precision."""
        function = getattr(
            importlib.import_module(f"fastnorm.reference.{self.definition}"),
            self.name,
        )
        wide = {name: widen(a) if isinstance(a, np.ndarray) else a for name, a in arguments.items()}
        return self._result(function(**wide, **self.options, **more))

    def backward(
        self, dy: Array, arguments: dict[str, Any], statistics: dict[str, Array]
    ) -> dict[str, Array]:
        function = getattr(
            importlib.import_module(f"fastnorm.functional.{self.family}"), f"{self.name}_backward"
        )
        found = _called(function, {"dy": dy} | arguments | statistics | self.options)
        return found._asdict() if hasattr(found, "_asdict") else {"dx": found}

    def exact_backward(self, dy: Array, arguments: dict[str, Any]) -> dict[str, Array]:
        """Through statistics of that precision."""
        function = getattr(
            importlib.import_module(f"fastnorm.reference.{self.definition}"),
            f"{self.name}_backward",
        )
        wide = {name: widen(a) if isinstance(a, np.ndarray) else a for name, a in arguments.items()}
        found = _called(function, {"dy": widen(dy)} | wide | self.exact(arguments)[1] | self.options)
        return dict(zip(self.gradients, found, strict=True))

    @property
    def gradients(self) -> tuple[str, ...]:
        return tuple(f"d{name}" for name in ("x", *self.beside, *self.parameters))

    def _result(self, found: Any) -> tuple[Array, dict[str, Array]]:
        if not self.statistics:
            return found, {}
        y, *statistics = found
        return y, dict(zip(self.statistics, statistics, strict=True))


def _called(function: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    """A function, called with what it takes."""
    return function(
        **{name: arguments[name] for name in inspect.signature(function).parameters if name in arguments}
    )


_AXES: tuple[tuple[Shape, int | Shape], ...] = (
    ((5, 7), -1),
    ((5, 7), 0),
    ((7,), 0),
    ((3, 4, 5), (0, 1, 2)),  # an affine pair for each element
    ((3, 4, 5), (0, 2)),  # around an axis that shares it
    ((3, 4, 5, 6), 1),
    ((3, 4, 5, 6), (3, 1, 2)),
)


def _along_axes(**given: Any) -> list[Elementwise]:
    return [Elementwise(shape=shape, options={"axis": axis}, **given) for shape, axis in _AXES]


def _in_layouts(more: dict[str, Any] = {}, **given: Any) -> list[Elementwise]:  # noqa: B006 (nobody writes to it)
    return [
        Elementwise(shape=in_layout(layout), options=more | {"layout": layout}, **given)
        for layout in WITH_POSITIONS  # with one element for a statistic, dx is what rounding leaves of a difference
    ]


DYNAMIC_TANH = _along_axes(name="dynamic_tanh", family="dynamic_tanh", parameters=("alpha", "weight", "bias"))
DYNAMIC_TANH += [
    replace(DYNAMIC_TANH[0], options={"axis": -1, "activation": activation}) for activation in ACTIVATIONS
]
FILTER_RESPONSE = _in_layouts(
    name="filter_response_norm",
    family="filter_response",
    parameters=("weight", "bias", "tau"),
    statistics=("rstd",),
)
EVO_S0 = _in_layouts(
    name="evo_norm_s0",
    family="evo_s0",
    file="evo",
    more={"num_groups": 3},
    parameters=("weight", "bias", "v"),
    statistics=("mean", "rstd"),
)
EVO_B0 = _in_layouts(
    name="evo_norm_b0",
    family="evo_b0",
    file="evo",
    more={"training": True},
    parameters=("weight", "bias", "v"),
    statistics=("mean", "var"),
)
GATED_RMS = [
    Elementwise(
        name="gated_rms_norm",
        family="gated",
        shape=shape,
        options={"group_size": group_size, "norm_before_gate": before},
        parameters=("weight",),
        beside=("gate",),
        statistics=("rstd",),
    )
    for shape, group_size in (((5, 8), None), ((3, 4, 10), 5), ((6,), 2))
    for before in (False, True)
]
LOCAL_RESPONSE = [
    norm
    for power in ({"size": 5, "alpha": 2.0}, {"size": 4, "alpha": 0.7, "beta": 0.4, "k": 2.0})
    for norm in _in_layouts(more=power, name="local_response_norm", family="local_response", parameters=())
]
NORMS = [*DYNAMIC_TANH, *FILTER_RESPONSE, *EVO_S0, *EVO_B0, *GATED_RMS, *LOCAL_RESPONSE]


def one_of_each(norms: list[Elementwise]) -> list[Elementwise]:
    """The least that reaches every norm with runs that share a statistic and runs that do not."""
    return [
        n for n in norms if n.options.get("layout") in ("NCHW", "NHWC") or n.shape == (3, 4, 5, 6) or n.beside
    ]

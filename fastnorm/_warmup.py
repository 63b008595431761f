"""Compiling ahead of the first call: what some norms need, in some dtypes and layouts, in a process for each part."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from . import functional
from ._cache import Kept, kept
from ._floats import named
from ._layout import Ints, element_strides
from ._threads import get_num_threads
from ._warmup_family import LAYERS, FamilyPart
from .functional._flow.arrange import arrange
from .functional._flow.roles import BATCH, GROUP, INSTANCE, LAYER, RMS, Norm, for_inference
from .functional._flow.running import move

_WITH_INFERENCE = ("forward", "inference", "backward")
_WITHOUT = ("forward", "backward")
# name -> the norm, and its modes: the classic ones, which share their kernels.
NORMS: dict[str, tuple[Norm, tuple[str, ...]]] = {
    "layer_norm": (LAYER, _WITHOUT),
    "rms_norm": (RMS, _WITHOUT),
    "batch_norm": (BATCH, _WITH_INFERENCE),
    "instance_norm": (INSTANCE, _WITH_INFERENCE),
    "group_norm": (GROUP, _WITHOUT),
    "add_layer_norm": (LAYER, ("forward",)),
    "add_rms_norm": (RMS, ("forward",)),
}
NAMES = (*NORMS, *LAYERS)
_LAYOUTS = ("NC", "NCHW", "NHWC")


class Part(NamedTuple):
    """What is compiled at once: a family of kernels in one mode, for one dtype."""

    family: str  # "rows" or "columns"
    mode: str
    dtype: str

    def __str__(self) -> str:
        return " ".join(self)

    def compile(self) -> None:
        """Have it compiled, or loaded from the cache, by a call that needs it."""
        by_rows, dtype = self.family == "rows", named(self.dtype)
        x, one = np.ones((2, 2), dtype), np.ones(2, np.float32)
        axis = 1 if by_rows else 0
        if self.mode == "forward":
            functional.layer_norm(x, axis=axis)
        elif self.mode == "backward":
            for weight in (one, np.ones(2)):  # of whose dtype gradients are added up
                functional.layer_norm_backward(x, x, one, one, weight, axis=axis)
        else:
            layout = "NCL" if by_rows else "NLC"
            functional.batch_norm(np.stack([x, x]), one, one, layout=layout)
            for running in (one, np.ones(2)):  # which training moves
                move(running, 1.0, np.ones(2))


def warmup(
    norms: Sequence[str] | None = None,
    dtypes: Sequence[str] = ("float32",),
    layouts: Sequence[str] | None = None,
) -> Kept:
    """Compile what some norms need, forward and backward, before the first call has to wait for it.

    Parts that are not in the cache are compiled side by side, on as many processors as `get_num_threads` allows. Then all
    of them are loaded, so that the first call of this process waits for nothing.

    Parameters
    ----------
    norms : names of functions, such as "layer_norm", optional
        Where it is None layer, RMS, batch, instance and group norm, and the first two with a residual; the less common ones
        are compiled where they are named, such as "ghost_batch_norm".
    dtypes : names of dtypes
        Among "float32", "float64", "float16" and "bfloat16".
    layouts : strings such as "NHWC", optional
        The layouts of what batch, instance and group norm will be given, and of what layer and RMS norm will be given to
        normalize over its channels; likewise of the less common. None stands for channels first and last; over the last
        axis what takes an axis is always compiled.

    Returns
    -------
    Kept
        The named tuple (directory, files, size): where compiled kernels are kept, how many, and of how many bytes.

    Raises
    ------
    ValueError
        A name is not among these.

    Examples
    --------
    >>> import fastnorm
    >>> kept = fastnorm.warmup(["rms_norm"])
    >>> kept.files > 0
    True
    """
    compile_parts(parts(norms, dtypes, layouts))
    return kept()


def parts(
    norms: Sequence[str] | None, dtypes: Sequence[str], layouts: Sequence[str] | None
) -> list[Part | FamilyPart]:
    """What has to be compiled, each part once."""
    found: dict[Part | FamilyPart, None] = {}
    chosen = _LAYOUTS if layouts is None else layouts
    for name, dtype in product(NORMS if norms is None else norms, dtypes):
        named(dtype)
        if name in LAYERS:
            found[FamilyPart.of(name, chosen, dtype)] = None
        elif name in NORMS:
            norm, modes = NORMS[name]
            for mode in modes:
                for family in _families(norm, chosen, mode):
                    found[Part(family, mode, dtype)] = None
        else:
            raise ValueError(f"norms has {name!r}, expected some of {', '.join(NAMES)}")
    return list(found)


def _families(norm: Norm, layouts: Sequence[str], mode: str) -> list[str]:
    """The families of kernels that a norm takes in some layouts."""
    by_axis = norm in (LAYER, RMS)
    found = [_family(norm, -1, (2, 2), "NC", mode)] if by_axis else []
    for layout in layouts:
        argument = layout.index("C") if by_axis else (1, layout) if norm is GROUP else layout
        # Many small images may take another family than few.
        for samples in (2, 64):
            shape = tuple(samples if letter in "NC" else 2 for letter in layout)
            found.append(_family(norm, argument, shape, layout, mode))
    return found


def _family(norm: Norm, argument: Any, shape: Ints, layout: str, mode: str) -> str:
    x = np.empty(shape, np.float32)
    roles = norm.shared(shape, argument).roles
    if mode == "inference":
        roles = for_inference(shape, element_strides(x), layout)
    beside = x if mode == "backward" else None
    return "columns" if arrange(x, beside, [None], roles, (0, 0)).plan.columns else "rows"


def compile_parts(
    wanted: Sequence[Part | FamilyPart], begin: Callable[[str], None] = lambda text: None
) -> None:
    """Compile some parts, each in a process of its own, as compiling holds the GIL; then load them. `begin` is told each."""
    from concurrent.futures import ThreadPoolExecutor  # 4 ms of an import that few need

    def one(part: Part | FamilyPart) -> None:
        begin(str(part))
        if sys.executable:
            subprocess.run([sys.executable, "-c", _program(part)], capture_output=True, check=False)

    with ThreadPoolExecutor(get_num_threads()) as pool:
        list(pool.map(one, wanted))
    for part in wanted:
        part.compile()  # what could not be compiled there is compiled here, or says why not


def _program(part: Part | FamilyPart) -> str:
    kind = type(part).__name__
    lines = ["import sys", f"sys.path[:] = {sys.path!r}", f"from fastnorm._warmup import {kind}"]
    return "\n".join([*lines, f"{kind}{tuple(part)}.compile()"])

"""What is measured: each job once, as data that every implementation turns into a call of its own."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

Shape = tuple[int, ...]

TITLES = {
    "layer_norm": "layer norm",
    "rms_norm": "RMS norm",
    "batch_norm": "batch norm",
    "instance_norm": "instance norm",
    "group_norm": "group norm",
    "add_layer_norm": "add + layer norm",
    "add_rms_norm": "add + RMS norm",
}
_ACTIVATION_TITLES = {None: "", "gelu": " + GELU"}

# name -> the gap between 1 and the next number.
EPS = {"float64": 2.0**-52, "float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}
ITEMSIZE = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2}

# number of axes -> the layouts that every norm is checked in.
LAYOUTS = {2: ("NC",), 3: ("NCL", "NLC"), 4: ("NCHW", "NHWC"), 5: ("NCDHW", "NDHWC")}


@dataclass(frozen=True)
class Job:
    """One norm in one mode on one array. Layer and RMS norm normalize C; the layout tells the others all."""

    norm: str  # the public function
    shape: Shape  # (N, C, …), whatever the layout
    layout: str = "NC"
    mode: str = "forward"  # or "backward"; batch norm's forward is "training" or "inference"
    activation: str | None = None
    dtype: str = "float32"

    @property
    def name(self) -> str:
        """As tables call it, such as "batch norm training 8×64×56×56 NHWC"."""
        many_axes = len(self.shape) > 2
        words = [
            TITLES[self.norm] + _ACTIVATION_TITLES[self.activation],
            f"({self.num_groups})" if self.num_groups else "",
            "over C" if self.along_axis and many_axes else "",
            self.mode if self.mode != "forward" else "",
            "×".join(map(str, self.shape)),
            self.layout if many_axes else "",
            self.dtype if self.dtype != "float32" else "",
        ]
        return " ".join(word for word in words if word)

    @property
    def along_axis(self) -> bool:
        """Whether the norm is told an axis rather than a layout."""
        return self.norm.endswith(("layer_norm", "rms_norm"))

    @property
    def adds(self) -> bool:
        """Whether a residual is added first."""
        return self.norm.startswith("add_")

    @property
    def has_bias(self) -> bool:
        return not self.norm.endswith("rms_norm")

    @property
    def backward(self) -> bool:
        return self.mode == "backward"

    @property
    def channels(self) -> int:
        return self.shape[1]

    @property
    def channel_axis(self) -> int:
        return self.layout.index("C")

    @property
    def num_groups(self) -> int:
        """Of group norm: 32 as in its paper, or the most that divides 32 and the channels; 0 elsewhere."""
        return math.gcd(32, self.channels) if self.norm == "group_norm" else 0

    @property
    def stored_shape(self) -> Shape:
        """The shape of the array, its axes in the layout's order."""
        spatial = [letter for letter in self.layout if letter not in "NC"]
        lengths = dict(zip(["N", "C", *spatial], self.shape, strict=True))
        return tuple(lengths[letter] for letter in self.layout)

    @property
    def results(self) -> int:
        """How many arrays come out: y, or y and the sum, or the gradients of what goes in."""
        return 2 + self.has_bias if self.backward else 1 + self.adds

    @property
    def traffic(self) -> int:
        """The least bytes to move: each input read once, each result written once, statistics left out."""
        arrays = 3 if self.backward else 2 + 2 * self.adds
        parameters = 2 + self.has_bias if self.backward else 1 + self.has_bias
        return ITEMSIZE[self.dtype] * (arrays * math.prod(self.shape) + parameters * self.channels)


def modes(norm: str) -> tuple[str, ...]:
    """The modes in which a norm is measured."""
    if norm == "batch_norm":
        return "training", "inference", "backward"
    return ("forward",) if norm.startswith("add_") else ("forward", "backward")


def every(norms: Iterable[str], shapes: Iterable[Shape], dtypes: Iterable[str] = ("float32",)) -> list[Job]:
    """Each norm in each mode, and in each layout of as many axes as a shape has."""
    norms, dtypes = tuple(norms), tuple(dtypes)
    return [
        Job(norm, shape, layout, mode, dtype=dtype)
        for shape in shapes
        for norm in norms
        if not (norm == "instance_norm" and len(shape) == 2)  # a single element: nothing to normalize
        for layout in LAYOUTS[len(shape)]
        for mode in modes(norm)
        for dtype in dtypes
    ]


def _both_layouts(norm: str, shape: Shape, mode: str = "forward") -> list[Job]:
    return [Job(norm, shape, layout, mode) for layout in LAYOUTS[4]]


# Shapes that networks have, from a single row to arrays far out of cache.
TABLE = (
    Job("layer_norm", (1, 768)),
    Job("layer_norm", (128, 768)),
    Job("layer_norm", (4096, 768)),
    Job("layer_norm", (16384, 1024)),
    Job("layer_norm", (65536, 64)),
    Job("layer_norm", (16384, 1024), dtype="bfloat16"),
    Job("rms_norm", (128, 4096)),
    Job("rms_norm", (16384, 1024)),
    Job("add_rms_norm", (128, 4096)),
    Job("layer_norm", (16384, 1024), activation="gelu"),
    Job("layer_norm", (4096, 768), mode="backward"),
    Job("layer_norm", (16384, 1024), mode="backward"),
    Job("rms_norm", (128, 4096), mode="backward"),
    *_both_layouts("batch_norm", (8, 64, 56, 56), "training"),
    *_both_layouts("batch_norm", (32, 64, 112, 112), "training"),
    *_both_layouts("batch_norm", (32, 256, 14, 14), "backward"),
    *_both_layouts("batch_norm", (8, 64, 56, 56), "inference"),
    *_both_layouts("group_norm", (32, 256, 14, 14)),
    *_both_layouts("instance_norm", (32, 256, 14, 14)),
    *_both_layouts("layer_norm", (8, 64, 56, 56)),
    Job("batch_norm", (64, 512, 128), "NLC", "training"),
    Job("instance_norm", (64, 512, 128), "NLC"),
    Job("batch_norm", (1, 1024), mode="inference"),
)

# From one sample to far out of cache: what `python -m fastnorm plot` draws, a panel each.
_ROWS, _IMAGES = (1, 16, 256, 4096, 65536), (1, 4, 16, 64, 256)
LADDERS = {
    "layer norm, rows of 768": [Job("layer_norm", (n, 768)) for n in _ROWS],
    "layer norm backward, rows of 768": [Job("layer_norm", (n, 768), mode="backward") for n in _ROWS],
    "batch norm training, images of 28×28×64": [
        Job("batch_norm", (n, 64, 28, 28), "NHWC", "training") for n in _IMAGES
    ],
    "group norm, images of 64×28×28": [Job("group_norm", (n, 64, 28, 28), "NCHW") for n in _IMAGES],
}

# Every norm, layout and mode once, in cache: what `python -m fastnorm` runs through in a minute.
QUICK = tuple(every(TITLES, [(512, 768), (16, 64, 400), (8, 64, 28, 28)]))

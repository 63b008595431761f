"""Draws of every norm which elements share a statistic, and which a weight and a bias: `python docs/norms/draw.py`."""

import cmath
import math
from collections.abc import Callable, Iterator
from html import escape
from itertools import groupby, product
from pathlib import Path
from textwrap import wrap
from typing import NamedTuple

# What can be drawn ------------------------------------------------------------------------------------------


class Axis(NamedTuple):
    letter: str
    name: str
    size: int


class Box(NamedTuple):
    """An array, its axes to the right, downwards, and into the picture."""

    right: Axis
    down: Axis
    deep: Axis


FLAT = Axis("", "", 1)
CUBE = Box(Axis("C", "channels", 6), Axis("S", "positions", 4), Axis("N", "samples", 4))
HEADS = Box(Axis("C", "channels in 2 heads", 6), CUBE.down, CUBE.deep)
TABLE = Box(Axis("C", "features", 6), Axis("N", "samples", 4), FLAT)
MATRIX = Box(Axis("I", "inputs", 6), Axis("O", "outputs", 4), FLAT)


class Key(NamedTuple):
    """Elements share if along the axis they have the same value, or values within reach of one another."""

    axis: str
    of: Callable[[int], int] = lambda index: index
    reach: int = 0


KEYS = {
    **{letter: Key(letter) for letter in "NCSIO"},
    "B": Key("N", lambda n: n // 2),  # a part of the batch
    "G": Key("C", lambda c: c // 3),  # a group of channels, or a head
    "P": Key("C", lambda c: c % 3),  # a place in the head
    "W": Key("C", reach=1),  # a window of channels
}


class Panel(NamedTuple):
    """What there is one of for every combination of the values of some keys; the colour one of them is drawn in."""

    what: str
    words: str
    keys: str
    colour: str
    box: Box


def statistic(what: str, words: str, keys: str, box: Box = CUBE) -> Panel:
    return Panel(what, words, keys, "statistic", box)


def affine(what: str, words: str, keys: str, box: Box = CUBE) -> Panel:
    return Panel(what, words, keys, "affine", box)


def nothing(what: str, words: str, keys: str = "", box: Box = CUBE) -> Panel:
    return Panel(what, words, keys, "nothing", box)


# Every norm -------------------------------------------------------------------------------------------------

MOMENTS = "mean and variance"
PER_CHANNEL = statistic(MOMENTS, "one pair per channel", "C")
PER_POSITION = statistic(MOMENTS, "one pair per position", "NS")
PER_SAMPLE = statistic(MOMENTS, "one pair per sample", "N")
PER_INSTANCE = statistic(MOMENTS, "one pair per channel of a sample", "NC")
PER_GROUP = statistic(MOMENTS, "one pair per group of a sample", "NG")
COVARIANCE = statistic("covariance matrix", "one per group of channels", "G")
VARIANCE = statistic("variance", "one per channel", "C")
MEAN_SQUARE = statistic("mean square", "one per position", "NS")
MEAN_SQUARES = statistic("mean square", "one per channel of a sample", "NC")
PER_OUTPUT = statistic("norm", "one per output", "O", MATRIX)

WEIGHT_BIAS = affine("weight and bias", "one pair per channel", "C")
WEIGHT = affine("weight", "one per channel", "C")
NO_WEIGHT = nothing("no weight, no bias", "nothing is learned")
WEIGHT_BIAS_V = affine("weight, bias, v", "one of each per channel", "C")
GIVEN = affine("scale and shift", "one pair per channel of a sample", "NC")
NOTHING_ELSE = nothing("no weight, no bias", "nothing else is learned", box=MATRIX)

# name: which elements share a statistic and which a weight and a bias, panel by panel; what that leaves open.
PICTURES: dict[str, tuple[list[Panel], str]] = {
    "batch_norm": (
        [PER_CHANNEL, WEIGHT_BIAS],
        "Over all samples and positions, in training. In inference running statistics take the batch's place.",
    ),
    "layer_norm": (
        [
            PER_POSITION,
            WEIGHT_BIAS,
            PER_SAMPLE,
            affine("weight and bias", "one pair per place in a sample", "CS"),
        ],
        "Above: over C, the usual case, where a position is a token. Below: over C and S. Any axes will do.",
    ),
    "instance_norm": (
        [PER_INSTANCE, WEIGHT_BIAS],
        "Over the positions of one channel of one sample. Weight and bias are optional, as in PyTorch.",
    ),
    "group_norm": (
        [PER_GROUP, WEIGHT_BIAS],
        "Here 2 groups of 3 channels. One group takes in the whole sample, a group per channel is instance norm.",
    ),
    "rms_norm": ([MEAN_SQUARE, WEIGHT], "Layer norm without the mean: over C, or any axes."),
    "switchable_norm": (
        [PER_INSTANCE, PER_SAMPLE, PER_CHANNEL, WEIGHT_BIAS],
        "The statistics of instance, layer and batch norm in a learned mixture: one of the means, one of the variances.",
    ),
    "weight_norm": (
        [PER_OUTPUT, affine("length", "one per output", "O", MATRIX)],
        "What is normalized is the weight of a layer. The inputs of a convolution include its kernel's positions.",
    ),
    "cosine_norm": (
        [
            statistic("norm of x", "one per sample", "N", TABLE),
            PER_OUTPUT._replace(what="norm of the weight"),
        ],
        "A linear layer of cosines: of each sample and each output's weights; of both centred, of correlations.",
    ),
    "weight_standardization": (
        [statistic(MOMENTS, "one pair per output", "O", MATRIX), NOTHING_ELSE],
        "What is normalized is the weight of a layer. The inputs of a convolution include its kernel's positions.",
    ),
    "spectral_norm": (
        [statistic("largest singular value", "one for the matrix", "", MATRIX), NOTHING_ELSE],
        "What is normalized is the weight of a layer, by a value that power iteration follows from call to call.",
    ),
    "pca_whitening": (
        [
            statistic("mean", "one per feature", "C", TABLE),
            statistic("covariance matrix", "one for all", "", TABLE),
        ],
        "Fitted, then kept. PCA turns the features to the principal axes, ZCA turns them back. Nothing is learned.",
    ),
    "decorrelated_batch_norm": (
        [COVARIANCE, WEIGHT_BIAS],
        "About each channel's mean, over all samples and positions. Here 2 groups of 3 channels.",
    ),
    "iter_norm": (
        [COVARIANCE, WEIGHT_BIAS],
        "As decorrelated batch norm, but a few Newton–Schulz steps give the matrix's inverse root.",
    ),
    "variance_only_layer_norm": (
        [statistic("variance", "one per position", "NS"), WEIGHT_BIAS],
        "The variance is about the mean, as layer norm's, but the mean is not taken from x. Over C, or any axes.",
    ),
    "variance_only_batch_norm": (
        [VARIANCE, WEIGHT_BIAS],
        "The variance is about the mean, as batch norm's, but the mean is not taken from x.",
    ),
    "simple_layer_norm": ([PER_POSITION, NO_WEIGHT], "Layer norm that learns nothing: over C, or any axes."),
    "batch_renorm": (
        [PER_CHANNEL, WEIGHT_BIAS],
        "The batch's statistics, corrected towards the running ones by a pair r and d per channel.",
    ),
    "ghost_batch_norm": (
        [statistic(MOMENTS, "one pair per channel and part", "BC"), WEIGHT_BIAS],
        "The batch in parts, here of 2 samples, each normalized by itself in training.",
    ),
    "frozen_batch_norm": (
        [
            PER_CHANNEL._replace(what="fixed mean and variance"),
            WEIGHT_BIAS._replace(what="fixed weight and bias"),
        ],
        "Four constants per channel: nothing is taken from the batch, and nothing is learned.",
    ),
    "filter_response_norm": (
        [MEAN_SQUARES, WEIGHT_BIAS_V._replace(what="weight, bias, threshold")],
        "Over the positions of one channel of one sample. What is below the learned threshold is raised to it.",
    ),
    "global_response_norm": (
        [
            MEAN_SQUARES._replace(what="norm"),
            statistic("mean of the norms", "one per sample", "N"),
            WEIGHT_BIAS,
        ],
        "Channels are scaled by their norms over the mean of all channels' norms; then x is added again.",
    ),
    "local_response_norm": (
        [statistic("sum of squares", "one per element: its window", "NSW"), NO_WEIGHT],
        "Over some channels about the element, here with a dot, at its position. Windows overlap.",
    ),
    "normalize": (
        [statistic("p-norm", "one per position", "NS"), NO_WEIGHT],
        "Over C, or any axes. With p = 2 the results are unit vectors.",
    ),
    "scale_norm": (
        [statistic("norm", "one per position", "NS"), affine("length", "one for all", "")],
        "All vectors are given one learned length.",
    ),
    "gated_rms_norm": (
        [MEAN_SQUARE, WEIGHT],
        "The gate is an array like x: RMS norm of x·silu(gate), or RMS norm of x, times silu(gate).",
    ),
    "adaptive_layer_norm": (
        [PER_POSITION, GIVEN],
        "Scale and shift come with the sample, made of its condition: a class, a time step, a text.",
    ),
    "adaptive_instance_norm": (
        [PER_INSTANCE, GIVEN],
        "Scale and shift come with the sample, made of the style that it is to have.",
    ),
    "film": ([nothing("no statistic", "nothing is shared"), GIVEN], "Scale and shift come with the sample."),
    "qk_norm": (
        [
            statistic("mean square", "one per head and position", "NSG", HEADS),
            affine("weight", "one per place in a head", "P", HEADS),
        ],
        "Of queries and of keys, before their products. Heads share the weight: each of its elements is in both.",
    ),
    "dynamic_tanh": (
        [nothing("no statistic", "nothing is shared", "NSC"), WEIGHT_BIAS],
        "Element by element: weight·tanh(α·x) + bias, one α for all.",
    ),
    "evo_norm_s0": (
        [statistic("variance", "one per group of a sample", "NG"), WEIGHT_BIAS_V],
        "x·sigmoid(v·x) is divided by the group's standard deviation. Here 2 groups of 3 channels.",
    ),
    "evo_norm_b0": (
        [VARIANCE, MEAN_SQUARES._replace(what="variance"), WEIGHT_BIAS_V],
        "x is divided by the batch's standard deviation or by v·x plus the sample's, whichever is greater.",
    ),
    "deep_norm": (
        [PER_POSITION, WEIGHT_BIAS],
        "Layer norm of α·x + f(x): the deeper the network, the more the residual x counts.",
    ),
}

# The drawing ------------------------------------------------------------------------------------------------

# Points of the picture are complex numbers, y downwards.
WIDTH, MARGIN = 480, 16
RIGHT, DOWN, DEEP = 22, 22j, 14 - 9.5j  # an element's sides
GAP = 0.3  # between parts, in elements
HEAD, FOOT = 62, 34  # the room above and below a box
LINE, LONGEST = 18, 68  # the height of the note's lines, and their characters

STYLE = """\
text{font:13px system-ui,-apple-system,"Segoe UI",Helvetica,Arial,sans-serif;text-anchor:middle}
.what{font-size:14px;font-weight:600}
.axis{font-size:12px}
path{stroke-width:.8;stroke-linejoin:round}
.grid{fill:none;stroke-opacity:.4}
"""
# Colours of the paper, its rim, text and quiet text; and of an element's front, top, side and edges.
LIGHT = {
    "page": ("#ffffff", "#d1d9e0", "#1f2328", "#59636e"),
    "plain": ("#eceff3", "#f8f9fb", "#d7dde4", "#9aa5b1"),
    "statistic": ("#3a8fd6", "#7dbbec", "#2470b3", "#15507f"),
    "affine": ("#ee9440", "#f9c08a", "#cc7222", "#8f4d10"),
}
DARK = {
    "page": ("#0d1117", "#3d444d", "#f0f6fc", "#9198a1"),
    "plain": ("#282f38", "#3a434e", "#1b2027", "#68727e"),
    "statistic": ("#2f83cc", "#62aae6", "#1d5f9a", "#b6dcfa"),
    "affine": ("#d9802b", "#f0ab6b", "#a85d18", "#fcdcb8"),
}


def css(colours: dict[str, tuple[str, str, str, str]]) -> str:
    (paper, rim, ink, quiet), *elements = colours.values()
    rules = [f".paper{{fill:{paper};stroke:{rim}}}text{{fill:{quiet}}}.what,.letter,.dot{{fill:{ink}}}"]
    for name, (*fills, edge) in zip(list(colours)[1:], elements, strict=True):
        faces = zip(("front", "top", "side"), fills, strict=True)
        rules += [f".{name} .{face}{{fill:{fill}}}" for face, fill in faces]
        rules.append(f".{name} path{{stroke:{edge}}}")
    return "\n".join(rules) + "\n"


class Run(NamedTuple):
    """Neighbouring indices of an axis that share, and where they lie, in elements."""

    indices: list[int]
    start: float
    stop: float


def runs(axis: Axis, keys: list[Key]) -> list[Run]:
    """An axis in runs, which lie apart in the room of the whole; windows overlap, so that nothing parts them."""
    groups = [list(group) for _, group in groupby(range(axis.size), lambda i: [key.of(i) for key in keys])]
    gap = 0 if any(key.reach for key in keys) else GAP
    size = (axis.size - gap * (len(groups) - 1)) / axis.size
    return [Run(at, at[0] * size + gap * i, (at[-1] + 1) * size + gap * i) for i, at in enumerate(groups)]


def draw_box(panel: Panel, origin: complex) -> Iterator[str]:
    """The parts of the box, back to front; coloured those that share with the element in the near corner."""
    keys = [KEYS[letter] for letter in panel.keys]
    along = [[key for key in keys if key.axis == axis.letter] for axis in panel.box]
    reach = max((key.reach for key in along[0]), default=0)
    corner = (panel.box.right.size - 1 - reach, 0, 0)
    rights, downs, deeps = (runs(axis, keys) for axis, keys in zip(panel.box, along, strict=True))
    for deep, down, right in product(deeps[::-1], downs[::-1], rights):
        shares = panel.colour != "nothing" and all(
            abs(key.of(run.indices[0]) - key.of(near)) <= key.reach
            for run, keys, near in zip((right, down, deep), along, corner, strict=True)
            for key in keys
        )
        yield f'<g class="{panel.colour if shares else "plain"}">'
        yield from draw_part(right, down, deep, origin)
        yield "</g>"
    if reach:
        centre = origin + (corner[0] + 0.5) * RIGHT + downs[0].stop / 2 * DOWN
        yield f'<circle class="dot" cx="{centre.real:.1f}" cy="{centre.imag:.1f}" r="3"/>'


def draw_part(right: Run, down: Run, deep: Run, origin: complex) -> Iterator[str]:
    """The front, top and right side of a block of elements."""
    near = origin + right.start * RIGHT + down.start * DOWN + deep.start * DEEP
    steps = zip((right, down, deep), (RIGHT, DOWN, DEEP), strict=True)
    x, y, z = (((run.stop - run.start) * step, len(run.indices)) for run, step in steps)
    yield from draw_face("front", near, x, y)
    yield from draw_face("top", near, x, z)
    yield from draw_face("side", near + x[0], z, y)


def draw_face(name: str, corner: complex, *sides: tuple[complex, int]) -> Iterator[str]:
    """A parallelogram of elements: its outline, and the lines between them."""
    (a, columns), (b, rows) = sides
    yield f'<path class="{name}" d="M{xy(corner)}l{xy(a)} {xy(b)} {xy(-a)}z"/>'
    lines = [(corner + a * i / columns, b) for i in range(1, columns)]
    lines += [(corner + b * i / rows, a) for i in range(1, rows)]
    if lines:
        yield f'<path class="grid" d="{"".join(f"M{xy(start)}l{xy(line)}" for start, line in lines)}"/>'


def xy(point: complex) -> str:
    return f"{point.real:.1f},{point.imag:.1f}"


def draw_panel(panel: Panel, middle: float, top: float) -> Iterator[str]:
    """Two lines that say what is shared, the box below them, and the names of its axes."""
    right, down, deep = panel.box
    across, height, back = right.size * RIGHT, down.size * DOWN, deep.size * DEEP
    near = complex(middle - (across + back).real / 2 + 4, top + HEAD - back.imag)
    yield f'<text class="what" x="{middle:g}" y="{top + 20:g}">{escape(panel.what)}</text>'
    yield f'<text x="{middle:g}" y="{top + 38:g}">{escape(panel.words)}</text>'
    yield from draw_box(panel, near)
    yield draw_name(right, near + height + across / 2 + 17j)
    yield draw_name(down, near + height / 2 - 9, -90)
    if deep != FLAT:
        yield draw_name(deep, near + height + across + back / 2 + (10 + 10j), math.degrees(cmath.phase(DEEP)))


def draw_name(axis: Axis, place: complex, angle: float = 0) -> str:
    turned = f' transform="rotate({angle:.1f} {xy(place)})"' if angle else ""
    letter = f'<tspan class="letter">{axis.letter}</tspan>'
    return f'<text class="axis" x="{place.real:.1f}" y="{place.imag:.1f}"{turned}>{letter} {axis.name}</text>'


def draw(name: str) -> str:
    """The whole picture, as SVG: two panels in a row, and below them the note."""
    panels, note = PICTURES[name]
    body: list[str] = []
    top = float(MARGIN)
    for row in (panels[i : i + 2] for i in range(0, len(panels), 2)):
        for i, panel in enumerate(row):
            body += draw_panel(panel, WIDTH * (2 * i + 1) / (2 * len(row)), top)
        box = row[0].box
        top += HEAD + FOOT + (box.down.size * DOWN - box.deep.size * DEEP).imag
    for line in balanced(note):
        top += LINE
        body.append(f'<text x="{WIDTH / 2:g}" y="{top:g}">{escape(line)}</text>')
    height = round(top + MARGIN)
    title = f"{name}: {'; '.join(f'{panel.what}, {panel.words}' for panel in panels)}"
    head = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}">',
        f"<title>{escape(title)}</title>",
        f"<style>\n{STYLE}{css(LIGHT)}@media (prefers-color-scheme:dark){{\n{css(DARK)}}}</style>",
        f'<rect class="paper" x=".5" y=".5" width="{WIDTH - 1}" height="{height - 1}" rx="8"/>',
    ]
    return "\n".join([*head, *body, "</svg>\n"])


def balanced(text: str) -> list[str]:
    """As few lines as can be, of much the same length."""
    fewest = len(wrap(text, LONGEST))
    return next(lines for width in range(1, LONGEST + 1) if len(lines := wrap(text, width)) == fewest)


if __name__ == "__main__":
    for name in PICTURES:
        Path(__file__).with_name(f"{name}.svg").write_text(draw(name), encoding="utf-8", newline="\n")

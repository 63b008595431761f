"""The command line: its arguments, and for each command the module of that name whose `run` answers them."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from importlib import import_module
from typing import Any

from .._bench.cases import EPS, LAYOUTS, TITLES, Shape
from .._bench.peers import TITLES as PEERS
from .._warmup import NAMES

_DESCRIPTION = """Without a command: what this machine offers, then a minute in which each norm and layout is
compared with its float64 definition, and raced against NumPy (and PyTorch, where installed)."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; the exit code is 1 where a result broke its bound."""
    given = _parser().parse_args(arguments)
    code: int = import_module(f"{__name__}.{given.command}").run(given)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m fastnorm", description=_DESCRIPTION)
    parser.set_defaults(command="check")
    commands = parser.add_subparsers(title="commands", metavar="")
    _add(commands, "info", "print what this machine offers")
    bench = _add(commands, "bench", "race many jobs, or your own shapes, long enough to be quoted")
    _choose(bench, "--norms", TITLES, "only these norms")
    bench.add_argument("--shapes", nargs="+", type=_shape, help="N x C x …, such as 4096x768 or 8x64x56x56")
    _choose(bench, "--layouts", [layout for layouts in LAYOUTS.values() for layout in layouts], "only these")
    _choose(bench, "--dtypes", EPS, "in these instead of the table's")
    bench.add_argument("--jobs", metavar="TEXT", help="only jobs with this in their name, such as backward")
    _add_peers(bench)
    bench.add_argument("--json", metavar="FILE", help="also write the figures here")
    bench.add_argument(
        "--markdown", nargs="+", metavar="FILE", default=[], help="also fill in the tables of these documents"
    )
    composed = _add(
        commands, "composed", "race the less common norms against what users compose of NumPy and PyTorch"
    )
    composed.add_argument("--jobs", metavar="TEXT", help="only those with this in their name, such as weight")
    composed.add_argument("--markdown", metavar="FILE", help="also fill in the table of this document")
    plot = _add(
        commands, "plot", "race over sizes from one sample to out of cache, and draw time against size"
    )
    plot.add_argument("file", metavar="FILE", help="such as docs/performance.svg")
    _add_peers(plot)
    warmup = _add(commands, "warmup", "compile ahead of the first call")
    _choose(warmup, "--norms", NAMES, "these norms, of all that there are, instead of the classic ones")
    _choose(warmup, "--dtypes", EPS, "these instead of float32")
    warmup.add_argument(
        "--layouts", nargs="+", metavar="LAYOUT", help="such as NHWC, instead of channels first and last"
    )
    return parser


def _add(commands: Any, name: str, text: str) -> argparse.ArgumentParser:
    description = f"{text[0].upper()}{text[1:]}."
    command: argparse.ArgumentParser = commands.add_parser(name, help=text, description=description)
    command.set_defaults(command=name)
    return command


def _add_peers(command: argparse.ArgumentParser) -> None:
    text = "race against these only, instead of all that are installed; none, or any of " + ", ".join(PEERS)
    command.add_argument("--peers", nargs="*", metavar="PEER", help=text)


def _choose(command: argparse.ArgumentParser, option: str, choices: Iterable[str], text: str) -> None:
    command.add_argument(option, nargs="+", choices=list(choices), metavar=option[2:-1].upper(), help=text)


def _shape(text: str) -> Shape:
    shape = tuple(map(int, text.split("x")))
    if len(shape) not in LAYOUTS:
        raise argparse.ArgumentTypeError(f"{text} has {len(shape)} axes, expected 2 to {max(LAYOUTS)}")
    return shape

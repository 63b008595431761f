"""Tables and progress: by rich where it is installed and somebody watches, else as plain text."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table, the first column to the left, the figures to the right."""
    console = _console()
    if console is None:
        print(_plain(columns, rows))
        return
    from rich.table import Table

    shown = Table(header_style="bold", row_styles=["", "dim"])
    for i, column in enumerate(columns):
        shown.add_column(column, justify="right" if i else "left", no_wrap=i > 0)
    for row in rows:
        shown.add_row(*row)
    console.print(shown)


@contextmanager
def progress(total: int) -> Iterator[Callable[[str], None]]:
    """A function that tells what begins now, one of `total` things, on a bar if somebody watches."""
    console = _console()
    if console is None:
        yield _counter(total) if sys.stderr.isatty() else lambda text: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}")
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=total)
        begun = False

        def begin(text: str) -> None:
            nonlocal begun
            bar.update(task, description=text, advance=int(begun))
            begun = True

        yield begin


def _console() -> Any:
    """rich's console, or None."""
    if not sys.stdout.isatty():
        return None
    try:
        from rich.console import Console
    except ImportError:
        return None
    return Console()


def _counter(total: int) -> Callable[[str], None]:
    begun = 0
    width = shutil.get_terminal_size().columns - 1

    def begin(text: str) -> None:
        nonlocal begun
        begun += 1
        print("\r" + f"{begun}/{total} {text}"[:width].ljust(width), end="\r", file=sys.stderr, flush=True)

    return begin


def _plain(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    text = []
    for line in lines:
        first, *others = (
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        text.append("  ".join([first, *others]).rstrip())
    text.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(text)

"""Embed sentences with a real transformer in NumPy and fastnorm, and see what normalization costs in it.

`python examples/minilm.py` prints for the questions in `questions.txt` the nearest sentences in `sentences.txt`; how far
the embeddings are from those of PyTorch's `transformers` with the same weights; and the share of the time that goes
into layer norm, when it is fastnorm's, NumPy's and PyTorch's. Where the embeddings disagree it exits with 1.

The times are those of one thread: threads of NumPy's, PyTorch's and Numba's in one process, each of which waits
busily for its next job, take the cores from each other, and what the clock says then is chance.
"""

import argparse
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from minilm_model import Array, MiniLM, Norm, fast_norm, lines, pool
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from fastnorm import LayerNorm, set_num_threads

try:
    import torch
    import torch.nn.functional as F
    import transformers
except ImportError as error:
    torch = None
    missing = error.name

AGREEMENT = 1e-5  # at most so far may an embedding be from PyTorch's, in any component


# Other norms in fastnorm's place ----------------------------------------------------------------------------


def numpy_norm(layer: LayerNorm, x: Array, residual: Array | None = None) -> Array:
    if residual is not None:
        x = x + residual
    centred = x - x.mean(-1, keepdims=True)
    variance = np.square(centred).mean(-1, keepdims=True)
    y: Array = centred / np.sqrt(variance + layer.eps) * layer.weight + layer.bias
    return y


def torch_norm(layer: LayerNorm, x: Array, residual: Array | None = None) -> Array:
    rows, weight, bias = (torch.from_numpy(array) for array in (x, layer.weight, layer.bias))
    if residual is not None:
        rows = rows + torch.from_numpy(residual)
    y: Array = F.layer_norm(rows, weight.shape, weight, bias, layer.eps).numpy()
    return y


NORMS: dict[str, Norm] = {"fastnorm": fast_norm, "NumPy": numpy_norm}
if torch:
    NORMS["PyTorch"] = torch_norm


# What it costs ----------------------------------------------------------------------------------------------


def one_thread() -> None:
    """Hold all three libraries to one thread; after the first kernel, for Numba's start sets PyTorch's number as well."""
    set_num_threads(1)
    threadpool_limits(1, user_api="blas")
    if torch:
        torch.set_num_threads(1)


class Timed:
    """A norm, and the seconds spent in it."""

    def __init__(self, norm: Norm) -> None:
        self.norm, self.seconds = norm, 0.0

    def __call__(self, *arguments: object) -> Array:
        start = time.perf_counter()
        y = self.norm(*arguments)
        self.seconds += time.perf_counter() - start
        return y


class Times(NamedTuple):
    total: float
    norms: float


def timed(embed: Callable[[Norm], object], norm: Norm) -> Times:
    inside = Timed(norm)
    start = time.perf_counter()
    embed(inside)
    return Times(time.perf_counter() - start, inside.seconds)


def measure(model: MiniLM, sentences: list[str], rounds: int) -> dict[str, dict[str, Times]]:
    """The medians of each way to embed all sentences, by each norm; one round of all before the next."""
    ways: dict[str, Callable[[Norm], object]] = {
        "all in one batch": lambda norm: model.embed(sentences, norm),
        "one at a time": lambda norm: [model.embed([sentence], norm) for sentence in sentences],
    }
    runs = [(way, name) for way in ways for name in NORMS]
    times: dict[tuple[str, str], list[Times]] = {run: [] for run in runs}
    for _ in tqdm(range(rounds + 1), "rounds", leave=False, disable=None):
        for way, name in runs:
            times[way, name].append(timed(ways[way], NORMS[name]))
    # The first round warms up.
    return {way: {name: Times(*np.median(times[way, name][1:], axis=0)) for name in NORMS} for way in ways}


# What is printed --------------------------------------------------------------------------------------------


def print_neighbours(model: MiniLM, questions: list[str], sentences: list[str]) -> None:
    likeness = model.embed(questions) @ model.embed(sentences).T
    print(f"The nearest of {len(sentences)} sentences, and the cosine of the angle:\n")
    for question, row in zip(questions, likeness, strict=True):
        print(f"{question:36}{row.max():.2f}  {sentences[row.argmax()]}")


def agrees(model: MiniLM, sentences: list[str]) -> bool:
    """Whether `transformers` makes the same embeddings of the same tokens; True where it is not installed."""
    if not torch:
        print(f"\nNot compared with PyTorch: {missing} is not installed.")
        return True
    ids, mask = model.tokenize(sentences)
    transformers.utils.logging.disable_progress_bar()
    bert = transformers.BertModel.from_pretrained(model.path).eval()
    with torch.inference_mode():
        states = bert(input_ids=torch.from_numpy(ids), attention_mask=torch.from_numpy(mask))
    off = np.abs(model(ids, mask) - pool(states.last_hidden_state.numpy(), mask)).max()
    print(f"\nLargest difference to transformers' embeddings: {off:.1e} (allowed: {AGREEMENT:.0e})")
    return bool(off <= AGREEMENT)


def print_times(times: dict[str, dict[str, Times]], sentences: int, rounds: int) -> None:
    print(f"\nTime for {sentences} sentences on one thread, median of {rounds} rounds:\n")
    print(f"{'':18}{'norms by':10}{'total':>10}{'in norms':>12}{'share':>10}")
    for way, by_norm in times.items():
        for name, (total, norms) in by_norm.items():
            shown = f"{1e3 * total:7.1f} ms{1e3 * norms:9.2f} ms{100 * norms / total:8.1f} %"
            print(f"{way:18}{name:10}{shown}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7, help="how often each time is taken")
    rounds = parser.parse_args().rounds

    model, sentences = MiniLM(), lines("sentences.txt")
    print_neighbours(model, lines("questions.txt"), sentences)
    one_thread()
    agreed = agrees(model, sentences)
    print_times(measure(model, sentences, rounds), len(sentences), rounds)
    sys.exit(not agreed)


if __name__ == "__main__":
    main()

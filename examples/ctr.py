"""Compare norms in a network that predicts clicks, as a paper on them does, on data whose truth is known.

The paper: Wang, She, Zhang and Zhang, "Correct Normalization Matters: Understanding the Effect of Normalization
on Deep Neural Network Models For Click-Through Rate Prediction", 2020, https://arxiv.org/abs/2006.12753. Its
NormDNN has batch norm for the numerical fields, and variance-only layer norm for the embeddings of the
categorical fields and in the perceptron.

`python examples/ctr.py` draws clicks from probabilities of its own making, so that it can also say how well a
network could do that knew them. The normalization is fastnorm's layers; all else is written out below.
"""

import argparse
from collections.abc import Callable
from itertools import combinations, pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

import fastnorm
from fastnorm import BatchNorm, LayerNorm, SimpleLayerNorm, VarianceOnlyLayerNorm

Array = NDArray[Any]

NUMBERS = 8
FIELDS = (2, 3, 5, 5, 10, 10, 20, 50, 100, 200)  # how many values the categorical fields have
DIM = 8  # of an embedding
HIDDEN = (64, 64, 64)
BATCH = 1000
RATE = 4e-3  # of 1, 2, 4, 8 and 16 thousandths the best for the network without a norm


# The layers beside fastnorm's, after their manner: y = layer(x), dx = layer.backward(dy) --------------------


class Stateless:
    """A layer that learns nothing, and does the same in training and in evaluation."""

    def parameters(self) -> dict[str, Array]:
        return {}

    def train(self, mode: bool = True) -> None:
        pass


class Linear(Stateless):
    """A matrix, plus a bias."""

    def __init__(self, inputs: int, outputs: int, rng: np.random.Generator) -> None:
        self.weight = rng.normal(0, np.sqrt(2 / inputs), (inputs, outputs)).astype(np.float32)
        self.bias = np.zeros(outputs, np.float32)

    def parameters(self) -> dict[str, Array]:
        return {"weight": self.weight, "bias": self.bias}

    def __call__(self, x: Array) -> Array:
        self.x = x
        return x @ self.weight + self.bias

    def backward(self, dy: Array) -> Array:
        self.grads = {"weight": self.x.T @ dy, "bias": dy.sum(0)}
        return dy @ self.weight.T


class ReLU(Stateless):
    def __call__(self, x: Array) -> Array:
        self.positive = x > 0
        return x * self.positive

    def backward(self, dy: Array) -> Array:
        return dy * self.positive


class Reshape(Stateless):
    def __init__(self, *shape: int) -> None:
        self.shape = shape

    def __call__(self, x: Array) -> Array:
        self.before = x.shape
        return x.reshape(len(x), *self.shape)

    def backward(self, dy: Array) -> Array:
        return dy.reshape(self.before)


class Embedding(Stateless):
    """A vector for every value of every field, one table for all; the gradient of the `rows` that were seen."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.weight = rng.normal(0, 0.01, (sum(FIELDS), DIM)).astype(np.float32)
        self.first = np.cumsum((0, *FIELDS[:-1]))

    def parameters(self) -> dict[str, Array]:
        return {"weight": self.weight}

    def __call__(self, values: Array) -> Array:
        self.looked_up = (values + self.first).ravel()
        y: Array = self.weight[self.looked_up].reshape(len(values), -1)
        return y

    def backward(self, dy: Array) -> None:
        order = np.argsort(self.looked_up, kind="stable")
        self.rows, starts = np.unique(self.looked_up[order], return_index=True)
        self.grads = {"weight": np.add.reduceat(dy.reshape(-1, DIM)[order], starts)}


# What is compared -------------------------------------------------------------------------------------------

Norm = Callable[[int], list[Any]]  # a width -> the layers that normalize it


class Recipe(NamedTuple):
    """What normalizes the numerical fields, the embeddings, and the results of the perceptron's layers."""

    numbers: Norm
    embeddings: Norm
    perceptron: Norm


def no_norm(width: int) -> list[Any]:
    return []


def of(layer: type) -> Norm:
    return lambda width: [layer(width)]


def per_field(layer: type) -> Norm:
    return lambda width: [Reshape(-1, DIM), layer(DIM), Reshape(width)]


def by_sample(layer: type) -> Recipe:
    return Recipe(of(layer), per_field(layer), of(layer))


RECIPES = {
    "none": Recipe(no_norm, no_norm, no_norm),
    "batch norm": Recipe(of(BatchNorm), of(BatchNorm), of(BatchNorm)),
    "batch norm, numbers only": Recipe(of(BatchNorm), no_norm, no_norm),
    "layer norm": by_sample(LayerNorm),
    "simple layer norm": by_sample(SimpleLayerNorm),
    "variance-only layer norm": by_sample(VarianceOnlyLayerNorm),
    "NormDNN": by_sample(VarianceOnlyLayerNorm)._replace(numbers=of(BatchNorm)),
    "NormDNN of layer norm": by_sample(LayerNorm)._replace(numbers=of(BatchNorm)),
}


# Clicks -----------------------------------------------------------------------------------------------------


class Clicks(NamedTuple):
    """Pages shown: their numerical fields, the values of their categorical ones, the truth, and who clicked."""

    numbers: Array  # (rows, NUMBERS), logarithms of counts
    values: Array  # (rows, len(FIELDS)), each from 0 up to its field's count
    probability: Array
    clicked: Array

    def take(self, rows: Any) -> "Clicks":
        return Clicks(*(column[rows] for column in self))


def draw(rows: int, rng: np.random.Generator) -> Clicks:
    """Clicks whose log odds are, in equal shares of the variance, a sum over the fields and over products of them."""
    frequency = [1 / (np.arange(count) + 5) for count in FIELDS]  # some values are frequent, most are rare
    values = np.stack([rng.choice(len(f), rows, p=f / f.sum()) for f in frequency], 1)
    standard = rng.normal(size=(rows, NUMBERS))
    counts = np.floor(np.exp(np.linspace(0, 5, NUMBERS) + np.linspace(1.5, 0.7, NUMBERS) * standard))

    effects = sum(rng.normal(size=count)[values[:, i]] for i, count in enumerate(FIELDS))
    curves = sum(np.sin(1.5 * standard[:, i] + i) for i in range(NUMBERS))
    vectors = [rng.normal(size=(count, 4))[values[:, i]] for i, count in enumerate(FIELDS)]
    pairs = sum((one * other).sum(1) for one, other in combinations(vectors, 2))
    slopes = sum(standard[:, i] * vectors[i][:, 0] for i in range(NUMBERS))
    parts: tuple[Any, ...] = (effects, curves, pairs, slopes)
    log_odds: Any = sum((part - part.mean()) / part.std() for part in parts)
    probability = logistic(0.75 * log_odds - 1.5)
    return Clicks(np.log1p(counts).astype(np.float32), values, probability, rng.random(rows) < probability)


def logistic(x: Array) -> Array:
    y: Array = 1 / (1 + np.exp(-x))
    return y


def auc(predicted: Array, clicked: Array) -> float:
    """The chance that of a row with a click and one without the first is rated higher; equal ones count half."""
    _, place, ties = np.unique(predicted, return_inverse=True, return_counts=True)
    rank = (np.cumsum(ties) - (ties - 1) / 2)[place]
    clicks, others = clicked.sum(), (~clicked).sum()
    return float((rank[clicked].sum() - clicks * (clicks + 1) / 2) / (clicks * others))


def log_loss(predicted: Array, clicked: Array) -> float:
    """The mean of -log(the probability of what happened)."""
    return float(-np.log(np.where(clicked, predicted, 1 - predicted).clip(1e-15)).mean())


# The network and its training -------------------------------------------------------------------------------


class Network:
    """Numbers and embeddings, normalized, side by side; three layers, normalized, with a ReLU; the log odds."""

    def __init__(self, recipe: Recipe, rng: np.random.Generator) -> None:
        width = len(FIELDS) * DIM
        self.numbers = recipe.numbers(NUMBERS)
        self.fields = [Embedding(rng), *recipe.embeddings(width)]
        self.perceptron: list[Any] = []
        for inputs, outputs in pairwise((NUMBERS + width, *HIDDEN)):
            self.perceptron += [Linear(inputs, outputs, rng), *recipe.perceptron(outputs), ReLU()]
        self.perceptron += [Linear(HIDDEN[-1], 1, rng)]
        self.layers = [*self.numbers, *self.fields, *self.perceptron]

    def __call__(self, clicks: Clicks) -> Array:
        """The probabilities of clicks."""
        parts = forward(self.numbers, clicks.numbers), forward(self.fields, clicks.values)
        return logistic(forward(self.perceptron, np.concatenate(parts, 1))[:, 0].astype(np.float64))

    def backward(self, dy: Array) -> None:
        dx = backward(self.perceptron, dy[:, np.newaxis].astype(np.float32))
        backward(self.numbers, dx[:, :NUMBERS])
        backward(self.fields, dx[:, NUMBERS:])

    def train(self, mode: bool = True) -> "Network":
        for layer in self.layers:
            layer.train(mode)
        return self

    def predict(self, clicks: Clicks) -> Array:
        parts = np.array_split(np.arange(len(clicks.clicked)), len(clicks.clicked) // 5000 + 1)
        self.train(False)
        return np.concatenate([self(clicks.take(part)) for part in parts])


def forward(layers: list[Any], x: Array) -> Array:
    for layer in layers:
        x = layer(x)
    return x


def backward(layers: list[Any], dy: Array) -> Array:
    for layer in reversed(layers):
        dy = layer.backward(dy)
    return dy


class Adam:
    """Adam for one parameter, or for those of its rows that have a gradient."""

    def __init__(self, layer: Any, name: str) -> None:
        self.layer, self.name = layer, name
        self.parameter = layer.parameters()[name]
        self.mean, self.square = np.zeros_like(self.parameter), np.zeros_like(self.parameter)
        self.steps = 0

    def step(self) -> None:
        gradient, rows = self.layer.grads[self.name], getattr(self.layer, "rows", ...)
        self.steps += 1
        self.mean[rows] += 0.1 * (gradient - self.mean[rows])
        self.square[rows] += 0.001 * (gradient**2 - self.square[rows])
        rate = RATE * np.sqrt(1 - 0.999**self.steps) / (1 - 0.9**self.steps)
        self.parameter[rows] -= rate * self.mean[rows] / (np.sqrt(self.square[rows]) + 1e-8)


class Result(NamedTuple):
    auc: float
    log_loss: float


def judge(predicted: Array, clicks: Clicks) -> Result:
    return Result(auc(predicted, clicks.clicked), log_loss(predicted, clicks.clicked))


def fit(name: str, train: Clicks, valid: Clicks, test: Clicks, epochs: int, seed: int) -> Result:
    """Train a network; how it does in the test after the epoch whose log loss in validation is the least."""
    rng = np.random.default_rng(seed)
    network = Network(RECIPES[name], rng)
    steps = [Adam(layer, key) for layer in network.layers for key in layer.parameters()]
    least, best = np.inf, Result(np.nan, np.nan)
    for epoch in range(1, epochs + 1):
        network.train()
        batches = np.array_split(rng.permutation(len(train.clicked)), max(len(train.clicked) // BATCH, 1))
        for rows in tqdm(batches, f"seed {seed}, {name}, {epoch}/{epochs}", leave=False, disable=None):
            batch = train.take(rows)
            network.backward((network(batch) - batch.clicked) / len(rows))
            for adam in steps:
                adam.step()
        if (loss := log_loss(network.predict(valid), valid.clicked)) < least:
            least, best = loss, judge(network.predict(test), test)
    tqdm.write(f"seed {seed}  {name:24}  AUC {best.auc:.4f}  log loss {best.log_loss:.4f}")
    return best


# What came of it --------------------------------------------------------------------------------------------


def print_table(results: dict[str, list[Result]]) -> None:
    """Means over the seeds, and by how much they are better than without a norm, seed by seed."""
    none = np.array(results["none"])
    print(f"\n{'':24}       AUC  better than none       log loss  better than none")
    for name, seeds in results.items():
        means, better = np.mean(seeds, 0), (seeds - none) * (1, -1)
        figures = zip(means, better.mean(0), better.std(0, ddof=min(1, len(seeds) - 1)), strict=True)
        print(f"{name:24}", *(f"   {mean:.4f}  {gain:+.4f} ± {spread:.4f}" for mean, gain, spread in figures))
    print("\nEach seed has its own truth, rows and first weights; ± is the standard deviation over seeds.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=200_000, help="to train with; half as many to test with")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()

    fastnorm.set_num_threads(1)  # a batch is too small to be shared
    rows = arguments.rows
    results: dict[str, list[Result]] = {name: [] for name in (*RECIPES, "the truth itself")}
    for seed in range(arguments.seeds):
        clicks = draw(2 * rows, np.random.default_rng(seed))
        parts = np.split(np.arange(2 * rows), (rows, rows + rows // 2))
        train, valid, test = (clicks.take(part) for part in parts)
        for name in RECIPES:
            results[name].append(fit(name, train, valid, test, arguments.epochs, seed))
        results["the truth itself"].append(judge(test.probability, test))
    print_table(results)


if __name__ == "__main__":
    main()

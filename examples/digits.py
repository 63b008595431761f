"""Train a small convolutional network in plain NumPy on scanned digits, with batch norm, group norm and none.

The 1,797 digits of 8 x 8 pixels come with scikit-learn. The normalization is fastnorm's layers; all else is
written out below, forward and backward, with channels last (NHWC).

`python examples/digits.py` shows how the three networks learn, and then batch norm's classic surprise: in
train mode, what the network says of an image depends on the images beside it.
"""

import argparse
import copy
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from tqdm import tqdm

from fastnorm import BatchNorm, GroupNorm

Array = NDArray[Any]
Batch = tuple[Array, Array]
BATCH = 32

# What a network has where it normalizes: (channels, layout) -> a layer of fastnorm's, or none.
NORMS: dict[str, Callable[[int, str], list[Any]]] = {
    "batch norm": lambda channels, layout: [BatchNorm(channels, layout=layout)],
    "group norm": lambda channels, layout: [GroupNorm(8, channels, layout=layout)],
    "none": lambda channels, layout: [],
}


# The other layers, after the manner of fastnorm's: y = layer(x), dx = layer.backward(dy) --------------------


class Stateless:
    """A layer that learns nothing, and does the same in training and in evaluation."""

    def parameters(self) -> dict[str, Array]:
        return {}

    def train(self, mode: bool = True) -> None:
        pass


class Linear(Stateless):
    """The last axis times a matrix, plus a bias."""

    def __init__(self, inputs: int, outputs: int, rng: np.random.Generator) -> None:
        self.weight = rng.normal(0, np.sqrt(2 / inputs), (inputs, outputs)).astype(np.float32)
        self.bias = np.zeros(outputs, np.float32)

    def parameters(self) -> dict[str, Array]:
        return {"weight": self.weight, "bias": self.bias}

    def __call__(self, x: Array) -> Array:
        self.x = x
        return x @ self.weight + self.bias

    def backward(self, dy: Array) -> Array:
        rows = dy.reshape(-1, dy.shape[-1])
        self.grads = {"weight": self.x.reshape(len(rows), -1).T @ rows, "bias": rows.sum(0)}
        return dy @ self.weight.T


class Patches(Stateless):
    """Every pixel's 3 x 3 neighbourhood in place of the pixel: with a Linear behind it, a convolution."""

    def __call__(self, x: Array) -> Array:
        padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        windows = sliding_window_view(padded, (3, 3), axis=(1, 2))  # (N, H, W, C, 3, 3)
        return np.moveaxis(windows, 3, -1).reshape(*x.shape[:3], -1)

    def backward(self, dy: Array) -> Array:
        n, h, w, _ = dy.shape
        dy = dy.reshape(n, h, w, 3, 3, -1)
        dx = np.zeros((n, h + 2, w + 2, dy.shape[-1]), dy.dtype)
        for i, j in np.ndindex(3, 3):
            dx[:, i : i + h, j : j + w] += dy[:, :, :, i, j]
        return dx[:, 1:-1, 1:-1]


class ReLU(Stateless):
    def __call__(self, x: Array) -> Array:
        self.positive = x > 0
        return x * self.positive

    def backward(self, dy: Array) -> Array:
        return dy * self.positive


class Pool(Stateless):
    """The average of every 2 x 2 pixels."""

    def __call__(self, x: Array) -> Array:
        n, h, w, c = x.shape
        y: Array = x.reshape(n, h // 2, 2, w // 2, 2, c).mean((2, 4))
        return y

    def backward(self, dy: Array) -> Array:
        return dy.repeat(2, 1).repeat(2, 2) / 4


class Flatten(Stateless):
    def __call__(self, x: Array) -> Array:
        self.shape = x.shape
        return x.reshape(len(x), -1)

    def backward(self, dy: Array) -> Array:
        return dy.reshape(self.shape)


# The network and its training -------------------------------------------------------------------------------


class Network:
    """Three convolutions and a hidden layer, each followed by a norm and a ReLU; then the ten scores."""

    def __init__(self, norm: Callable[[int, str], list[Any]], rng: np.random.Generator) -> None:
        self.layers = [
            *(Patches(), Linear(9 * 1, 16, rng), *norm(16, "NHWC"), ReLU()),
            *(Patches(), Linear(9 * 16, 32, rng), *norm(32, "NHWC"), ReLU(), Pool()),
            *(Patches(), Linear(9 * 32, 64, rng), *norm(64, "NHWC"), ReLU(), Pool(), Flatten()),
            *(Linear(2 * 2 * 64, 64, rng), *norm(64, "NC"), ReLU(), Linear(64, 10, rng)),
        ]

    def __call__(self, x: Array) -> Array:
        for layer in self.layers:
            x = layer(x)
        return x

    def backward(self, dy: Array) -> None:
        for layer in reversed(self.layers):
            dy = layer.backward(dy)

    def train(self, mode: bool = True) -> "Network":
        for layer in self.layers:
            layer.train(mode)
        return self

    def parameters(self) -> Iterator[tuple[Any, str, Array]]:
        for layer in self.layers:
            for name, parameter in layer.parameters().items():
                yield layer, name, parameter

    def percent_right(self, images: Array, digits: Array) -> float:
        return 100 * float((self(images).argmax(1) == digits).mean())


def cross_entropy(scores: Array, digits: Array) -> tuple[float, Array]:
    """The mean of -log softmax(scores)[digit], and its gradient."""
    scores = scores - scores.max(1, keepdims=True)
    log_p = scores - np.log(np.exp(scores).sum(1, keepdims=True))
    rows = np.arange(len(digits))
    gradient = np.exp(log_p)
    gradient[rows, digits] -= 1
    return float(-log_p[rows, digits].mean()), gradient / len(digits)


def near_copies(images: Array, rng: np.random.Generator) -> Array:
    """Each image moved by up to one pixel, with a little noise."""
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
    moved = sliding_window_view(padded, images.shape[1:3], axis=(1, 2))  # (N, 3, 3, C, H, W)
    i, j = rng.integers(0, 3, (2, len(images)))
    copies = np.moveaxis(moved[np.arange(len(images)), i, j], 1, -1)
    return np.asarray(copies + rng.normal(0, 0.05, copies.shape), np.float32)


class Curves(NamedTuple):
    loss: list[float]
    accuracy: list[float]


def load() -> tuple[Batch, Batch]:
    """The images and digits to train with, and those to test with."""
    data = load_digits()
    images = (data.images[..., np.newaxis] / 16).astype(np.float32)
    indices = train_test_split(np.arange(len(images)), test_size=0.3, stratify=data.target, random_state=0)
    train, test = ((images[i], data.target[i]) for i in indices)
    return train, test


def fit(name: str, train: Batch, test: Batch, epochs: int, seed: int) -> tuple[Network, Curves]:
    """Stochastic gradient descent with momentum, the step falling to 0 in a straight line."""
    images, digits = train
    rng = np.random.default_rng(seed)
    network = Network(NORMS[name], rng)
    velocities = [np.zeros_like(parameter) for *_, parameter in network.parameters()]
    curves = Curves([], [])
    for epoch in range(epochs):
        losses = []
        batches = np.array_split(rng.permutation(len(digits)), len(digits) // BATCH)
        network.train()
        for i, batch in enumerate(tqdm(batches, f"{name} {epoch + 1}/{epochs}", leave=False, disable=None)):
            scores = network(near_copies(images[batch], rng))
            loss, gradient = cross_entropy(scores, digits[batch])
            network.backward(gradient)
            rate = 0.05 * (1 - (epoch + i / len(batches)) / epochs)
            for (layer, key, parameter), velocity in zip(network.parameters(), velocities, strict=True):
                velocity *= 0.9
                velocity -= rate * layer.grads[key]
                parameter += velocity
            losses.append(loss)
        curves.loss.append(float(np.mean(losses)))
        curves.accuracy.append(network.train(False).percent_right(*test))
        results = f"loss {curves.loss[-1]:.4f}  test {curves.accuracy[-1]:6.2f} %"
        tqdm.write(f"{name:10}  epoch {epoch + 1:2}/{epochs}  {results}")
    return network, curves


# What came of it --------------------------------------------------------------------------------------------


def print_comparison(curves: dict[str, Curves]) -> None:
    print("\nnorm         test accuracy   97 % reached")
    for name, (_, accuracy) in curves.items():
        epochs = [epoch for epoch, percent in enumerate(accuracy, 1) if percent >= 97]
        print(f"{name:10}{accuracy[-1]:14.2f} %   {f'in epoch {epochs[0]}' if epochs else 'never'}")


def print_surprise(networks: dict[str, Network], test: Batch, seed: int, copies: int = 64) -> None:
    """Batches of one image again and again, and batches of different images, classified in both modes."""
    rng = np.random.default_rng(seed)
    images, digits = test

    def batch(chosen: Array) -> Batch:
        return near_copies(images[chosen], rng), digits[chosen]

    ones = [rng.choice(np.flatnonzero(digits == digit % 10)) for digit in range(50)]
    alike = [batch(np.repeat(one, copies)) for one in ones]
    different = [batch(rng.permutation(len(digits))[:copies]) for _ in ones]

    def line(name: str, what: str, right: Array) -> None:
        print(f"{name:12}{what:24}{right[:, 0].mean():9.1f} %{right[:, 1].mean():11.1f} %")

    print(f"\nBatches of {copies} near-copies of one image, moved by up to a pixel, with a little noise:\n")
    print(f"{'right in':38}eval mode   train mode")
    right = right_in_both_modes(networks["batch norm"], alike)
    for digit in range(10):
        line("batch norm", f"near-copies of a {digit}", right[digit::10])
    line("batch norm", "near-copies, all", right)
    line("batch norm", "different images", right_in_both_modes(networks["batch norm"], different))
    line("group norm", "near-copies, all", right_in_both_modes(networks["group norm"], alike))
    print(
        "\nIn train mode batch norm takes away what the images of a batch have in common. Where all of them\n"
        "are the same image, that is the digit. In eval mode it goes by running statistics, so that an\n"
        "image's result is its own, as it always is with group norm."
    )


def right_in_both_modes(network: Network, batches: list[Batch]) -> Array:
    """Per cent right in eval mode and in train mode; there a copy's, because its running statistics move."""
    modes = network.train(False), copy.deepcopy(network).train()
    return np.array([[mode.percent_right(*batch) for mode in modes] for batch in batches])


def save_plot(curves: dict[str, Curves], path: str) -> None:
    figure = Figure(figsize=(10, 4), layout="constrained")
    loss, accuracy = figure.subplots(1, 2)
    for (name, curve), color in zip(curves.items(), ("#0072b2", "#d55e00", "#777777"), strict=True):
        epochs = range(1, len(curve.loss) + 1)
        loss.plot(epochs, curve.loss, ".-", color=color, label=name)
        accuracy.plot(epochs, curve.accuracy, ".-", color=color, label=f"{name}: {curve.accuracy[-1]:.1f} %")
    lowest = min(curve.accuracy[-1] for curve in curves.values())
    loss.set(title="Training loss", xlabel="epoch", ylabel="cross entropy", yscale="log")
    accuracy.set(title="Test accuracy", xlabel="epoch", ylabel="per cent", ylim=(min(80, lowest - 5), 100.5))
    for axes in (loss, accuracy):
        axes.yaxis.set_major_formatter("{x:g}")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--plot", default="digits.png", metavar="PATH", help="where to save the curves")
    arguments = parser.parse_args()

    (train, test), networks, curves = load(), {}, {}
    for name in NORMS:
        networks[name], curves[name] = fit(name, train, test, arguments.epochs, arguments.seed)
    print_comparison(curves)
    print_surprise(networks, test, arguments.seed)
    save_plot(curves, arguments.plot)
    print(f"\nThe curves are in {arguments.plot}.")


if __name__ == "__main__":
    main()

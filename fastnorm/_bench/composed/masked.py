"""Norms of padded and of packed sequences, whose lengths are spread evenly from none to the longest."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...functional import batch_norm, instance_norm, layer_norm
from .case import Case, normals

_EPS = 1e-5


def _padded(samples: int, length: int, channels: int) -> Any:
    def make(rng: Any) -> tuple[Any, ...]:
        x, lengths = normals(rng, 1, samples, length, channels)[0], rng.integers(1, length + 1, samples)
        return x, lengths, (np.arange(length) < lengths[:, None])[..., None]

    return make


def _packed(sequences: int, length: int, channels: int) -> Any:
    def make(rng: Any) -> tuple[Any, ...]:
        lengths = rng.integers(1, length + 1, sequences)
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        return normals(rng, 1, int(offsets[-1]), channels)[0], offsets

    return make


def _batch(x: Any, lengths: Any, mask: Any) -> Any:
    return batch_norm(x, training=True, layout="NLC", lengths=lengths)


def _batch_numpy(x: Any, lengths: Any, mask: Any) -> Any:
    count = lengths.sum()
    mean = np.sum(x, (0, 1), where=mask) / count
    centred = (x - mean) * mask
    return centred / np.sqrt(np.square(centred).sum((0, 1)) / count + _EPS).astype(np.float32)


def _batch_torch(x: Any, lengths: Any, mask: Any) -> Any:
    count = lengths.sum()
    mean = (x * mask).sum((0, 1)) / count
    centred = (x - mean) * mask
    return centred / (centred.square().sum((0, 1)) / count + _EPS).sqrt()


def _instance(x: Any, lengths: Any, mask: Any) -> Any:
    return instance_norm(x, layout="NLC", lengths=lengths)


def _instance_numpy(x: Any, lengths: Any, mask: Any) -> Any:
    count = lengths[:, None, None].astype(np.float32)
    mean = np.sum(x, 1, where=mask, keepdims=True) / count
    centred = (x - mean) * mask
    return centred / np.sqrt(np.square(centred).sum(1, keepdims=True) / count + np.float32(_EPS))


def _instance_torch(x: Any, lengths: Any, mask: Any) -> Any:
    count = lengths[:, None, None]
    mean = (x * mask).sum(1, keepdim=True) / count
    centred = (x - mean) * mask
    return centred / (centred.square().sum(1, keepdim=True) / count + _EPS).sqrt()


def _layer(x: Any, lengths: Any, mask: Any) -> Any:
    return layer_norm(x, lengths=lengths)


def _layer_numpy(x: Any, lengths: Any, mask: Any) -> Any:
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt(np.square(centred).mean(-1, keepdims=True) + _EPS) * mask


def _layer_torch(x: Any, lengths: Any, mask: Any) -> Any:
    import torch

    return torch.nn.functional.layer_norm(x, x.shape[-1:]) * mask


def _sequences(x: Any, offsets: Any) -> Any:
    return instance_norm(x, cu_seqlens=offsets)


def _sequences_numpy(x: Any, offsets: Any) -> Any:
    counts = np.diff(offsets)
    share = (1 / counts[:, None]).astype(np.float32)
    centred = x - np.repeat(np.add.reduceat(x, offsets[:-1]) * share, counts, axis=0)
    var = np.add.reduceat(np.square(centred), offsets[:-1]) * share
    return centred * np.repeat(1 / np.sqrt(var + np.float32(_EPS)), counts, axis=0)


def _sequences_torch(x: Any, offsets: Any) -> Any:
    import torch

    counts = offsets.diff()
    centred = x - torch.segment_reduce(x, "mean", lengths=counts).repeat_interleave(counts, 0)
    var = torch.segment_reduce(centred.square(), "mean", lengths=counts)
    return centred * (var + _EPS).rsqrt().repeat_interleave(counts, 0)


_IN, _OUT = (16, 128, 256), (64, 512, 512)

CASES = (
    Case("batch norm of lengths, 16×128×256", _padded(*_IN), _batch, _batch_numpy, _batch_torch),
    Case("batch norm of lengths, 64×512×512", _padded(*_OUT), _batch, _batch_numpy, _batch_torch),
    Case("instance norm of lengths, 16×128×256", _padded(*_IN), _instance, _instance_numpy, _instance_torch),
    Case("instance norm of lengths, 64×512×512", _padded(*_OUT), _instance, _instance_numpy, _instance_torch),
    Case("layer norm of lengths, 64×512×512", _padded(*_OUT), _layer, _layer_numpy, _layer_torch),
    Case("instance norm of 64 packed sequences, up to 512×512", _packed(64, 512, 512),
         _sequences, _sequences_numpy, _sequences_torch),
    Case("instance norm of 500 packed sequences, up to 40×64", _packed(500, 40, 64),
         _sequences, _sequences_numpy, _sequences_torch),
)  # fmt: skip

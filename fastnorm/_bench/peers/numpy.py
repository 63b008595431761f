"""NumPy as one writes a norm down in it: whole-array expressions in x's own precision."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from ..cases import Job
from ..inputs import Array, Inputs, NotOffered

_EPS = 1e-5


def prepare(job: Job, inputs: Inputs) -> Callable[[], Any]:
    if job.activation:
        raise NotOffered(f"NumPy has no {job.activation}")
    if job.dtype in ("float16", "bfloat16"):
        raise NotOffered(f"NumPy alone overflows in {job.dtype}")
    shape, axes, pair = split(job)
    x, weight = inputs.x.reshape(shape), inputs.weight.reshape(pair)
    bias = 0 if inputs.bias is None else inputs.bias.reshape(pair)
    centres = job.has_bias
    if inputs.dy is not None:
        return _backward(job, inputs.dy.reshape(shape), x, weight, axes, pair, centres)
    if job.mode == "inference":
        assert inputs.running_mean is not None and inputs.running_var is not None
        mean, var = inputs.running_mean.reshape(pair), inputs.running_var.reshape(pair)
        return partial(_apply, x, mean, var, weight, bias)
    if inputs.residual is not None:
        return partial(_add, x, inputs.residual.reshape(shape), weight, bias, axes, centres)
    return partial(_forward, x, weight, bias, axes, centres)


def results(job: Job, returned: Any) -> tuple[Array, ...]:
    arrays = returned if isinstance(returned, tuple) else (returned,)
    shapes = [job.stored_shape, *[(job.channels,)] * 2] if job.backward else [job.stored_shape] * 2
    return tuple(array.reshape(shape) for array, shape in zip(arrays, shapes[: job.results], strict=False))


def split(job: Job) -> tuple[list[int], tuple[int, ...], list[int]]:
    """x's shape with C split into groups, the axes that share a statistic, and weight's shape beside it."""
    c, shape = job.channel_axis, list(job.stored_shape)
    groups = 1 if job.along_axis else job.num_groups or job.channels
    split = [*shape[:c], groups, job.channels // groups, *shape[c + 1 :]]
    pair = [length if axis in (c, c + 1) else 1 for axis, length in enumerate(split)]
    if job.along_axis:
        return split, (c + 1,), pair
    n = job.layout.index("N")
    kept = {c} if job.norm == "batch_norm" else {c, n + (n > c)}
    return split, tuple(axis for axis in range(len(split)) if axis not in kept), pair


def _moments(x: Array, axes: tuple[int, ...], centres: bool) -> tuple[Any, Array]:
    if centres:
        return x.mean(axes, keepdims=True), x.var(axes, keepdims=True)
    return 0, np.square(x).mean(axes, keepdims=True)


def _apply(x: Array, mean: Any, var: Array, weight: Array, bias: Any) -> Any:
    return (x - mean) / np.sqrt(var + _EPS).astype(x.dtype, copy=False) * weight + bias


def _forward(x: Array, weight: Array, bias: Any, axes: tuple[int, ...], centres: bool) -> Any:
    return _apply(x, *_moments(x, axes, centres), weight, bias)


def _add(x: Array, residual: Array, weight: Array, bias: Any, axes: tuple[int, ...], centres: bool) -> Any:
    total = x + residual
    return _forward(total, weight, bias, axes, centres), total


def _backward(
    job: Job, dy: Array, x: Array, weight: Array, axes: tuple[int, ...], pair: list[int], centres: bool
) -> Callable[[], Any]:
    mean, var = _moments(x, axes, centres)
    rstd = 1 / np.sqrt(var + _EPS)
    count = math.prod(x.shape[axis] for axis in axes)
    shared = tuple(axis for axis, length in enumerate(pair) if length == 1)

    def gradients() -> tuple[Any, ...]:
        x_hat = (x - mean) * rstd
        gw = dy * weight
        dx_hat = gw - x_hat * ((gw * x_hat).sum(axes, keepdims=True) / count)
        if centres:
            dx_hat -= gw.sum(axes, keepdims=True) / count
        return dx_hat * rstd, (dy * x_hat).sum(shared), dy.sum(shared)

    return gradients

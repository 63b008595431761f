"""PyTorch in eager mode: the default calls of `torch.nn.functional`, and its autograd."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from ..._threads import get_num_threads
from ..cases import Job
from ..inputs import Array, Inputs

_EPS = 1e-5
_ALONG_AXIS: dict[str, Callable[..., Any]] = {
    "layer_norm": functional.layer_norm,
    "rms_norm": functional.rms_norm,
}


def prepare(
    job: Job, inputs: Inputs, compiled: Callable[[partial[Any]], Callable[[], Any]] | None = None
) -> Callable[[], Any]:
    """As every implementation does; `compiled` may put something faster in place of the forward call."""
    torch.set_num_threads(get_num_threads())
    x, weight, bias = _view(job, inputs.x), _tensor(inputs.weight), _tensor(inputs.bias)
    wanted = [t.requires_grad_() for t in (x, weight, bias) if t is not None and job.backward]
    forward = _forward(job, inputs, x, weight, bias)
    call = compiled(forward) if compiled else forward
    if inputs.dy is None:
        return call
    return partial(torch.autograd.grad, call(), wanted, _view(job, inputs.dy), retain_graph=True)


def results(job: Job, returned: Any) -> tuple[Array, ...]:
    tensors = (returned,) if isinstance(returned, torch.Tensor) else returned
    if job.backward:
        return (_array(job, tensors[0]), *map(_numbers, tensors[1:]))
    return tuple(_array(job, t) for t in tensors)


def _forward(job: Job, inputs: Inputs, x: Any, weight: Any, bias: Any) -> partial[Any]:
    if job.norm == "batch_norm":
        # It takes parameters and running statistics of one dtype.
        given = (inputs.running_mean, inputs.running_var)
        mean, var = (None if a is None else _tensor(a).to(weight.dtype) for a in given)
        training = job.mode != "inference"
        return partial(functional.batch_norm, x, mean, var, weight, bias, training, eps=_EPS)
    if job.norm == "instance_norm":
        return partial(functional.instance_norm, x, weight=weight, bias=bias, eps=_EPS)
    if job.norm == "group_norm":
        return partial(functional.group_norm, x, job.num_groups, weight, bias, _EPS)
    function = _ALONG_AXIS[job.norm.removeprefix("add_")]
    parameters = {"weight": weight} | ({"bias": bias} if job.has_bias else {})
    normalize = partial(function, normalized_shape=(job.channels,), eps=_EPS, **parameters)
    if inputs.residual is not None:
        return partial(_add, normalize, x, _view(job, inputs.residual))
    if job.activation:
        return partial(_activated, getattr(functional, job.activation), normalize, x)
    return partial(normalize, x)


def _add(normalize: Callable[..., Any], x: Any, residual: Any) -> tuple[Any, Any]:
    total = x + residual
    return normalize(total), total


def _activated(activation: Callable[..., Any], normalize: Callable[..., Any], x: Any) -> Any:
    return activation(normalize(x))


def _tensor(array: Array | None) -> Any:
    if array is None:
        return None
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def _order(job: Job) -> list[int]:
    """PyTorch's order of the axes: (N, C, …), or C last where layer and RMS norm take nothing else."""
    spatial = [letter for letter in job.layout if letter not in "NC"]
    order = ["N", *spatial, "C"] if job.along_axis else ["N", "C", *spatial]
    return [job.layout.index(letter) for letter in order]


def _view(job: Job, array: Array) -> Any:
    """The array as it lies in memory, its axes in PyTorch's order: NHWC becomes its channels_last."""
    return _tensor(array).permute(_order(job))


def _array(job: Job, tensor: Any) -> Array:
    order = _order(job)
    return _numbers(tensor).transpose([order.index(axis) for axis in range(len(order))])


def _numbers(tensor: Any) -> Array:
    found: Array = tensor.float().numpy() if tensor.dtype == torch.bfloat16 else tensor.numpy()
    return found

"""JAX: the definitions in two passes over the array, compiled by XLA, with `jax.vjp` behind the gradients."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from ..._threads import get_num_threads
from ..cases import Job
from ..inputs import Array, Inputs
from .numpy import split

os.environ["NPROC"] = str(get_num_threads())  # the one word of XLA's thread pool, read on import

import jax
import jax.numpy as jnp

jax.config.update("jax_enable_x64", True)
_EPS = 1e-5


def prepare(job: Job, inputs: Inputs) -> Callable[[], Any]:
    forward = jax.jit(partial(_forward, job))
    arrays = (inputs.x, inputs.weight, inputs.bias)
    x, weight, bias = (None if array is None else jnp.asarray(array) for array in arrays)
    if inputs.dy is not None:
        wanted = (x, weight) if bias is None else (x, weight, bias)
        _, pullback = jax.vjp(forward, *wanted)
        return partial(_wait, jax.jit(_pull), pullback, jnp.asarray(inputs.dy))
    more = {"residual": inputs.residual}
    if job.mode == "inference":
        more |= {"mean": inputs.running_mean, "var": inputs.running_var}
    given = {name: jnp.asarray(array) for name, array in more.items() if array is not None}
    return partial(_wait, forward, x, weight, bias, **given)


def results(job: Job, returned: Any) -> tuple[Array, ...]:
    arrays = returned if isinstance(returned, tuple) else (returned,)
    return tuple(np.asarray(array) for array in arrays)


def _wait(function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    return jax.block_until_ready(function(*arguments, **named))


def _pull(pullback: Callable[[Any], Any], dy: Any) -> Any:
    return pullback(dy)


def _forward(
    job: Job,
    x: Any,
    weight: Any,
    bias: Any = None,
    *,
    residual: Any = None,
    mean: Any = None,
    var: Any = None,
) -> Any:
    """The norm in the array's own layout, in float32 at least."""
    total = x if residual is None else x + residual
    shape, axes, pair = split(job)
    values = total.reshape(shape)
    if values.dtype.itemsize < 4:
        values = values.astype(jnp.float32)
    if var is None:
        mean = values.mean(axes, keepdims=True) if job.has_bias else 0
        var = jnp.square(values - mean).mean(axes, keepdims=True)
    else:
        mean, var = mean.reshape(pair), var.reshape(pair)
    y = (values - mean) * jax.lax.rsqrt(var + _EPS) * weight.reshape(pair)
    if bias is not None:
        y = y + bias.reshape(pair)
    if job.activation:
        y = _activate(job.activation, y)
    y = y.astype(x.dtype).reshape(x.shape)
    return y if residual is None else (y, total)


def _activate(name: str, y: Any) -> Any:
    if name.startswith("gelu"):
        return jax.nn.gelu(y, approximate=name == "gelu_tanh")
    return getattr(jax.nn, name)(y)

"""The flow of every forward call: recall it, or check and arrange; run a kernel; shape what it wrote."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ... import _checks
from ..._floats import FLOAT64, computed
from ..._layout import Plan, element_strides
from ...kernels.activations import CODES
from ...kernels.columns import forward as columns
from ...kernels.rows import forward as rows
from .arrange import arrange
from .recall import Call, free, new_call, recall
from .roles import Norm, for_inference
from .running import UNMOVED, Running, Update, checked

Array = NDArray[Any]


class Statistics(NamedTuple):
    """Float64, shaped as the public functions return them."""

    mean: Array
    variance: Array
    rstd: Array


def normalize(
    norm: Norm,
    argument: Any,
    x: Array,
    weight: Array | None,
    bias: Array | None,
    eps: float | None,
    activation: str | None,
    out: Array | None,
    wanted: bool,
    update: Update = UNMOVED,
) -> tuple[Array, Statistics | None]:
    """y from x's own statistics, and these where they are wanted; running ones are updated."""
    key, call = recall("forward", norm, argument, eps, activation, x, weight, bias)
    at = None
    if call is not None and (out is None or free(out, call, x, weight, bias)):
        running = None if update is UNMOVED else update.checked(call.shared, x, out)
        y = y_to = call.new() if out is None else out
    else:
        given, x = x, _checks.array(x, "x")
        shared = norm.shared(x.shape, argument)
        out = _checks.result(out, "out", x)
        weight, bias = _checks.affine_pair(weight, bias, shared.parameters, x.dtype, shared.why, out)
        code, added = _checks.activation(activation, CODES), _checks.eps(eps)
        running = update.checked(shared, x, out)
        if x.size == 0:
            nothing = np.full((3, *shared.statistic_shape(x.shape)), np.nan)
            return _empty(x, out), Statistics(*nothing) if wanted else None
        at = arrange(x, None, [out], shared.roles, (int(norm.second_moment), code))
        key = key if x is given and at.plain else None
        kernel = _family(at.plan).forward
        call = new_call(key, at.plan, shared, kernel, x, eps=added, centred=norm.centred)
        x, y_to = at.x, at.results[0]
    values = np.empty((3, call.plan.statistics)) if wanted or running is not None else None
    weight, bias = call.pair(weight, bias)
    call.kernel(1, x, None, None, y_to, weight, bias, values)
    if at is not None:
        y = at.given_back()[0]
    statistics = None if values is None else _shaped(values, call, x, running)
    return y, statistics if wanted else None


def _empty(x: Array, out: Array | None) -> Array:
    """The result of an empty input."""
    return np.empty_like(x) if out is None else out


def _family(plan: Plan) -> Any:
    return columns if plan.columns else rows


def _shaped(values: Array, call: Call, x: Array, running: Running | None) -> Statistics:
    """What a kernel wrote as statistics, in the order of the array, samples first; running ones have been updated by it."""
    found = call.plan.statistics_out(values)
    statistics = Statistics(*(s.T for s in found)) if call.shared.flipped else Statistics(*found)
    if running is not None:
        running.update(statistics.mean, statistics.variance, x.size // statistics.mean.size)
    return statistics


def normalize_sum(
    norm: Norm,
    argument: Any,
    x: Array,
    residual: Array,
    weight: Array | None,
    bias: Array | None,
    eps: float,
    out: Array | None,
    sum_out: Array | None,
    *,
    activation: str | None = None,
    factor: float = 1.0,
    wanted: bool = False,
    summed: bool = True,
) -> tuple[Array, Array, Statistics | None]:
    """y from the statistics of factor·x + residual, that sum, and the statistics where they are `wanted`.

    Where the sum is not, y takes its place.
    """
    key, call = recall("sum", norm, argument, (eps, factor, summed), activation, x, weight, bias)
    at = None
    if call is not None and out is None and sum_out is None and call.alike(residual, x):
        more, y = residual, call.new()
        total = call.new() if summed else y
        sum_to, y_to = total, y
    else:
        given, x = (x, residual), _checks.array(x, "x")
        residual = _checks.like(residual, "residual", x)
        shared = norm.shared(x.shape, argument)
        out, sum_out = _checks.result(out, "out", x), _checks.result(sum_out, "sum_out", x)
        weight, bias = _checks.affine_pair(weight, bias, shared.parameters, x.dtype, shared.why, out, sum_out)
        if out is not None and sum_out is not None and _checks.overlap(out, sum_out):
            raise ValueError("sum_out shares memory with out, expected two arrays of their own")
        code, added = _checks.activation(activation, CODES), _checks.eps(eps)
        if x.size == 0:
            nothing = np.full((3, *shared.statistic_shape(x.shape)), np.nan)
            return _empty(x, out), _empty(x, sum_out), Statistics(*nothing) if wanted else None
        results, times = [out, sum_out] if summed else [out], np.float64(factor).view(np.int64)
        options = int(norm.second_moment), code, int(times)
        at = arrange(x, residual, results, shared.roles, options, reread=not summed)
        key = key if x is given[0] and residual is given[1] and at.plain else None
        call = new_call(key, at.plan, shared, _family(at.plan).forward, x, eps=added)
        x, more, sum_to, y_to = at.x, at.beside, at.results[-1], at.results[0]
    weight, bias = call.pair(weight, bias)
    values = np.empty((3, call.plan.statistics)) if wanted else None
    call.kernel(1, x, more, sum_to, y_to, weight, bias, values)
    if at is not None:
        y, *sums = at.given_back()
        total = sums[0] if summed else y
    return y, total, None if values is None else _shaped(values, call, x, None)


def standardize(
    norm: Norm,
    layout: str | None,
    x: Array,
    running_mean: Array | None,
    running_var: Array | None,
    weight: Array | None,
    bias: Array | None,
    eps: float,
    activation: str | None,
    out: Array | None,
) -> Array:
    """y from running statistics, one pair per channel."""
    given = (running_mean, running_var)
    wide = running_mean.__class__ is np.ndarray and running_mean.dtype is FLOAT64
    if wide:  # as NumPy makes them unless it is told; kernels read either
        key, call = recall("inference by float64", norm, layout, eps, activation, x, weight, bias)
    else:
        key, call = recall("inference", norm, layout, eps, activation, x, weight, bias, *given)
    at = None
    if (
        call is not None
        and running_mean is not None
        and running_var is not None
        and (
            call.fits.running(running_mean, running_var)
            if wide
            else running_mean.dtype == running_var.dtype == call.dtype
        )
        and (out is None or free(out, call, x, weight, bias, *given))
    ):
        y = y_to = call.new() if out is None else out
        mean, variance = running_mean, running_var
    else:
        as_given, x = x, _checks.array(x, "x")
        shared = norm.shared(x.shape, layout)
        out = _checks.result(out, "out", x)
        weight, bias = _checks.affine_pair(weight, bias, shared.parameters, x.dtype, shared.why, out)
        code, added = _checks.activation(activation, CODES), _checks.eps(eps)
        running = checked(*given, shared, False, x, out)
        if x.size == 0:
            return _empty(x, out)
        mean, variance = running.for_inference()
        roles = for_inference(x.shape, element_strides(x), layout)
        at = arrange(x, None, [out], roles, (0, code), once=True)
        read = FLOAT64 if wide else computed(x.dtype)
        key = key if x is as_given and at.plain and mean.dtype == read else None
        call = new_call(key, at.plan, shared, _family(at.plan).apply, x, eps=added, given=mean.dtype)
        x, y_to = at.x, at.results[0]
    weight, bias = call.pair(weight, bias)
    call.kernel(1, x, y_to, weight, bias, mean, variance)
    return y if at is None else at.given_back()[0]

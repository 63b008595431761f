"""The flow of every forward call: arrange the arrays, run a kernel, shape what it wrote."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .._layout import Plan, Roles
from .._threads import enter_parallel, leave_parallel
from ..kernels import columns, rows
from ._arrange import arrange

Array = NDArray[Any]


class Statistics(NamedTuple):
    """Float64, shaped as the public functions return them."""

    mean: Array
    variance: Array
    rstd: Array


def run(kernel: Callable[..., Any], elements: int, *arguments: Any) -> None:
    """Call a kernel on as many threads as the work deserves."""
    threads = enter_parallel(elements)
    try:
        kernel(*arguments, threads)
    finally:
        if threads > 1:
            leave_parallel()


def affine_pair(weight: Array | None, bias: Array | None, plan: Plan, dtype: Any) -> tuple[Array, Array]:
    """Weight and bias, flat in the kernels' order, of size 0 for None; the kernels know no bias without a weight."""
    if weight is None and bias is not None:
        weight = np.ones_like(bias)
    pair = (np.empty(0, dtype) if p is None else plan.parameter_in(p) for p in (weight, bias))
    return next(pair), next(pair)


def normalize(
    x: Array,
    roles: Roles,
    weight: Array | None,
    bias: Array | None,
    eps: float,
    activation: int = 0,
    out: Array | None = None,
    *,
    second_moment: bool = False,
    statistics: bool = True,
) -> tuple[Array, Statistics]:
    """y from x's own statistics, and those (empty where nobody asks for them)."""
    if x.size == 0:
        return _empty(x, out), Statistics(
            *(np.full(roles.statistic_shape(x.shape), np.nan) for _ in range(3))
        )
    at = arrange(x, None, [out], roles, (int(second_moment), activation))
    found = _forward(at.plan, at.x, at.beside, at.beside, at.results[0], weight, bias, eps, statistics)
    return at.given_back()[0], found


def normalize_sum(
    x: Array,
    residual: Array,
    roles: Roles,
    weight: Array | None,
    bias: Array | None,
    eps: float,
    out: Array | None,
    sum_out: Array | None,
    *,
    second_moment: bool = False,
) -> tuple[Array, Array]:
    """y from the statistics of x + residual, and that sum."""
    if x.size == 0:
        return _empty(x, out), _empty(x, sum_out)
    at = arrange(x, residual, [out, sum_out], roles, (int(second_moment), 0))
    _forward(at.plan, at.x, at.beside, at.results[1], at.results[0], weight, bias, eps, False)
    y, total = at.given_back()
    return y, total


def _empty(x: Array, out: Array | None) -> Array:
    """The result of an empty input."""
    return np.empty_like(x) if out is None else out


def _forward(
    plan: Plan,
    x: Array,
    residual: Array,
    total: Array,
    y: Array,
    weight: Array | None,
    bias: Array | None,
    eps: float,
    wanted: bool,
) -> Statistics:
    family = columns if plan.columns else rows
    pair = affine_pair(weight, bias, plan, x.dtype)
    statistics = np.empty((3, plan.statistics if wanted else 0))
    run(family.forward, plan.size, x, residual, total, y, *pair, statistics, plan.job, eps)
    if not wanted:
        return Statistics(*statistics)
    return Statistics(*(plan.statistic_out(s) for s in statistics))


def standardize(
    x: Array,
    roles: Roles,
    mean: Array,
    variance: Array,
    weight: Array | None,
    bias: Array | None,
    eps: float,
    activation: int = 0,
    out: Array | None = None,
) -> Array:
    """y from given statistics, one pair per channel."""
    if x.size == 0:
        return _empty(x, out)
    at = arrange(x, None, [out], roles, (0, activation))
    plan = at.plan
    pair = affine_pair(weight, bias, plan, x.dtype)
    family = columns if plan.columns else rows
    run(family.apply, plan.size, at.x, at.results[0], *pair, mean, mean[:0], variance, plan.job, eps)
    return at.given_back()[0]

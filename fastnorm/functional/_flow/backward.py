"""The flow of every backward call: recall it, or check and arrange; run a kernel; shape the gradients."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ... import _checks
from ..._floats import FLOAT32, FLOAT64, cast, computed
from ..._layout import Ints, Plan
from ..._threads import SERIAL_ELEMENTS
from ...kernels.activations import CODES
from ...kernels.columns import backward as columns_backward
from ...kernels.gradients import add_lines
from ...kernels.job import AFFINE, ALONG, B0, B1, COUNTS
from ...kernels.rows import backward as rows_backward
from .arrange import arrange
from .recall import Call, new_call, recall
from .roles import Norm

Array = NDArray[Any]

# Where the samples share their parameters, as many tasks add up gradients, each in a line of its own: four for so many
# elements of x, but no more than fill 1 MiB.
_ELEMENTS = 262144
_PARAMETERS = 65536
_LINES = 64


class Gradients(NamedTuple):
    """What a backward function returns; None where `needs` switches a gradient off."""

    dx: Array | None
    dweight: Array | None
    dbias: Array | None


def backward(
    norm: Norm,
    argument: Any,
    dy: Array,
    x: Array,
    mean: Array | None,
    rstd: Array,
    weight: Array | None,
    bias: Array | None,
    activation: str | None,
    needs: tuple[bool, bool, bool],
    *,
    constant: bool = False,
) -> Gradients:
    """dx, dweight, dbias of a norm; mean is None where its one statistic is E[x²]; `constant` statistics are not x's own."""
    flow = "backward of a constant" if constant else "backward"
    key, call = recall(flow, norm, argument, needs, activation, x, weight, bias)
    at = None
    found = (rstd,) if norm.second_moment else (mean, rstd)
    if call is not None and call.alike(dy, x) and call.returned(*found):
        dtype = call.dtype if weight is None else weight.dtype
        dx = dx_to = call.new() if needs[0] else None
    else:
        given, x = (dy, x), _checks.array(x, "x")
        shared = norm.shared(x.shape, argument)
        shape = shared.statistic_shape(x.shape)
        mean = None if norm.second_moment else _statistic(mean, "mean", shape)
        rstd = _statistic(rstd, "rstd", shape)
        dy = _checks.like(dy, "dy", x)
        pair = _checks.affine_pair(weight, bias, shared.parameters, x.dtype, shared.why)
        dtype = computed(x.dtype) if weight is None else weight.dtype
        weight, bias = pair
        code, needs = _checks.activation(activation, CODES), _checks.needs(needs)
        if x.size == 0 or not any(needs):
            nothing = (np.zeros(shared.parameters, dtype) if need else None for need in needs[1:])
            return Gradients(np.empty_like(x) if needs[0] else None, *nothing)
        at = arrange(x, dy, [None], shared.roles, (int(norm.second_moment), code, int(constant)))
        key = key if dy is given[0] and x is given[1] and at.plain else None
        family = columns_backward if at.plan.columns else rows_backward
        parameters = at.plan.pairs(shared.parameters) if needs[1] or needs[2] else 0
        size = lines_of(at.plan), parameters
        call = new_call(key, at.plan, shared, family.backward, x, gradients=size, centred=norm.centred)
        dy, x, dx_to = at.beside, at.x, at.results[0] if needs[0] else None
    weight, bias = call.pair(weight, bias)
    mean, rstd = None if mean is None else call.statistic(mean), call.statistic(rstd)
    sums = np.zeros((2, *call.gradients)) if needs[1] or needs[2] else None
    call.kernel(1, dy, x, dx_to, weight, bias, mean, rstd, sums)
    if at is not None:
        dx = at.given_back()[0] if needs[0] else None
    if sums is None:
        return Gradients(dx, None, None)
    dweight, dbias = summed(sums, call, dtype)
    return Gradients(dx, dweight if needs[1] else None, dbias if needs[2] else None)


def _statistic(value: Any, name: str, shape: Ints) -> Array:
    """A mean or rstd as the forward call returned it."""
    why = "that of what the forward call returned"
    return _checks.parameter(value, name, shape, FLOAT64, why)


def lines_of(plan: Plan) -> int:
    """Lines of parameter gradients, added up at the end: one per slot, or as many as tasks may share the work."""
    job = plan.job
    if (job[AFFINE + ALONG] == 1) == plan.columns:
        return int(np.prod([job[COUNTS + c] for c in (B0, B1) if job[AFFINE + c] == 0]))
    if plan.size < SERIAL_ELEMENTS or _apart(job):
        return 1
    parameters = plan.length if not plan.columns else plan.reduced
    return int(max(1, min(_LINES, _PARAMETERS // parameters, 4 * -(-plan.size // _ELEMENTS))))


def _apart(job: Array) -> bool:
    """Whether each sample has pairs of its own, so that tasks need no lines to themselves."""
    outermost = B1 if job[COUNTS + B0] == 1 else B0
    return bool(job[AFFINE + outermost] != 0)


def summed(lines: Array, call: Call, dtype: Any) -> tuple[Array, Array]:
    """The gradients of weight and bias from all their lines, (2, lines, parameters)."""
    if call.plan.joined:  # in one line
        totals = lines.reshape(2, -1, call.plan.fold).sum(2)
    else:
        totals = np.empty((2, lines.shape[2]), dtype if dtype in (FLOAT32, FLOAT64) else FLOAT64)
        add_lines(lines, totals)
    if totals.dtype != dtype:
        totals = cast(totals, dtype)
    ordered, shape = call.plan.parameter_out, call.parameters
    if call.shared.flipped:
        return ordered(totals[0], shape[::-1]).T, ordered(totals[1], shape[::-1]).T
    return ordered(totals[0], shape), ordered(totals[1], shape)

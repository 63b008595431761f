"""The flow of every backward call: arrange the arrays, run a kernel, shape the gradients."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .. import _checks
from .._layout import Plan, Roles
from ..kernels import columns_backward, rows_backward
from ..kernels.activations import CODES
from ..kernels.job import AFFINE, ALONG, B0, B1, COUNTS
from ._arrange import arrange
from ._forward import Array, affine_pair, run

# Parameters of all lines that add up gradients: 2 MiB of them, both gradients together.
_PARAMETERS = 131072
_LINES = 64


class Gradients(NamedTuple):
    """What a backward function returns; None where `needs` switches a gradient off."""

    dx: Array | None
    dweight: Array | None
    dbias: Array | None


def backward(
    dy: Array,
    x: Array,
    roles: Roles,
    shape: tuple[int, ...],
    why: str,
    mean: Array | None,
    rstd: Array,
    weight: Array | None,
    bias: Array | None,
    activation: str | None,
    needs: tuple[bool, bool, bool],
    *,
    constant: bool = False,
) -> Gradients:
    """dx, dweight, dbias of a norm; mean None is RMS norm, and `constant` statistics are not x's own."""
    dy = _checks.like(dy, "dy", x)
    dtype = x.dtype if weight is None else weight.dtype
    weight, bias = _checks.affine_pair(weight, bias, shape, x.dtype, why)
    code = _checks.activation(activation, CODES)
    needs = _checks.needs(needs)
    of_x, *of_pair = needs
    if x.size == 0 or not any(needs):
        nothing = (np.zeros(shape, dtype) if need else None for need in of_pair)
        return Gradients(np.empty_like(x) if of_x else None, *nothing)
    at = arrange(x, dy, [None], roles, (int(mean is None), code, int(constant)))
    plan = at.plan
    family = columns_backward if plan.columns else rows_backward
    empty = np.empty(0)
    gradients = np.zeros((2, _lines(plan), int(np.prod(shape)) if any(of_pair) else 0))
    run(
        family.backward,
        plan.size,
        at.beside,
        at.x,
        at.results[0] if of_x else at.x[:0],
        *affine_pair(weight, bias, plan, x.dtype),
        empty if mean is None else plan.statistic_in(mean),
        plan.statistic_in(rstd),
        gradients[0],
        gradients[1],
        plan.job,
    )
    summed = (
        plan.parameter_out(g.sum(axis=0), shape).astype(dtype) if need else None
        for g, need in zip(gradients, of_pair, strict=True)
    )
    return Gradients(at.given_back()[0] if of_x else None, *summed)


def _lines(plan: Plan) -> int:
    """Lines of parameter gradients, added up at the end: one per slot, or as many as tasks may share the work."""
    job = plan.job
    if (job[AFFINE, ALONG] == 1) == plan.columns:
        return int(np.prod([job[COUNTS, c] for c in (B0, B1) if job[AFFINE, c] == 0]))
    parameters = plan.length if not plan.columns else plan.reduced
    return int(max(1, min(_LINES, _PARAMETERS // parameters)))


def statistic(value: Any, name: str, shape: tuple[int, ...]) -> Array:
    """A mean or rstd as the forward call returned it."""
    return _checks.parameter(
        value, name, shape, np.dtype(np.float64), "that of what the forward call returned"
    )

"""Brings the arrays of a call and a plan together: copies those that cannot be walked as they lie, on purpose, here only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..._layout import Plan, Roles, dense, element_strides, plan, walkable
from .results import streaming

Array = NDArray[Any]


class Arranged(NamedTuple):
    """A plan, and the arrays that fit it."""

    plan: Plan
    x: Array
    beside: Any  # the second input, or None
    results: list[Array]
    given: Sequence[Array | None]  # where they are to be in the end, if elsewhere
    plain: bool  # would any new results, of an x and an input beside it with the strides of this x, go the same way?

    def given_back(self) -> list[Array]:
        """The results; what was written beside the caller's arrays is copied into them."""
        returned = []
        for target, written in zip(self.given, self.results, strict=True):
            if target is not None and target is not written:
                np.copyto(target, written)
            returned.append(written if target is None else target)
        return returned


def arrange(
    x: Array,
    beside: Array | None,
    given: list[Array | None],
    roles: Roles,
    options: tuple[int, ...],
    *,
    reread: bool = False,
    once: bool = False,
) -> Arranged:
    """A plan for x, an input beside it, and results (the caller's, or None for new ones).

    `options` are the job's: second moment, activation, and for a backward pass whether the statistics are constants.
    A result that is `reread`, for it holds a sum before it holds y, stays in the cache; `once` says that x is read once.
    """
    arrays = 1 + (beside is not None) + len(given)
    past = 0 if reread else streaming(arrays, x.nbytes, x.itemsize, once)
    options = (options[0], options[1], past, *options[2:])
    if all(r is None for r in given) or separate([x] if beside is None else [x, beside], given):
        results = [np.empty_like(x) if r is None else r for r in given]
        found = plan(x.shape, _strides(x, beside, results[0]), roles, options)
        if found is not None and all(r.strides == results[0].strides for r in results[1:]):
            plain = (beside is None or beside.strides == x.strides) and (
                given[0] is None or results[0].strides == np.empty_like(x).strides
            )
            return Arranged(found, x, beside, results, given, plain)
    for order in (x, dense(x.shape, x.dtype, roles)):
        copies = [_copied(a, np.empty_like(order)) for a in (x, beside) if a is not None]
        results = [np.empty_like(order) for _ in given]
        other = copies[1] if copies[1:] else None
        found = plan(x.shape, _strides(copies[0], other, results[0]), roles, options)
        if found is not None:
            break
    assert found is not None, "dense arrays in the order of the roles can always be walked"
    targets = [np.empty_like(x) if r is None else r for r in given]
    return Arranged(found, copies[0], other, results, targets, False)


def _copied(array: Array, target: Array) -> Array:
    np.copyto(target, array)
    return target


def _strides(x: Array, beside: Array | None, result: Array) -> tuple[tuple[int, ...], ...]:
    """Strides in the order of a job's lines: x, the result, the input beside x."""
    if beside is None:
        return element_strides(x), element_strides(result)
    return element_strides(x), element_strides(result), element_strides(beside)


def separate(inputs: Sequence[Array], given: Sequence[Array | None]) -> bool:
    """Whether the results can be walked, and written without changing an input that is still to be read.

    A result may be an input itself, element for element: what is read there was read before it is written.
    """
    results = [r for r in given if r is not None]
    for i, r in enumerate(results):
        if (
            not walkable(r)
            or r.dtype != inputs[0].dtype
            or any(np.may_share_memory(r, other) for other in results[:i])
        ):
            return False
        for a in inputs:
            if a is r:
                continue
            same = a.strides == r.strides and a.__array_interface__["data"] == r.__array_interface__["data"]
            if np.may_share_memory(a, r) and not same:
                return False
    return True

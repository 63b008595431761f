"""One kernel call for samples of unequal lengths: a plan for each length, a job and the addresses for each sample."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from ..._floats import FLOAT64, held
from ..._layout import Plan, Roles, plan
from ..._threads import SERIAL_ELEMENTS, get_num_threads, spread
from ...kernels.columns import backward as columns_backward
from ...kernels.columns import forward as columns
from ...kernels.each import ARRAYS, NUMBERS, each
from ...kernels.job import COUNTS, LENGTH
from ...kernels.phases import Kernel
from ...kernels.rows import backward as rows_backward
from ...kernels.rows import forward as rows
from .._flow.recall import complete
from .._flow.results import streaming
from .._flow.roles import Norm

Array = NDArray[Any]

# The most kinds of samples that are remembered, and lengths of each.
_KINDS, _LENGTHS = 256, 4096

# Kernels by family: of rows, of columns.
FORWARD = rows.forward, columns.forward
APPLY = rows.apply, columns.apply
BACKWARD = rows_backward.backward, columns_backward.backward
GRADIENT = rows_backward.gradient, columns_backward.gradient


Strides = tuple[int, int | None]


class Laid(NamedTuple):
    """Samples in an array: where each begins, in bytes, and the strides of positions and channels in elements.

    No stride of channels: they lie one after the other, without gaps.
    """

    array: Array
    starts: Array
    strides: Strides


class Samples(Protocol):
    """How many positions each sample has, all of as many channels; and what is known of them."""

    counts: Array
    channels: int

    def once(self, key: Any, make: Callable[[], Any]) -> Any:
        """What is made for a key, the first time that it is asked for."""


def each_of(
    norm: Norm,
    argument: Any,
    samples: Samples,
    arrays: Sequence[Laid],
    activation: int,
    *,
    constant: bool = False,
) -> Each:
    """A norm of such samples, known from an earlier call, or new.

    `argument` is the norm's for the layout "NLC"; arrays: x, the result, and the input beside x. `constant` statistics of a
    backward pass are not x's own.
    """
    x = arrays[0].array
    strides, past = tuple(a.strides for a in arrays), streaming(len(arrays), x.nbytes, x.itemsize)
    options = int(norm.second_moment), activation, past, int(constant)
    key = norm, argument, x.dtype, strides, options, get_num_threads()
    return samples.once(key, lambda: Each(norm, argument, samples, x.dtype, strides, options))  # type: ignore[no-any-return]


class Each:
    """A norm of samples of unequal lengths, to be run over arrays that are laid out alike.

    Samples without any position are left out.
    """

    def __init__(
        self,
        norm: Norm,
        argument: Any,
        samples: Samples,
        dtype: Any,
        strides: tuple[Strides, ...],
        options: tuple[int, ...],
    ) -> None:
        self._norm, self._dtype = norm, dtype
        counts, channels = samples.counts, samples.channels
        sizes = counts * channels
        alone = (sizes * 2 * get_num_threads() > sizes.sum()) & (sizes >= SERIAL_ELEMENTS)
        there = np.flatnonzero(counts)
        self._samples = there[np.argsort(~alone[there], kind="stable")]
        self._count, self._elements = len(counts), int(sizes.sum())
        self._lines = _all_of(self._samples, self._count)
        self._side_by_side = np.where(alone, 0, sizes)[self._samples]
        known = _kind(norm, argument, channels, strides, options)
        self._jobs, self._columns, folds = known.of(counts[self._samples])
        # The samples by how many columns share a statistic.
        self._by_fold = {int(fold): self._samples[folds == fold] for fold in np.unique(folds)}
        self._ready: dict[Any, list[_Part]] = {}

    def run(
        self,
        families: tuple[Kernel, Kernel],
        arrays: Sequence[Laid | Array | None],
        numbers: Sequence[Array | None],
        eps: float = 0.0,
        gradients: tuple[int, int] = (0, 0),
    ) -> None:
        """Run the kernel, of rows or columns, on every sample; `gradients` as in a job.

        arrays, numbers: what the kernel takes. An array of two axes has a line for each sample, one of one axis is shared.
        """
        tables = np.zeros((len(self._samples), ARRAYS + NUMBERS), np.int64)
        for first, given in ((0, arrays), (ARRAYS, numbers)):
            for column, array in enumerate(given, first):
                if array is not None:
                    np.add(self._places(array), address(array), out=tables[:, column])
        parts = self._ready.get((families, gradients))
        if parts is None:
            parts = self._ready[families, gradients] = list(self._parts(families, gradients))
        for part in parts:
            part.call(1, part.whole, tables[part.chosen], part.jobs, part.ends, eps)

    def _parts(self, families: tuple[Kernel, Kernel], gradients: tuple[int, int]) -> Iterator[_Part]:
        own = held(self._dtype)
        for kernel, of_columns in zip(families, (False, True), strict=True):
            chosen = np.flatnonzero(self._columns == of_columns)
            if len(chosen) > 0:
                jobs = self._jobs[chosen]
                complete(jobs, kernel, own, FLOAT64, gradients, self._norm.centred)
                whole, ends = kernel.whole.address(own, FLOAT64), np.cumsum(self._side_by_side[chosen])
                # Each finds out for itself whether more threads pay: moments take less time than a result or a gradient.
                lines = _all_of(chosen, len(self._samples))
                yield _Part(spread(each, self._elements), whole, lines, jobs, ends)

    def _places(self, array: Laid | Array) -> Any:
        """How far from its first element what belongs to each sample lies."""
        if isinstance(array, Laid):
            return array.starts[self._lines]
        return 0 if array.ndim == 1 else self._samples * array.strides[0]

    # -- Statistics: a line for each sample -------------------------------------------------------------------------

    def lines(self, count: int, kinds: int) -> Array:
        """Room for what a kernel writes of each sample, `kinds` statistics of which there are `count`."""
        return np.empty((self._count, kinds * count))

    def read(self, lines: Array, found: Sequence[Array]) -> None:
        """Bring what was written there into arrays of shape (samples, count), as far as samples have positions."""
        for k, statistic in enumerate(found):
            own = lines[:, k * statistic.shape[1] : (k + 1) * statistic.shape[1]]
            statistic[self._lines] = own[self._lines]

    def written(self, statistic: Array) -> Array:
        """A statistic of shape (samples, count) as a kernel reads it: repeated for columns that share one."""
        if max(self._by_fold, default=1) == 1:
            return np.ascontiguousarray(statistic)
        lines = np.empty((self._count, statistic.shape[1] * max(self._by_fold)))
        for fold, chosen in self._by_fold.items():
            lines[chosen, : statistic.shape[1] * fold] = np.repeat(statistic[chosen], fold, axis=1)
        return lines


class _Part(NamedTuple):
    """The samples that one kernel takes."""

    call: Callable[..., Any]  # of `each`, on as many threads as pay
    whole: int  # the kernel's address
    chosen: Array | slice
    jobs: Array
    ends: Array


class _Known(NamedTuple):
    """What is known of some lengths, a line each."""

    lengths: Array  # in order
    jobs: Array
    columns: Array  # is a job for columns …
    folds: Array  # … and how many of them share a statistic?

    def lines(self, lengths: Array) -> Array | None:
        """The lines of some lengths, if all of them are known."""
        lines = np.searchsorted(self.lengths, lengths)
        known = self.lengths.take(lines, mode="clip")
        return lines if np.array_equal(known, lengths) else None


class _Kind:
    """The jobs of samples that differ in their lengths alone. A batch has few new ones: 14 plans took 30 µs."""

    def __init__(
        self, norm: Norm, argument: Any, channels: int, strides: Sequence[Strides], options: tuple[int, ...]
    ) -> None:
        roles = norm.shared((1, 1, channels), argument).roles
        self._plan = partial(_plan, channels, strides, roles, options)
        self._known: _Known | None = None

    def of(self, lengths: Array) -> tuple[Array, Array, Array]:
        """The jobs of some lengths, whether they are for columns, and how many of these share a statistic."""
        known = self._known
        lines = None if known is None else known.lines(lengths)
        if known is None or lines is None:
            known = self._with(lengths, known)
            lines = known.lines(lengths)
            # As a whole, for other threads; that one of them knew more costs no more than time.
            self._known = known if 0 < len(known.lengths) <= _LENGTHS else None
        return known.jobs[lines], known.columns[lines], known.folds[lines]

    def _with(self, lengths: Array, known: _Known | None) -> _Known:
        new = np.setdiff1d(lengths, [] if known is None else known.lengths)
        plans = [self._plan(int(n)) for n in new]
        columns, folds = np.array([p.columns for p in plans], bool), np.array([p.fold for p in plans], int)
        more = _Known(new, np.array([p.job for p in plans]), columns, folds)
        if known is None:
            return more
        together = [np.concatenate(pair) for pair in zip(known, more, strict=True)]
        order = np.argsort(together[0])
        return _Known(*(part[order] for part in together))


_kind = lru_cache(maxsize=_KINDS)(_Kind)


def _plan(
    channels: int, of_arrays: Sequence[Strides], roles: Roles, options: tuple[int, ...], length: int
) -> Plan:
    """The plan of one sample, which has strides along positions and channels alone."""
    shape = 1, length, channels
    strides = tuple((0, of_position, of_channel or length) for of_position, of_channel in of_arrays)
    found = plan(shape, strides, roles, options)
    if found is None:  # one position, and channels that lie apart: runs of more, of which one is taken
        more = 1, 1 + max(map(max, strides)), channels
        found = plan(more, strides, roles, options)
        assert found is not None, "positions or channels are neighbours in every array"
        job = found.job.copy()
        job[COUNTS + LENGTH] = 1
        found = replace(found, job=job)
    return found


def _all_of(lines: Array, count: int) -> Array | slice:
    """The same lines, of so many, as they are indexed fastest: by a slice where they are all of them in order."""
    return slice(None) if np.array_equal(lines, np.arange(count)) else lines


def address(array: Laid | Array) -> int:
    """Where its first element lies."""
    if isinstance(array, Laid):
        array = array.array
    place: int = array.__array_interface__["data"][0]
    return place


def both(weight: Array | None, bias: Array | None) -> tuple[Array | None, Array | None]:
    """Weight and bias as the kernels take them: they know no bias without a weight."""
    return np.ones_like(bias) if weight is None and bias is not None else weight, bias

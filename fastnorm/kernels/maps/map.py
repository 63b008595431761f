"""Maps: an arithmetic per element, with coefficients that several elements share, and sums of what comes of it, in one trip.

A map is a step on vectors: it takes one of each input and of each coefficient, and returns one of each output, then one of
each product that is to be added up over the elements that share a place. Its job has a line for every array and coefficient,
and says how the work is cut.
"""

import inspect
from typing import Any

import numpy as np

from ..._jit import routine, step
from ..job import (
    ALONG,
    B0,
    B1,
    COLUMNS,
    COUNTS,
    LENGTH,
    M0,
    M1,
    OFFSET,
    OPTIONS,
    STREAMING,
    WHOLE_LINES,
    reduced,
)
from ..language.loads import (
    add_part_to,
    add_to,
    add_vectors,
    clear,
    load,
    load_vectors,
    store,
    store_sums,
    store_vectors,
)
from ..language.memory import is_staged, moved, numbers_like, stack, stage
from ..language.past import before_line, deliver
from ..language.reductions import added, no_sums
from ..language.vectors import in_vectors, lanes, splat, wide
from ..phases import Phase, address, kernel, listed, run_one

# The lines of a job that a norm's has not: how the work is cut, then inputs, outputs and coefficients.
CUT, FIRST = 4 * COLUMNS, 5 * COLUMNS
# Slots are what has sums of its own: of each group a band of segments, and a piece of every segment in it. A task has one
# or several.
SLOTS, PER_TASK, BAND, BANDS, PIECE, PIECES = range(6)
# Beside STREAMING: whether the trip follows one over the same memory, and best begins where that ended.
AGAIN = STREAMING + 1
# A kernel is given so many arrays, inputs and then outputs, and behind them all coefficients.
ARRAYS = 5

# The most elements of a block, which may be stored past the cache. Its sums, or along runs those of so many runs, are taken
# in the precision of the input before they are carried over to float64.
BLOCK, _TILE = np.int64(2048), 64
# The most numbers in a vector, and lines of a map.
LANES, _MOST = 32, 16
# What a task knows of each line: the index at which the run begins, the mask of indices in it, and the address of the block;
# and the addresses of tiles, which add up along runs.
_STARTS, _MASKS, _PLACES, _TILES = range(0, 4 * _MOST, _MOST)
_WHERE = 4 * _MOST


class Map:
    """What is done to each element: `step` takes inputs and coefficients, and returns outputs and products."""

    def __init__(self, step, inputs, outputs, sums=0, precise=False, variant=""):
        self.step, self.inputs, self.outputs, self.sums = step, inputs, outputs, sums
        self.precise = precise  # are products float64, and added up in it from the first on?
        self.variant = variant  # what tells it from others whose steps have the same name
        self.coefficients = len(inspect.signature(step.function).parameters) - inputs
        self._phases = {}

    def phase(self, along: bool) -> Any:
        """What a task does, for sums along runs or over each."""
        if along not in self._phases:
            task = _task(self, along)
            # By which it is cached.
            task.__name__ = self.step.function.__name__ + self.variant + ("_along" if along else "_over")
            self._phases[along] = Phase(task)
        return self._phases[along]


# -- Where things lie ------------------------------------------------------------------------------------------------


@step
def part_of(job, slot):
    """The group of a slot, its segments first to last, and elements low to high of each."""
    pieces, bands, segments, length = job[CUT + PIECES], job[CUT + BANDS], reduced(job), job[COUNTS + LENGTH]
    if pieces == 1 and bands == 1:  # the divisions take 15 ns
        return slot, 0, segments, 0, length
    first, low = (slot // pieces) % bands * job[CUT + BAND], slot % pieces * job[CUT + PIECE]
    last, high = min(first + job[CUT + BAND], segments), min(low + job[CUT + PIECE], length)
    return slot // (pieces * bands), first, last, low, high


@step
def position(job, outer, i):
    """The outer and the inner index of the i-th of all kept positions, or reduced ones."""
    if job[COUNTS + outer] == 1:
        return 0, i
    inner = job[COUNTS + outer + 1]
    return i // inner, i % inner


@routine
def start_run(arrays, job, b, m, low, lines, where, shared):
    """Where each array of a run begins, and each coefficient; of one that the run shares, a vector is kept."""
    coefficients = numbers_like(arrays[ARRAYS], shared)
    (b0, b1), (m0, m1) = position(job, B0, b), position(job, M0, m)
    for j in range(lines):
        line = moved(job, FIRST + j * COLUMNS)
        start = line[OFFSET] + b0 * line[B0] + b1 * line[B1] + m0 * line[M0] + m1 * line[M1]
        where[_STARTS + j], where[_MASKS + j] = start + low * line[ALONG], -line[ALONG]
        if line[ALONG] == 0:
            store(shared, j * lanes(shared), splat(shared, coefficients[start]))


@routine
def start_block(arrays, at, inputs, used, lines, beside, where, buffer, shared):
    """The addresses of a block that begins `at` elements into its run; of an output, perhaps that `beside`, of a buffer."""
    coefficients = numbers_like(arrays[ARRAYS], shared)
    for j in range(lines):
        start = where[_STARTS + j] + at
        if where[_MASKS + j] == 0:
            where[_PLACES + j] = address(moved(shared, j * lanes(shared)))
        elif j >= used:
            where[_PLACES + j] = address(moved(coefficients, start))
        elif j >= inputs:
            own = moved(buffer, (j - inputs) * BLOCK)
            where[_PLACES + j] = address(stage(moved(arrays[j], start), own, beside))
        else:
            where[_PLACES + j] = address(moved(arrays[j], start))


@step
def is_beside(arrays, at, inputs, used, streaming, where):
    """Whether an output of that block, to be stored past the cache, begins within a line."""
    loose = False
    for j in range(inputs, used if streaming else inputs):
        loose = loose or before_line(arrays[j], where[_STARTS + j] + at) != 0
    return is_staged(arrays[0], loose)


@routine
def finish_block(arrays, at, inputs, used, streaming, where, buffer, size):
    """Outputs from the buffer to where they belong."""
    for j in range(inputs, used):
        deliver(moved(buffer, (j - inputs) * BLOCK), arrays[j], where[_STARTS + j] + at, size, streaming)


# -- Sums along runs -------------------------------------------------------------------------------------------------


@step
def start_tiles(tile, sums, where):
    """No sums yet."""
    clear(tile, sums * BLOCK)
    for j in range(sums):
        where[_TILES + j] = address(moved(tile, j * BLOCK))


@routine
def carry_over(tile, sums, totals, line, length, low, high):
    """Add the tile of each sum to elements low to high of its line of all totals, and clear it."""
    n, size = lanes(tile), high - low
    whole = in_vectors(size, n)
    for j in range(sums):
        own, to = moved(tile, j * BLOCK), moved(totals, (line + j) * length + low)
        for k in range(0, whole, n):
            add_to(to, k, wide(load(own, k)))
        if whole < size:
            add_part_to(to, whole, wide(load(own, whole)), size - whole)
        clear(own, size)


def _along(tile, tiles, k, results, count, found):
    """Products are added up along the run."""
    add_vectors(tile, tiles, k, results, count)
    return found


def _over(tile, tiles, k, results, count, found):
    """Products are added up over the run."""
    return added(found, results, count)


def _first(a, b):
    return a


def _second(a, b):
    return b


# -- A task ----------------------------------------------------------------------------------------------------------


def _task(what, along):
    """A phase of this map alone: how many there are of everything has to be known when it is compiled."""
    value, inputs, outputs, coefficients = what.step, what.inputs, what.outputs, what.coefficients
    sums, precise, collect = what.sums, what.precise, step(_along if along else _over)
    summed = step(_second if precise else _first)
    used, lines = inputs + outputs, inputs + outputs + coefficients
    buffer_size, shared_size, tile_size = outputs * int(BLOCK), lines * LANES, max(1, sums) * int(BLOCK)

    @step
    def on_vector(x, buffer, tile, sources, targets, own, tiles, k, count, past, found):
        """The outputs and sums of one vector, or of its first numbers."""
        given = load_vectors(x, sources[0], sources[1], k, count)
        results = value(*(given + load_vectors(buffer, own[0], own[1], k, count)))
        store_vectors(buffer, targets, k, results, count, past)
        return collect(tile, tiles, k, results, count, found)

    @step
    def on_block(x, buffer, tile, where, size, past):
        """The sums of a block; its outputs are stored, whole vectors perhaps `past` the cache."""
        places, masks = moved(where, _PLACES), moved(where, _MASKS)
        sources, targets = (
            (listed(places, inputs), listed(masks, inputs)),
            listed(moved(places, inputs), outputs),
        )
        own = listed(moved(places, used), coefficients), listed(moved(masks, used), coefficients)
        tiles, found, n = listed(moved(where, _TILES), sums), no_sums(x, sums, precise), lanes(x)
        whole = in_vectors(size, n)
        for k in range(0, whole, n):
            found = on_vector(x, buffer, tile, sources, targets, own, tiles, k, n, past, found)
        if whole < size:
            found = on_vector(
                x, buffer, tile, sources, targets, own, tiles, whole, size - whole, False, found
            )
        return found

    def task(i, arrays, numbers, job, eps):
        x, totals, where = arrays[0], numbers[0], stack(job, _WHERE)
        buffer, shared, tile = (
            stack(x, buffer_size),
            stack(x, shared_size),
            stack(summed(x, totals), tile_size),
        )
        streaming, per_task = job[OPTIONS + STREAMING] == WHOLE_LINES, job[CUT + PER_TASK]
        if along:
            start_tiles(tile, sums, where)
        for slot in range(i * per_task, min((i + 1) * per_task, job[CUT + SLOTS])):
            b, first, last, low, high = part_of(job, slot)
            found = no_sums(x, sums, True)
            for m in range(first, last):
                start_run(arrays, job, b, m, low, lines, where, shared)
                for at in range(0, high - low, BLOCK):
                    size = min(BLOCK, high - low - at)
                    beside = is_beside(arrays, at, inputs, used, streaming, where)
                    past = streaming and not beside
                    start_block(arrays, at, inputs, used, lines, beside, where, buffer, shared)
                    found = added(found, on_block(x, buffer, tile, where, size, past), lanes(x))
                    if beside:
                        finish_block(arrays, at, inputs, used, streaming, where, buffer, size)
                if along and (m == last - 1 or (m - first) % _TILE == _TILE - 1):
                    line = slot // job[CUT + PIECES] * sums
                    carry_over(tile, sums, totals, line, job[COUNTS + LENGTH], low, high)
            if not along:
                store_sums(totals, slot * sums, found)

    return task


@kernel(arrays=ARRAYS + 1)
def run_map(threads, arrays, numbers, job, eps):
    """All tasks of a map, the one phase of the job.

    arrays: the inputs and then the outputs, five with those that are absent; and all coefficients, flat. numbers: totals,
    float64, a number per sum for each slot; or for sums along runs, a line of zeros per sum for each group and band.
    """
    tasks = (job[CUT + SLOTS] + job[CUT + PER_TASK] - 1) // job[CUT + PER_TASK]
    run_one(0, tasks, arrays, numbers, job, eps, threads, job[OPTIONS + AGAIN] != 0)

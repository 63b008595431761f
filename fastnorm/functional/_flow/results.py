"""Memory for results: NumPy's, or from 1 MiB on memory that an earlier result has left behind.

The system clears new memory page by page when it is first written, which takes longer than a norm does; and glibc gives
back to it blocks of 32 MiB and more as soon as they are freed, and smaller ones where two or three are. Layer norm of 64 MiB
took 7.1 ms, nearly half of it for that; global response norm of 3 MiB and its gradients 2.8 ms, now 0.6. So the memory of a
large result that nobody refers to any more is kept for the next of its size, for 1.5 µs.

What may be stored past the cache begins on a cache line, which such stores need.
"""

from __future__ import annotations

import mmap
import weakref
from collections.abc import Callable
from contextlib import suppress
from ctypes import addressof, c_char
from functools import partial
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from ...kernels.language.vectors import LINE

Array = NDArray[Any]

# Where the arrays of a call have more bytes than this, results may be stored past the cache. It lies where neither way loses
# twice what the other does, with the last cache (32 MiB) to oneself and with neighbours that use it too.
# Medians in ms, past it and into it, with two inputs: gradients of 8x64x56x56 0.39 and 0.45 alone, 0.45 and 0.61 in company.
# With one: batch norm of 10 MiB 0.46 and 0.30, another time 0.36 and 0.41. With one that is read once: batch norm inference
# of 9 MiB 0.30 and 0.16, in company 0.38 and 0.46; of 18 MiB 0.79 and 0.65, of 16 in company 0.86 and 1.31.
_TWO_INPUTS, _ONE, _ONE_READ_ONCE = 16 << 20, 20 << 20, 24 << 20
# Results that may go there begin on a line.
_ALIGNED = 4 << 20
# Smaller results are malloc's, and larger ones. Of what is left so many bytes stay as they are; what was left before is
# marked for the system to take it back when it runs short (2 µs a MiB), and so many are kept of that; of so many sizes each.
_LARGE, _WARM, _MOST, _SIZES = 1 << 20, 64 << 20, 256 << 20, 64
# What the system must know of: Linux does, macOS has the first alone, Windows neither.
_ADVICE = ("MADV_FREE", "MADV_HUGEPAGE")


class _Watch(weakref.ref[memoryview]):
    """Tells when nobody refers to a block of memory any more; `weakref.finalize` takes 2 µs longer."""

    __slots__ = ("memory",)
    memory: mmap.mmap


# Blocks of memory by their size, the size that was left last at the end.
_Blocks = dict[int, list[mmap.mmap]]

# What has been left, and what of it is marked; and what is in use.
_left: _Blocks = {}
_marked: _Blocks = {}
_watches: dict[int, _Watch] = {}


def maker(like: Array) -> Callable[[], Array]:
    """What makes a new array, uninitialized, with the shape, dtype and strides of `like`."""
    if _LARGE <= like.nbytes <= _MOST and all(hasattr(mmap, advice) for advice in _ADVICE):
        return partial(_reused, like.shape, like.dtype, like.strides, like.nbytes)
    if like.nbytes > _ALIGNED:
        return partial(_on_a_line, like.shape, like.dtype, like.strides, like.nbytes)
    if like.flags.c_contiguous:
        return partial(np.empty, like.shape, like.dtype)  # 0.1 µs less
    return partial(np.empty_like, as_strided(np.empty(1, like.dtype), like.shape, like.strides))


def streaming(arrays: int, nbytes: int, itemsize: int, once: bool = False) -> int:
    """How many elements fill a line, where results of a call may be stored past the cache; 0 where not.

    The call is on so many arrays of so many bytes, one of them a result; `once` says that it reads no array again.
    """
    most = _TWO_INPUTS if arrays > 2 else _ONE_READ_ONCE if once else _ONE
    return LINE // itemsize if arrays * nbytes > most else 0


def new(x: Array, shape: tuple[int, ...] | None = None) -> Array:
    """An array like x, or with its dtype and another shape, in C order; in memory that has been in use where it is large."""
    return maker(np.empty_like(x) if shape is None else np.empty(shape, x.dtype))()


def _on_a_line(shape: tuple[int, ...], dtype: Any, strides: tuple[int, ...], size: int) -> Array:
    block = np.empty(size + LINE, np.uint8)
    return np.ndarray(shape, dtype, block, -addressof(c_char.from_buffer(block.data)) % LINE, strides)


def _reused(shape: tuple[int, ...], dtype: Any, strides: tuple[int, ...], size: int) -> Array:
    memory = _taken(_left, size) or _taken(_marked, size)
    if memory is None:
        try:
            memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        except OSError:  # NumPy says what is wrong
            return np.empty_like(as_strided(np.empty(1, dtype), shape, strides))
        with suppress(OSError):  # a system without them
            memory.madvise(mmap.MADV_HUGEPAGE)
    block: Any = np.frombuffer(memory, np.uint8)
    # The result and all views of it keep this base alive, and nothing else does.
    watch = _Watch(block.base, _leave)
    watch.memory, _watches[id(watch)] = memory, watch
    return np.ndarray(shape, dtype, block, 0, strides)


# Results die at any moment, in any thread: nobody waits for a lock here, and blocks that two threads are after may be lost.


def _taken(blocks: _Blocks, size: int) -> mmap.mmap | None:
    try:
        return blocks[size].pop()
    except (KeyError, IndexError):
        return None


def _leave(watch: _Watch) -> None:
    """Keep the memory of a result that is no more."""
    _watches.pop(id(watch), None)
    memory = watch.memory
    if len(memory) <= _WARM:
        _add(_left, memory)
        older = _overflow(_left, _WARM)
    else:
        older = [memory]
    for memory in older:
        with suppress(OSError):
            memory.madvise(mmap.MADV_FREE)
        _add(_marked, memory)
    if older:
        _overflow(_marked, _MOST)


def _add(blocks: _Blocks, memory: mmap.mmap) -> None:
    size = len(memory)
    same = blocks.pop(size, [])
    same.append(memory)
    blocks[size] = same


def _overflow(blocks: _Blocks, most: int) -> list[mmap.mmap]:
    """Take out what was left first, for the rest to be at most so many bytes, and of so many sizes."""
    total = sum([size * len(same) for size, same in list(blocks.items())])
    gone: list[mmap.mmap] = []
    for size, same in list(blocks.items()):
        too_many = len(blocks) > _SIZES
        if total <= most and not too_many:
            break
        with suppress(IndexError):  # another thread was faster
            while same and (total > most or too_many):
                gone.append(same.pop(0))
                total -= size
        if not same:
            blocks.pop(size, None)
    return gone

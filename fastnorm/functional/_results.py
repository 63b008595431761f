"""Memory for results: NumPy's, or for large ones memory that an earlier result has left behind.

glibc gives blocks of 32 MiB and more back to the system as soon as they are freed, and the system clears every new one page
by page when it is first written: layer norm of 64 MiB took 7.1 ms, nearly half of it for that. So a large result that nobody
refers to any more leaves its memory to the next of its size. It is marked as free then, so that the system takes it back
whenever it runs short; but for the last of all, since marking takes 130 µs of such a call's 5000.

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

from ..kernels.vectors import LINE

Array = NDArray[Any]

# Where the arrays of a call have more bytes than this, results may be stored past the cache. It lies where neither way loses
# twice what the other does, with the last cache (32 MiB) to oneself and with neighbours that use it too.
# Medians in ms, past it and into it, with two inputs: gradients of 8x64x56x56 0.39 and 0.45 alone, 0.45 and 0.61 in company.
# With one: batch norm of 10 MiB 0.46 and 0.30, another time 0.36 and 0.41. With one that is read once: batch norm inference
# of 9 MiB 0.30 and 0.16, in company 0.38 and 0.46; of 18 MiB 0.79 and 0.65, of 16 in company 0.86 and 1.31.
_TWO_INPUTS, _ONE, _ONE_READ_ONCE = 16 << 20, 20 << 20, 24 << 20
# Results that may go there begin on a line.
_ALIGNED = 4 << 20
# Smaller blocks are kept by malloc itself; larger ones are not kept, nor are more than so many bytes in all.
_LARGE, _MOST = 32 << 20, 256 << 20
# Larger ones are marked as free even if they are the last.
_WARM = 64 << 20
# What the system must know of: Linux does, macOS has the first alone, Windows neither.
_ADVICE = ("MADV_FREE", "MADV_HUGEPAGE")

_left: dict[int, mmap.mmap] = {}
_unmarked: list[int] = []  # the size of the last, as long as it is not marked


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
    """An array like x, or with x's dtype and another shape, in memory that has been in use where it is large."""
    return maker(np.empty_like(x, shape=shape))()


def _on_a_line(shape: tuple[int, ...], dtype: Any, strides: tuple[int, ...], size: int) -> Array:
    block = np.empty(size + LINE, np.uint8)
    return np.ndarray(shape, dtype, block, -addressof(c_char.from_buffer(block.data)) % LINE, strides)


def _reused(shape: tuple[int, ...], dtype: Any, strides: tuple[int, ...], size: int) -> Array:
    memory = _left.pop(size, None)
    if memory is None:
        try:
            memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        except OSError:  # NumPy says what is wrong
            return np.empty_like(as_strided(np.empty(1, dtype), shape, strides))
        with suppress(OSError):  # a system without them
            memory.madvise(mmap.MADV_HUGEPAGE)
    block = np.frombuffer(memory, np.uint8)
    # The result and all views of it keep this base alive, and nothing else does.
    weakref.finalize(block.base, _leave, size, memory).atexit = False
    return np.ndarray(shape, dtype, block, strides=strides)


def _leave(size: int, memory: mmap.mmap) -> None:
    """Keep the memory of a result that is no more. Called at any moment, in any thread: it must not wait for a lock."""
    with suppress(OSError, IndexError):  # another thread was faster
        while _unmarked:
            other = _unmarked.pop()
            # Nobody takes it while it is marked.
            earlier = _left.pop(other, None)
            if earlier is not None:
                earlier.madvise(mmap.MADV_FREE)
                _left[other] = earlier
    with suppress(OSError):
        if size > _WARM:
            memory.madvise(mmap.MADV_FREE)
        _left[size] = memory
        if size <= _WARM:
            _unmarked.append(size)
    while sum(list(_left)) > _MOST:
        _left.pop(next(iter(_left), size), None)

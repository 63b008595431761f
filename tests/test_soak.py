"""A minute of everything at once: eight threads, every function, results to the bit, and memory that does not grow."""

import gc
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

import fastnorm
from fastnorm.kernels import layer_norm_row, moments

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="no /proc to read the memory from"),
]

SECONDS, THREADS = 60, 8
# What the allocator and eight threads' stacks may come to in a minute; a leak of one result a call would be gigabytes.
_MIB = 48


def _resident():
    """MiB of this process in memory."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def _calls(dtype):
    """Every function, in serial and in parallel sizes; each returns arrays."""
    rng = np.random.default_rng(0)
    calls = []
    for rows, channels in ((3, 40), (70, 1000)):
        x, dy = rng.standard_normal((2, rows, channels)).astype(dtype)
        w, b = rng.standard_normal((2, channels)).astype(dtype)
        images, grads = (a.reshape(rows, 10, -1, 2) for a in (x, dy))
        wc, bc = w[:10].copy(), b[:10].copy()
        for name in ("layer_norm", "rms_norm"):
            function, backward = getattr(fastnorm, name), getattr(fastnorm, f"{name}_backward")
            _, *statistics = function(x, return_stats=True)
            add, quantize = getattr(fastnorm, f"add_{name}"), getattr(fastnorm, f"{name}_int8")
            calls += [
                partial(function, x, w, b, activation="gelu", return_stats=True),
                partial(backward, dy, x, *statistics, w),
                partial(add, x, dy, w),
                partial(quantize, x, w),
            ]
        for name, groups in (("batch_norm", ()), ("instance_norm", ()), ("group_norm", (5,))):
            function, backward = getattr(fastnorm, name), getattr(fastnorm, f"{name}_backward")
            for layout, axes in (("NCHW", (0, 1, 2, 3)), ("NHWC", (0, 2, 3, 1))):
                laid, laid_dy = images.transpose(axes), grads.transpose(axes)
                _, *statistics = function(laid, *groups, layout=layout, return_stats=True)
                options = {"weight": wc, "layout": layout}
                calls += [
                    partial(function, laid, *groups, bias=bc, return_stats=True, **options),
                    partial(backward, laid_dy, laid, *groups, *statistics, **options),
                ]

        def training(x=images):
            mean, var = np.zeros(10, np.float32), np.ones(10, np.float32)
            y = fastnorm.batch_norm(x, mean, var, training=True)
            return y, mean, var, fastnorm.batch_norm(x, mean, var)

        calls.append(training)
    return calls


def _inside():
    x = np.random.default_rng(1).standard_normal(3000, np.float32)
    y = np.empty_like(x)
    layer_norm_row(x, x[:0], x[:0], 1e-5, y)
    return y, np.array(moments(x))


def _digest(results):
    return tuple(
        a.tobytes() for a in (results if isinstance(results, tuple) else (results,)) if a is not None
    )


def test_eight_threads_for_a_minute():
    calls = [c for dtype in (np.float32, np.float64, np.float16, ml_dtypes.bfloat16) for c in _calls(dtype)]
    calls.append(_inside)
    with fastnorm.num_threads(1):
        expected = [_digest(call()) for call in calls]
    stop = threading.Event()

    def work(seed):
        """Calls in an order of its own; how many."""
        done, rng = 0, np.random.default_rng(seed)
        while not stop.is_set():
            for i in rng.permutation(len(calls)):
                assert _digest(calls[i]()) == expected[i], f"call {i} gave other bits"
                done += 1
        return done

    with ThreadPoolExecutor(THREADS) as pool:
        workers = [pool.submit(work, seed) for seed in range(THREADS)]
        time.sleep(SECONDS / 6)
        before = _resident()
        for _ in range(SECONDS - SECONDS // 6):
            if any(worker.done() for worker in workers):
                break
            time.sleep(1)
        after = _resident()
        stop.set()
        done = [worker.result() for worker in workers]
    assert min(done) >= len(calls)
    assert after - before < _MIB, f"{before:.0f} MiB became {after:.0f} in {sum(done)} calls"

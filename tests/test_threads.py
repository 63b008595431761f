"""Threads: the setting, its limits, calls at once, the GIL. The threading layers are in test_threading_layers.py."""

import os
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
import pytest

import fastnorm
from fastnorm import _cpus, _threads

_MOST = fastnorm.get_num_threads()
several = pytest.mark.skipif(_MOST < 2, reason="Numba has one thread only (NUMBA_NUM_THREADS)")


# -- The setting -------------------------------------------------------------------------------------------


@several
def test_the_setting_is_restored():
    with fastnorm.num_threads(1):
        assert fastnorm.get_num_threads() == 1
        with fastnorm.num_threads(2):
            assert fastnorm.get_num_threads() == 2
        assert fastnorm.get_num_threads() == 1
    assert fastnorm.get_num_threads() == _MOST
    with pytest.raises(KeyError), fastnorm.num_threads(1):
        raise KeyError
    assert fastnorm.get_num_threads() == _MOST


@pytest.mark.parametrize("n", [0, -1, 10**6, 1.5, "2", None, True])
def test_a_wrong_number_is_named(n):
    with pytest.raises((TypeError, ValueError)) as error:
        fastnorm.set_num_threads(n)
    assert repr(n) in str(error.value) and str(numba.config.NUMBA_NUM_THREADS) in str(error.value)
    assert fastnorm.get_num_threads() == _MOST


# -- Whether more threads pay -----------------------------------------------------------------------------------


class _Timed:
    """A call that takes so many seconds on one thread, and so many on more, by a clock of its own."""

    def __init__(self, alone, together, monkeypatch):
        self.now, self.calls = 0.0, []
        monkeypatch.setattr(_threads, "perf_counter", lambda: self.now)
        self.trial = _threads._Trial(lambda one: self.take(1, alone), lambda one: self.take(2, self.together))
        self.together = together

    def take(self, threads, seconds):
        self.now += seconds
        self.calls.append(threads)
        return threads > 1

    def share(self, count):
        """Of so many calls, how many are on one thread."""
        self.calls.clear()
        for _ in range(count):
            self.trial(1)
        return self.calls.count(1) / count


def test_more_threads_that_are_faster_are_taken(monkeypatch):
    timed = _Timed(20e-6, 12e-6, monkeypatch)
    assert timed.share(1000) == 4 / 1000  # 1 in 256 to compare with
    assert timed.calls[:4] == [2, 1, 2, 2]


def test_more_threads_that_are_slower_are_seldom_tried(monkeypatch):
    timed = _Timed(10e-6, 80e-6, monkeypatch)
    timed.share(1000)
    assert timed.share(1000) > 0.98
    timed.together = 6e-6  # they have woken up
    timed.share(2500)  # a pause, at the longest
    assert timed.share(1000) < 0.01


def test_a_slow_call_in_between_changes_nothing(monkeypatch):
    timed = _Timed(20e-6, 12e-6, monkeypatch)
    timed.share(100)
    for _ in range(20):
        timed.together = 80e-6
        timed.trial(1)
        timed.together = 12e-6
        assert timed.share(10) <= 0.1


def test_longer_calls_try_again_sooner(monkeypatch):
    timed = _Timed(1e-3, 2e-3, monkeypatch)
    timed.share(100)
    timed.together = 0.5e-3
    timed.share(25)
    assert timed.share(100) < 0.05


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("max 100000\n", None),
        ("200000 100000\n", 2),
        ("150000 100000\n", 2),  # rounded up
        ("1000 100000\n", 1),
        ("-1\n 100000\n", None),  # version 1, from two files
        ("400000\n 100000\n", 4),
    ],
)
def test_a_containers_quota(text, expected):
    assert _cpus.quota(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("3", 3), (" 4,2 ", 4), ("", None), ("0", None), ("-1", None), ("two", None)],
)
def test_a_list_like_omp_num_threads(text, expected):
    assert _cpus.named(text) == expected


@pytest.mark.parametrize(
    "files",
    [{"cpu.max": "100000 100000"}, {"cpu/cpu.cfs_quota_us": "5000", "cpu/cpu.cfs_period_us": "10000"}],
)
def test_the_quota_of_this_container_is_read(files, tmp_path, monkeypatch):
    (tmp_path / "cpu").mkdir()
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(_cpus, "_CGROUP", tmp_path)
    assert _cpus.allowed.__wrapped__() == 1


_SPINNING = """
    import os
    import numpy as np
    import numba.np.ufunc.parallel as parallel

    asked = []
    launch = parallel._launch_threads
    def watched():
        asked.append(os.environ.get("GOMP_SPINCOUNT"))
        launch()
    parallel._launch_threads = watched

    import fastnorm
    assert not asked
    before = dict(os.environ)
    fastnorm.layer_norm(np.ones((2, 3), np.float32))
    assert os.environ == before
    print(asked[0])
"""


@pytest.mark.parametrize(
    ("theirs", "expected"),
    [({}, "10000"), ({"GOMP_SPINCOUNT": "77"}, "77"), ({"OMP_WAIT_POLICY": "active"}, "None")],
    ids=str,
)
def test_idle_threads_spin_for_a_short_time_unless_told_otherwise(theirs, expected, monkeypatch):
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.delenv(name, raising=False)
    assert _run(_SPINNING, **theirs).strip() == expected


# -- Calls at once -----------------------------------------------------------------------------------------


def test_many_python_threads_at_once(rng):
    """All of them get what a single one gets, forward and backward, whatever else is running."""
    x, dy = rng.standard_normal((2, 300, 1000)).astype(np.float32)
    images = rng.standard_normal((8, 16, 33, 33)).astype(np.float32)

    def work(_):
        y, mean, rstd = fastnorm.layer_norm(x, return_stats=True)
        gradients = fastnorm.layer_norm_backward(dy, x, mean, rstd)
        running_mean, running_var = np.zeros(16), np.ones(16)
        z = fastnorm.batch_norm(images, running_mean, running_var, training=True)
        return y, mean, rstd, *gradients, z, running_mean, running_var

    expected = work(None)
    with ThreadPoolExecutor(8) as pool:
        for found in pool.map(work, range(64)):
            assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))


def test_the_gil_is_released():
    """While a call runs in another thread, this one goes on: it ticks in the middle, not only around it."""
    rows = np.broadcast_to(np.linspace(-1, 1, 768, dtype=np.float32), (30_000, 768))
    mean, rstd = np.zeros(len(rows)), np.ones(len(rows))
    spans, done = [], threading.Event()

    def call():
        try:
            with fastnorm.num_threads(1):
                for _ in range(20):
                    start = time.perf_counter()
                    fastnorm.layer_norm_backward(rows, rows, mean, rstd, needs=(False, True, True))
                    spans.append((start, time.perf_counter()))
        finally:
            done.set()

    fastnorm.layer_norm_backward(rows[:9], rows[:9], mean[:9], rstd[:9])  # compiled
    worker = threading.Thread(target=call)
    ticks = []
    worker.start()
    while not done.is_set():
        ticks.append(time.perf_counter())
        time.sleep(1e-4)
    worker.join()
    ticks = np.array(ticks)
    middles = [(start + (end - start) / 4, end - (end - start) / 4) for start, end in spans]
    assert any(((ticks > start) & (ticks < end)).any() for start, end in middles)


# -- Other processes ---------------------------------------------------------------------------------------


def _run(script, **environment):
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_more_numba_threads_than_cores_give_the_same_bits():
    script = """
        import hashlib
        import numba, numpy as np
        import fastnorm
        fastnorm.set_num_threads(numba.config.NUMBA_NUM_THREADS)
        x = np.random.default_rng(0).standard_normal((37, 50, 301)).astype(np.float32)
        digest = hashlib.sha256()
        for axis in (0, 1, 2):
            y, mean, rstd = fastnorm.layer_norm(x, axis=axis, return_stats=True)
            for array in (y, mean, rstd, *fastnorm.layer_norm_backward(x, x, mean, rstd, axis=axis)):
                digest.update(np.ascontiguousarray(array))
        print(digest.hexdigest())
    """
    assert len({_run(script, NUMBA_NUM_THREADS=n) for n in "125"}) == 1

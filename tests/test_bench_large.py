"""What the benchmarks of large arrays stand on: repeated samples, the memory of a call, the growth of its time."""

import dataclasses
import importlib.util
import math
import sys
from pathlib import Path

import numpy as np
import pytest

from fastnorm._bench import cases, exact, inputs, memory, peers, repeated, scaling
from fastnorm._bench.cases import Job

JOBS = [
    Job("layer_norm", (4096, 96)),
    Job("add_rms_norm", (4096, 96)),
    Job("layer_norm", (4096, 96), mode="backward"),
    Job("rms_norm", (64, 32, 24, 16), "NCHW", "backward"),
    Job("batch_norm", (64, 32, 24, 16), "NHWC", "training"),
    Job("batch_norm", (64, 32, 24, 16), "HWNC", "backward"),
    Job("group_norm", (64, 96, 24, 16), "NCHW"),
]


@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.name)
def test_repeated_samples_have_the_results_of_the_few(job, monkeypatch):
    monkeypatch.setattr(repeated, "_FEW", 2**14)
    made = repeated.make(job)
    assert made.few.shape[0] < job.shape[0] and made.inputs.x.shape == job.stored_shape
    given = dataclasses.asdict(made.inputs)
    whole = exact.results(job, inputs.Inputs(**given))
    assert made.error(whole) < 1e-6  # in roundings of float32, of results that have none
    assert repeated.start(job).error <= exact.bound(job)


@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.name)
def test_one_wrong_element_of_a_repeated_job_is_seen(job):
    made, own = repeated.make(job), peers.load("fastnorm")
    results = own.results(job, own.prepare(job, made.inputs)())
    for result in results:
        kept = result.flat[-1]
        result.flat[-1] += 0.01 * np.abs(result).max()
        assert made.error(results) > exact.bound(job)
        result.flat[-1] = math.nan
        assert math.isnan(made.error(results))
        result.flat[-1] = kept
    assert made.error(results) <= exact.bound(job)


def test_a_single_sample_repeats_nothing():
    made = repeated.make(Job("layer_norm", (1, 768)))
    assert made.few == made.job


@pytest.mark.skipif(np.finfo(np.longdouble).eps >= 2**-53, reason="longdouble is float64 here")
def test_float64_is_compared_with_more_digits_than_its_own():
    job = Job("batch_norm", (4, 8), mode="inference", dtype="float64")
    (y,) = exact.results(job, inputs.make(job))
    assert y.dtype == np.longdouble and np.any(y != y.astype(np.float64))


@pytest.fixture
def peak_can_be_reset():
    try:
        memory._watched(lambda: None)
    except (inputs.NotOffered, OSError) as missing:
        pytest.skip(str(missing))


@pytest.mark.usefixtures("peak_can_be_reset")
def test_memory_that_a_call_returns_to_the_system_is_counted():
    mebibyte = 2**20
    _, peak = memory._watched(lambda: np.ones(64 * mebibyte, np.uint8).sum())
    assert 62 * mebibyte < peak < 70 * mebibyte
    _, peak = memory._watched(lambda: np.float64(1) + 1)
    assert abs(peak) < mebibyte


@pytest.mark.usefixtures("peak_can_be_reset")
@pytest.mark.parametrize("norm", ["layer_norm", "batch_norm"])
def test_a_call_takes_little_beyond_arguments_and_results(norm):
    mode = cases.modes(norm)[0]
    repeated.start(Job(norm, (256, 1024), mode=mode))  # kernels and threads are not the call's
    made = repeated.make(Job(norm, (16384, 1024), mode=mode))
    assert memory.extra(made) < 4 * 2**20


def test_growth():
    sizes = [1, 2, 4, 8]
    assert scaling.exponent(sizes, [3, 6, 12, 24]) == pytest.approx(1)
    assert scaling.exponent(sizes, [1, 4, 16, 64]) == pytest.approx(2)
    assert scaling.spread(sizes, [3, 6, 12, 24]) == pytest.approx(0)
    assert scaling.spread(sizes, [1, 2, 4, 10]) == pytest.approx(0.25)


def test_the_tracked_jobs_are_every_norm_in_every_mode(monkeypatch):
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))  # to which the suite adds a finder
    file = Path(__file__).parents[1] / "asv_benchmarks" / "benchmarks" / "common.py"
    spec = importlib.util.spec_from_file_location("common", file)
    common = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(common)
    tracked = {*common.ROW_JOBS.values(), *common.IMAGE_JOBS.values()}
    assert tracked == {(norm, mode) for norm in cases.TITLES for mode in cases.modes(norm)}
    assert common.job("layer norm over C", "NHWC", "2x3x5x7") == Job("layer_norm", (2, 3, 5, 7), "NHWC")
    assert set(common.DTYPES) == set(cases.EPS)

"""The jobs that are measured, what every implementation makes of them, and the race between processes."""

import dataclasses
import math

import pytest

from fastnorm._bench import exact, inputs, measure, peers
from fastnorm._bench.cases import QUICK, TABLE, Job
from fastnorm._bench.race import Measurement, Race, Timing, geometric_mean


def shrunk(job):
    """The same job on an array that is checked in no time, with groups of more than one channel."""
    samples, channels, *spatial = job.shape
    return dataclasses.replace(job, shape=(min(samples, 3), min(channels, 96), *[min(n, 5) for n in spatial]))


SMALL = list(dict.fromkeys(shrunk(job) for job in TABLE + QUICK))


@pytest.mark.parametrize("job", SMALL, ids=lambda job: job.name)
@pytest.mark.parametrize("name", ["fastnorm", "fastnorm_out", "numpy", "torch"])
def test_every_implementation_computes_what_the_reference_says(name, job):
    if name == "torch":
        pytest.importorskip("torch")
    try:
        expected = exact.results(job, inputs.make(job))
        error = measure.start(name, job, expected).error
    except inputs.NotOffered as missing:
        pytest.skip(str(missing))
    if name.startswith("fastnorm"):
        assert error <= exact.bound(job)
    assert error >= 0  # `start` has refused a peer that computes something else


@pytest.fixture(scope="module")
def far():
    """A race with the peers that start threads of their own on import: other tests fork this process."""
    names = [name for name in peers.installed() if name in ("onnxruntime", "openvino", "jax")]
    if not names:
        pytest.skip("neither ONNX Runtime nor OpenVINO nor JAX is installed")
    with Race(names) as race:
        yield race


@pytest.mark.parametrize("job", SMALL, ids=lambda job: job.name)
def test_every_other_peer_computes_what_the_reference_says_or_tells_why_not(far, job):
    for timing in far.run(job, 0).timings.values():
        assert timing.seconds or timing.note
        assert "something else" not in timing.note


COMPILED = (
    Job("layer_norm", (3, 96), activation="gelu"),
    Job("add_rms_norm", (3, 96)),
    Job("batch_norm", (3, 8, 5, 5), "NHWC", "training"),
    Job("batch_norm", (3, 8, 5, 5), "NHWC", "backward"),
)


@pytest.mark.slow
def test_compiled_pytorch_computes_what_the_reference_says():
    pytest.importorskip("torch")
    with Race(["torch_compile"]) as race:
        timings = [race.run(job, 0).timings["torch_compile"] for job in COMPILED]
    if any("compiler" in timing.note for timing in timings):
        pytest.skip(timings[0].note)
    assert all(timing.seconds for timing in timings), timings


def test_compiling_pytorch_without_a_compiler_is_not_offered(monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.setenv("CXX", "no such compiler")
    job = COMPILED[0]
    with pytest.raises(inputs.NotOffered, match="there is no no such compiler"):
        measure.start("torch_compile", job, exact.results(job, inputs.make(job)))


@pytest.mark.slow
@pytest.mark.parametrize("job", TABLE, ids=lambda job: job.name)
def test_the_whole_table_is_within_its_bounds(job):
    try:
        assert measure.start("fastnorm", job, exact.results(job, inputs.make(job))).error <= exact.bound(job)
    except inputs.NotOffered as missing:
        pytest.skip(str(missing))


def test_names_tell_all_jobs_apart():
    for jobs in (TABLE, QUICK):
        assert len({job.name for job in jobs}) == len(jobs)
    assert (
        Job("batch_norm", (8, 64, 56, 56), "NHWC", "training").name == "batch norm training 8×64×56×56 NHWC"
    )
    assert (
        Job("layer_norm", (8, 16), activation="gelu", dtype="float64").name
        == "layer norm + GELU 8×16 float64"
    )


def test_the_layout_orders_the_stored_axes():
    assert Job("batch_norm", (2, 3, 5, 7), "NHWC").stored_shape == (2, 5, 7, 3)
    assert Job("batch_norm", (2, 3, 5, 7), "HWNC").stored_shape == (5, 7, 2, 3)


@pytest.mark.parametrize(
    ("job", "numbers"),
    [
        (Job("layer_norm", (4, 8)), 2 * 32 + 2 * 8),
        (Job("rms_norm", (4, 8)), 2 * 32 + 8),
        (Job("add_rms_norm", (4, 8)), 4 * 32 + 8),
        (Job("layer_norm", (4, 8), mode="backward"), 3 * 32 + 3 * 8),
        (Job("rms_norm", (4, 8), mode="backward"), 3 * 32 + 2 * 8),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_least_traffic_counts_each_input_and_each_result_once(job, numbers):
    assert job.traffic == 4 * numbers
    assert dataclasses.replace(job, dtype="float64").traffic == 8 * numbers


def test_a_peer_that_computes_something_else_is_not_timed(monkeypatch):
    job = Job("layer_norm", (4, 8))
    numpy = peers.load("numpy")
    monkeypatch.setattr(numpy, "prepare", lambda job, given: lambda: given.x)
    with pytest.raises(inputs.NotOffered, match="computes something else"):
        measure.start("numpy", job, exact.results(job, inputs.make(job)))


def test_a_result_that_is_not_a_number_breaks_the_bound():
    nan = Measurement(Job("layer_norm", (4, 8)), {"fastnorm": Timing(1e-6, math.nan)})
    assert not nan.passed


def test_a_burst_takes_a_sample_even_without_time():
    assert len(measure.Runner(lambda: None, None).burst(0)) == 1


def test_geometric_mean():
    assert geometric_mean([1, 4, 2]) == pytest.approx(2)
    assert geometric_mean([]) is None


def test_a_race_times_everyone_and_notes_what_is_missing():
    with Race(["numpy"]) as race:
        timings = race.run(Job("layer_norm", (4, 8)), 0.01).timings
        assert {name: t.seconds > 0 for name, t in timings.items()} == dict.fromkeys(timings, True)
        assert list(timings) == ["fastnorm", "copy", "numpy"]
        assert timings["fastnorm"].error <= exact.FORWARD_BOUND and timings["copy"].error is None
        activated = race.run(Job("layer_norm", (4, 8), activation="gelu"), 0.01)
    assert activated.timings["numpy"] == Timing(note="NumPy has no gelu")
    assert activated.ratio("numpy") is None and activated.ratio("copy") > 0


def test_a_race_tells_who_failed_and_why():
    with (
        Race(["nobody"]) as race,
        pytest.raises(RuntimeError, match=r"(?s)nobody failed.*ModuleNotFoundError"),
    ):
        race.run(Job("layer_norm", (4, 8)), 0.01)


def test_a_race_tells_who_died():
    with Race([]) as race:
        race._workers["copy"]._process.kill()
        with pytest.raises(RuntimeError, match="copy ended with exit code -9"):
            race.run(Job("layer_norm", (4, 8)), 0.01)

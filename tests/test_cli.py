"""The command line: what it prints, what it writes, and its exit codes."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import fastnorm
from fastnorm._bench import peers
from fastnorm._bench.cases import QUICK, TABLE, Job
from fastnorm._bench.race import Measurement, Timing
from fastnorm._cli import _parser, bench, check, main, report, show


def test_info_as_a_process(tmp_path):
    environment = os.environ | {"PYTHONPATH": str(Path(fastnorm.__file__).parents[1])}
    command = [sys.executable, "-m", "fastnorm", "info"]
    options = {"env": environment, "cwd": tmp_path, "capture_output": True, "text": True, "check": True}
    printed = subprocess.run(command, **options)
    assert fastnorm.__version__ in printed.stdout
    for fact in ("numba", "threading layer", "cache", "float32, float64"):
        assert fact in printed.stdout
    assert printed.stderr == ""


def test_without_a_command_machine_and_table_are_printed(capsys, monkeypatch):
    rows = [job for job in QUICK if job.norm == "rms_norm" and job.layout == "NC"]
    monkeypatch.setattr(check, "QUICK", rows)
    monkeypatch.setattr(peers, "installed", lambda: ["numpy"])
    assert main([]) == 0
    printed = capsys.readouterr().out
    assert "threading layer" in printed
    for line in ("RMS norm 512×768", "RMS norm backward 512×768", "geometric mean"):
        assert line in printed
    assert "NumPy" in printed and "PyTorch µs" not in printed
    assert printed.endswith("Every result is within its bound.\n")


def test_quick_covers_every_norm_in_every_layout():
    assert {(job.norm, job.layout) for job in QUICK} >= {
        (norm, layout)
        for norm in ("layer_norm", "rms_norm", "batch_norm", "instance_norm", "group_norm")
        for layout in ("NCL", "NLC", "NCHW", "NHWC")
    }


def test_bench_writes_its_figures(capsys, tmp_path):
    file = tmp_path / "figures.json"
    options = ["--norms", "layer_norm", "--shapes", "4x8", "--jobs", "backward", "--peers"]
    assert main(["bench", *options, "--json", str(file)]) == 0
    assert "layer norm backward 4×8" in capsys.readouterr().out
    figures = json.loads(file.read_text())
    assert figures["machine"]["fastnorm"] == fastnorm.__version__
    (job,) = figures["jobs"]
    assert (job["norm"], job["mode"], job["shape"]) == ("layer_norm", "backward", [4, 8])
    assert job["timings"]["fastnorm"]["seconds"] > 0
    assert job["timings"]["fastnorm"]["error"] <= job["bound"] == 16
    assert job["timings"]["copy"]["over_fastnorm"] > 0


def chosen(*options):
    return bench._jobs(_parser().parse_args(["bench", *options]))


def test_bench_chooses_jobs():
    assert chosen() == list(TABLE)
    assert {job.norm for job in chosen("--norms", "rms_norm", "group_norm")} == {"rms_norm", "group_norm"}
    assert {job.layout for job in chosen("--layouts", "NHWC")} == {"NHWC"}
    assert {job.dtype for job in chosen("--dtypes", "float64")} == {"float64"}
    assert len(set(chosen("--dtypes", "float64"))) == len(chosen("--dtypes", "float64"))
    assert all(job.mode == "backward" for job in chosen("--jobs", "Backward"))
    assert chosen("--norms", "batch_norm", "--shapes", "2x3x5", "--layouts", "NLC") == [
        Job("batch_norm", (2, 3, 5), "NLC", mode) for mode in ("training", "inference", "backward")
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--jobs", "nothing is called so"], "no job fits"),
        (["--norms", "instance_norm", "--shapes", "2x3"], "no job fits"),
        (["--peers", "nobody"], "no peer nobody here, only .*numpy"),
    ],
)
def test_bench_refuses_what_it_cannot_run(options, message):
    with pytest.raises(SystemExit, match=message):
        main(["bench", *options])


@pytest.mark.parametrize("shape", ["7", "axb", "1x2x3x4x5x6"])
def test_bench_refuses_a_shape_that_is_none(shape, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["bench", "--shapes", shape])
    assert stopped.value.code == 2
    assert "--shapes" in capsys.readouterr().err


def test_a_broken_bound_is_told_and_fails(capsys):
    job = Job("layer_norm", (4, 8))
    measured = Measurement(
        job, {"fastnorm": Timing(1e-6, 5.0), "copy": Timing(5e-7), "numpy": Timing(1e-5, 1.0)}
    )
    assert report.tell([measured], ["numpy"]) == 1
    printed = capsys.readouterr().out
    assert "WRONG: layer norm 4×8: 5 roundings, at most 4 are allowed" in printed
    assert "10 (10×)" in printed and "50%" in printed


def test_what_is_not_offered_is_noted_and_breaks_nothing(capsys):
    job = Job("layer_norm", (4, 8), dtype="float16")
    missing = dict.fromkeys(["fastnorm", "copy", "numpy"], Timing(note="no float16 yet"))
    assert report.tell([Measurement(job, missing)], ["numpy"]) == 0
    assert "layer norm 4×8 float16: no float16 yet" in capsys.readouterr().out


def test_warmup_tells_where_the_kernels_are(capsys):
    assert main(["warmup", "--norms", "rms_norm", "--dtypes", "float32"]) == 0
    assert "MiB" in capsys.readouterr().out


def test_a_plain_table_is_aligned(capsys):
    show.table(["job", "µs"], [["a", "1"], ["longer", "123"]])
    assert capsys.readouterr().out.splitlines() == [
        "job      µs",
        "------  ---",
        "a         1",
        "longer  123",
    ]


def test_a_terminal_gets_a_table_and_a_bar(monkeypatch):
    console = pytest.importorskip("rich.console").Console(file=io.StringIO(), force_terminal=True, width=60)
    monkeypatch.setattr(show, "_console", lambda: console)
    show.table(["job", "µs"], [["layer norm", "1"]])
    with show.progress(2) as begin:
        begin("first")
        begin("second")
    printed = console.file.getvalue()
    assert "layer norm" in printed and "second" in printed and "1/2" in printed


def test_a_terminal_without_rich_gets_a_counter(capsys, monkeypatch):
    monkeypatch.setattr(show, "_console", lambda: None)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with show.progress(2) as begin:
        begin("first")
        begin("second")
    assert "2/2 second" in capsys.readouterr().err

"""What the command line writes besides its table: Markdown into documents, and a plot."""

import pytest

from fastnorm._bench.cases import LADDERS, Job
from fastnorm._bench.race import Measurement, Timing
from fastnorm._cli import main, markdown, plot


def measured(job, fastnorm, copy, numpy, torch=None):
    seconds = {"fastnorm": fastnorm, "copy": copy, "numpy": numpy, "torch": torch}
    timings = {name: Timing(s and s * 1e-6, 1.0 if s else None) for name, s in seconds.items()}
    return Measurement(job, timings)


MEASURED = [
    measured(Job("layer_norm", (4, 8)), 100, 50, 400, 200),
    measured(Job("layer_norm", (16, 8)), 100, 200, 1600, 50),
    measured(Job("batch_norm", (4, 8), mode="backward"), 100, 50, 900),
]
PEERS = ["numpy", "torch"]


def test_the_summary_has_geometric_means_and_the_closest_peer():
    columns, rows = markdown.summary(MEASURED, PEERS)
    assert columns == ["norm", "jobs", "of copy", "NumPy", "PyTorch", "best peer, at least"]
    assert rows == [
        ["layer norm", "2", "100%", "8×", "1×", "0.5×"],
        ["batch norm backward", "1", "50%", "9×", "–", "9×"],
        ["all", "3", "79%", "8.3×", "1×", "0.5×"],
    ]


def test_out_is_no_peer_to_be_beaten():
    timings = {"fastnorm": Timing(1e-4), "copy": Timing(1e-4), "fastnorm_out": Timing(5e-5)}
    _, rows = markdown.summary([Measurement(Job("rms_norm", (4, 8)), timings)], ["fastnorm_out"])
    assert rows[-1] == ["all", "1", "100%", "0.5×", "–"]


def test_a_table():
    assert markdown.table(["job", "µs"], [["a", "1"]]) == "| job | µs |\n| --- | ---: |\n| a | 1 |\n"


def test_documents_are_filled_in_again_and_again(tmp_path):
    document, new = tmp_path / "document.md", tmp_path / "new.md"
    document.write_text("before\n<!-- bench jobs: begin -->\nold\n<!-- bench jobs: end -->\nafter\n")
    for _ in range(2):
        markdown.write([document, new], MEASURED, PEERS)
        text = document.read_text()
        assert text.startswith("before\n<!-- bench jobs: begin -->\n\n| job |")
        assert text.endswith("<!-- bench jobs: end -->\nafter\n")
        assert "old" not in text and "jobs |" not in text
        assert text.count("| layer norm 16×8 | 1.0 | 100 |") == 1 and text.count("fastnorm 0") == 1
        assert new.read_text().count("| layer norm | 2 |") == new.read_text().count("layer norm 4×8") == 1


def test_bench_fills_in_documents(tmp_path, capsys):
    document = tmp_path / "document.md"
    job = ["--norms", "layer_norm", "--shapes", "4x8", "--jobs", "backward", "--peers", "numpy"]
    assert main(["bench", *job, "--markdown", str(document)]) == 0
    assert "| layer norm backward 4×8 |" in document.read_text()
    document.write_text("no place\n")
    with pytest.raises(SystemExit, match="no place for a table"):
        main(["bench", *job, "--markdown", str(document)])
    assert document.read_text() == "no place\n"


def test_ladders_climb_from_one_sample_to_out_of_cache():
    for jobs in LADDERS.values():
        assert jobs[0].shape[0] == 1 and jobs[-1].traffic > 100e6


def test_the_same_figures_give_the_same_picture(tmp_path):
    pytest.importorskip("matplotlib")
    files = [tmp_path / "1.svg", tmp_path / "2.svg"]
    for file in files:
        plot.draw({"layer norm": MEASURED[:2], "batch norm": MEASURED[2:]}, str(file))
    text = files[0].read_text()
    assert text == files[1].read_text()
    assert text.startswith("<?xml")


def test_plot_races_up_the_ladders(tmp_path, monkeypatch, capsys):
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(plot, "LADDERS", {"layer norm": [Job("layer_norm", (n, 8)) for n in (1, 2)]})
    file = tmp_path / "plot.svg"
    assert main(["plot", str(file), "--peers", "numpy"]) == 0
    assert file.stat().st_size > 0
    assert "layer norm 2×8" in capsys.readouterr().out
    monkeypatch.setattr(plot, "find_spec", lambda name: None)
    with pytest.raises(SystemExit, match="needs matplotlib"):
        main(["plot", str(file)])

"""What is raced against compositions computes what they compute; the command prints and writes its table."""

import numpy as np
import pytest

from fastnorm.__main__ import main
from fastnorm._bench.composed import cases
from fastnorm._bench.composed.case import Case
from fastnorm._bench.composed.race import NUMPY, OURS, TORCH, prepare

# Cases out of cache take seconds and gigabytes, and differ from those in cache by their sizes alone.
_LARGE = 1 << 24


def _in_cache(name):
    given = cases()[name].make(np.random.default_rng(0))
    if sum(a.nbytes for a in given if isinstance(a, np.ndarray)) > _LARGE:
        pytest.skip("out of cache")
    return cases()[name]


@pytest.mark.parametrize("name", cases())
def test_ours_is_what_numpy_composes(name):
    runner = prepare(_in_cache(name), OURS)
    assert runner is not None and runner.number >= 1


@pytest.mark.parametrize("name", cases())
def test_ours_is_what_torch_composes(name):
    pytest.importorskip("torch")
    case = _in_cache(name)
    assert (prepare(case, TORCH) is None) == (case.torch is None)


def test_another_result_is_an_error():
    case = Case("wrong", lambda rng: (rng.standard_normal(3),), lambda x: x + 0.01, lambda x: x)
    with pytest.raises(AssertionError, match="wrong: fastnorm and NumPy compute different things"):
        prepare(case, OURS)
    assert prepare(case, TORCH) is None and prepare(case, NUMPY) is not None


def test_command(tmp_path, capsys):
    document = tmp_path / "table.md"
    assert main(["composed", "--jobs", "FiLM + ReLU, 8", "--markdown", str(document)]) == 0
    assert "FiLM + ReLU, 8×64×56×56" in capsys.readouterr().out
    assert "python -m fastnorm composed" in document.read_text()
    with pytest.raises(SystemExit, match="no case fits"):
        main(["composed", "--jobs", "no such norm"])

"""The pictures of the norms that are committed are those that the script draws."""

import importlib.util
from pathlib import Path

import pytest

NORMS = Path(__file__).resolve().parents[1] / "docs" / "norms"

if not NORMS.is_dir():
    pytest.skip("the documents are not here", allow_module_level=True)

_spec = importlib.util.spec_from_file_location("draw", NORMS / "draw.py")
_drawing = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_drawing)


@pytest.mark.parametrize("name", _drawing.PICTURES)
def test_picture_is_drawn_anew(name):
    committed = (NORMS / f"{name}.svg").read_text(encoding="utf-8")
    assert committed == _drawing.draw(name), "python docs/norms/draw.py draws it anew"


def test_no_picture_is_left_over():
    assert {path.stem for path in NORMS.glob("*.svg")} == set(_drawing.PICTURES)

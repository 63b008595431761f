"""The examples in the documents print what they say, or run where they say nothing."""

import doctest
import re
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[1] / "docs"

if not DOCS.is_dir():
    pytest.skip("the documents are not here", allow_module_level=True)

PAGES = sorted(DOCS.rglob("*.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_examples_print_what_they_say(page):
    failures, _ = doctest.testfile(str(page), module_relative=False, encoding="utf-8")
    assert failures == 0


SILENT = [
    pytest.param(code, id=f"{page.relative_to(DOCS)}-{number}")
    for page in PAGES
    for number, code in enumerate(re.findall("```python\n(.*?)```", page.read_text(encoding="utf-8"), re.S))
]


@pytest.mark.parametrize("code", SILENT)
def test_examples_run(code):
    exec(code, {"__name__": "__main__"})

"""The documents name what there is: every norm has a page, every page a norm, and every link leads somewhere."""

import re
from pathlib import Path

import pytest

import fastnorm
from fastnorm import reference

ROOT = Path(__file__).resolve().parents[1]
NORMS = ROOT / "docs" / "norms"

if not NORMS.is_dir():
    pytest.skip("the documents are not here", allow_module_level=True)

PAGES = sorted(path.stem for path in NORMS.glob("*.md") if path.stem != "README")
FUNCTIONS = [
    name
    for name in fastnorm.__all__
    if name.islower()
    and not name.endswith("_backward")
    and "functional" in getattr(fastnorm, name).__module__
]
# Functions that are explained on the page of another.
BESIDE = {
    "add_layer_norm": "layer_norm",
    "add_rms_norm": "rms_norm",
    "deep_norm_constants": "deep_norm",
    "layer_norm_int8": "layer_norm",
    "rms_norm_int8": "rms_norm",
}
# Statistics of data, which normalize nothing by themselves.
NOT_DRAWN = {"moments", "standardizer"}
DOCUMENTS = [
    *(ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "CHANGELOG")),
    *(ROOT / "examples").glob("*.md"),
    *(ROOT / "docs").rglob("*.md"),
]


def _read(path):
    return path.read_text(encoding="utf-8")


def _anchors(text):
    """Those of a document's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_norm_has_a_page(name):
    page = BESIDE.get(name, name)
    assert page in PAGES
    assert name in _read(NORMS / f"{page}.md")


@pytest.mark.parametrize("page", PAGES)
def test_every_page_is_of_something_public_and_in_the_index(page):
    public = {name.replace("_", "").lower() for name in (*fastnorm.__all__, "Standardizer")}
    assert page.replace("_", "") in public
    assert f"]({page}.md)" in _read(NORMS / "README.md")
    if page in FUNCTIONS:
        assert callable(getattr(fastnorm, page)) and callable(getattr(reference, page))
    if page not in NOT_DRAWN:
        assert f"]({page}.svg)" in _read(NORMS / f"{page}.md") and (NORMS / f"{page}.svg").is_file()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document):
    text = _read(document)
    for target in re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'(?:href|src)="([^"]+)"', text):
        if re.match(r"https?:", target):
            continue
        name, _, anchor = target.partition("#")
        path = document.parent / name if name else document
        assert path.exists(), target
        assert not anchor or anchor in _anchors(_read(path)), target

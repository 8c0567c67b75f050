"""Every Python example of the README and the docs runs as it stands, in order, in one program per page."""

import linecache
import re
import sys
import types
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```\s*$", re.MULTILINE | re.DOTALL)


def python_of(page: Path) -> str:
    """The Python blocks of a page; every other line is empty, so that line numbers are the page's."""
    text = page.read_text(encoding="utf-8")
    lines = [""] * (text.count("\n") + 2)
    for block in FENCE.finditer(text):
        if block[1] == "python":
            first = text.count("\n", 0, block.start(2))
            lines[first : first + block[2].count("\n")] = block[2].splitlines()
    return "\n".join(lines) + "\n"


ALL_PAGES = [*PAGES, *(ROOT / name for name in ("ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"))]
WITH_PYTHON = [page for page in PAGES if python_of(page).strip()]


@pytest.mark.parametrize("page", WITH_PYTHON, ids=lambda page: page.name)
@pytest.mark.usefixtures("reader_folder")
def test_the_examples_of_a_page_run(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a module of their own, whose source can be read back as a notebook's can."""
    source = python_of(page)
    module = types.ModuleType(f"page_{page.stem.lower()}")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    name = str(page)
    monkeypatch.setitem(linecache.cache, name, (len(source), None, source.splitlines(keepends=True), name))
    exec(compile(source, name, "exec"), module.__dict__)


def test_a_wrong_example_is_noticed_with_its_line(tmp_path: Path) -> None:
    """The twin: a page whose second block is wrong fails at the line of the page."""
    page = tmp_path / "page.md"
    page.write_text("\n```python\na = 1\n```\n\n```bash\nnot python\n```\n\n```python\nb = a / 0\n```\n")
    with pytest.raises(ZeroDivisionError) as caught:
        exec(compile(python_of(page), str(page), "exec"), {})
    assert caught.traceback[-1].lineno == 10  # counted from 0: line 11 of the page


@pytest.mark.parametrize(
    "page", [*PAGES, ROOT / "ARCHITECTURE.md", ROOT / "CONTRIBUTING.md"], ids=lambda p: p.name
)
def test_links_and_pictures_of_a_page_exist(page: Path) -> None:
    """A relative link leads to a file of the project."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", text)
    missing = [t for t in targets if "://" not in t and not (page.parent / t).exists()]
    assert missing == []


def test_the_index_leads_to_every_page() -> None:
    """A page that nobody can find is not there."""
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    lost = [page.name for page in PAGES[1:] if page.name != "index.md" and f"({page.name})" not in index]
    assert lost == []

"""Every link target on the Markdown pages exists: files, headings, paths written as code."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    {*ROOT.glob("*.md")}.union(
        *(ROOT.glob(f"{each}/**/*.md") for each in ("docs", "deploy", "tests"))
    )
)
_LINK = re.compile(r"\[([^\]]*)\]\(([^)\s]+)\)")
_PATH = re.compile(r"`((?:src|tests|docs|deploy|bench|tools)/[\w./-]+)`")


def _prose(page: Path) -> str:
    """Return the page without its code blocks."""
    return re.sub(r"^```.*?^```|^ {4}.*?$", "", page.read_text("utf-8"), flags=re.M | re.S)


def _anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", _prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings}


def _names(module: Path) -> set[str]:
    """Return the names a Python file defines."""
    return set(re.findall(r"^ *(?:async )?(?:def|class) (\w+)", module.read_text("utf-8"), re.M))


def _is_broken(page: Path, text: str, link: str) -> bool:
    path, _, anchor = link.partition("#")
    target = page.parent / path if path else page
    if not target.exists():
        return True
    if target.suffix == ".py" and text.startswith("`"):  # [`Class.method`](file.py)
        return text.strip("`").rpartition(".")[2] not in _names(target)
    return bool(anchor) and anchor not in _anchors(target)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_and_path_exists(page: Path) -> None:
    prose = _prose(page)
    links = [each for each in _LINK.findall(prose) if not re.match(r"[a-z]+:", each[1])]
    assert not [link for link in links if _is_broken(page, *link)]
    assert not [path for path in _PATH.findall(prose) if not (ROOT / path).exists()]


def test_the_map_of_the_tests_lists_every_directory() -> None:
    page = (ROOT / "tests" / "README.md").read_text("utf-8")
    directories = {test.parent.name for test in ROOT.glob("tests/*/test_*.py")}
    assert directories <= set(re.findall(r"\[(\w+)\]\(", page))


def test_breaking_changes_come_first_in_each_version() -> None:
    versions = (ROOT / "CHANGELOG.md").read_text("utf-8").split("\n## ")[1:]
    assert versions
    for version in versions:
        sections = re.findall(r"^### (.+)$", version, re.MULTILINE)
        assert "Breaking" not in sections[1:]

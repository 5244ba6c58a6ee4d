"""Links between pages, and what no page may say."""

import ast
import re
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, all_pages, anchors, links

PAGES = all_pages()
THREATS = ROOT / "docs" / "why" / "threats.md"
_NAMED_TEST = re.compile(r"`(tests/[\w/.-]+\.py)::(\w+)`")
_MACHINE_PATH = re.compile(r"(?<![\w.$}/-])/(?:work|home|root|Users|mnt|srv)/")


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_a_link_leads_somewhere(page: Path) -> None:
    """Every link to a file or a heading of this repository is right."""
    for link in links(page):
        if link.startswith(("https://", "http://")):
            continue
        path, _, fragment = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert target.is_relative_to(ROOT), link
        if fragment:
            assert fragment in anchors(target), link


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_a_page_names_no_path_of_a_machine(page: Path) -> None:
    """No page holds a path of the machine that it was written on."""
    assert not _MACHINE_PATH.search(page.read_text("utf-8"))


def test_every_page_can_be_found_from_the_readme() -> None:
    """Following links from the README leads to every page."""
    seen: set[Path] = set()
    waiting = [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        seen.add(page)
        for link in links(page):
            target = (page.parent / link.partition("#")[0]).resolve()
            if target.suffix == ".md" and target.exists() and target not in seen:
                waiting.append(target)
    assert set(PAGES) <= seen


def test_every_path_in_the_feature_table_exists() -> None:
    """What the README says is tested is tested where it says."""
    readme = (ROOT / "README.md").read_text("utf-8")
    named = re.findall(r"`((?:tests|benchmarks|src|docs|examples)/[\w./-]*)`", readme)
    assert named
    assert [path for path in named if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_test_that_a_page_names_exists(page: Path) -> None:
    """What a page says is proved by a test, as `tests/…/test_x.py::test_fact`, has that test."""
    for path, test in _NAMED_TEST.findall(page.read_text("utf-8")):
        assert test in _defined(ROOT / path), f"{path}::{test}"


def test_every_defence_has_a_test() -> None:
    """Each row of a table of the threat model names at least one test."""
    rows = re.findall(r"^\| (?!-|attack)(.*) \|$", THREATS.read_text("utf-8"), re.MULTILINE)
    assert rows
    assert [row for row in rows if not _NAMED_TEST.search(row)] == []


def _defined(file: Path) -> set[str]:
    """The functions, classes and names that a file of tests defines at its top or in a class."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign):
            found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return found

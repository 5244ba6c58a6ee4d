"""Links between pages, and what no page may say."""

import re
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, all_pages, anchors, links

PAGES = all_pages()
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

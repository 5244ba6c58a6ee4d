"""Pages as tests see them: code blocks with what they print, and links."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
_FENCE = re.compile(r"^```(\w*)[ ]*(\S*)$")
_HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


@dataclass(frozen=True)
class Block:
    """A fenced block. `file` is the name behind the language, `shown` the text block after it."""

    line: int
    language: str
    file: str
    text: str
    shown: str = ""


def all_pages() -> list[Path]:
    """README, CHANGELOG, CONTRIBUTING and everything in `docs/`."""
    tops = [ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")]
    return [*tops, *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(page: Path) -> list[Block]:
    """The page's blocks; a `text` block directly after code is what that code prints."""
    found: list[Block] = []
    for block in _fenced(page.read_text("utf-8")):
        last = found[-1] if found else None
        if block.language == "text" and last is not None and last.language in ("bash", "python"):
            found[-1] = Block(last.line, last.language, last.file, last.text, block.text)
        found.append(block)
    return found


def _fenced(text: str) -> Iterator[Block]:
    opening: tuple[int, str, str] | None = None
    inside: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        fence = _FENCE.match(line)
        if opening is None and fence:
            opening, inside = (number, fence[1], fence[2]), []
        elif opening is not None and line == "```":
            yield Block(*opening, "\n".join(inside) + "\n")
            opening = None
        elif opening is not None:
            inside.append(line)
    if opening is not None:
        raise AssertionError(f"the block of line {opening[0]} never ends")


def links(page: Path) -> list[str]:
    """Where the page's links go, code aside."""
    text = re.sub(r"```.*?^```", "", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    return _LINK.findall(re.sub(r"`[^`\n]*`", "", text))


def anchors(page: Path) -> set[str]:
    """The fragments that a page's headings can be linked by, as GitHub makes them."""
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        for heading in _HEADING.findall(page.read_text("utf-8"))
    }

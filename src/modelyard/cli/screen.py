"""What people and programs see: results on stdout, everything else on stderr."""

import sys
from collections.abc import Sequence

Row = Sequence[object]


def note(text: str) -> None:
    """Say something that is not the result."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def say(text: str = "") -> None:
    """Write a line of the result."""
    sys.stdout.write(f"{text}\n")


def say_json(value: object) -> None:
    """Write the result as one JSON document; indented for eyes, one line for programs."""
    import msgspec

    data = msgspec.json.encode(value)
    if sys.stdout.isatty():
        data = msgspec.json.format(data, indent=2)
    say(data.decode())


def say_table(headings: Sequence[str], rows: Sequence[Row], title: str = "") -> None:
    """Write a table: drawn on a terminal, aligned columns where it is piped."""
    texts = [[_text(value) for value in row] for row in rows]
    if sys.stdout.isatty():
        _draw(headings, texts, title)
        return
    if title:
        say(title)
    widths = [max(len(cell) for cell in column) for column in zip(headings, *texts, strict=True)]
    for line in (headings, *texts):
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        say("  ".join(cells).rstrip())


def say_facts(facts: Sequence[tuple[str, object]]) -> None:
    """Write names and values, one a line; those without a value are left out."""
    shown = [(name, text) for name, value in facts if (text := _text(value))]
    width = max((len(name) for name, _ in shown), default=0)
    for name, text in shown:
        say(f"{name.ljust(width)}  {text}")


def _draw(headings: Sequence[str], texts: Sequence[Sequence[str]], title: str) -> None:
    from rich.box import ROUNDED
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*headings, title=title or None, title_justify="left", box=ROUNDED)
    for line in texts:
        # A model may be called `[red]`: cells are text, never markup.
        table.add_row(*(Text(cell, style=_STYLES.get(cell, "")) for cell in line))
    Console().print(table)


_STYLES = {
    "accepted": "green",
    "passed": "green",
    "ok": "green",
    "equal": "green",
    "rejected": "red",
    "failed": "red",
    "bad": "red",
}


def _text(value: object) -> str:
    import datetime

    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, datetime.datetime):
        return value.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(value, list | tuple):
        return ", ".join(_text(each) for each in value)
    return str(value)

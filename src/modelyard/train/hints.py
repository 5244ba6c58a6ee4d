"""What a message says to do next: the nearest name, a short list, the pip command for an extra."""

import difflib
from collections.abc import Iterable, Sequence
from importlib import import_module

from modelyard.core.errors import MissingExtra


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'target'?` for a near name, else the known names."""
    names = sorted(known)
    near = difflib.get_close_matches(word, names, n=1)
    return f"; did you mean '{near[0]}'?" if near else f"; known are {quoted(names)}"


def quoted(values: Sequence[object], limit: int = 12) -> str:
    """The values between quotes and commas, at most `limit` of them."""
    shown = ", ".join(f"'{value!s:.60}'" for value in values[:limit])
    return f"{shown} and {len(values) - limit:,} more" if len(values) > limit else shown


def counted(number: int, noun: str) -> str:
    """`1 row`, `2 rows`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def require(module: str, extra: str, needed_for: str) -> None:
    """Raise `MissingExtra` unless the module can be imported."""
    try:
        import_module(module)
    except ImportError:
        raise MissingExtra(extra, needed_for) from None

"""Changes of a route's options: what each takes, and what it may be set to."""

import dataclasses
import difflib
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, get_args

from modelyard.core.errors import Invalid
from modelyard.core.route import Isolation, Options, Place


@dataclass(frozen=True, slots=True)
class _Number:
    """A number in a range."""

    low: float
    high: float
    is_whole: bool = True

    def read(self, value: object) -> int | float:
        if isinstance(value, bool):
            raise ValueError
        if isinstance(value, str):
            number: int | float = int(value) if self.is_whole else float(value)
        elif isinstance(value, int) or (isinstance(value, float) and not self.is_whole):
            number = value
        else:
            raise ValueError
        if not self.low <= number <= self.high:
            raise ValueError
        return number if self.is_whole else float(number)

    def __str__(self) -> str:
        kind = "a whole number" if self.is_whole else "a number"
        return f"{kind} from {self.low:.15g} to {self.high:.15g}"


@dataclass(frozen=True, slots=True)
class _Numbers:
    """Some numbers, each in a range; as text with commas between them."""

    each: _Number

    def read(self, value: object) -> tuple[int | float, ...]:
        parts = value.split(",") if isinstance(value, str) else value
        if not isinstance(parts, Sequence):
            raise ValueError
        return tuple(sorted({self.each.read(part) for part in parts}))

    def __str__(self) -> str:
        return f"numbers such as 8,32, each {self.each}"


@dataclass(frozen=True, slots=True)
class _Word:
    """One of some words."""

    words: Collection[str]

    def read(self, value: object) -> str:
        if value not in self.words:
            raise ValueError
        return str(value)

    def __str__(self) -> str:
        return " or ".join(f"'{word}'" for word in self.words)


_HEADER: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}")
"""RFC 9110, 5.1: a field name is a token."""
_ROWS: Final = _Number(1, 2**20)
_KINDS: Final[Mapping[str, _Number | _Numbers | _Word]] = {
    "queue_rows": _Number(1, 2**31),
    "max_batch_rows": _ROWS,
    "window_us": _Number(0, 10**6),
    "preferred_rows": _Numbers(_ROWS),
    "inline_us": _Number(0, 10**6),
    "lanes": _Number(1, 1024),
    "threads": _Number(1, 1024),
    "p99_ms": _Number(0.1, 3_600_000, is_whole=False),
    "timeout_ms": _Number(1, 86_400_000, is_whole=False),
    "cache_bytes": _Number(0, 2**40),
    "isolation": _Word(get_args(Isolation)),
    "place": _Word(get_args(Place)),
}


def change_options(present: Options, changes: Mapping[str, object]) -> Options:
    """The options with some set, from values or their text; None unsets one.

    Raises `Invalid` for an unknown name or a value out of its range.
    """
    return dataclasses.replace(
        present, **{name: _read(name, value) for name, value in changes.items()}
    )


def parse_assignments(assignments: Sequence[str], unset: Sequence[str] = ()) -> dict[str, object]:
    """The changes that `NAME=VALUE` texts ask for, and names to unset; raises `Invalid`."""
    changes: dict[str, object] = {}
    for text in assignments:
        name, equals, value = text.partition("=")
        if not equals:
            raise Invalid("bad_option", f"'{text:.80}' sets nothing: write NAME=VALUE", field=name)
        changes[name.strip()] = value.strip()
    return changes | dict.fromkeys(unset)


def set_options(options: Options) -> dict[str, Any]:
    """Those that are set, by name."""
    return {
        field.name: value
        for field in dataclasses.fields(options)
        if (value := getattr(options, field.name)) != field.default
    }


def check_header(name: str) -> str:
    """A header's name in lower case, or empty for none; raises `Invalid`."""
    if name and not _HEADER.fullmatch(name):
        raise Invalid(
            "bad_header",
            f"'{name:.80}' is no header: write a name such as x-user",
            field="sticky",
        )
    return name.lower()


def _read(name: str, value: object) -> Any:
    kind = _KINDS.get(name)
    if kind is None:
        near = difflib.get_close_matches(name, _KINDS, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"there are {', '.join(_KINDS)}"
        raise Invalid("unknown_option", f"a route has no option '{name:.80}'; {hint}", field=name)
    if value is None:
        return getattr(Options(), name)
    try:
        return kind.read(value)
    except ValueError:
        raise Invalid(
            "bad_option", f"'{name}' takes {kind}, not '{value!s:.80}'", field=name
        ) from None

"""Writes the values of a recipe as TOML; the standard library only reads it.

One value has one spelling: keys in the order given, strings as TOML basic strings, floats with
the fewest digits that read back to the same bits.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence

_BARE = re.compile(r"[A-Za-z0-9_-]+")


def dumps(document: Mapping[str, object]) -> str:
    """A TOML document of strings, numbers, booleans, lists and tables, None left out."""
    return "".join(_table(document, ())).lstrip("\n")


def _table(table: Mapping[str, object], path: tuple[str, ...]) -> list[str]:
    lines: list[str] = []
    # TOML gives everything after a [header] to it, so plain values come first.
    for key, value in table.items():
        if value is not None and not _is_table(value) and not _is_tables(value):
            lines.append(f"{_key(key)} = {_value(value)}\n")
    for key, value in table.items():
        here = (*path, key)
        if isinstance(value, Mapping):
            body = _table(value, here)
            if body and not body[0].startswith("\n"):
                lines.append(f"\n[{_dotted(here)}]\n")
            lines += body
        elif _is_tables(value) and isinstance(value, Sequence):
            for each in value:
                lines.append(f"\n[[{_dotted(here)}]]\n")
                lines += _table(each, here)
    return lines


def _is_table(value: object) -> bool:
    return isinstance(value, Mapping)


def _is_tables(value: object) -> bool:
    return (
        isinstance(value, Sequence)
        and not isinstance(value, str)
        and bool(value)
        and all(isinstance(each, Mapping) for each in value)
    )


def _dotted(path: tuple[str, ...]) -> str:
    return ".".join(map(_key, path))


def _key(key: str) -> str:
    return key if _BARE.fullmatch(key) else _string(key)


def _string(text: str) -> str:
    # JSON's escapes are a subset of TOML's; DEL is the one character that only TOML forbids bare.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        if math.isinf(value) or math.isnan(value):
            return str(value)
        text = repr(value)
        return text if "." in text or "e" in text else f"{text}.0"
    if isinstance(value, Mapping):
        inner = (f"{_key(key)} = {_value(each)}" for key, each in value.items() if each is not None)
        return "{ " + ", ".join(inner) + " }"
    if isinstance(value, Sequence):
        return "[" + ", ".join(map(_value, value)) + "]"
    raise TypeError(f"TOML has no {type(value).__name__}")

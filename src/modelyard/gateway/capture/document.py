"""What is kept of a call: its tensors as a document, without what a policy wants gone.

Everything is dropped before anything is written: what leaves here has never held it.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from modelyard.core.datatypes import Array, Datatype
from modelyard.core.policy import Capture
from modelyard.core.selectors import ANY, Selector
from modelyard.core.signature import Signature, TensorSpec

_OPTIONS: Final = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS
_MOST_SUBJECTS: Final = 1000


class UnattributableError(Exception):
    """Nobody can say whom the payload is about, so that it could never be erased."""


@dataclass(frozen=True, slots=True)
class Content:
    """What a call carried. Arrays belong to somebody else and are only read."""

    signature: Signature
    inputs: Mapping[str, Array]
    outputs: Mapping[str, Array] | None
    rows: int
    error: str = ""


@dataclass(frozen=True, slots=True)
class Part:
    """A document about one subject, "" for nobody, and the rows that it holds."""

    subject: str
    rows: int
    document: bytes


class Recipe:
    """How the payloads of one capture are written. Raises `Invalid` for paths that are none."""

    def __init__(self, capture: Capture) -> None:
        self._redacted = tuple(Selector.parse(each) for each in capture.redact)
        self._subject = Selector.parse(capture.subject) if capture.subject else None

    def parts(self, content: Content) -> Iterator[Part]:
        """One document for each subject of a call; its rows are told apart by whom they are about.

        Raises `UnattributableError` where the policy names a subject and some row has none.
        """
        if self._subject is None:
            yield Part("", content.rows, self._document(content, None))
            return
        groups = self._groups(content, self._subject)
        if not content.signature.batched and len(groups) > 1:
            raise UnattributableError
        for subject, rows in groups.items():
            whole = len(rows) == content.rows or not content.signature.batched
            document = self._document(content, None if whole else rows)
            yield Part(subject, content.rows if whole else len(rows), document)

    def _groups(self, content: Content, selector: Selector) -> dict[str, list[int]]:
        groups: dict[str, list[int]] = {}
        for row, value in enumerate(_values(content, selector)):
            subject = _text(value)
            if not subject:
                raise UnattributableError
            groups.setdefault(subject, []).append(row)
        if not groups or len(groups) > _MOST_SUBJECTS:
            raise UnattributableError
        return groups

    def _document(self, content: Content, rows: list[int] | None) -> bytes:
        document: dict[str, Any] = {}
        sides = (
            ("inputs", content.inputs, content.signature.inputs),
            ("outputs", content.outputs, content.signature.outputs),
        )
        for root, arrays, specs in sides:
            if arrays is not None:
                known = {spec.name: spec for spec in specs}
                document[root] = {
                    name: written
                    for name, array in arrays.items()
                    if (written := self._tensor(root, known.get(name), name, array, rows))
                    is not None
                }
        if content.error:
            document["error"] = content.error
        if self._redacted:
            document["redacted"] = [each.text for each in self._redacted]
        return orjson.dumps(document, option=_OPTIONS)

    def _tensor(
        self, root: str, spec: TensorSpec | None, name: str, array: Array, rows: list[int] | None
    ) -> dict[str, Any] | None:
        """A tensor's part of the document; None where it is to be gone altogether."""
        meant = [
            each
            for each in self._redacted
            if not each.is_path or (each.root, each.name) == (root, name)
        ]
        if any(each.name == name and not each.inner for each in meant):
            return None
        chosen = array if rows is None else array[rows]
        datatype = Datatype.of(array.dtype)
        head = {"datatype": datatype, "shape": list(chosen.shape)}
        inner = [each.inner for each in meant if each.is_path]
        if spec is not None and spec.columns:
            gone = {each.name for each in meant if not each.is_path}
            gone |= {steps[0] for steps in inner if len(steps) == 1}
            return head | {"columns": _columns(spec, chosen, gone, inner)}
        return head | {"data": _elements(chosen, inner)}


def _columns(
    spec: TensorSpec, array: Array, gone: set[str], inner: Sequence[tuple[str, ...]]
) -> dict[str, Any]:
    deeper: dict[str, list[tuple[str, ...]]] = {}
    for steps in inner:
        if len(steps) > 1:
            rest = steps[2:] if steps[1] == ANY else steps[1:]
            deeper.setdefault(steps[0], []).append(rest)
    return {
        column.name: _elements(array[..., index], deeper.get(column.name, ()))
        for index, column in enumerate(spec.columns)
        if column.name not in gone
    }


def _elements(array: Array, inner: Sequence[tuple[str, ...]]) -> Any:
    """An array for the encoder, or lists where its texts hold JSON of which something must go."""
    if array.dtype != object:
        return array if array.flags.c_contiguous else array.copy()
    if not inner:
        return array.tolist()
    return _mapped(array.tolist(), inner)


def _mapped(value: Any, inner: Sequence[tuple[str, ...]]) -> Any:
    if isinstance(value, list):
        return [_mapped(each, inner) for each in value]
    return _without(value, inner)


def _without(text: str, inner: Sequence[tuple[str, ...]]) -> Any:
    """A text's JSON without what these paths lead to; nothing of a text that is no JSON.

    What cannot be read cannot be redacted.
    """
    if not all(inner):
        return None
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(value, dict | list):
        return None
    for steps in inner:
        _drop(value, steps)
    return value


def _drop(value: Any, steps: tuple[str, ...]) -> None:
    """Take away what a path leads to. Lists are walked through whether it says `[*]` or not."""
    if isinstance(value, list):
        rest = steps[1:] if steps[0] == ANY else steps
        if not rest:
            value.clear()
            return
        for each in value:
            _drop(each, rest)
    elif isinstance(value, dict):
        if len(steps) == 1:
            if steps[0] == ANY:
                value.clear()
            else:
                value.pop(steps[0], None)
        else:
            following = list(value.values()) if steps[0] == ANY else [value.get(steps[0])]
            for each in following:
                _drop(each, steps[1:])


def _values(content: Content, selector: Selector) -> list[Any]:
    """What a selector finds, one value a row; nothing where it finds nothing."""
    for spec in content.signature.inputs:
        array = content.inputs.get(spec.name)
        if array is None or (
            selector.is_path and (selector.root, selector.name) != ("inputs", spec.name)
        ):
            continue
        wanted = selector.inner if selector.is_path else selector.steps
        names = [column.name for column in spec.columns]
        if wanted and wanted[0] in names:
            found = _by_row(array[..., names.index(wanted[0])], content.rows)
            return _members(found, wanted[1:])
        if selector.is_path:
            return _members(_by_row(array, content.rows), wanted)
        if spec.name == selector.name:
            return _by_row(array, content.rows)
    return []


def _by_row(array: Array, rows: int) -> list[Any]:
    values: list[Any] = array.reshape(-1).tolist()
    # A tensor of several values a row says nothing of one subject.
    return values if len(values) == rows else []


def _members(values: list[Any], steps: Sequence[str]) -> list[Any]:
    if not steps:
        return values
    return [_member(value, steps) for value in values]


def _member(text: Any, steps: Sequence[str]) -> Any:
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    for step in steps:
        if not isinstance(value, dict):
            return None
        value = value.get(step)
    return value


def _text(value: Any) -> str:
    """A subject as people name it: 42 is the same whether a model takes it as text or a number."""
    if isinstance(value, float):
        if not math.isfinite(value):
            return ""
        return str(int(value) if value.is_integer() else value)
    if isinstance(value, str) or type(value) is int:
        return str(value)
    return ""

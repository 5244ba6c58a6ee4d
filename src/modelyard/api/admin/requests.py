"""Reading a request of an operation: from the path, the query and the JSON body, each once."""

import dataclasses
import difflib
import types
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec

from modelyard.core.administration.operation import Operation, Request
from modelyard.core.errors import Invalid

_JSON: Final = "application/json"
_LARGEST: Final = 2**63
_DEEPEST: Final = 32

Values = dict[str, Any]
R = TypeVar("R", bound=Request[Any])


def read_request(
    kind: type[R],
    path: Mapping[str, str],
    query: Iterable[tuple[str, str]],
    content_type: str = "",
    body: bytes = b"",
) -> R:
    """The request of that kind that was sent; raises `Invalid` naming the field at fault."""
    operation = kind.operation
    values = _read_texts(operation, path.items(), operation.in_path)
    values |= _read_texts(operation, query, operation.in_query)
    values |= _read_body(operation, content_type, body)
    missing = [
        field.name
        for field in dataclasses.fields(_declared(operation))
        if field.name not in values
        and field.default is field.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise Invalid("missing_field", f"'{missing[0]}' is missing", field=missing[0])
    request: R = _converted(values, kind)
    return request


def _read_texts(operation: Operation, given: Any, names: Sequence[str]) -> Values:
    hints = get_type_hints(operation.request)
    values: Values = {}
    for name, text in given:
        if name not in names:
            raise _unknown(name, names)
        if name in values:
            raise Invalid("repeated_field", f"'{name}' is given twice", field=name)
        _plain(text, name)
        given_value = text.split(",") if get_origin(hints[name]) is tuple else text
        values[name] = _plain(_converted(given_value, hints[name], name, strict=False), name)
    return values


def _read_body(operation: Operation, content_type: str, body: bytes) -> Values:
    if not body.strip():
        return {}
    if content_type.partition(";")[0].strip().lower() != _JSON:
        raise Invalid(
            "unsupported_content_type", f"the body must be {_JSON}, not '{content_type:.80}'"
        )
    try:
        content = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise Invalid("not_json", f"the body is not JSON: {error!s:.200}") from None
    if not isinstance(content, dict):
        raise Invalid("bad_request", "the body is no object")
    hints = get_type_hints(operation.request)
    for name, value in content.items():
        if name not in operation.in_body:
            raise _unknown(name, operation.in_body)
        _plain(value, name)
        _refuse_unknown(value, hints[name], name)
    return content


def _declared(operation: Operation) -> Any:
    return operation.request


def _converted(value: object, wanted: Any, where: str = "", *, strict: bool = True) -> Any:
    try:
        return msgspec.convert(value, wanted, strict=strict)
    except msgspec.ValidationError as error:
        said, _, path = str(error).partition(" - at `$")
        field = where or path.rstrip("`").lstrip(".")
        raise Invalid("bad_field", f"'{field:.80}': {said:.200}", field=field) from None


def _plain(value: object, where: str, depth: int = 0) -> object:
    """Refuse what no database takes: NUL in text, integers of more than 64 bits."""
    if depth > _DEEPEST:
        raise Invalid("bad_field", f"'{where}' is nested too deeply", field=where)
    if isinstance(value, str):
        if "\0" in value:
            raise Invalid("bad_field", f"'{where}' has a NUL character in it", field=where)
    elif isinstance(value, int) and not -_LARGEST <= value < _LARGEST:
        raise Invalid("bad_field", f"'{where}' is too large a number", field=where)
    elif isinstance(value, list):
        for each in value:
            _plain(each, where, depth + 1)
    elif isinstance(value, dict):
        for name, each in value.items():
            _plain(name, where, depth + 1)
            _plain(each, where, depth + 1)
    return value


def _refuse_unknown(value: object, wanted: Any, where: str) -> None:
    """Refuse members that a nested value has not; msgspec would pass over them."""
    if get_origin(wanted) in (Union, types.UnionType):
        for each in get_args(wanted):
            _refuse_unknown(value, each, where)
    elif isinstance(value, list):
        for each in value:
            for inner in get_args(wanted)[:1]:
                _refuse_unknown(each, inner, where)
    elif isinstance(value, dict) and dataclasses.is_dataclass(wanted):
        hints = get_type_hints(wanted)
        for name, each in value.items():
            if name not in hints:
                raise _unknown(f"{where}.{name}", [f"{where}.{known}" for known in hints])
            _refuse_unknown(each, hints[name], f"{where}.{name}")


def _unknown(name: str, known: Sequence[str]) -> Invalid:
    near = difflib.get_close_matches(name, known, n=1)
    if near:
        hint = f"did you mean '{near[0]}'?"
    else:
        hint = f"there are {', '.join(known)}" if known else "there are none"
    return Invalid("unknown_field", f"'{name:.80}' is no field here; {hint}", field=name[:80])

"""The OpenAPI 3.1 document of the administration, made from the table of operations."""

import dataclasses
import inspect
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, Final, get_type_hints

import msgspec

from modelyard.api.admin.answers import has_etag
from modelyard.api.admin.problems import PROBLEM
from modelyard.core.administration.operation import (
    LEAST_PAGE,
    LONGEST_PAGE,
    Body,
    Operation,
    Request,
)
from modelyard.core.administration.paths import PREFIX
from modelyard.core.administration.table import OPERATIONS
from modelyard.core.errors import Kind

_REFS: Final = "#/components/schemas/{name}"
_PROBLEMS: Final[Mapping[str, str]] = {
    "400": "The request is wrong; `field` names the part at fault.",
    "401": "Nobody knows who is asking: there is no key, or none that is good.",
    "403": "Who is asking may not do this, or not to this model.",
    "404": "There is no such thing.",
    "409": "The state of things forbids it; `code` says why.",
    "413": "The body is larger than the server accepts.",
    "415": "The body's content type is not the one that is taken here.",
    "429": "A bound was reached; try again after `Retry-After` seconds.",
    "500": "The server failed; its log has the rest, by `request_id`.",
    "503": "The registry, or something else that is needed, is down.",
}
_CONDITIONAL: Final = {
    "412": "Somebody has changed it since: its ETag is not the one in `If-Match`.",
}
_WHOLE: Final = {"428": "`If-Match` is missing: several people change this as a whole."}
_REPEATED: Final = {"422": "The `Idempotency-Key` was used for another request."}
_BOUNDS: Final = {"limit": {"minimum": LEAST_PAGE, "maximum": LONGEST_PAGE}}
_TEXT: Final = {"type": "string"}
_BINARY: Final[dict[str, Any]] = {}
"""A schema that says nothing: bytes are described by their media type (OpenAPI 3.1, 4.8.14.3)."""


@cache
def document(version: str) -> dict[str, Any]:
    """The whole document."""
    schemas = _schemas()
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        place = paths.setdefault(PREFIX + operation.path, {})
        place[operation.method.lower()] = _describe(operation, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Modelyard administration",
            "version": version,
            "description": "Everything that the command line can do. Lists come in pages, by "
            "`limit` and `cursor`. Errors are problem details (RFC 9457).",
        },
        "security": [{"bearer": []}, {"header": []}],
        "tags": [{"name": tag} for tag in dict.fromkeys(each.tag for each in OPERATIONS)],
        "paths": paths,
        "components": {
            "schemas": {**schemas.components, "Problem": _problem()},
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            },
        },
    }


class _Schemas:
    """The JSON schemas of all requests' fields and of all answers."""

    def __init__(self) -> None:
        wanted: list[Any] = []
        self._places: dict[tuple[Any, str], int] = {}
        for operation in OPERATIONS:
            for name, hint in get_type_hints(operation.request).items():
                if name != "operation":
                    self._places[operation.request, name] = len(wanted)
                    wanted.append(hint)
            self._places[operation.request, ""] = len(wanted)
            wanted.append(operation.answer if operation.gives is Body.JSON else None)
        self._schemas, self.components = msgspec.json.schema_components(wanted, ref_template=_REFS)

    def field(self, request: type[Request[Any]], name: str) -> dict[str, Any]:
        """Of one field of a request."""
        declared: Any = request
        [said] = (each.metadata for each in dataclasses.fields(declared) if each.name == name)
        return {**self._schemas[self._places[request, name]], **said, **_BOUNDS.get(name, {})}

    def answer(self, request: type[Request[Any]]) -> dict[str, Any]:
        """Of what answers a request."""
        return self._schemas[self._places[request, ""]]


@cache
def _schemas() -> _Schemas:
    return _Schemas()


def _describe(operation: Operation, schemas: _Schemas) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": operation.name,
        "tags": [operation.tag],
        "summary": operation.summary.rstrip("."),
        "description": inspect.getdoc(operation.request) or "",
        "parameters": [*_parameters(operation, schemas), *_headers(operation)],
        "responses": {
            str(operation.status): _answer(operation, schemas),
            **{status: _refused(text) for status, text in _refusals(operation)},
        },
        "x-modelyard-verb": operation.verb,
    }
    if has_etag(operation) and operation.method == "GET" and operation.gives is Body.JSON:
        described["responses"]["304"] = {"description": "It is as `If-None-Match` has it."}
    body = _request_body(operation, schemas)
    if body is not None:
        described["requestBody"] = body
    return described


def _parameters(operation: Operation, schemas: _Schemas) -> Iterable[dict[str, Any]]:
    for name in operation.in_path:
        # A path has no empty parts, and none in which a slash is a part's own.
        schema = {**schemas.field(operation.request, name), "minLength": 1, "pattern": "^[^/]+$"}
        yield {"name": name, "in": "path", "required": True, "schema": schema}
    for name in operation.in_query:
        yield {
            "name": name,
            "in": "query",
            "required": name in _required(operation),
            "schema": schemas.field(operation.request, name),
        }


def _headers(operation: Operation) -> Iterable[dict[str, Any]]:
    if operation.changes and operation.once:
        yield _header(
            "Idempotency-Key",
            "A name of this request: sent again within 24 hours, it is done once.",
            {**_TEXT, "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
        )
    if operation.guards is not None:
        yield _header(
            "If-Match",
            "The ETag of what is changed, as its reader got it.",
            _TEXT,
            required=operation.must_match,
        )


def _header(
    name: str, text: str, schema: dict[str, Any], *, required: bool = False
) -> dict[str, Any]:
    return {
        "name": name,
        "in": "header",
        "required": required,
        "description": text,
        "schema": schema,
    }


def _required(operation: Operation) -> set[str]:
    declared: Any = operation.request
    return {
        each.name
        for each in dataclasses.fields(declared)
        if each.default is each.default_factory is dataclasses.MISSING
    }


def _request_body(operation: Operation, schemas: _Schemas) -> dict[str, Any] | None:
    if operation.takes is not Body.JSON:
        return {"required": True, "content": {operation.takes: {"schema": _BINARY}}}
    if not operation.in_body:
        return None
    required = [name for name in operation.in_body if name in _required(operation)]
    schema = {
        "type": "object",
        "properties": {name: schemas.field(operation.request, name) for name in operation.in_body},
        "required": required,
        "additionalProperties": False,
    }
    return {"required": bool(required), "content": {Body.JSON: {"schema": schema}}}


def _answer(operation: Operation, schemas: _Schemas) -> dict[str, Any]:
    schema = _BINARY if operation.gives is not Body.JSON else schemas.answer(operation.request)
    answer: dict[str, Any] = {
        "description": "Done" if operation.changes else "The answer",
        "content": {operation.gives: {"schema": schema}},
    }
    headers = {}
    if has_etag(operation) and operation.gives is Body.JSON:
        headers["ETag"] = {"schema": _TEXT}
    if operation.location:
        headers["Location"] = {"schema": _TEXT}
    if headers:
        answer["headers"] = headers
    return answer


def _refusals(operation: Operation) -> Iterable[tuple[str, str]]:
    yield from _PROBLEMS.items()
    if operation.guards is not None:
        yield from _CONDITIONAL.items()
    if operation.must_match:
        yield from _WHOLE.items()
    if operation.changes:
        yield from _REPEATED.items()


def _refused(text: str) -> dict[str, Any]:
    return {
        "description": text,
        "content": {PROBLEM: {"schema": {"$ref": _REFS.format(name="Problem")}}},
    }


def _problem() -> dict[str, Any]:
    return {
        "type": "object",
        "title": "Problem",
        "description": "Problem details, RFC 9457.",
        "properties": {
            "type": {**_TEXT, "description": "`urn:modelyard:error:` and the code."},
            "title": _TEXT,
            "status": {"type": "integer"},
            "detail": {**_TEXT, "description": "What happened, and what to do."},
            "instance": _TEXT,
            "code": {**_TEXT, "description": "Stable, for programs."},
            "kind": {"type": "string", "enum": [kind.value for kind in Kind]},
            "field": {**_TEXT, "description": "The part of the request that is at fault."},
            "request_id": _TEXT,
        },
        "required": [
            *("type", "title", "status", "detail", "instance", "code", "kind", "request_id"),
        ],
    }

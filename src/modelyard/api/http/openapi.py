"""The OpenAPI document: the protocol's paths, and one typed path for every model deployed."""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from modelyard.api.asks import seen_listings
from modelyard.api.http.clouds import CSV, LINES
from modelyard.api.http.contracts import INVOCATIONS, NO_CLOUD, PING, SCORE, Contracts
from modelyard.api.http.plain import plain_list
from modelyard.core.administration.paths import DOCUMENT as ADMINISTRATION
from modelyard.core.datatypes import Datatype
from modelyard.core.errors import ModelyardError
from modelyard.core.identity import Principal, Verb
from modelyard.core.ports import NO_HEADERS, Exchange, Served
from modelyard.core.signature import Column, Signature
from modelyard.core.table import PROBABILITIES

_ERROR_STATUSES: Final = {
    "400": "The input is wrong; `field` names the part at fault.",
    "401": "Nobody knows who is calling; send `Authorization: Bearer KEY`.",
    "403": "The caller's role or scope does not allow it, or not for this model.",
    "404": "No such model or version is deployed here.",
    "413": "The body is larger than the server accepts.",
    "415": "The content encoding is not understood.",
    "429": "Too much is waiting; try again after `Retry-After` seconds.",
    "500": "The server failed; the message names the call for the log.",
    "503": "The model is deployed but cannot be served at the moment.",
}
_READING_STATUSES: Final = {
    status: text
    for status, text in _ERROR_STATUSES.items()
    if status in ("401", "403", "404", "429", "503")
}
_NEGOTIATED: Final = {"406": "`Accept` takes no form that the answer comes in."}
_SECURITY_SCHEMES: Final = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}
_KEYED: Final[list[dict[str, list[str]]]] = [{scheme: []} for scheme in _SECURITY_SCHEMES]
_DATATYPES: Final = [datatype.value for datatype in Datatype]


def document(
    exchange: Exchange,
    version: str,
    principal: Principal,
    contracts: Contracts = NO_CLOUD,
    *,
    is_open: bool = False,
) -> dict[str, Any]:
    """The document as of now, OpenAPI 3.1, of the models that the caller may know of."""
    paths: dict[str, Any] = {
        "/v2": {"get": _get("Server metadata", "ServerMetadata")},
        "/v2/health/live": {"get": _health("Whether the process answers")},
        "/v2/health/ready": {"get": _health("Whether every deployed model answers")},
        "/v2/models/stats": {"get": _get("What every model has done so far", "ModelStatistics")},
        "/v2/repository/index": {
            "get": _get("Every deployed version and its state", "RepositoryIndex"),
            "post": _get("Every deployed version and its state", "RepositoryIndex"),
        },
    }
    paths |= _cloud_paths(exchange, principal, contracts)
    for listing in seen_listings(exchange, principal):
        if listing.ready:
            paths |= _model_paths(exchange.find(listing.model, str(listing.version)))
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Modelyard",
            "version": version,
            "description": "Models deployed on this server, over the Open Inference Protocol v2 "
            "and the plain row contracts.",
        },
        "externalDocs": {
            "description": "Administration: needs a key that may.",
            "url": ADMINISTRATION,
        },
        "paths": paths,
        "components": {"schemas": _schemas(), "securitySchemes": _SECURITY_SCHEMES},
        # On an open server callers need no key, and may send one.
        "security": [*_KEYED, {}] if is_open else _KEYED,
    }


def _cloud_paths(exchange: Exchange, principal: Principal, contracts: Contracts) -> dict[str, Any]:
    """What the clouds call; the rows are those of the model that such a path means now."""
    try:
        model = contracts.choose(exchange, NO_HEADERS, principal)
        principal.check(Verb.CALL, model)
        rows = _rows_request(exchange.find(model))
    except ModelyardError:
        rows = {"type": ["object", "array"]}
    tags = ["clouds"]
    invocations = _post("Call with rows, as SageMaker does", rows, _ref("Predictions"), tags)
    request, answer = invocations["requestBody"]["content"], invocations["responses"]["200"]
    for kind in (CSV, LINES):
        request[kind.decode()] = answer["content"][kind.decode()] = {"schema": {"type": "string"}}
    invocations["responses"] |= _errors(_NEGOTIATED)
    paths = {
        PING: {"get": _health("Whether this server answers calls, for SageMaker", tags)},
        INVOCATIONS: {"post": invocations},
        SCORE: {"post": _post("Call with rows, as Azure ML does", rows, _ref("Predictions"), tags)},
    }
    if contracts.health_route:
        paths.setdefault(contracts.health_route, {})["get"] = _health(
            "Whether this server answers calls, for Vertex AI", tags
        )
    if contracts.predict_route:
        answers = _object({"predictions": {"type": "array"}}, ["predictions"])
        paths.setdefault(contracts.predict_route, {})["post"] = _post(
            "Call with instances, as Vertex AI does", rows, answers, tags
        )
    return paths


def _model_paths(served: Served) -> dict[str, Any]:
    name = served.model
    tag = [name]
    metadata = _get(f"Metadata of {name}", "ModelMetadata", tag)
    infer = _post(f"Call {name} with tensors", _ref("InferRequest"), _ref("InferResponse"), tag)
    rows = _rows_request(served)
    one_or_many = {"anyOf": [_ref("Prediction"), _ref("Predictions")]}
    return {
        f"/v2/models/{name}": {"get": metadata},
        f"/v2/models/{name}/versions/{served.version}": {"get": metadata},
        f"/v2/models/{name}/ready": {"get": _answers(f"Whether {name} answers", tag)},
        f"/v2/models/{name}/config": {
            "get": _get(f"Configuration of {name}, in Triton's form", "ModelConfig", tag)
        },
        f"/v2/models/{name}/stats": {
            "get": _get(f"What {name} has done so far", "ModelStatistics", tag)
        },
        f"/v2/repository/models/{name}/load": {"post": _change(f"Load {name} anew", tag)},
        f"/v2/repository/models/{name}/unload": {"post": _change(f"Serve {name} no more", tag)},
        f"/v2/models/{name}/infer": {"post": infer},
        f"/v2/models/{name}/versions/{served.version}/infer": {"post": infer},
        f"/predict/{name}": {
            "post": _post(f"Call {name} with rows", rows, one_or_many, tag, served)
        },
        f"/v1/models/{name}": {"get": _get(f"Whether {name} answers", "V1Status", tag)},
        f"/v1/models/{name}:predict": {
            "post": _post(f"Call {name} with instances", rows, _ref("Predictions"), tag)
        },
    }


def _ref(schema: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{schema}"}


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def _errors(statuses: Mapping[str, str] = _ERROR_STATUSES) -> dict[str, Any]:
    return {
        status: {"description": text, "content": _json(_ref("Error"))}
        for status, text in statuses.items()
    }


def _change(summary: str, tags: list[str]) -> dict[str, Any]:
    """Loading or unloading, for callers who may deploy."""
    body = _object({"parameters": {"type": "object"}}, [])
    operation = _post(summary, body, {"type": "object"}, tags)
    operation["requestBody"]["required"] = False
    return operation


def _get(summary: str, schema: str, tags: list[str] | None = None) -> dict[str, Any]:
    return {
        "summary": summary,
        "tags": tags or ["server"],
        "responses": {
            "200": {"description": summary, "content": _json(_ref(schema))},
            **_errors(_READING_STATUSES),
        },
    }


def _health(summary: str, tags: list[str] | None = None) -> dict[str, Any]:
    """A question that anybody may ask."""
    return {
        "summary": summary,
        "tags": tags or ["server"],
        "security": [],
        "responses": {
            "200": {"description": "Yes", "content": _json({"type": "object"})},
            "503": {"description": "Not now", "content": _json({"type": "object"})},
        },
    }


def _answers(summary: str, tags: list[str]) -> dict[str, Any]:
    return {
        "summary": summary,
        "tags": tags,
        "responses": {
            "200": {"description": "Yes", "content": _json({"type": "object"})},
            **_errors(_READING_STATUSES),
        },
    }


def _post(
    summary: str,
    request: dict[str, Any],
    response: dict[str, Any],
    tags: list[str],
    served: Served | None = None,
) -> dict[str, Any]:
    content = _json(request)
    example = None if served is None else example_row(served)
    if example is not None:
        content["application/json"]["example"] = example
    return {
        "summary": summary,
        "tags": tags,
        "requestBody": {"required": True, "content": content},
        "responses": {
            "200": {"description": "The answer", "content": _json(response)},
            **_errors(),
        },
    }


def example_row(served: Served) -> dict[str, Any] | None:
    """A real row that the model was published with, as a caller would send it."""
    if served.sample is None or not served.signature.is_table:
        return None
    row: dict[str, Any] = {}
    for spec in served.signature.inputs:
        values = plain_list(served.sample[spec.name][0])
        for column, value in zip(spec.columns, values, strict=True):
            is_missing = isinstance(value, float) and not np.isfinite(value)
            row[column.name] = None if is_missing else value
    return row


def _rows_request(served: Served) -> dict[str, Any]:
    signature = served.signature
    if not signature.is_table:
        instances = {"type": "array", "items": {}}
        return {"type": "object", "properties": {"instances": instances}, "required": ["instances"]}
    row = _row_schema(signature)
    rows = {"type": "array", "items": row}
    wrapped = {"type": "object", "properties": {"instances": rows}, "required": ["instances"]}
    return {"anyOf": [row, rows, wrapped]}


def _row_schema(signature: Signature) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {column.name: _column_schema(column) for column in signature.columns},
        "required": [column.name for column in signature.columns],
    }


def _column_schema(column: Column) -> dict[str, Any]:
    if column.datatype is Datatype.BYTES:
        schema: dict[str, Any] = {"type": "string"}
        if column.categories is not None and not column.open_categories:
            schema["enum"] = list(column.categories) + ([None] if column.nullable else [])
    elif column.datatype is Datatype.BOOL:
        schema = {"type": "boolean"}
    elif column.datatype.is_integer:
        limits = np.iinfo(column.datatype.dtype)
        schema = {"type": "integer", "minimum": int(limits.min), "maximum": int(limits.max)}
    else:
        largest = float(np.finfo(column.datatype.dtype).max)
        schema = {"type": "number", "minimum": -largest, "maximum": largest}
    if column.nullable:
        schema["type"] = [schema["type"], "null"]
    if column.unit is not None:
        schema["description"] = f"in {column.unit}"
    return schema


def _schemas() -> dict[str, Any]:
    text, whole, anything = {"type": "string"}, {"type": "integer"}, {"type": "object"}
    shape = {"type": "array", "items": {"type": "integer", "minimum": -1}}
    tensor = {
        "type": "object",
        "properties": {
            "name": text,
            "datatype": {"type": "string", "enum": _DATATYPES},
            "shape": shape,
            "parameters": anything,
            "data": {"type": "array", "items": {}},
        },
        "required": ["name", "datatype", "shape"],
    }
    tensors = {"type": "array", "items": _ref("Tensor")}
    return {
        "Error": _object(
            {"error": text, "kind": text, "code": text, "field": text}, ["error", "kind", "code"]
        ),
        "ServerMetadata": _object(
            {"name": text, "version": text, "extensions": {"type": "array", "items": text}},
            ["name", "version", "extensions"],
        ),
        "RepositoryIndex": {
            "type": "array",
            "items": _object(
                {"name": text, "version": text, "state": text, "reason": text}, ["name"]
            ),
        },
        "ModelMetadata": _object(
            {
                "name": text,
                "versions": {"type": "array", "items": text},
                "platform": text,
                "inputs": tensors,
                "outputs": tensors,
                "parameters": anything,
            },
            ["name", "platform", "inputs", "outputs"],
        ),
        "ModelConfig": _object(
            {
                "name": text,
                "platform": text,
                "backend": text,
                "version_policy": anything,
                "max_batch_size": whole,
                "input": {"type": "array", "items": anything},
                "output": {"type": "array", "items": anything},
            },
            ["name", "platform", "backend", "max_batch_size", "input", "output"],
        ),
        "ModelStatistics": _object(
            {"model_stats": {"type": "array", "items": _statistics()}}, ["model_stats"]
        ),
        "V1Status": _object(
            {
                "name": text,
                "ready": {"type": "boolean"},
                "model_version_status": {
                    "type": "array",
                    "items": _object(
                        {"version": text, "state": text, "status": anything},
                        ["version", "state", "status"],
                    ),
                },
            },
            ["name", "ready", "model_version_status"],
        ),
        "Tensor": tensor,
        "InferRequest": _object(
            {
                "id": {"type": ["string", "null"]},
                "inputs": tensors,
                "outputs": {
                    "type": ["array", "null"],
                    "items": _object(
                        {"name": text, "parameters": {"type": ["object", "null"]}}, ["name"]
                    ),
                },
                "parameters": {"type": ["object", "null"]},
            },
            ["inputs"],
        ),
        "InferResponse": _object(
            {"model_name": text, "model_version": text, "id": text, "outputs": tensors},
            ["model_name", "model_version", "outputs"],
        ),
        "Prediction": _object(
            {
                "prediction": {},
                PROBABILITIES: {"type": "object"},
                "model": text,
                "version": whole,
            },
            ["prediction", "model", "version"],
        ),
        "Predictions": _object(
            {
                "predictions": {"type": "array"},
                PROBABILITIES: {"type": "array", "items": {"type": "object"}},
                "model": text,
                "version": whole,
            },
            ["predictions", "model", "version"],
        ),
    }


def _statistics() -> dict[str, Any]:
    text, whole = {"type": "string"}, {"type": "integer"}
    return _object(
        {
            "name": text,
            "version": text,
            "last_inference": whole,
            "inference_count": whole,
            "execution_count": whole,
            "inference_stats": {"type": "object"},
            "batch_stats": {"type": "array", "items": {"type": "object"}},
        },
        ["name", "version", "inference_count", "execution_count", "inference_stats"],
    )


def _object(properties: dict[str, Any], required: list[str]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": required}

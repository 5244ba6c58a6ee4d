"""What the clouds send to a container and want back: SageMaker, Vertex AI and Azure ML.

Sources: Amazon SageMaker, "Common data formats for inference" (CSV, JSON, JSON Lines) and "Custom
inference code"; Vertex AI, "Custom container requirements", "Prediction requests"; Azure ML
inference HTTP server, and MLflow's `input_data` that its endpoints take.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, Final

import orjson

from modelyard.api.http.delimited import read_csv, write_csv
from modelyard.api.http.encoding import NotAcceptable, quality_values
from modelyard.api.http.rows import PredictionsWriter, RowsReader, read_json
from modelyard.api.http.wire import Answer, Question
from modelyard.api.parameters import read_schedule
from modelyard.core.call import Call
from modelyard.core.datatypes import Array
from modelyard.core.errors import Invalid
from modelyard.core.ports import Headers, Served

JSON: Final = b"application/json"
CSV: Final = b"text/csv"
LINES: Final = b"application/jsonlines"
_LINES: Final = frozenset(
    (LINES, b"application/jsonl", b"application/x-jsonlines", b"application/x-ndjson")
)
_UNSAID: Final = frozenset((b"", b"application/x-www-form-urlencoded"))
"""What curl says of a body when it is told nothing is no word on what the body holds."""
_FEATURES: Final = "features"


class InvocationsCodec:
    """SageMaker's `POST /invocations`: CSV, JSON or JSON Lines in, and any of them out."""

    def __init__(self, served: Served) -> None:
        self._reader = RowsReader(served.signature)
        self._writer = PredictionsWriter(served)
        self._writers: dict[bytes, Callable[[Call], Answer]] = {
            JSON: self._writer.many,
            CSV: self._write_csv,
            LINES: self._write_lines,
        }

    def read(self, headers: Headers, body: bytes) -> Question:
        """Decode what `Content-Type` says, for an answer that `Accept` takes."""
        write = self._writers[accepted_type(headers.get(b"accept", b""))]
        inputs = self._read_inputs(headers.get(b"content-type", b""), body)
        return Question(inputs, self._reader.signature.check(inputs), write)

    def _read_inputs(self, content_type: bytes, body: bytes) -> Mapping[str, Array]:
        kind, *parameters = (part.strip() for part in content_type.lower().split(b";"))
        if kind == CSV:
            return read_csv(body, self._reader.signature, has_header=_has_header(parameters))
        if kind in _LINES:
            return self._reader.read(_bare([read_json(line) for line in _lines(body)])).inputs
        if kind == JSON or kind in _UNSAID:
            return self._reader.read(_bare(read_json(body))).inputs
        raise Invalid(
            "unsupported_content_type",
            f"content type '{kind.decode('latin-1'):.80}' is not understood; use text/csv, "
            "application/json or application/jsonlines",
            field="Content-Type",
        )

    def _write_csv(self, call: Call) -> Answer:
        return Answer(write_csv(self._writer.predictions(call).values), b"text/csv; charset=utf-8")

    def _write_lines(self, call: Call) -> Answer:
        found = self._writer.predictions(call)
        lines: list[dict[str, object]] = [{"prediction": value} for value in found.values]
        if found.probabilities is not None:
            for line, probabilities in zip(lines, found.probabilities, strict=True):
                line["probabilities"] = probabilities
        return Answer(b"".join(orjson.dumps(line) + b"\n" for line in lines), LINES)


class VertexCodec:
    """Vertex AI's prediction route: `instances` in, `predictions` out, and nothing beside them."""

    def __init__(self, served: Served) -> None:
        self._reader = RowsReader(served.signature)
        self._writer = PredictionsWriter(served)

    def read(self, headers: Headers, body: bytes) -> Question:
        """Decode the instances; `parameters` are the call's."""
        content = read_json(body)
        if not isinstance(content, dict) or not isinstance(content.get("instances"), list):
            raise Invalid(
                "bad_rows",
                'the body is an object with a list: {"instances": […]}',
                field="instances",
            )
        parameters = content.get("parameters")
        if not isinstance(parameters, dict | None):
            raise Invalid("bad_parameter", "'parameters' is an object", field="parameters")
        inputs = self._reader.read({"instances": content["instances"]}).inputs
        rows = self._reader.signature.check(inputs)
        return Question(inputs, rows, self._write, read_schedule(parameters))

    def _write(self, call: Call) -> Answer:
        return Answer(orjson.dumps({"predictions": self._writer.predictions(call).values}))


class ScoreCodec:
    """Azure ML's `POST /score`: rows in any shape, under `data` or `input_data` too."""

    def __init__(self, served: Served) -> None:
        self._reader = RowsReader(served.signature)
        self._writer = PredictionsWriter(served)

    def read(self, headers: Headers, body: bytes) -> Question:
        """Decode the rows."""
        content = read_json(body)
        if isinstance(content, dict) and "columns" not in content:
            for wrapper in ("input_data", "data"):
                if isinstance(content.get(wrapper), list | dict):
                    content = _as_rows(content[wrapper])
                    break
        inputs = self._reader.read(content).inputs
        return Question(inputs, self._reader.signature.check(inputs), self._writer.many)


@functools.lru_cache(maxsize=256)
def accepted_type(accept: bytes) -> bytes:
    """The media type of an answer that an `Accept` header likes best: JSON where it likes all.

    Raises `NotAcceptable` where it takes none that there is.
    """
    weights = quality_values(accept)
    if not weights:
        return JSON
    kinds = {JSON: JSON, CSV: CSV, LINES: LINES} | dict.fromkeys(sorted(_LINES), LINES)
    anything = weights.get(b"*/*", 0.0)

    def weight(kind: bytes) -> float:
        family = kind.partition(b"/")[0] + b"/*"
        return weights.get(kind, weights.get(family, anything))

    best = max(kinds, key=weight)
    if weight(best) <= 0.0:
        raise NotAcceptable(
            "not_acceptable",
            "the answer comes as application/json, text/csv or application/jsonlines, and Accept "
            "takes none of them",
            field="Accept",
        )
    return kinds[best]


def _has_header(parameters: list[bytes]) -> bool | None:
    if b"header=present" in parameters:
        return True
    return False if b"header=absent" in parameters else None


def _lines(body: bytes) -> list[bytes]:
    return [line for line in body.splitlines() if line.strip()]


def _bare(content: Any) -> Any:
    """Rows without SageMaker's wrapping of each in `{"features": […]}`."""
    if isinstance(content, dict) and isinstance(content.get("instances"), list):
        return content | {"instances": _bare(content["instances"])}
    if isinstance(content, dict):
        return _bare([content]) if content.keys() == {_FEATURES} else content
    if isinstance(content, list) and content and all(_is_features(row) for row in content):
        return [row[_FEATURES] for row in content]
    return content


def _is_features(row: object) -> bool:
    return isinstance(row, dict) and row.keys() == {_FEATURES} and isinstance(row[_FEATURES], list)


def _as_rows(content: Any) -> Any:
    # A split frame is one already; any other object holds a list of values a column.
    if isinstance(content, list) or "columns" in content:
        return content
    is_by_column = bool(content) and all(isinstance(value, list) for value in content.values())
    return {"inputs": content} if is_by_column else content

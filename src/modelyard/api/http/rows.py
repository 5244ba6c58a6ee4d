"""The plain contracts: rows as people send them, labels and numbers back.

`POST /predict/{model}` answers one object with `{"prediction": …}` and a list with
`{"predictions": […]}`; `POST /v1/models/{model}:predict` always answers `predictions`. Both take
an object of columns, a list of them, `instances`, `inputs`, or a pandas frame in its `split` form.
"""

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from modelyard.api.http.lenient import read_lenient
from modelyard.api.http.plain import plain_list
from modelyard.api.http.wire import Answer, Question
from modelyard.core.call import Call
from modelyard.core.datatypes import Array
from modelyard.core.errors import Invalid
from modelyard.core.ports import Headers, Served
from modelyard.core.signature import FREE, Signature, TensorSpec
from modelyard.core.table import Predictions, TableReader, predictions
from modelyard.core.tensors import from_list, text

_ONLY_SIGNATURE: Final = ("", "serving_default", None)
_SHAPES = (
    'send one object of columns, a list of them, {"instances": […]}, {"inputs": {…}} or '
    '{"columns": […], "data": [[…]]}'
)


@dataclass(frozen=True, slots=True)
class Rows:
    """What a body of rows holds: the model's input tensors, and how they were given."""

    inputs: Mapping[str, Array]
    is_one: bool = False
    is_columnar: bool = False


class RowsReader:
    """Reads rows, in any of the shapes that people send them, for one signature."""

    def __init__(self, signature: Signature) -> None:
        self.signature = signature
        self._reader = TableReader(signature) if signature.is_table else None
        self._names = frozenset(column.name for column in signature.columns)

    def read(self, content: object) -> Rows:
        """The tensors in a body's content; raises `Invalid`."""
        if isinstance(content, dict):
            return self._read_object(content)
        if isinstance(content, list):
            return Rows(self._read_list(content))
        raise Invalid("bad_rows", f"the body is no rows; {_SHAPES}")

    def _read_object(self, content: dict[str, Any]) -> Rows:
        # Names of the table's own columns win: a column may well be called "instances".
        if self._reader is not None and self._names <= content.keys():
            return Rows(self._reader.rows([content]), is_one=True)
        for key, read in self._wrappers().items():
            if key in content:
                return Rows(read(content[key]), is_columnar=key == "inputs")
        if "columns" in content and "data" in content:
            return Rows(self._read_split(content))
        if self._reader is not None:
            return Rows(self._reader.rows([content]), is_one=True)
        inputs = self.signature.inputs
        if self.signature.batched and content.keys() == {spec.name for spec in inputs}:
            return Rows(self._stack([content]), is_one=True)
        raise Invalid("bad_rows", f"the body is no rows; {_SHAPES}")

    def _wrappers(self) -> dict[str, Callable[[Any], Mapping[str, Array]]]:
        return {
            "instances": self._read_list,
            "inputs": self._read_columns,
            "rows": self._read_list,
            "dataframe_split": self._read_split,
            "dataframe_records": self._read_list,
        }

    def _read_list(self, rows: object) -> Mapping[str, Array]:
        if not isinstance(rows, list):
            raise Invalid("bad_rows", f"the rows must be a list; {_SHAPES}")
        if self._reader is None:
            return self._stack(rows)
        if rows and isinstance(rows[0], list):
            return self._reader.columns(_by_column([c.name for c in self.signature.columns], rows))
        return self._reader.rows(rows)

    def _read_columns(self, columns: object) -> Mapping[str, Array]:
        if isinstance(columns, list):
            return self._read_list(columns)
        if not isinstance(columns, dict):
            raise Invalid("bad_rows", "'inputs' must be an object of columns, or a list of rows")
        if self._reader is None:
            return {
                spec.name: _nested(spec, columns[spec.name])
                for spec in self.signature.inputs
                if spec.name in columns
            }
        for name, values in columns.items():
            if not isinstance(values, list):
                raise Invalid("bad_rows", f"column '{name:.80}' must be a list", field=name)
        return self._reader.columns(columns)

    def _read_split(self, frame: object) -> Mapping[str, Array]:
        if not isinstance(frame, dict):
            raise Invalid("bad_rows", "a split frame is an object of 'columns' and 'data'")
        names: list[str] = frame.get("columns", ())
        data: list[list[object]] = frame.get("data", ())
        if not _is_list_of(names, str) or not _is_list_of(data, list):
            raise Invalid("bad_rows", "a split frame has a list of names and a list of rows")
        if self._reader is None:
            return self._stack([dict(zip(names, row, strict=False)) for row in data])
        return self._reader.columns(_by_column(names, data))

    def _stack(self, rows: Sequence[object]) -> Mapping[str, Array]:
        specs = self.signature.inputs
        if not self.signature.batched:
            raise Invalid("not_rows", "this model takes whole tensors, not rows; call it over /v2")
        if len(specs) == 1 and not (rows and isinstance(rows[0], dict)):
            return {specs[0].name: _nested(specs[0], rows)}
        stacked: dict[str, Array] = {}
        for spec in specs:
            values = []
            for index, row in enumerate(rows):
                if not isinstance(row, dict) or spec.name not in row:
                    raise Invalid(
                        "missing_input", f"row {index} has no '{spec.name}'", field=spec.name
                    )
                values.append(row[spec.name])
            stacked[spec.name] = _nested(spec, values)
        return stacked


class RowsCodec:
    """Reads rows and writes predictions for one served version: `POST /predict/{model}`."""

    def __init__(self, served: Served) -> None:
        self._reader = RowsReader(served.signature)
        self._writer = PredictionsWriter(served)

    def read(self, headers: Headers, body: bytes) -> Question:
        """Decode whichever of the contracts the body follows."""
        rows = self._reader.read(read_json(body))
        count = self._reader.signature.check(rows.inputs)
        write = self._writer.one if rows.is_one else self._writer.many
        return Question(rows.inputs, count, write)


class V1Codec:
    """TensorFlow Serving's `:predict`, and KServe's v1: always `predictions`.

    A request in columns is answered in columns too, under `outputs`, as TensorFlow Serving does it.
    Sources: TensorFlow Serving, RESTful API, "Predict API" and "Encoding binary values"; KServe, v1
    protocol.
    """

    def __init__(self, served: Served) -> None:
        self._reader = RowsReader(served.signature)
        self._writer = PredictionsWriter(served)

    def read(self, headers: Headers, body: bytes) -> Question:
        """Decode rows under `instances`, columns under `inputs`, or whatever else is a table."""
        content = read_json(body)
        if isinstance(content, dict):
            _check_v1(content)
        if b'"b64"' in body:
            content = _without_b64(content)
        rows = self._reader.read(content)
        count = self._reader.signature.check(rows.inputs)
        write = self._writer.columns if rows.is_columnar else self._writer.many
        return Question(rows.inputs, count, write)


class PredictionsWriter:
    """Writes what a caller who sent rows wants back, for one served version."""

    def __init__(self, served: Served) -> None:
        self._signature = served.signature
        self._tail = b',"model":%b,"version":%d}' % (orjson.dumps(served.model), served.version)

    def predictions(self, call: Call) -> Predictions:
        """One plain value a row, and the probabilities where the model gives some."""
        return predictions(self._signature, call.outputs or {}, plain_list)

    def one(self, call: Call) -> Answer:
        """`prediction` of the only row."""
        found = self.predictions(call)
        answer: dict[str, object] = {"prediction": found.values[0]}
        if found.probabilities is not None:
            answer["probabilities"] = found.probabilities[0]
        return self._finish(answer)

    def many(self, call: Call) -> Answer:
        """`predictions` of all rows."""
        return self._finish(self._answer(call))

    def columns(self, call: Call) -> Answer:
        """`predictions` of all rows, and beside them the `outputs` as they are, by name."""
        outputs: object = {name: plain_list(array) for name, array in (call.outputs or {}).items()}
        if isinstance(outputs, dict) and len(outputs) == 1:
            (outputs,) = outputs.values()
        return self._finish(self._answer(call) | {"outputs": outputs})

    def _answer(self, call: Call) -> dict[str, object]:
        found = self.predictions(call)
        answer: dict[str, object] = {"predictions": found.values}
        if found.probabilities is not None:
            answer["probabilities"] = found.probabilities
        return answer

    def _finish(self, answer: dict[str, object]) -> Answer:
        return Answer(orjson.dumps(answer)[:-1] + self._tail)


def read_json(body: bytes) -> Any:
    """A body's content, NaN as Python writes it included; raises `Invalid`."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        return read_lenient(body, error)


def _check_v1(content: Mapping[str, object]) -> None:
    if "instances" in content and "inputs" in content:
        raise Invalid("bad_rows", "send rows as 'instances' or columns as 'inputs', not both")
    signature = content.get("signature_name", "")
    if ("instances" in content or "inputs" in content) and signature not in _ONLY_SIGNATURE:
        raise Invalid(
            "unknown_signature",
            f"a model has one signature here, 'serving_default', not '{signature!s:.80}'",
            field="signature_name",
        )


def _without_b64(value: Any) -> Any:
    """The content with each `{"b64": …}` replaced by the text that it encodes."""
    if isinstance(value, list):
        return [_without_b64(each) for each in value]
    if not isinstance(value, dict):
        return value
    encoded = value.get("b64")
    if len(value) == 1 and isinstance(encoded, str):
        try:
            return text(base64.b64decode(encoded, validate=True), "b64")
        except ValueError:
            raise Invalid("bad_base64", "a 'b64' value is not base64", field="b64") from None
    return {name: _without_b64(each) for name, each in value.items()}


def _is_list_of(value: object, kind: type) -> bool:
    return isinstance(value, list) and all(isinstance(each, kind) for each in value)


def _by_column(names: list[str], rows: list[Any]) -> dict[str, list[object]]:
    if len(set(names)) != len(names):
        raise Invalid("bad_rows", "a column is named twice")
    for index, row in enumerate(rows):
        if not isinstance(row, list) or len(row) != len(names):
            raise Invalid(
                "bad_row", f"row {index} does not have {len(names)} values", field=f"rows[{index}]"
            )
    if not rows:
        return {name: [] for name in names}
    return dict(zip(names, (list(column) for column in zip(*rows, strict=True)), strict=True))


def _nested(spec: TensorSpec, values: object) -> Array:
    """An array from nested lists, its free axes as long as the lists are."""
    shape: list[int] = []
    level = values
    for wanted in spec.shape:
        length = len(level) if isinstance(level, list) else wanted
        shape.append(length if wanted == FREE else wanted)
        level = level[0] if isinstance(level, list) and level else level
    if FREE in shape:
        raise Invalid("wrong_rank", f"'{spec.name}' needs {len(spec.shape)} axes", field=spec.name)
    return from_list(spec.datatype, tuple(shape), values, spec.name)

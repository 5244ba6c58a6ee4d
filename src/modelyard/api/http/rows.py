"""The plain contracts: rows as people send them, labels and numbers back.

`POST /predict/{model}` answers one object with `{"prediction": …}` and a list with
`{"predictions": […]}`; `POST /v1/models/{model}:predict` always answers `predictions`. Both take
an object of columns, a list of them, `instances`, `inputs`, or a pandas frame in its `split` form.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson

from modelyard.api.http.lenient import read_lenient
from modelyard.api.http.plain import plain_list
from modelyard.api.http.wire import Answer, Question
from modelyard.core.call import Call
from modelyard.core.datatypes import Array
from modelyard.core.errors import Invalid
from modelyard.core.ports import Headers, Served
from modelyard.core.signature import FREE, TensorSpec
from modelyard.core.table import TableReader, predictions
from modelyard.core.tensors import from_list

_SHAPES = (
    'send one object of columns, a list of them, {"instances": […]}, {"inputs": {…}} or '
    '{"columns": […], "data": [[…]]}'
)


class RowsCodec:
    """Reads rows and writes predictions for one served version."""

    def __init__(self, served: Served, *, always_plural: bool) -> None:
        self._signature = served.signature
        self._always_plural = always_plural
        self._reader = TableReader(served.signature) if served.signature.is_table else None
        self._names = frozenset(column.name for column in served.signature.columns)
        self._tail = b',"model":%b,"version":%d}' % (orjson.dumps(served.model), served.version)

    def read(self, headers: Headers, body: bytes) -> Question:
        """Decode whichever of the contracts the body follows."""
        try:
            content = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            content = read_lenient(body, error)
        is_one = False
        if isinstance(content, dict):
            inputs, is_one = self._read_object(content)
        elif isinstance(content, list):
            inputs = self._read_list(content)
        else:
            raise Invalid("bad_rows", f"the body is no rows; {_SHAPES}")
        rows = self._signature.check(inputs)
        one = is_one and not self._always_plural
        return Question(inputs, rows, self._write_one if one else self._write_many)

    def _read_object(self, content: dict[str, Any]) -> tuple[Mapping[str, Array], bool]:
        # Names of the table's own columns win: a column may well be called "instances".
        if self._reader is not None and self._names <= content.keys():
            return self._reader.rows([content]), True
        for key, read in self._wrappers().items():
            if key in content:
                return read(content[key]), False
        if "columns" in content and "data" in content:
            return self._read_split(content), False
        if self._reader is not None:
            return self._reader.rows([content]), True
        if self._signature.batched and content.keys() == {s.name for s in self._signature.inputs}:
            return self._stack([content]), True
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
            return self._reader.columns(_by_column([c.name for c in self._signature.columns], rows))
        return self._reader.rows(rows)

    def _read_columns(self, columns: object) -> Mapping[str, Array]:
        if isinstance(columns, list):
            return self._read_list(columns)
        if not isinstance(columns, dict):
            raise Invalid("bad_rows", "'inputs' must be an object of columns, or a list of rows")
        if self._reader is None:
            return {
                spec.name: _nested(spec, columns[spec.name])
                for spec in self._signature.inputs
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
        specs = self._signature.inputs
        if not self._signature.batched:
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

    def _write_one(self, call: Call) -> Answer:
        found = predictions(self._signature, call.outputs or {}, plain_list)
        answer: dict[str, object] = {"prediction": found.values[0]}
        if found.probabilities is not None:
            answer["probabilities"] = found.probabilities[0]
        return self._finish(answer)

    def _write_many(self, call: Call) -> Answer:
        found = predictions(self._signature, call.outputs or {}, plain_list)
        answer: dict[str, object] = {"predictions": found.values}
        if found.probabilities is not None:
            answer["probabilities"] = found.probabilities
        return self._finish(answer)

    def _finish(self, answer: dict[str, object]) -> Answer:
        return Answer(orjson.dumps(answer)[:-1] + self._tail)


def predict_codec(served: Served) -> RowsCodec:
    """The codec of `POST /predict/{model}`."""
    return RowsCodec(served, always_plural=False)


def v1_codec(served: Served) -> RowsCodec:
    """The codec of `POST /v1/models/{model}:predict`."""
    return RowsCodec(served, always_plural=True)


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

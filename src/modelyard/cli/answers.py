"""Answers of a model as lines: JSON or CSV."""

import csv
import io
from collections.abc import Callable, Iterator
from typing import Literal

from modelyard.core.table import Predictions

OutputFormat = Literal["json", "csv"]


def writer(kind: OutputFormat) -> Callable[[Predictions], str]:
    """Turns one chunk after the other into lines; CSV begins with its headings."""
    return _write_json if kind == "json" else _CsvWriter()


def _write_json(found: Predictions) -> str:
    import msgspec

    return "".join(msgspec.json.encode(answer).decode() + "\n" for answer in _answers(found))


def _answers(found: Predictions) -> Iterator[dict[str, object]]:
    if found.probabilities is None:
        yield from ({"prediction": value} for value in found.values)
        return
    for value, probabilities in zip(found.values, found.probabilities, strict=True):
        yield {"prediction": value, "probabilities": probabilities}


class _CsvWriter:
    """Remembers whether the headings were written."""

    def __init__(self) -> None:
        self._headings: list[str] | None = None

    def __call__(self, found: Predictions) -> str:
        text = io.StringIO()
        lines = csv.writer(text, lineterminator="\n")
        for answer in _answers(found):
            cells = _cells(answer)
            if self._headings is None:
                self._headings = list(cells)
                lines.writerow(self._headings)
            lines.writerow([cells.get(name, "") for name in self._headings])
        return text.getvalue()


def _cells(answer: dict[str, object]) -> dict[str, object]:
    """One cell a value: the prediction, a probability a class, or an output a name."""
    value = answer["prediction"]
    cells = {name: _cell(each) for name, each in value.items()} if isinstance(value, dict) else {}
    if not cells:
        cells = {"prediction": _cell(value)}
    probabilities = answer.get("probabilities")
    if isinstance(probabilities, dict):
        cells |= {f"probability_{name}": each for name, each in probabilities.items()}
    return cells


def _cell(value: object) -> object:
    import msgspec

    if isinstance(value, list | dict):
        return msgspec.json.encode(value).decode()
    if isinstance(value, bool):
        return str(value).lower()
    return value

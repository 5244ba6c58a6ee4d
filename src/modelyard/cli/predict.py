"""`modelyard predict`: rows from a file, answers to stdout, by this process or by a server."""

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from modelyard.cli.settings import Settings, parse_reference

if TYPE_CHECKING:
    from modelyard.cli.rows import Row
    from modelyard.core.datatypes import Array
    from modelyard.core.names import Reference
    from modelyard.core.signature import Signature


def predict(
    context: typer.Context,
    model: Annotated[str, typer.Argument(metavar="MODEL[:VERSION|@ALIAS]", show_default=False)],
    rows: Annotated[
        str, typer.Option("--input", metavar="FILE|-", help="CSV, JSON lines or list, Parquet.")
    ],
    input_format: Annotated[
        Literal["csv", "tsv", "json", "parquet"] | None,
        typer.Option(help="Told by the suffix, or else by the first bytes."),
    ] = None,
    output_format: Annotated[
        Literal["json", "csv"], typer.Option("--format", help="One JSON object a line, or CSV.")
    ] = "json",
    server: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Ask this server. Also MODELYARD_SERVER."),
    ] = None,
    local: Annotated[
        bool, typer.Option("--local", help="Answer in this process all the same.")
    ] = False,
) -> None:
    """Predict for every row of a file.

    Answers go to stdout, one a row, in the order of the rows.
    """
    from modelyard.api.http.plain import plain_list
    from modelyard.cli.answers import writer
    from modelyard.cli.rows import open_input, read_chunks
    from modelyard.core.errors import Invalid
    from modelyard.core.table import predictions

    if local and server is not None:
        raise typer.BadParameter("--local and --server exclude each other")
    settings, reference = Settings.of(context), parse_reference(model)
    config = settings.config()
    url = "" if local else server or config.server
    write = writer(output_format)
    opening = _remote(url, config.key, reference) if url else _local(settings, reference)
    with opening as answering, open_input(rows) as file:
        start = 0
        for chunk in read_chunks(file, rows, answering.signature.columns, input_format):
            tensors = _tensors(answering.signature, chunk, start)
            try:
                outputs = answering.run(tensors)
            except Invalid:
                # Whoever answers counts a chunk's rows from 0; the same check knows their place.
                answering.signature.check(tensors, first_row=start)
                raise
            sys.stdout.write(write(predictions(answering.signature, outputs, plain_list)))
            start += len(chunk)


@dataclass(frozen=True, slots=True)
class _Answering:
    """Whoever answers: what it takes, and how it is asked."""

    signature: "Signature"
    run: "Callable[[Mapping[str, Array]], Mapping[str, Array]]"


@contextlib.contextmanager
def _local(settings: Settings, reference: "Reference") -> Iterator[_Answering]:
    with settings.yard() as yard, yard.load(reference) as model:
        yield _Answering(model.signature, model.infer)


@contextlib.contextmanager
def _remote(url: str, key: str, reference: "Reference") -> Iterator[_Answering]:
    from modelyard.client import Client
    from modelyard.client.messages import read_signature
    from modelyard.core.errors import Invalid

    if reference.alias is not None:
        raise Invalid(
            "alias_on_server",
            f"a server answers for versions: name the one that '{reference}' means, or use --local",
            field="alias",
        )
    with Client(url, key=key) as client:
        signature = read_signature(client.metadata(reference.model, reference.version))

        def run(inputs: "Mapping[str, Array]") -> "Mapping[str, Array]":
            return client.infer(reference.model, inputs, version=reference.version)

        yield _Answering(signature, run)


def _tensors(signature: "Signature", rows: "Sequence[Row]", start: int) -> "dict[str, Array]":
    """A table's rows; or rows of a model without columns, as objects of inputs or as lists.

    Errors count the rows from `start`, where this chunk of them begins.
    """
    from modelyard.client.tables import cast, to_tensors
    from modelyard.core.errors import Invalid

    if not signature.batched:
        if len(rows) == 1 and isinstance(rows[0], Mapping):
            return cast(signature, rows[0])
        raise Invalid("not_rows", "this model takes no rows: give one JSON object of its inputs")
    if signature.is_table or not all(isinstance(row, Mapping) for row in rows):
        return to_tensors(signature, rows, first_row=start)
    names = [spec.name for spec in signature.inputs]
    named = [row for row in rows if isinstance(row, Mapping)]
    if len(names) == 1 and names[0] not in named[0]:
        # A table on disk for a model that never heard of columns: by position.
        return to_tensors(signature, [list(row.values()) for row in named])
    for index, row in enumerate(named, start):
        missing = next((name for name in names if name not in row), None)
        if missing is not None:
            raise Invalid("missing_input", f"row {index} has no '{missing}'", field=missing)
    return cast(signature, {name: [row[name] for row in named] for name in names})

"""`modelyard audit`."""

from typing import Annotated

import typer

from modelyard.cli.screen import say_json, say_table
from modelyard.cli.settings import Json, Settings


def audit(
    context: typer.Context,
    model: Annotated[
        str | None, typer.Argument(metavar="[MODEL]", help="Only this model's.", show_default=False)
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, newest first.")] = 50,
    as_json: Json = False,
) -> None:
    """Show who changed what, when and why."""
    with Settings.of(context).yard() as yard:
        rows = yard.registry.audit(model=model, limit=limit)
    if as_json:
        say_json(rows)
        return
    say_table(
        ("when", "who", "did", "to", "why"),
        [
            (row.at, row.actor, row.action, _subject(row.model, row.number), row.reason)
            for row in rows
        ],
    )


def _subject(model: str | None, number: int | None) -> str:
    return (model or "") if number is None else f"{model}:{number}"

"""Moments on the command line."""

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import datetime

_WRITE = "2026-05-03, 2026-05-03T10:00Z, 24h or 7d"

Since = Annotated[str | None, typer.Option(metavar="TIME", help=f"From then on: {_WRITE}.")]
Until = Annotated[str | None, typer.Option(metavar="TIME", help="Before then.")]


def parse_moment(text: str | None, option: str) -> "datetime.datetime | None":
    """An ISO 8601 moment, UTC where it names no zone, or how long ago; else wrong use."""
    import datetime

    if text is None:
        return None
    spans = {"m": "minutes", "h": "hours", "d": "days"}
    now = datetime.datetime.now(datetime.UTC)
    try:
        if text[-1:] in spans and text[:-1].isdecimal():
            return now - datetime.timedelta(**{spans[text[-1]]: int(text[:-1])})
        moment = datetime.datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        raise typer.BadParameter(
            f"'{text}' is no time: write {_WRITE}", param_hint=option
        ) from None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=datetime.UTC)

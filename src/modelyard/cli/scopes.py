"""What keys and identity mappings are both given on the command line: who they may be, and what."""

from collections.abc import Sequence
from typing import Annotated, Final

import typer

Role = Annotated[str, typer.Option(help="caller, deployer, auditor or admin.")]
Models = Annotated[
    str,
    typer.Option(metavar="PATTERNS", help="Models that it may use, as in 'churn*,iris'."),
]
Verbs = Annotated[
    str | None,
    typer.Option(
        metavar="VERBS",
        help="Of what its role may only these, as in 'call,read'; by default all.",
        show_default=False,
    ),
]
EVERY_MODEL: Final = "*"


def split(text: str) -> tuple[str, ...]:
    """The parts of a list with commas."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def split_verbs(text: str | None) -> tuple[str, ...] | None:
    """The verbs that were chosen; None for all."""
    return None if text is None else split(text)


def tell_scope(models: Sequence[str], verbs: Sequence[str] | None) -> str:
    """A scope in a cell of a table."""
    told = ", ".join(models)
    return told if verbs is None else f"{told} (only {', '.join(verbs)})"

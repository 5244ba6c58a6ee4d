"""Waiting until the running servers of a home have followed a change of a route."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from modelyard.cli.screen import note

if TYPE_CHECKING:
    from modelyard.yard import Yard

Wait = Annotated[
    float,
    typer.Option(
        min=0,
        metavar="SECONDS",
        help="How long to wait until this machine's servers of the home have followed.",
    ),
]
WAIT_S: Final = 10.0
_MARGIN_S: Final = 1.0


def await_servers(yard: "Yard", model: str, generation: int | None, wait_s: float) -> None:
    """Return when every worker answers by the route, at once where no server runs.

    What cannot be served, or takes longer, is said; the change stands all the same. Without a
    generation the route was taken away.
    """
    home: Path = yard.config.home
    if not wait_s or not (home / "run").exists():
        return
    import asyncio

    from modelyard.serving.supervision.desk import ask_servers, has_servers

    if not has_servers(home):
        return
    question = {"model": model, "generation": generation, "patience_s": wait_s}
    answers: list[list[str]] = asyncio.run(
        ask_servers(home, "settle", wait_s + _MARGIN_S, question)
    )
    for reason in dict.fromkeys(reason for reasons in answers for reason in reasons):
        note(f"WARNING: a running server does not answer by it: {reason}; see 'modelyard status'")

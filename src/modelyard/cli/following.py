"""Waiting until the running servers of a home have followed a change of a route."""

from typing import TYPE_CHECKING, Annotated, Final

import typer

from modelyard.cli.screen import note

if TYPE_CHECKING:
    from modelyard.core.administration.port import Administration

Wait = Annotated[
    float,
    typer.Option(
        min=0,
        max=60,
        metavar="SECONDS",
        help="How long to wait until the servers of the home on its machine have followed.",
    ),
]
WAIT_S: Final = 10.0


def await_servers(
    administration: "Administration", model: str, generation: int | None, wait_s: float
) -> None:
    """Return when every worker answers by the route, at once where no server runs.

    What cannot be served, or takes longer, is said; the change stands all the same. Without a
    generation the route was taken away.
    """
    if not wait_s:
        return
    from modelyard.core.administration.routes import Follow

    followed = administration.do(Follow(model=model, generation=generation, patience_s=wait_s))
    for reason in followed.reasons:
        note(f"WARNING: a running server does not answer by it: {reason}; see 'modelyard status'")

"""`modelyard rollback`."""

from typing import Annotated

import typer

from modelyard.cli.deploy import say_route
from modelyard.cli.following import WAIT_S, Wait, await_servers
from modelyard.cli.settings import Json, Reason, Settings, parse_model


def rollback(
    context: typer.Context,
    model: Annotated[str, typer.Argument(metavar="MODEL", show_default=False)],
    wait: Wait = WAIT_S,
    reason: Reason = "",
    as_json: Json = False,
) -> None:
    """Route calls as before the last change: its version, canary, shadow and options.

    Repeated, it walks further back, to the first deploy. A running roll-out is undone as a whole.
    """
    from modelyard.core.administration.routes import Rollback

    model = parse_model(model, "rollback")
    with Settings.of(context).administration() as administration:
        route = administration.do(Rollback(model=model, reason=reason))
        await_servers(administration, route.model, route.generation, wait)
    say_route(route, as_json)

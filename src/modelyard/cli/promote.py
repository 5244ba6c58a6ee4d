"""`modelyard promote`."""

from typing import Annotated

import typer

from modelyard.cli.deploy import Force, say_route
from modelyard.cli.following import WAIT_S, Wait, await_servers
from modelyard.cli.settings import Json, Reason, Settings, parse_model


def promote(
    context: typer.Context,
    model: Annotated[str, typer.Argument(metavar="MODEL", show_default=False)],
    force: Force = False,
    wait: Wait = WAIT_S,
    reason: Reason = "",
    as_json: Json = False,
) -> None:
    """Route all calls to the canary, or else to the shadow."""
    from modelyard.core.administration.routes import Promote

    model = parse_model(model, "promote")
    with Settings.of(context).administration() as administration:
        route = administration.do(Promote(model=model, force=force, reason=reason))
        await_servers(administration, route.model, route.generation, wait)
    say_route(route, as_json)

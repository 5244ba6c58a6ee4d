"""`modelyard undeploy`."""

from typing import Annotated

import typer

from modelyard.cli.following import WAIT_S, Wait, await_servers
from modelyard.cli.screen import say, say_json
from modelyard.cli.settings import Json, Reason, Settings, parse_model


def undeploy(
    context: typer.Context,
    model: Annotated[str, typer.Argument(metavar="MODEL", show_default=False)],
    wait: Wait = WAIT_S,
    reason: Reason = "",
    as_json: Json = False,
) -> None:
    """Take a model's route away.

    Calls to it get 404 until it is deployed again.
    """
    from modelyard.core.administration.routes import Undeploy

    model = parse_model(model, "undeploy")
    with Settings.of(context).administration() as administration:
        undeployed = administration.do(Undeploy(model=model, reason=reason))
        await_servers(administration, model, None, wait)
    if as_json:
        say_json(undeployed)
    else:
        say(f"calls to {model} go nowhere now")

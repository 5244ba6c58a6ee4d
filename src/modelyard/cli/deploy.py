"""`modelyard deploy`."""

from typing import TYPE_CHECKING, Annotated

import typer

from modelyard.cli.screen import say, say_json
from modelyard.cli.settings import Json, Reason, Settings, parse_reference

if TYPE_CHECKING:
    from modelyard.registry.values import Route


def deploy(
    context: typer.Context,
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL[:VERSION|@ALIAS]",
            help="Without a version, the newest that passed its gate.",
            show_default=False,
        ),
    ],
    force: Annotated[
        bool, typer.Option("--force", help="Deploy a rejected version too; the audit shows it.")
    ] = False,
    reason: Reason = "",
    as_json: Json = False,
) -> None:
    """Route calls to a version. Running servers follow within a moment, without a restart."""
    reference = parse_reference(model)
    with Settings.of(context).yard() as yard:
        route = yard.deploy(reference, force=force, reason=reason)
    say_route(route, as_json)


def say_route(route: "Route", as_json: bool) -> None:
    """Where calls go now."""
    if as_json:
        say_json(route)
    else:
        say(f"calls to {route.model} go to version {route.number}")

"""`modelyard tenants`: whose keys, limits and usage belong together."""

from typing import Annotated

import typer

from modelyard.cli.scopes import EVERY_MODEL, split
from modelyard.cli.screen import say, say_json, say_table
from modelyard.cli.settings import Json, Reason, Settings
from modelyard.cli.verb import Verb

app = typer.Typer(help="Tenants: list, create, set, remove.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="TENANT", show_default=False)]
Models = Annotated[
    str, typer.Option(metavar="PATTERNS", help="Models that it may see, as in 'churn*,iris'.")
]


@app.command("list", cls=Verb)
def list_tenants(context: typer.Context, as_json: Json = False) -> None:
    """List tenants and what they may see."""
    with Settings.of(context).yard() as yard:
        found = yard.registry.tenants.list()
    if as_json:
        say_json(found)
    else:
        say_table(("tenant", "models"), [(each.name, list(each.models)) for each in found])


@app.command("create", cls=Verb)
def create(
    context: typer.Context,
    name: Name,
    models: Models = EVERY_MODEL,
    reason: Reason = "",
    as_json: Json = False,
) -> None:
    """Make a tenant."""
    with Settings.of(context).yard() as yard:
        tenant = yard.registry.tenants.create(
            name, models=split(models), actor=yard.actor, reason=reason
        )
    if as_json:
        say_json(tenant)
    else:
        say(f"{tenant.name} may see {', '.join(tenant.models)}")


@app.command("set", cls=Verb)
def set_models(
    context: typer.Context, name: Name, models: Models, reason: Reason = "", as_json: Json = False
) -> None:
    """Let a tenant see other models."""
    with Settings.of(context).yard() as yard:
        tenant = yard.registry.tenants.set(
            name, models=split(models), actor=yard.actor, reason=reason
        )
    if as_json:
        say_json(tenant)
    else:
        say(f"{tenant.name} may see {', '.join(tenant.models)}")


@app.command("remove", cls=Verb)
def remove(context: typer.Context, name: Name, reason: Reason = "", as_json: Json = False) -> None:
    """Take a tenant away that has no good keys any more."""
    with Settings.of(context).yard() as yard:
        yard.registry.tenants.remove(name, actor=yard.actor, reason=reason)
    if as_json:
        say_json({"removed": name})
    else:
        say(f"{name} is removed")

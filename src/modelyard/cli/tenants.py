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
    from modelyard.core.administration.access import ListTenants
    from modelyard.core.administration.port import every

    with Settings.of(context).administration() as administration:
        found = list(every(administration, ListTenants()))
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
    from modelyard.core.administration.access import CreateTenant

    with Settings.of(context).administration() as administration:
        tenant = administration.do(CreateTenant(name=name, models=split(models), reason=reason))
    if as_json:
        say_json(tenant)
    else:
        say(f"{tenant.name} may see {', '.join(tenant.models)}")


@app.command("set", cls=Verb)
def set_models(
    context: typer.Context, name: Name, models: Models, reason: Reason = "", as_json: Json = False
) -> None:
    """Let a tenant see other models."""
    from modelyard.core.administration.access import SetTenant

    with Settings.of(context).administration() as administration:
        tenant = administration.do(SetTenant(name=name, models=split(models), reason=reason))
    if as_json:
        say_json(tenant)
    else:
        say(f"{tenant.name} may see {', '.join(tenant.models)}")


@app.command("remove", cls=Verb)
def remove(context: typer.Context, name: Name, reason: Reason = "", as_json: Json = False) -> None:
    """Take a tenant away that has no good keys any more."""
    from modelyard.core.administration.access import RemoveTenant

    with Settings.of(context).administration() as administration:
        removed = administration.do(RemoveTenant(name=name, reason=reason))
    if as_json:
        say_json(removed)
    else:
        say(f"{name} is removed")

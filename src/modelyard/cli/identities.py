"""`modelyard identities`: who somebody is whom an issuer or a certificate vouches for."""

from typing import Annotated

import typer

from modelyard.cli.scopes import EVERY_MODEL, Models, Role, Verbs, split, split_verbs, tell_scope
from modelyard.cli.screen import say, say_json, say_table
from modelyard.cli.settings import Json, Reason, Settings
from modelyard.cli.verb import Verb

app = typer.Typer(
    help="Who the owners of tokens and client certificates are: list, add, remove.",
    no_args_is_help=True,
)


@app.command("list", cls=Verb)
def list_mappings(context: typer.Context, as_json: Json = False) -> None:
    """List identity mappings."""
    from modelyard.core.administration.access import ListIdentities
    from modelyard.core.administration.port import every

    with Settings.of(context).administration() as administration:
        found = list(every(administration, ListIdentities()))
    if as_json:
        say_json(found)
        return
    say_table(
        ("id", "source", "claims", "tenant", "role", "models"),
        [
            (
                each.id,
                each.source,
                [f"{claim}={value}" for claim, value in each.claims],
                each.tenant or f"as '{each.tenant_claim}' says",
                each.role,
                tell_scope(
                    each.scope.models,
                    None if each.scope.verbs is None else sorted(each.scope.verbs),
                ),
            )
            for each in found
        ],
    )


@app.command("add", cls=Verb)
def add(
    context: typer.Context,
    source: Annotated[
        str, typer.Argument(metavar="ISSUER|certificate", help="Who vouches.", show_default=False)
    ],
    claims: Annotated[
        list[str],
        typer.Option(
            "--claim",
            metavar="NAME=VALUE",
            help="What must be there; of a certificate subject, name or sha256. Repeatable.",
            show_default=False,
        ),
    ],
    role: Role = "caller",
    models: Models = EVERY_MODEL,
    verbs: Verbs = None,
    tenant: Annotated[str, typer.Option(help="Whose they are.", show_default=False)] = "",
    tenant_claim: Annotated[
        str, typer.Option(help="Or the claim that says whose.", show_default=False)
    ] = "",
    reason: Reason = "",
    as_json: Json = False,
) -> None:
    """Let whoever has these claims in."""
    from modelyard.core.administration.access import AddIdentity

    wanted = AddIdentity(
        source=source,
        claims=tuple(map(_parse_claim, claims)),
        role=role,
        models=split(models),
        verbs=split_verbs(verbs),
        tenant=tenant,
        tenant_claim=tenant_claim,
        reason=reason,
    )
    with Settings.of(context).administration() as administration:
        mapping = administration.do(wanted)
    if as_json:
        say_json(mapping)
    else:
        say(f"{mapping.id}: {source} makes them a {mapping.role}")


@app.command("remove", cls=Verb)
def remove(
    context: typer.Context,
    id: Annotated[str, typer.Argument(metavar="ID", show_default=False)],
    reason: Reason = "",
    as_json: Json = False,
) -> None:
    """Take a mapping away; running servers follow within a second."""
    from modelyard.core.administration.access import RemoveIdentity

    with Settings.of(context).administration() as administration:
        removed = administration.do(RemoveIdentity(id=id, reason=reason))
    if as_json:
        say_json(removed)
    else:
        say(f"{id} is removed")


def _parse_claim(text: str) -> tuple[str, str]:
    claim, equals, value = text.partition("=")
    if not (claim and equals and value):
        raise typer.BadParameter(f"'{text:.80}' is no claim: write NAME=VALUE")
    return claim, value

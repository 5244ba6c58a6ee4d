"""`modelyard keys`: who may call this home's servers."""

from typing import TYPE_CHECKING, Annotated

import typer

from modelyard.cli.scopes import EVERY_MODEL, Models, Role, Verbs, split, split_verbs, tell_scope
from modelyard.cli.screen import note, say, say_facts, say_json, say_table
from modelyard.cli.settings import Json, Reason, Settings
from modelyard.cli.verb import Verb

if TYPE_CHECKING:
    from modelyard.core.records import IssuedKey, KeyRecord

app = typer.Typer(help="API keys: list, create, rotate, revoke.", no_args_is_help=True)

Id = Annotated[
    str,
    typer.Argument(
        metavar="ID", help="The part of the key between 'my_' and its secret.", show_default=False
    ),
]


@app.command("list", cls=Verb)
def list_keys(
    context: typer.Context,
    tenant: Annotated[
        str | None, typer.Option(help="Only this tenant's.", show_default=False)
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Also those that have expired or were revoked.")
    ] = False,
    as_json: Json = False,
) -> None:
    """List keys; never their secrets, which nobody has but who was given them."""
    from modelyard.core.administration.access import ListKeys
    from modelyard.core.administration.port import every

    with Settings.of(context).administration() as administration:
        keys = every(administration, ListKeys(tenant=tenant or ""))
        found = [key for key in keys if everything or key.state == "good"]
    if as_json:
        say_json(found)
        return
    say_table(
        ("id", "name", "tenant", "role", "models", "expires", "state"),
        [
            (
                key.id,
                key.name,
                key.tenant,
                key.role,
                tell_scope(key.models, key.verbs),
                key.expires,
                key.state,
            )
            for key in found
        ],
    )


@app.command("show", cls=Verb)
def show(context: typer.Context, id: Id, as_json: Json = False) -> None:
    """Show all that is known of a key."""
    from modelyard.core.administration.access import GetKey

    with Settings.of(context).administration() as administration:
        key = administration.do(GetKey(id=id))
    if as_json:
        say_json(key)
    else:
        say_facts(_facts(key))


@app.command("create", cls=Verb)
def create(
    context: typer.Context,
    name: Annotated[str, typer.Option(help="What people call it.")],
    tenant: Annotated[str, typer.Option(help="Whose it is.")] = "default",
    role: Role = "caller",
    models: Models = EVERY_MODEL,
    verbs: Verbs = None,
    expires: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="After which time, as in 90d; by default never."),
    ] = None,
    reason: Reason = "",
    as_json: Json = False,
) -> None:
    """Make a key, and print it: the only time that anybody sees it."""
    from modelyard.core.administration.access import CreateKey
    from modelyard.core.rollout import parse_duration_s

    wanted = CreateKey(
        name=name,
        tenant=tenant,
        role=role,
        models=split(models),
        verbs=split_verbs(verbs),
        lifetime_s=None if expires is None else parse_duration_s(expires, "expires"),
        reason=reason,
    )
    with Settings.of(context).administration() as administration:
        made = administration.do(wanted)
    _hand_over(made, as_json)


@app.command("rotate", cls=Verb)
def rotate(
    context: typer.Context,
    id: Id,
    overlap: Annotated[
        str, typer.Option(metavar="TIME", help="How long the old one goes on, as in 1h.")
    ] = "0s",
    reason: Reason = "",
    as_json: Json = False,
) -> None:
    """Make a new key in the place of an old one, which goes on until the overlap ends."""
    from modelyard.core.administration.access import RotateKey
    from modelyard.core.rollout import parse_duration_s

    overlap_s = parse_duration_s(overlap, "overlap")
    with Settings.of(context).administration() as administration:
        made = administration.do(RotateKey(id=id, overlap_s=overlap_s, reason=reason))
    _hand_over(made, as_json)


@app.command("revoke", cls=Verb)
def revoke(context: typer.Context, id: Id, reason: Reason = "", as_json: Json = False) -> None:
    """Let a key be good no longer; running servers follow within a second."""
    from modelyard.core.administration.access import RevokeKey

    with Settings.of(context).administration() as administration:
        key = administration.do(RevokeKey(id=id, reason=reason))
    if as_json:
        say_json(key)
    else:
        say(f"{key.id} ({key.name}) is revoked")


def _hand_over(made: "IssuedKey", as_json: bool) -> None:
    """Give the key away, on stdout and nowhere else."""
    import msgspec

    if as_json:
        say_json({"key": made.text, **msgspec.to_builtins(made.record)})
        return
    say(made.text)
    record = made.record
    note(f"{record.id} has the role {record.role} in tenant '{record.tenant}'; keep the key")
    note("now: it is stored nowhere and cannot be shown again")


def _facts(key: "KeyRecord") -> list[tuple[str, object]]:
    return [
        ("id", key.id),
        ("name", key.name),
        ("tenant", key.tenant),
        ("role", key.role),
        ("models", list(key.models)),
        ("verbs", "all of its role" if key.verbs is None else list(key.verbs)),
        ("state", key.state),
        ("created", key.created),
        ("expires", key.expires),
        ("revoked", key.revoked),
        ("replaces", key.replaces),
    ]

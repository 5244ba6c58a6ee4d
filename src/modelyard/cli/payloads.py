"""`modelyard payloads`: what was captured of calls, read under audit, and erased."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelyard.cli.moments import Since, Until, parse_moment
from modelyard.cli.screen import say, say_facts, say_json, say_table
from modelyard.cli.settings import Json, Reason, Settings
from modelyard.cli.verb import Verb

if TYPE_CHECKING:
    from modelyard.core.payloads import Payload

app = typer.Typer(
    help="Captured payloads: list, show, export, erase, sweep. Who looks is audited.",
    no_args_is_help=True,
)

Model = Annotated[str | None, typer.Option(metavar="MODEL", help="Only this model's.")]
Tenant = Annotated[str | None, typer.Option(metavar="TENANT", help="Only this tenant's.")]
Subject = Annotated[str | None, typer.Option(metavar="ID", help="Only those about this person.")]


@app.command("list", cls=Verb)
def list_payloads(
    context: typer.Context,
    model: Model = None,
    tenant: Tenant = None,
    subject: Subject = None,
    since: Since = None,
    until: Until = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, newest first.")] = 50,
    as_json: Json = False,
) -> None:
    """List what was captured, without its content."""
    from modelyard.core.administration.payloads import ListPayloads
    from modelyard.core.administration.port import first

    wanted = ListPayloads(
        model=model or "",
        tenant=tenant or "",
        subject=subject or "",
        since=parse_moment(since, "--since"),
        until=parse_moment(until, "--until"),
    )
    with Settings.of(context).administration() as administration:
        found = first(limit, administration, wanted)
    if as_json:
        say_json(found)
        return
    say_table(
        ("id", "when", "model", "tenant", "key", "outcome", "rows", "bytes", "until"),
        [
            (
                each.id,
                each.at,
                f"{each.model}:{each.version}",
                each.tenant,
                each.key,
                each.outcome,
                each.rows,
                each.size_bytes,
                each.expires,
            )
            for each in found
        ],
    )


@app.command("show", cls=Verb)
def show(
    context: typer.Context,
    id: Annotated[int, typer.Argument(metavar="ID", show_default=False)],
    as_json: Json = False,
) -> None:
    """Show a payload with its content."""
    from modelyard.core.administration.payloads import GetPayload

    with Settings.of(context).administration() as administration:
        found = administration.do(GetPayload(id=id))
    if as_json:
        say_json(_plain(found))
        return
    record = found.record
    say_facts(
        [
            ("call", record.call),
            ("model", f"{record.model}:{record.version}"),
            ("tenant", record.tenant),
            ("key", record.key),
            ("outcome", record.outcome),
            ("when", record.at),
            ("until", record.expires),
        ]
    )
    say_json(found.document)


@app.command("export", cls=Verb)
def export(
    context: typer.Context,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Where to; by default here.")
    ] = None,
    model: Model = None,
    tenant: Tenant = None,
    subject: Subject = None,
    since: Since = None,
    until: Until = None,
    reason: Reason = "",
) -> None:
    """Write payloads as JSON lines, in the clear: what they are then, is yours to keep."""
    import os

    import msgspec

    from modelyard.core.administration.payloads import ExportPayloads
    from modelyard.core.payloads import Payload

    wanted = ExportPayloads(
        model=model or "",
        tenant=tenant or "",
        subject=subject or "",
        since=parse_moment(since, "--since"),
        until=parse_moment(until, "--until"),
        reason=reason,
    )
    decode = msgspec.json.Decoder(Payload).decode
    with Settings.of(context).administration() as administration:
        found = map(decode, administration.lines(wanted))
        if out is None:
            for each in found:
                say(msgspec.json.encode(_plain(each)).decode())
            return
        # For this user alone, from its first byte on.
        with os.fdopen(os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            for each in found:
                file.write(msgspec.json.encode(_plain(each)) + b"\n")


@app.command("erase", cls=Verb)
def erase(
    context: typer.Context,
    subject: Annotated[str, typer.Option(metavar="ID", help="About whom.", show_default=False)],
    model: Model = None,
    reason: Reason = "",
    as_json: Json = False,
) -> None:
    """Erase all payloads about somebody. The audit tells that and how many, not whom.

    Do not write into the reason whom it is about: the audit keeps it.
    """
    from modelyard.core.administration.payloads import ErasePayloads

    wanted = ErasePayloads(subject=subject, model=model or "", reason=reason)
    with Settings.of(context).administration() as administration:
        erasure = administration.do(wanted)
    if as_json:
        say_json(erasure)
    else:
        say(f"{erasure.payloads} payloads erased")


@app.command("sweep", cls=Verb)
def sweep(context: typer.Context, as_json: Json = False) -> None:
    """Delete what has expired, as servers do by themselves."""
    from modelyard.core.administration.payloads import SweepPayloads

    with Settings.of(context).administration() as administration:
        swept = administration.do(SweepPayloads())
    if as_json:
        say_json(swept)
    else:
        say(f"{swept.deleted} payloads deleted")


def _plain(payload: "Payload") -> dict[str, Any]:
    import msgspec

    return {**msgspec.to_builtins(payload.record), "payload": payload.document}

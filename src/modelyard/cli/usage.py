"""`modelyard usage`: what calls have used, what it costs, and proof that none is missing."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelyard.cli import prices
from modelyard.cli.moments import Since, Until, parse_moment
from modelyard.cli.screen import note, say, say_facts, say_json
from modelyard.cli.settings import Json, Settings
from modelyard.cli.sheets import Format, Sheet, write_sheet
from modelyard.cli.verb import Verb

if TYPE_CHECKING:
    from modelyard.core.config import Config
    from modelyard.core.usage import UsageEvent, UsageLine, UsageReport

app = typer.Typer(
    help="What calls have used: report, events, copy, reconcile, prices.", no_args_is_help=True
)
app.add_typer(prices.app, name="prices")

Tenant = Annotated[str | None, typer.Option(metavar="TENANT", help="Only this tenant's.")]
KeyId = Annotated[str | None, typer.Option("--key", metavar="ID", help="Only this key's.")]
Model = Annotated[str | None, typer.Option(metavar="MODEL", help="Only this model's.")]
As = Annotated[Format, typer.Option("--format", help="How to write it.")]
Out = Annotated[
    Path | None, typer.Option("--out", metavar="FILE", help="Where to; by default here.")
]


@app.command("report", cls=Verb)
def report(
    context: typer.Context,
    by: Annotated[
        str,
        typer.Option(
            metavar="GROUPS",
            help="Add up by some of tenant, key, model, version, day, hour, outcome, known.",
        ),
    ] = "tenant,model",
    since: Since = None,
    until: Until = None,
    tenant: Tenant = None,
    key: KeyId = None,
    model: Model = None,
    form: As = "table",
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Add up calls, amounts and costs. Usage is a second or two old when it shows here.

    `calls` are all, `ok` those that were answered; only those cost something. Times are UTC.
    """
    from modelyard.core.administration.usage import ReportUsage

    groups = [each.strip() for each in by.split(",") if each.strip()]
    begin, end = parse_moment(since, "--since"), parse_moment(until, "--until")
    wanted = ReportUsage(
        by=tuple(groups),
        since=begin,
        until=end,
        tenant=tenant or "",
        key=key or "",
        model=model or "",
    )
    with Settings.of(context).administration() as administration:
        found = administration.do(wanted)
    if as_json or form == "json":
        write_sheet(_plain_report(found, groups), "json", out)
        return
    lines = Sheet([_plain_line(line, groups) for line in found.lines], _headings(groups))
    write_sheet(lines, form, out)
    missing = sum(each.calls for each in found.unrecorded)
    if missing:
        note(f"note: {missing} more calls could not be recorded, for want of room: see --json")
    if found.damaged:
        note(f"note: {found.damaged} events were damaged and are lost: modelyard usage reconcile")


@app.command("events", cls=Verb)
def events(
    context: typer.Context,
    call: Annotated[str | None, typer.Option(metavar="ID", help="Only this call.")] = None,
    since: Since = None,
    until: Until = None,
    tenant: Tenant = None,
    key: KeyId = None,
    model: Model = None,
    form: As = "json",
    out: Out = None,
) -> None:
    """List single calls, as far back as `usage_days` says; JSON lines by default."""
    import msgspec

    from modelyard.core.administration.usage import ListUsageEvents
    from modelyard.core.usage import UsageEvent

    wanted = ListUsageEvents(
        call=call or "",
        since=parse_moment(since, "--since"),
        until=parse_moment(until, "--until"),
        tenant=tenant or "",
        key=key or "",
        model=model or "",
    )
    decode = msgspec.json.Decoder(UsageEvent).decode
    with Settings.of(context).administration() as administration:
        found = map(decode, administration.lines(wanted))
        write_sheet(Sheet(map(_plain_event, found), _EVENT), form, out)


@app.command("copy", cls=Verb)
def copy(context: typer.Context, as_json: Json = False) -> None:
    """Copy to the database what servers that died have left; running ones copy by themselves."""
    from modelyard.gateway.metering.copier import Copier

    with Settings.of(context).yard() as yard:
        copied = Copier(_folder(yard.config), yard.registry.usage).copy_orphans()
    if as_json:
        say_json({"copied": copied})
    else:
        say(f"{copied} events copied")


@app.command("reconcile", cls=Verb)
def reconcile(context: typer.Context, as_json: Json = False) -> None:
    """Prove that spools and database agree, event by event and sum by sum.

    Reads all events that are kept. Ends with status 1 where something differs.
    """
    from modelyard.core.administration.usage import ReconcileUsage

    with Settings.of(context).administration() as administration:
        found = administration.do(ReconcileUsage())
    if as_json:
        say_json(found)
    else:
        say_facts(
            [
                ("events in the database", f"{found.copied} in {found.batches} batches"),
                ("compared with their spool", found.compared),
                ("waiting in spools", found.waiting),
                ("calls unrecorded", found.unrecorded),
                ("events damaged", found.damaged),
                ("verdict", "differs" if found.differences else "spools and database agree"),
            ]
        )
        for difference in found.differences:
            say(difference)
    if found.differences:
        raise typer.Exit(1)


def _folder(config: "Config") -> Path:
    from modelyard.gateway.metering.metering import FOLDER

    return config.home / FOLDER


_SUMS = ("unit", "currency", "calls", "ok", "rows", "amount", "cost", "took_s")
_EVENT = (
    *("call", "arrived", "tenant", "key", "model", "version", "outcome"),
    *("unit", "amount", "known", "rows", "took_us", "cost", "currency"),
)


def _headings(groups: list[str]) -> tuple[str, ...]:
    return (*groups, *_SUMS)


def _plain_line(line: "UsageLine", groups: list[str]) -> dict[str, Any]:
    from modelyard.core.usage import amount_text, money_text

    return {
        **{group: getattr(line, group) for group in groups},
        "unit": line.unit.value,
        "currency": line.currency,
        "calls": line.calls,
        "ok": line.ok,
        "rows": line.rows,
        "amount": amount_text(line.amount, line.unit),
        "cost": money_text(line.cost),
        "took_s": line.took_us / 1e6,
    }


def _plain_report(report: "UsageReport", groups: list[str]) -> dict[str, Any]:
    return {
        "lines": [_plain_line(line, groups) for line in report.lines],
        "unrecorded": report.unrecorded,
        "damaged": report.damaged,
    }


def _plain_event(event: "UsageEvent") -> dict[str, Any]:
    from modelyard.core.usage import amount_text, money_text

    subject = event.subject
    return {
        "call": event.call,
        "arrived": event.arrived,
        "tenant": subject.tenant,
        "key": subject.key,
        "model": subject.model,
        "version": subject.version,
        "outcome": event.outcome.value,
        "unit": subject.unit.value,
        "amount": amount_text(event.amount, subject.unit),
        "known": event.known.value,
        "rows": event.rows,
        "took_us": event.took_us,
        "cost": money_text(event.cost),
        "currency": subject.currency,
    }

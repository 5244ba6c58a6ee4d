"""`modelyard limits`: how much whom may call, and how that stands."""

from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Annotated

import typer

from modelyard.cli.screen import say, say_json, say_table
from modelyard.cli.settings import Json, Reason, Settings
from modelyard.cli.verb import Verb

if TYPE_CHECKING:
    from modelyard.core.limits import Limit, Standing

app = typer.Typer(help="Limits: list, set, remove.", no_args_is_help=True)

_MONEY = "money"


@app.command("list", cls=Verb)
def list_limits(context: typer.Context, as_json: Json = False) -> None:
    """List limits, and how each quota stands as the servers said in the last seconds."""
    from modelyard.core.administration.limits import ListLimits
    from modelyard.core.administration.port import every

    with Settings.of(context).administration() as administration:
        found = list(every(administration, ListLimits()))
    if as_json:
        say_json(found)
        return
    headings = ("id", "kind", "amount", "unit", "each", "tenant", "key", "models", "per")
    say_table(headings, [_row(each.limit) for each in found])
    standings = [
        _standing_row(each.limit, standing) for each in found for standing in each.standings
    ]
    if standings:
        say()
        say_table(("id", "for", "period", "spent", "leased", "lost", "left"), standings)


@app.command("set", cls=Verb)
def set_limit(
    context: typer.Context,
    kind: Annotated[str, typer.Argument(metavar="rate|quota|concurrency", show_default=False)],
    amount: Annotated[
        str,
        typer.Option(
            metavar="NUMBER",
            help="How many units: a minute for a rate, a period for a quota, at once for a "
            "concurrency.",
            show_default=False,
        ),
    ],
    unit: Annotated[
        str, typer.Option(metavar="UNIT", help="request, row, token, second, byte or money.")
    ] = "request",
    tenant: Annotated[str, typer.Option(metavar="TENANT", help="Only its calls.")] = "",
    key: Annotated[str, typer.Option(metavar="ID", help="Only this key's calls.")] = "",
    models: Annotated[
        str, typer.Option(metavar="PATTERN", help="Only calls to these models.")
    ] = "*",
    per: Annotated[
        str,
        typer.Option(
            metavar="NAMES", help="Count apart for each tenant, key, model, as in 'key,model'."
        ),
    ] = "",
    period: Annotated[
        str, typer.Option(metavar="PERIOD", help="Of a quota: hour, day, month or total.")
    ] = "total",
    burst: Annotated[
        int, typer.Option(metavar="NUMBER", help="Of a rate: the most at once; 0 for a minute's.")
    ] = 0,
    reason: Reason = "",
    as_json: Json = False,
) -> None:
    """Limit calls; where the same calls are limited so already, by this amount instead."""
    from modelyard.core.administration.limits import SetLimit

    wanted = SetLimit(
        kind=kind,
        amount=_parse_amount(amount, unit),
        unit=unit,
        tenant=tenant,
        key=key,
        models=models,
        per=tuple(name.strip() for name in per.split(",") if name.strip()),
        period=period,
        burst=burst,
        reason=reason,
    )
    with Settings.of(context).administration() as administration:
        limit = administration.do(wanted)
    if as_json:
        say_json(limit)
    else:
        say(f"{limit.id}: {limit.kind} of {_amount(limit, limit.amount)} {limit.unit}")


@app.command("remove", cls=Verb)
def remove(
    context: typer.Context,
    id: Annotated[str, typer.Argument(metavar="LIMIT", show_default=False)],
    reason: Reason = "",
    as_json: Json = False,
) -> None:
    """Limit calls so no more."""
    from modelyard.core.administration.limits import RemoveLimit

    with Settings.of(context).administration() as administration:
        removed = administration.do(RemoveLimit(id=id, reason=reason))
    if as_json:
        say_json(removed)
    else:
        say(f"{id} is removed")


def _parse_amount(text: str, unit: str) -> int:
    """A number of units; of money a decimal number, in billionths of it."""
    try:
        number = Decimal(text) * (1_000_000_000 if unit == _MONEY else 1)
    except InvalidOperation:
        number = Decimal("NaN")
    if not number.is_finite() or number != number.to_integral_value() or number.adjusted() > 18:
        wanted = "a number as 12.50" if unit == _MONEY else "a whole number"
        raise typer.BadParameter(f"--amount: '{text:.40}' is not {wanted}")
    return int(number)


def _row(limit: "Limit") -> tuple[object, ...]:
    each = {"rate": "minute", "quota": limit.period, "concurrency": ""}[limit.kind]
    burst = f", {limit.burst} at once" if limit.burst else ""
    return (
        limit.id,
        limit.kind,
        f"{_amount(limit, limit.amount)}{burst}",
        limit.unit,
        each,
        limit.tenant or "any",
        limit.key or "any",
        limit.models,
        list(limit.per),
    )


def _standing_row(limit: "Limit", standing: "Standing") -> tuple[object, ...]:
    figures = (standing.spent, standing.leased, standing.lost, standing.left)
    counted_for = ", ".join(standing.counted_for.values()) or "all"
    return (limit.id, counted_for, standing.period, *(_figure(limit, each) for each in figures))


def _amount(limit: "Limit", amount: int) -> str:
    return f"{Decimal(amount) / 1_000_000_000:f}" if limit.unit == _MONEY else str(amount)


def _figure(limit: "Limit", steps: int) -> str:
    """Counted steps in units."""
    if limit.unit == _MONEY:
        return _amount(limit, steps)
    return str(steps) if limit.step == 1 else f"{steps / limit.step:.3f}"

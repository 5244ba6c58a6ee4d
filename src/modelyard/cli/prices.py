"""`modelyard usage prices`: in which unit models are metered, and what one costs."""

from typing import TYPE_CHECKING, Annotated

import typer

from modelyard.cli.screen import say, say_json, say_table
from modelyard.cli.settings import Json, Reason, Settings
from modelyard.cli.verb import Verb

if TYPE_CHECKING:
    from modelyard.core.usage import Tariff

app = typer.Typer(help="What calls cost: list, set, remove.", no_args_is_help=True)

Models = Annotated[
    str,
    typer.Argument(
        metavar="MODELS",
        help="A model's name or a pattern of names, 'churn*'; of several that fit the longest "
        "holds.",
        show_default=False,
    ),
]


@app.command("list", cls=Verb)
def list_prices(context: typer.Context, as_json: Json = False) -> None:
    """List the prices. Models without one are metered by request, and for nothing."""
    from modelyard.core.administration.rules import ListTariffs

    with Settings.of(context).administration() as administration:
        found = [_plain(tariff) for tariff in administration.do(ListTariffs())]
    if as_json:
        say_json(found)
    else:
        say_table(("models", "unit", "price", "currency"), [tuple(each.values()) for each in found])


@app.command("set", cls=Verb)
def set_price(
    context: typer.Context,
    models: Models,
    price: Annotated[
        str, typer.Argument(metavar="PRICE", help="Of one unit, as 0.0004.", show_default=False)
    ],
    unit: Annotated[str, typer.Option(help="request, row, token, second or byte.")] = "request",
    currency: Annotated[str, typer.Option(help="Three letters.")] = "EUR",
    reason: Reason = "",
    as_json: Json = False,
) -> None:
    """Meter models in a unit, at a price; in force within a second, for calls that end then."""
    from modelyard.core.administration.rules import SetTariff

    with Settings.of(context).administration() as administration:
        tariff = administration.do(
            SetTariff(models=models, unit=unit, price=price, currency=currency, reason=reason)
        )
    if as_json:
        say_json(_plain(tariff))
    else:
        told = _plain(tariff)
        say(f"{models}: {told['price']} {told['currency']} a {told['unit']}")


@app.command("remove", cls=Verb)
def remove(
    context: typer.Context, models: Models, reason: Reason = "", as_json: Json = False
) -> None:
    """Take a price away."""
    from modelyard.core.administration.rules import RemoveTariff

    with Settings.of(context).administration() as administration:
        removed = administration.do(RemoveTariff(models=models, reason=reason))
    if as_json:
        say_json(removed)
    else:
        say(f"the price of {models} is removed")


def _plain(tariff: "Tariff") -> dict[str, str]:
    from modelyard.core.usage import money_text

    return {
        "models": tariff.models,
        "unit": tariff.unit.value,
        "price": money_text(tariff.nano),
        "currency": tariff.currency,
    }

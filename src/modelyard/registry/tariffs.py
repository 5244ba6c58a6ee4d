"""Tariffs: in which unit the models of a name pattern are metered, and what one costs."""

import dataclasses
import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Final

from sqlalchemy import Connection, delete, insert, select, update

from modelyard.core.errors import Invalid, NotFound
from modelyard.core.identity import Actor
from modelyard.core.names import check_pattern
from modelyard.core.usage import NANO, Tariff, Unit
from modelyard.registry.access import bump, to_tariff
from modelyard.registry.auditing import write_audit
from modelyard.registry.database import Database
from modelyard.registry.tables import tariffs

_PRICE: Final = re.compile(r"[0-9]{1,7}(\.[0-9]{1,9})?", re.ASCII)
_CURRENCY: Final = re.compile(r"[A-Z]{3}")
_MOST_NANO: Final = 10**6 * NANO


class TariffBook:
    """The tariffs of a home. May be used from many threads."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def list(self) -> Sequence[Tariff]:
        """Every tariff, by pattern."""
        with self._database.read() as connection:
            rows = connection.execute(select(tariffs).order_by(tariffs.c.models)).all()
            return [to_tariff(row) for row in rows]

    def set(
        self,
        models: str,
        *,
        unit: str = Unit.REQUEST,
        price: str = "0",
        currency: str = "EUR",
        actor: str | Actor,
        reason: str = "",
    ) -> Tariff:
        """Meter the models of a pattern in a unit, at a price a unit as a decimal text, `0.0004`.

        In force for calls that end from then on. Raises `Invalid`.
        """
        tariff = Tariff(
            models=check_pattern(models),
            unit=_parse_unit(unit),
            nano=parse_price(price),
            currency=_check_currency(currency),
        )
        with self._database.write() as connection:
            before = _find(connection, models)
            if tariff == before:
                return tariff
            values = dataclasses.asdict(tariff) | {"unit": tariff.unit.value}
            if before is None:
                connection.execute(insert(tariffs).values(**values))
            else:
                connection.execute(
                    update(tariffs).where(tariffs.c.models == models).values(**values)
                )
            write_audit(
                connection,
                action="set_tariff",
                actor=actor,
                kind="tariff",
                subject=models,
                reason=reason,
                before=_told(before),
                after=_told(tariff),
            )
            bump(connection)
        return tariff

    def remove(self, models: str, *, actor: str | Actor, reason: str = "") -> None:
        """Let the models of a pattern be metered by another tariff, or by request and for nothing.

        Raises `NotFound`.
        """
        with self._database.write() as connection:
            before = _find(connection, models)
            if before is None:
                raise NotFound(
                    "no_such_tariff",
                    f"there is no tariff for '{models:.140}'; see 'modelyard usage prices list'",
                    field="models",
                )
            connection.execute(delete(tariffs).where(tariffs.c.models == models))
            write_audit(
                connection,
                action="remove_tariff",
                actor=actor,
                kind="tariff",
                subject=models,
                reason=reason,
                before=_told(before),
            )
            bump(connection)


def parse_price(text: str) -> int:
    """Billionths of a currency in a decimal text; raises `Invalid`."""
    nano = int(Decimal(text) * NANO) if _PRICE.fullmatch(text) else -1
    if not 0 <= nano <= _MOST_NANO:
        raise Invalid(
            "bad_price",
            f"'{text:.40}' is no price: write a decimal number from 0 to 1000000 with at most "
            "nine places, as 0.0004",
            field="price",
        )
    return nano


def _parse_unit(text: str) -> Unit:
    try:
        return Unit(text)
    except ValueError:
        raise Invalid(
            "bad_unit", f"'{text:.40}' is no unit: use {', '.join(Unit)}", field="unit"
        ) from None


def _check_currency(text: str) -> str:
    if not _CURRENCY.fullmatch(text):
        raise Invalid(
            "bad_currency",
            f"'{text:.40}' is no currency: use three capital letters, as EUR",
            field="currency",
        )
    return text


def _find(connection: Connection, models: str) -> Tariff | None:
    row = connection.execute(select(tariffs).where(tariffs.c.models == models)).one_or_none()
    return None if row is None else to_tariff(row)


def _told(tariff: Tariff | None) -> dict[str, Any] | None:
    return None if tariff is None else dataclasses.asdict(tariff) | {"unit": tariff.unit.value}

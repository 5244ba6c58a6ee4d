"""Limits in SQL: how much whom, and how quotas stand."""

import dataclasses
import datetime
import secrets
from collections.abc import Sequence
from enum import StrEnum
from typing import Any, Final, TypeVar

from sqlalchemy import Connection, Row, delete, insert, select, update

from modelyard.core.errors import Invalid, NotFound
from modelyard.core.identity import Actor
from modelyard.core.limits import MONEY, Limit, LimitKind, Period, Standing
from modelyard.core.names import check_pattern
from modelyard.core.periods import period_at
from modelyard.core.usage import Unit
from modelyard.registry.access import note_change, now, to_limit
from modelyard.registry.database import Database
from modelyard.registry.tables import limits, quota_leases
from modelyard.registry.tenants import find_tenant

_MOST: Final = 2**53
"""The largest amount, in counted steps: floating point still counts one by one up to there."""
_PARTS: Final[Sequence[str]] = ("tenant", "key", "model")
_LONGEST_KEY: Final = 128

_E = TypeVar("_E", bound=StrEnum)


class LimitBook:
    """The limits of a registry. May be used from many threads."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def list(self) -> "list[Limit]":
        """Every limit, by id."""
        with self._database.read() as connection:
            return _list(connection)

    def get(self, id: str) -> Limit:
        """That limit; raises `NotFound`."""
        with self._database.read() as connection:
            return _find(connection, id)

    def set(
        self,
        kind: str,
        amount: int,
        *,
        unit: str = Unit.REQUEST,
        tenant: str = "",
        key: str = "",
        models: str = "*",
        per: Sequence[str] = (),
        period: str = Period.TOTAL,
        burst: int = 0,
        actor: str | Actor,
        reason: str = "",
    ) -> Limit:
        """Limit the calls that fit; where they are limited so already, by this amount instead.

        What was counted stays counted. `amount` is in units a minute for a rate, in all a period
        for a quota, or calls at once; in billionths of a currency for `money`. Raises `Invalid`,
        and `NotFound` for a tenant that is not there.
        """
        wished = Limit(
            id=secrets.token_hex(4),
            kind=_parse(LimitKind, kind, "kind"),
            amount=amount,
            unit=unit,
            tenant=tenant,
            key=key,
            models=check_pattern(models),
            per=tuple(name for name in _PARTS if name in per),
            period=_parse(Period, period, "period"),
            burst=burst,
        )
        _check(wished, per)
        with self._database.write() as connection:
            if tenant:
                find_tenant(connection, tenant)
            before = next((each for each in _list(connection) if _is_same(each, wished)), None)
            if before is None:
                connection.execute(insert(limits).values(**_columns(wished)))
            else:
                wished = dataclasses.replace(wished, id=before.id)
                if wished == before:
                    return wished
                connection.execute(
                    update(limits).where(limits.c.id == wished.id).values(**_columns(wished))
                )
            _note(connection, "limit_set", wished.id, before, wished, actor, reason)
        return wished

    def remove(self, id: str, *, actor: str | Actor, reason: str = "") -> None:
        """Limit calls so no more; raises `NotFound`."""
        with self._database.write() as connection:
            before = _find(connection, id)
            connection.execute(delete(limits).where(limits.c.id == id))
            _note(connection, "limit_removed", id, before, None, actor, reason)

    def standings(self) -> Sequence[Standing]:
        """How every quota stands in its present period, for each subject that has called."""
        with self._database.read() as connection:
            known = {each.id: each for each in _list(connection)}
            rows = connection.execute(
                select(quota_leases).order_by(quota_leases.c.words, quota_leases.c.period)
            ).all()
        moment = now()
        by_subject: dict[tuple[str, str], list[Row[Any]]] = {}
        for row in rows:
            limit = known.get(row.limit)
            if limit is not None and row.period == period_at(limit.period, moment.timestamp()):
                by_subject.setdefault((row.limit, row.words), []).append(row)
        return [
            _to_standing(known[id], words, leases, moment)
            for (id, words), leases in by_subject.items()
        ]


def _to_standing(
    limit: Limit, words: str, leases: Sequence[Row[Any]], moment: datetime.datetime
) -> Standing:
    unspent = [max(row.granted - row.spent, 0) for row in leases]
    spent = sum(row.spent for row in leases)
    return Standing(
        limit=limit.id,
        period=leases[0].period,
        counted_for=_read_words(limit, words),
        spent=spent,
        leased=sum(unspent),
        lost=sum(left for row, left in zip(leases, unspent, strict=True) if row.expires < moment),
        left=limit.amount * limit.step - spent - sum(unspent),
    )


def _read_words(limit: Limit, words: str) -> dict[str, str]:
    """Whose count it is; see `Limit.subject`."""
    names: list[str] = [name for name in _PARTS if name in limit.per]
    if limit.unit == MONEY:
        names.append("currency")
    return dict(zip(names, words.split("\x1f")[1:], strict=False))


def _check(limit: Limit, per: Sequence[str]) -> None:
    """Refuse what no limit can be."""
    units = {*Unit, MONEY} if limit.kind is LimitKind.QUOTA else {*Unit}
    if limit.kind is LimitKind.CONCURRENCY:
        units = {Unit.REQUEST}
    if limit.unit not in units:
        raise _bad("unit", f"a {limit.kind} is counted in {', '.join(sorted(units))}")
    if not set(per) <= set(_PARTS):
        raise _bad("per", f"calls are counted apart by {', '.join(_PARTS)}")
    most = _MOST // limit.step
    for name, value in (("amount", limit.amount), ("burst", limit.burst)):
        if not 0 <= value <= most:
            raise _bad(name, f"write a whole number from 0 to {most}")
    if limit.burst and limit.kind is not LimitKind.RATE:
        raise _bad("burst", "only a rate has a burst")
    if limit.period is not Period.TOTAL and limit.kind is not LimitKind.QUOTA:
        raise _bad("period", "only a quota has a period; a rate is always a minute's")
    if len(limit.key) > _LONGEST_KEY:
        raise _bad("key", "that is no key's id; see 'modelyard keys list'")


def _bad(field: str, message: str) -> Invalid:
    return Invalid(f"bad_{field}", f"{field}: {message}", field=field)


def _parse(kind: type[_E], text: str, field: str) -> _E:
    try:
        return kind(text)
    except ValueError:
        raise _bad(field, f"'{text:.40}' is none; there are {', '.join(kind)}") from None


def _is_same(one: Limit, other: Limit) -> bool:
    """Whether they count the same calls in the same way, and only let more or fewer through."""
    return dataclasses.replace(one, id="", amount=0, burst=0) == dataclasses.replace(
        other, id="", amount=0, burst=0
    )


def _find(connection: Connection, id: str) -> Limit:
    row = connection.execute(select(limits).where(limits.c.id == id)).one_or_none()
    if row is None:
        raise NotFound(
            "no_such_limit",
            f"there is no limit '{id:.140}'; see 'modelyard limits list'",
            field="id",
        )
    return to_limit(row)


def _list(connection: Connection) -> list[Limit]:
    rows = connection.execute(select(limits).order_by(limits.c.id)).all()
    return [to_limit(row) for row in rows]


def _columns(limit: Limit) -> dict[str, Any]:
    return {
        **dataclasses.asdict(limit),
        "kind": limit.kind.value,
        "unit": str(limit.unit),
        "period": limit.period.value,
        "per": list(limit.per),
    }


def _note(
    connection: Connection,
    action: str,
    id: str,
    before: Limit | None,
    after: Limit | None,
    actor: str | Actor,
    reason: str,
) -> None:
    note_change(
        connection,
        action,
        kind="limit",
        subject=id,
        before=None if before is None else _columns(before),
        after=None if after is None else _columns(after),
        actor=actor,
        reason=reason,
    )

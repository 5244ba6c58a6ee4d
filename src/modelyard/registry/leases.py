"""Leases of quotas in SQL: each node holds a part, and all parts together never exceed the quota.

A node says in absolute numbers what it keeps and has spent, so that an exchange that was made and
never heard of does no harm: the next one says the same again. What a node holds stays its own until
it says otherwise: of one that is gone, the whole lease counts as spent.
"""

import datetime
from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import Connection, Row, delete, func, insert, select, text, update

from modelyard.core.leases import Ask, Lease
from modelyard.core.limits import Period
from modelyard.registry.database import Database
from modelyard.registry.tables import nodes, quota_leases, quota_wants

LEASE_S: Final = 30.0
"""How long after its last word a node counts as gone, and its leases as spent."""
ALIVE_S: Final = 15.0
"""How long after its last beat a node counts as alive."""
_WANT_S: Final = 2.0
_KEPT_FOR: Final = datetime.timedelta(days=40)
"""Leases of periods that are over are kept so long."""

_L: Final = quota_leases.c


class LeaseBook:
    """The leases of a registry; a `LeaseStore`. May be used from many threads."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def exchange(self, node: str, asks: Sequence[Ask]) -> list[Lease]:
        """Answer the asks in one transaction, in their order."""
        with self._database.write() as connection:
            now = _now(connection)
            alive = _count_alive(connection, now)
            return [_exchange(connection, node, ask, alive, now) for ask in asks]

    def held(self, node: str) -> list[Lease]:
        """The leases of a node, with the wants of others."""
        with self._database.read() as connection:
            wanted = {
                (row.subject, row.period): row.number
                for row in connection.execute(
                    select(quota_wants).where(quota_wants.c.until > _now(connection))
                )
            }
            return [
                Lease(
                    limit=row.limit,
                    words=row.words,
                    period=row.period,
                    granted=row.granted,
                    spent=row.spent,
                    wanted=wanted.get((row.subject, row.period), 0),
                    answered=row.answered,
                )
                for row in connection.execute(select(quota_leases).where(_L.node == node))
            ]

    def beat(self, node: str) -> int:
        """Say that a node lives; how many do."""
        with self._database.write() as connection:
            now = _now(connection)
            if not connection.execute(
                update(nodes).where(nodes.c.name == node).values(heard=now)
            ).rowcount:
                connection.execute(insert(nodes).values(name=node, started=now, heard=now))
                _clear(connection, now)
            return _count_alive(connection, now)

    def leave(self, node: str) -> None:
        """Say that a node lives no more."""
        with self._database.write() as connection:
            connection.execute(delete(nodes).where(nodes.c.name == node))


def _exchange(
    connection: Connection, node: str, ask: Ask, alive: int, now: datetime.datetime
) -> Lease:
    key = (_L.subject == ask.subject) & (_L.period == ask.period)
    rows = connection.execute(select(quota_leases).where(key)).all()
    mine = next((row for row in rows if row.node == node), None)
    others = [row for row in rows if row.node != node]
    spent, kept = ask.spent, max(ask.kept, ask.spent)
    if ask.is_new:
        # What an exchange granted that was never heard of is not spent, and not known there.
        spent = kept = 0 if mine is None else mine.spent
    # Debts of others count too: what was spent beyond a lease is nobody's to give.
    room = max(ask.quota - sum(max(row.granted, row.spent) for row in others), 0)
    kept = min(kept, room)
    free = room - kept
    want = connection.execute(
        select(quota_wants).where(
            quota_wants.c.subject == ask.subject, quota_wants.c.period == ask.period
        )
    ).one_or_none()
    number = want.number if want is not None and want.until > now else 0
    given = min(ask.least, free) if number else _share(ask, free, max(alive, len(rows), 1))
    lacks = given < ask.least
    if lacks:
        number = _want(connection, node, ask, want, number, now)
    values = {
        "granted": kept + given,
        "spent": spent,
        "answered": ask.answered,
        "heard": now,
        "expires": now + datetime.timedelta(seconds=LEASE_S),
    }
    if mine is not None:
        connection.execute(update(quota_leases).where(key, _L.node == node).values(values))
    else:
        connection.execute(
            insert(quota_leases).values(
                subject=ask.subject,
                period=ask.period,
                node=node,
                limit=ask.limit,
                words=ask.words,
                **values,
            )
        )
    return Lease(
        limit=ask.limit,
        words=ask.words,
        period=ask.period,
        granted=kept + given,
        spent=spent,
        free=free - given,
        wanted=number,
        answered=ask.answered,
        is_owed=lacks and any(_owes(row, number, now) for row in others),
    )


def _share(ask: Ask, free: int, parts: int) -> int:
    """What is given: enough for who waits, and of what is left at most half a node's part."""
    share = free // (2 * parts)
    return min(max(ask.least, min(ask.least + ask.more, share)), free)


def _owes(row: Row[Any], number: int, now: datetime.datetime) -> bool:
    """Whether another node may hold what it does not need, and is there to give it back."""
    return bool(row.granted > row.spent and row.answered < number and row.expires > now)


def _want(
    connection: Connection,
    node: str,
    ask: Ask,
    want: Row[Any] | None,
    number: int,
    now: datetime.datetime,
) -> int:
    """Ask all others for what they do not need; the number of the want."""
    until = now + datetime.timedelta(seconds=_WANT_S)
    if want is None:
        connection.execute(
            insert(quota_wants).values(
                subject=ask.subject, period=ask.period, number=1, node=node, until=until
            )
        )
        return 1
    number = number or want.number + 1
    connection.execute(
        update(quota_wants)
        .where(quota_wants.c.subject == ask.subject, quota_wants.c.period == ask.period)
        .values(number=number, node=node, until=until)
    )
    return number


def _count_alive(connection: Connection, now: datetime.datetime) -> int:
    since = now - datetime.timedelta(seconds=ALIVE_S)
    return max(connection.scalar(select(func.count()).where(nodes.c.heard > since)) or 0, 1)


def _clear(connection: Connection, now: datetime.datetime) -> None:
    """Forget leases of periods that are long over."""
    old = now - _KEPT_FOR
    connection.execute(delete(quota_leases).where(_L.heard < old, _L.period != Period.TOTAL))
    connection.execute(
        delete(quota_wants).where(quota_wants.c.until < old, quota_wants.c.period != Period.TOTAL)
    )
    connection.execute(delete(nodes).where(nodes.c.heard < old))


def _now(connection: Connection) -> datetime.datetime:
    """The database's time, where machines of several clocks share it."""
    if connection.dialect.name == "postgresql":
        now: datetime.datetime = connection.scalar(text("SELECT clock_timestamp()"))
        return now
    return datetime.datetime.now(datetime.UTC)

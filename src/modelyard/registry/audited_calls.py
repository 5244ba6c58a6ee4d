"""Audit rows of calls, where the policy asks for them: derived from usage as it is copied.

A call's usage event is in a spool that outlives its process before the call is answered, and is
copied exactly once. So rows that are written in the transaction of the copy are complete whatever
is killed, and nothing is asked of the calls themselves. The policy is the one in force when the
copy is made, about a second after the call.
"""

from collections.abc import Iterable, Iterator

from sqlalchemy import Connection, select

from modelyard.core.identity import Actor
from modelyard.core.usage import UsageEvent
from modelyard.gateway.metering.batch import Batch, spelled_out
from modelyard.registry.auditing import Entry, append
from modelyard.registry.policies import find_policy
from modelyard.registry.tables import keys


def audit_calls(connection: Connection, batch: Batch) -> int:
    """Write a row for every call of the batch to a model whose calls are audited.

    Never what was asked or answered; returns how many rows they were.
    """
    policy = find_policy(connection).policy
    audited = [
        number for number, subject in batch.subjects.items() if policy.audits_calls(subject.model)
    ]
    if not audited:
        return 0
    import numpy as np

    events = batch.events[np.isin(batch.events["subject"], audited)]
    names = _names(connection, {batch.subjects[number].key for number in audited})
    return append(connection, _entries(spelled_out(batch.prefix, events, batch.subjects), names))


def _entries(events: Iterable[UsageEvent], names: dict[str, str]) -> Iterator[Entry]:
    for event in events:
        subject = event.subject
        yield Entry(
            action="call",
            actor=Actor(
                name=names.get(subject.key, subject.key), key=subject.key, tenant=subject.tenant
            ),
            kind="call",
            subject=event.call,
            model=subject.model,
            number=subject.version,
            details={"outcome": event.outcome, "rows": event.rows, "took_us": event.took_us},
            at=event.arrived,
        )


def _names(connection: Connection, ids: set[str]) -> dict[str, str]:
    query = select(keys.c.id, keys.c.name).where(keys.c.id.in_(ids))
    return {row.id: row.name for row in connection.execute(query)}

"""Captured payloads: kept encrypted for their time, read by auditors, and really erased.

A payload is encrypted with a key that it shares only with what is captured of the same model about
the same subject within a day. Keys are rows, wrapped by the master in the home's `payloads.key`.
What was erased or has expired is deleted with its keys, and the master is exchanged, so that not
even a copy of the database that was made before can be decrypted with what is left.
"""

import contextlib
import datetime
import secrets
import time
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import Connection, Row, Select, delete, func, insert, select, update
from sqlalchemy import bindparam as bind

from modelyard.bundle.keyring import KEY_BYTES
from modelyard.core.errors import Invalid, NotFound, Unavailable
from modelyard.core.identity import Actor
from modelyard.core.payloads import CapturedPayload, Erasure, Payload, PayloadRecord
from modelyard.core.policy import DAY_S
from modelyard.registry.auditing import write_audit
from modelyard.registry.database import Database
from modelyard.registry.payload_keys import PayloadKeys, PayloadRing
from modelyard.registry.tables import payload_erasures, payload_keys, payloads

_NONCE_BYTES: Final = 12
_KEY_LIVES: Final = datetime.timedelta(days=1)
_LATE: Final = datetime.timedelta(hours=1)
"""How long a captured payload may be on its way."""
_PAGE: Final = 500
_LONGEST_NAME: Final = 128
_DECODER: Final = msgspec.json.Decoder(dict[str, Any])

_Selected = Select[*tuple[Any, ...]]
_JOINED: Final = payloads.join(payload_keys)
_COLUMNS: Final = (
    payloads.c.id,
    payloads.c.call,
    payloads.c.model,
    payloads.c.number,
    payloads.c.tenant,
    payloads.c.caller,
    payloads.c.outcome,
    payloads.c.rows,
    payloads.c.at,
    payloads.c.expires,
    payload_keys.c.subject,
    func.length(payloads.c.sealed).label("size"),
)


@dataclass(frozen=True, slots=True)
class _DataKey:
    id: int
    secret: bytes


class PayloadBook:
    """The captured payloads of a home. May be used from many threads.

    Whoever lists, shows or exports them is written to the audit before anything is given out.
    """

    def __init__(self, database: Database, keys: PayloadKeys) -> None:
        self._database = database
        self._keys = keys

    def write(self, captured: Sequence[CapturedPayload]) -> int:
        """Keep payloads, encrypted, all or none; how many are kept.

        One whose subject was erased after it was captured is not.
        """
        with self._database.write() as connection:
            ring = self._keys.ring()
            erased = _erasures(connection)
            kept = [
                (each, subject)
                for each in captured
                if not _is_erased(each, subject := ring.subject(each.subject), erased)
            ]
            keys = _find_keys(connection, ring, {(subject, each.model) for each, subject in kept})
            rows = [_sealed(each, keys[subject, each.model]) for each, subject in kept]
            if rows:
                connection.execute(insert(payloads), rows)
            return len(rows)

    def list(
        self,
        *,
        actor: str | Actor,
        model: str | None = None,
        tenant: str | None = None,
        subject: str | None = None,
        since: datetime.datetime | None = None,
        until: datetime.datetime | None = None,
        before: int | None = None,
        limit: int = 100,
    ) -> "list[PayloadRecord]":
        """What is kept, newest first, none of it decrypted; `before` is the id to go on from."""
        with self._database.write() as connection:
            wanted = self._chosen(select(*_COLUMNS), model, tenant, subject, since, until)
            if before is not None:
                wanted = wanted.where(payloads.c.id < before)
            found = connection.execute(wanted.order_by(payloads.c.id.desc()).limit(limit)).all()
            _audit_reading(connection, "list_payloads", actor, "", model, len(found))
            return [_record(row) for row in found]

    def show(self, id: int, *, actor: str | Actor) -> Payload:
        """One of them, decrypted; raises `NotFound`, and `Unavailable` without its key."""
        with self._database.write() as connection:
            row = connection.execute(_whole().where(payloads.c.id == id)).one_or_none()
            if row is None or _is_over(row.expires):
                raise NotFound("no_such_payload", f"there is no payload {id}", field="id")
            found = _opened(row, self._keys.ring())
            _audit_reading(connection, "show_payload", actor, str(id), found.record.model, 1)
            return found

    def export(
        self,
        *,
        actor: str | Actor,
        reason: str = "",
        model: str | None = None,
        tenant: str | None = None,
        subject: str | None = None,
        since: datetime.datetime | None = None,
        until: datetime.datetime | None = None,
    ) -> Iterator[Payload]:
        """All that fit, decrypted one after the other, oldest first.

        Written to the audit with their count before the first is given out.
        """
        extent: _Selected = select(func.count(), func.max(payloads.c.id))
        counted = self._chosen(extent, model, tenant, subject, since, until)
        with self._database.write() as connection:
            count, last = connection.execute(counted).one()
            _audit_reading(connection, "export_payloads", actor, "", model, count, reason)
        after = 0
        while last is not None and after < last:
            # As a writer: keys and what they are wrapped with do not change meanwhile.
            with self._database.write() as connection:
                wanted = self._chosen(_whole(), model, tenant, subject, since, until)
                page = connection.execute(
                    wanted.where(payloads.c.id > after, payloads.c.id <= last)
                    .order_by(payloads.c.id)
                    .limit(_PAGE)
                ).all()
                ring = self._keys.ring()
            if not page:
                return
            after = page[-1].id
            yield from (_opened(row, ring) for row in page)

    def erase(
        self,
        subject: str,
        *,
        actor: str | Actor,
        model: str | None = None,
        reason: str = "",
    ) -> Erasure:
        """Erase all that is kept about somebody, of every model or of one.

        The audit says that and how many, by a keyed digest; not whom, nor what it was. Raises
        `Invalid` for nobody.
        """
        if not subject:
            raise Invalid("no_subject", "say about whom all is to be erased", field="subject")
        with self._database.write() as connection:
            _overwrite_deleted(connection)
            digest = self._keys.ring().subject(subject)
            doomed = select(payload_keys.c.id).where(payload_keys.c.subject == digest)
            if model is not None:
                doomed = doomed.where(payload_keys.c.model == model)
            ids = connection.execute(doomed).scalars().all()
            count = _delete(connection, ids)
            connection.execute(
                insert(payload_erasures).values(subject=digest, model=model or "", at=_now())
            )
            if ids:
                self._renew(connection)
            write_audit(
                connection,
                action="erase_payloads",
                actor=actor,
                kind="payload",
                subject=digest,
                reason=reason,
                model=model,
                details={"payloads": count},
            )
        self._tidy()
        return Erasure(subject=digest, payloads=count)

    def sweep(self) -> int:
        """Delete what has expired; how many payloads that were. Cheap where nothing has.

        For what has expired the master is exchanged once a day, and at once where nothing is left.
        """
        now = _now()
        if not self._keys.is_there or not self._is_sweeping_due(now):
            return 0
        with self._database.write() as connection:
            _overwrite_deleted(connection)
            expired = delete(payloads).where(payloads.c.expires <= now)
            count = connection.execute(expired).rowcount
            empty = ~select(payloads.c.id).where(payloads.c.key == payload_keys.c.id).exists()
            keys = connection.execute(delete(payload_keys).where(empty)).rowcount
            late = payload_erasures.c.at <= now - _LATE
            connection.execute(delete(payload_erasures).where(late))
            is_empty = connection.execute(select(payload_keys.c.id).limit(1)).first() is None
            if (keys and is_empty) or (not is_empty and self._is_master_old()):
                self._renew(connection)
        self._tidy()
        return count

    def rewrap(self) -> bool:
        """Wrap the home's masters with the key that encrypts now; False where it has none."""
        with self._database.write():
            return self._keys.rewrap()

    def _is_sweeping_due(self, now: datetime.datetime) -> bool:
        with self._database.read() as connection:
            is_left = connection.execute(select(payload_keys.c.id).limit(1)).first() is not None
            return (is_left and self._is_master_old()) or any(
                connection.execute(select(table.c.id).where(condition).limit(1)).first() is not None
                for table, condition in (
                    (payloads, payloads.c.expires <= now),
                    (payload_erasures, payload_erasures.c.at <= now - _LATE),
                )
            )

    def _is_master_old(self) -> bool:
        return self._keys.ring().made_s + DAY_S <= time.time()

    def _renew(self, connection: Connection) -> None:
        """Wrap every key with a new master. The old ones are forgotten when that is committed."""
        ring = self._keys.renew()
        rows = connection.execute(
            select(payload_keys.c.id, payload_keys.c.master, payload_keys.c.wrapped)
        ).all()
        known = {each.id for each in ring.masters}
        changed = [
            {"at_id": row.id, "wrapped": ring.master.wrap(ring.unwrap(row.master, row.wrapped))}
            for row in rows
            if row.master in known
        ]
        if changed:
            connection.execute(
                update(payload_keys)
                .where(payload_keys.c.id == bind("at_id"))
                .values(master=ring.master.id, wrapped=bind("wrapped")),
                changed,
            )

    def _tidy(self) -> None:
        """Forget the masters that no key needs, and what the database's files still hold.

        Only what is committed counts; within a longer transaction the next sweep does it.
        """
        if self._database.is_joined:
            return
        with self._database.write() as connection:
            used = set(connection.execute(select(payload_keys.c.master).distinct()).scalars())
            ring = self._keys.ring()
            self._keys.forget(frozenset(each.id for each in ring.masters) - used)
        self._database.empty_log()

    def _chosen(
        self,
        wanted: _Selected,
        model: str | None,
        tenant: str | None,
        subject: str | None,
        since: datetime.datetime | None,
        until: datetime.datetime | None,
    ) -> _Selected:
        wanted = wanted.select_from(_JOINED).where(payloads.c.expires > _now())
        if model is not None:
            wanted = wanted.where(payloads.c.model == model)
        if tenant is not None:
            wanted = wanted.where(payloads.c.tenant == tenant)
        if subject is not None:
            wanted = wanted.where(payload_keys.c.subject == self._keys.ring().subject(subject))
        if since is not None:
            wanted = wanted.where(payloads.c.at >= since)
        if until is not None:
            wanted = wanted.where(payloads.c.at < until)
        return wanted


def _whole() -> _Selected:
    return select(
        *_COLUMNS, payload_keys.c.master, payload_keys.c.wrapped, payloads.c.sealed
    ).select_from(_JOINED)


def _find_keys(
    connection: Connection, ring: PayloadRing, wanted: Set[tuple[str, str]]
) -> dict[tuple[str, str], _DataKey]:
    """The keys for what is captured today, by subject and model; new ones where there are none."""
    found: dict[tuple[str, str], _DataKey] = {}
    subjects = sorted({subject for subject, _ in wanted})
    for start in range(0, len(subjects), _PAGE):
        rows = connection.execute(
            select(payload_keys)
            .where(
                payload_keys.c.subject.in_(subjects[start : start + _PAGE]),
                payload_keys.c.opened > _now() - _KEY_LIVES,
            )
            .order_by(payload_keys.c.id)
        )
        for row in rows:
            # One whose master is in another home is of no use here.
            with contextlib.suppress(Unavailable):
                found[row.subject, row.model] = _DataKey(
                    row.id, ring.unwrap(row.master, row.wrapped)
                )
    missing = sorted(wanted - found.keys())
    secret_keys = [secrets.token_bytes(KEY_BYTES) for _ in missing]
    if missing:
        inserted = connection.execute(
            insert(payload_keys).returning(payload_keys.c.id, sort_by_parameter_order=True),
            [
                {
                    "subject": subject,
                    "model": model,
                    "opened": _now(),
                    "master": ring.master.id,
                    "wrapped": ring.master.wrap(secret),
                }
                for (subject, model), secret in zip(missing, secret_keys, strict=True)
            ],
        ).scalars()
        found |= zip(missing, map(_DataKey, inserted, secret_keys), strict=True)
    return found


def _sealed(captured: CapturedPayload, key: _DataKey) -> dict[str, Any]:
    nonce = secrets.token_bytes(_NONCE_BYTES)
    sealed = AESGCM(key.secret).encrypt(
        nonce, captured.document, _bound(captured.model, captured.call)
    )
    return {
        "key": key.id,
        "call": captured.call,
        "model": captured.model,
        "number": captured.version,
        "tenant": captured.tenant,
        "caller": captured.key[:_LONGEST_NAME],
        "outcome": captured.outcome,
        "rows": captured.rows,
        "at": _moment(captured.at),
        "expires": _moment(captured.expires_at),
        "sealed": nonce + sealed,
    }


def _opened(row: Row[Any], ring: PayloadRing) -> Payload:
    secret = ring.unwrap(row.master, row.wrapped)
    nonce, sealed = row.sealed[:_NONCE_BYTES], row.sealed[_NONCE_BYTES:]
    try:
        document = AESGCM(secret).decrypt(nonce, sealed, _bound(row.model, row.call))
    except InvalidTag:
        raise Unavailable(
            "payload_damaged", f"payload {row.id} was changed in the database and cannot be read"
        ) from None
    return Payload(record=_record(row), document=_DECODER.decode(document))


def _bound(model: str, call: str) -> bytes:
    """What a payload cannot be moved away from."""
    return f"{model}\0{call}".encode()


def _record(row: Row[Any]) -> PayloadRecord:
    return PayloadRecord(
        id=row.id,
        call=row.call,
        model=row.model,
        version=row.number,
        tenant=row.tenant,
        key=row.caller,
        outcome=row.outcome,
        rows=row.rows,
        at=row.at,
        expires=row.expires,
        subject=row.subject,
        size_bytes=row.size,
    )


def _delete(connection: Connection, keys: Sequence[int]) -> int:
    """Delete these keys and what they open; how many payloads that were."""
    count = 0
    for start in range(0, len(keys), _PAGE):
        some = keys[start : start + _PAGE]
        gone = connection.execute(delete(payloads).where(payloads.c.key.in_(some)))
        count += gone.rowcount
        connection.execute(delete(payload_keys).where(payload_keys.c.id.in_(some)))
    return count


def _erasures(connection: Connection) -> Sequence[tuple[str, str, datetime.datetime]]:
    return [
        (row.subject, row.model, row.at)
        for row in connection.execute(
            select(payload_erasures).where(payload_erasures.c.at > _now() - _LATE)
        )
    ]


def _is_erased(
    captured: CapturedPayload,
    subject: str,
    erasures: Iterable[tuple[str, str, datetime.datetime]],
) -> bool:
    return any(
        subject == erased and model in ("", captured.model) and _moment(captured.at) <= at
        for erased, model, at in erasures
    )


def _audit_reading(
    connection: Connection,
    action: str,
    actor: str | Actor,
    subject: str,
    model: str | None,
    count: int,
    reason: str = "",
) -> None:
    write_audit(
        connection,
        action=action,
        actor=actor,
        kind="payload",
        subject=subject,
        reason=reason,
        model=model,
        details={"payloads": count},
    )


def _overwrite_deleted(connection: Connection) -> None:
    """SQLite leaves what is deleted where it was, unless it is told not to."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("PRAGMA secure_delete = ON")


def _is_over(expires: datetime.datetime) -> bool:
    return expires <= _now()


def _moment(unix_s: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(unix_s, datetime.UTC)


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)

"""The home's policy: one document with a number that grows, read by whoever decides by it."""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, insert, select, update

from modelyard.bundle.manifest import Format
from modelyard.core.errors import Conflict, Invalid
from modelyard.core.identity import Actor
from modelyard.core.names import check_pattern
from modelyard.core.policy import NO_POLICY, Capture, Policy, PolicyVersion
from modelyard.core.selectors import Selector
from modelyard.registry.access import bump
from modelyard.registry.auditing import write_audit
from modelyard.registry.database import Database
from modelyard.registry.tables import policy as table

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_ONLY: Final = 1
"""The key of the one row."""


class PolicyBook:
    """The policy of a home. May be used from many threads."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self) -> PolicyVersion:
        """The policy in force; number 0 is that of a home that was given none."""
        with self._database.read() as connection:
            return find_policy(connection)

    def set(
        self,
        policy: Policy,
        *,
        actor: str | Actor,
        reason: str = "",
        expected: int | None = None,
    ) -> PolicyVersion:
        """Put a policy in force as a whole; an equal one changes nothing.

        `expected` is the number that the change was made from: raises `Conflict` where somebody
        has changed it since. Raises `Invalid` for a policy that nobody could keep.
        """
        policy = checked(policy)
        with self._database.write() as connection:
            before = find_policy(connection)
            if expected is not None and expected != before.number:
                raise Conflict(
                    "policy_changed",
                    f"the policy is at {before.number} and no longer at {expected}: somebody "
                    "changed it; look at it and try again",
                    field="expected",
                )
            if policy == before.policy:
                return before
            after = PolicyVersion(number=before.number + 1, policy=policy)
            _store(connection, after)
            write_audit(
                connection,
                action="set_policy",
                actor=actor,
                kind="policy",
                subject="policy",
                reason=reason,
                before=_told(before),
                after=_told(after),
            )
            bump(connection)
            return after


def _store(connection: Connection, policy: PolicyVersion) -> None:
    values = {"version": policy.number, "document": policy_document(policy.policy)}
    if not connection.execute(update(table).values(**values)).rowcount:
        connection.execute(insert(table).values(id=_ONLY, **values))


def _told(policy: PolicyVersion) -> dict[str, Any]:
    return {"number": policy.number, **policy_document(policy.policy)}


def policy_document(policy: Policy) -> dict[str, Any]:
    """The policy as plain values, for a table or a file; `parse_policy` reads it back."""
    document: dict[str, Any] = msgspec.to_builtins(policy)
    return document


def find_policy(connection: Connection) -> PolicyVersion:
    """The policy in force, within a transaction of somebody else's."""
    row = connection.execute(select(table.c.version, table.c.document)).one_or_none()
    if row is None:
        return PolicyVersion(number=0, policy=NO_POLICY)
    return PolicyVersion(number=row.version, policy=msgspec.convert(row.document, Policy))


def parse_policy(document: Mapping[str, object]) -> Policy:
    """A policy from a whole document; what it does not name is as by default.

    Raises `Invalid` for a key that is none and a value of the wrong type, naming it.
    """
    _refuse_unknown(document, Policy, "")
    captures = document.get("captures", ())
    for index, each in enumerate(captures if isinstance(captures, list | tuple) else ()):
        if isinstance(each, Mapping):
            _refuse_unknown(each, Capture, f"captures[{index}].")
    try:
        return checked(msgspec.convert(document, Policy))
    except msgspec.ValidationError as error:
        raise Invalid("bad_policy", f"the policy cannot be read: {error}", field="policy") from None


def checked(policy: Policy) -> Policy:
    """The policy with its keys in their one spelling; raises `Invalid` naming what is wrong."""
    if policy.require_signature and not policy.trusted_keys:
        raise _bad(
            "require_signature",
            "demands signatures, but no key is trusted: nothing could be loaded; "
            "add 'trusted_keys'",
        )
    for pattern in (*policy.four_eyes, *policy.audit_calls):
        check_pattern(pattern)
    for framework in policy.frameworks:
        if _NAME.fullmatch(framework) is None:
            raise _bad("frameworks", f"has '{framework:.80}', which is no framework's name")
    strange = sorted(set(policy.formats) - {str(each) for each in Format})
    if strange:
        known = ", ".join(Format)
        raise _bad("formats", f"'{strange[0]:.80}' is no format; there are {known}")
    for index, capture in enumerate(policy.captures):
        _check_capture(capture, f"captures[{index}]")
    return dataclasses.replace(policy, trusted_keys=_keys(policy.trusted_keys))


def _keys(keys: tuple[str, ...]) -> tuple[str, ...]:
    if not keys:
        return ()
    from modelyard.bundle.signing import PublicKey

    return tuple(dict.fromkeys(PublicKey.parse(each).pem for each in keys))


def _check_capture(capture: Capture, where: str) -> None:
    check_pattern(capture.models)
    if not 0.0 <= capture.share <= 100.0:
        raise _bad(f"{where}.share", "is no percentage: give 0 to 100")
    if not capture.retention_s > 0.0:
        raise _bad(f"{where}.retention_s", "is no time to keep something for: give seconds")
    for field, texts in (("redact", capture.redact), ("subject", (capture.subject,))):
        for each in texts:
            if each or field == "redact":
                _check_selector(each, f"{where}.{field}")


def _check_selector(text: str, where: str) -> None:
    try:
        Selector.parse(text)
    except Invalid as error:
        raise _bad(where, f"cannot be read: {error.message}") from None


def _refuse_unknown(document: Mapping[str, object], kind: type, where: str) -> None:
    known = {field.name for field in dataclasses.fields(kind)}
    for key in document:
        if key not in known:
            raise Invalid(
                "unknown_key",
                f"a policy has no '{where}{key!s:.80}'; there are {', '.join(sorted(known))}",
                field=f"{where}{key!s:.80}",
            )


def _bad(field: str, message: str) -> Invalid:
    return Invalid("bad_policy", f"the policy's '{field}' {message}", field=field)

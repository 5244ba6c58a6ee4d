"""What the registry and the administration answer with: frozen records."""

import datetime
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

from modelyard.core.identity import Role, Verb
from modelyard.core.route import Route

State = Literal["accepted", "rejected"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A name, its newest version, the version that calls go to, and its aliases by name."""

    name: str
    created: datetime.datetime
    latest: int | None
    routed: int | None
    aliases: dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """An immutable number of a model, pointing at a bundle's digest (`sha256:…`)."""

    model: str
    number: int
    digest: str
    state: State
    created: datetime.datetime
    actor: str
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteChange:
    """One change of a model's route; `route` and its stable `number` are None where it was taken
    away."""

    generation: int
    model: str
    action: str
    number: int | None
    changed: datetime.datetime
    actor: str
    reason: str
    route: Route | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRow:
    """Who changed what, when and why, from where and by which request.

    `id` counts the rows of the registry, `sequence` those of the node that wrote it. `kind` says
    what `subject` names: a model, key, tenant, limit, .... `before` and `after` are the state that
    was changed; None where there was or is none.
    """

    id: int
    node: str
    sequence: int
    at: datetime.datetime
    actor: str
    key: str
    tenant: str
    source: str
    request_id: str
    action: str
    kind: str
    subject: str
    model: str | None
    number: int | None
    reason: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    details: dict[str, Any]
    hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleSignature:
    """A signature that lies beside a bundle. `signer` is the fingerprint of the key that it names,
    "" for Sigstore's: a claim until it is checked."""

    sha256: str
    signer: str
    content: bytes
    created: datetime.datetime
    actor: str


class Problem(StrEnum):
    """What can be wrong with a registry's files. `repair` mends the first two."""

    UNFINISHED_FILE = "unfinished_file"
    UNREFERENCED_BLOB = "unreferenced_blob"
    MISSING_BLOB = "missing_blob"
    DAMAGED_BLOB = "damaged_blob"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A problem, the blob or file it is about, and what it means.

    For a missing or damaged blob: `path` is the file inside the bundle, `versions` those of which
    it is a part.
    """

    problem: Problem
    name: str
    message: str
    path: str | None = None
    versions: tuple[str, ...] = ()


KeyState = Literal["good", "expired", "revoked"]


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRecord:
    """A key as people see it: all of it but what its secret is known by."""

    id: str
    tenant: str
    name: str
    role: Role
    models: tuple[str, ...]
    verbs: tuple[Verb, ...] | None
    """None for all that the role may."""
    state: KeyState
    created: datetime.datetime
    expires: datetime.datetime | None
    revoked: datetime.datetime | None
    replaces: str


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedKey:
    """A key that was just made, with its text: the only moment at which anybody has it."""

    record: KeyRecord
    text: str = field(repr=False)

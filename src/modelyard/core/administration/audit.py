"""The audit, and its proof."""

import datetime
from collections.abc import Iterator
from dataclasses import dataclass

from modelyard.core.administration.operation import USUAL_PAGE, Body, Page, Request, operation
from modelyard.core.audit import Checkpoint, Verdict
from modelyard.core.identity import Verb
from modelyard.core.records import AuditRow


@operation("GET", "/audit", Verb.AUDIT, tag="audit", is_global=True)
@dataclass(frozen=True, slots=True, kw_only=True)
class ListAudit(Request[Page[AuditRow]]):
    """Who changed what, newest first: the rows that fit all that is given."""

    model: str = ""
    kind: str = ""
    action: str = ""
    tenant: str = ""
    since: datetime.datetime | None = None
    until: datetime.datetime | None = None
    limit: int = USUAL_PAGE
    cursor: str = ""


@operation("POST", "/audit/verify", Verb.AUDIT, tag="audit", is_global=True, is_slow=True)
@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyAudit(Request[Verdict]):
    """Go over every row, and say what was changed, removed, inserted or reordered, and where.

    With `keys`, public keys in PEM, only what these have signed counts. `earlier` are checkpoints
    that were taken away before.
    """

    keys: tuple[str, ...] = ()
    earlier: tuple[Checkpoint, ...] = ()


@operation("GET", "/audit/export", Verb.AUDIT, tag="audit", is_global=True, gives=Body.LINES)
@dataclass(frozen=True, slots=True, kw_only=True)
class ExportAudit(Request[Iterator[bytes]]):
    """The audit as JSON lines, with all that is needed to prove it elsewhere."""

    since: datetime.datetime | None = None
    until: datetime.datetime | None = None

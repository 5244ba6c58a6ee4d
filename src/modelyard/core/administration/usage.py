"""What calls have used."""

import datetime
from collections.abc import Iterator
from dataclasses import dataclass

from modelyard.core.administration.operation import Body, Request, operation
from modelyard.core.identity import Verb
from modelyard.core.usage import Reconciliation, UsageReport


@operation("GET", "/usage", Verb.READ, tag="usage")
@dataclass(frozen=True, slots=True, kw_only=True)
class ReportUsage(Request[UsageReport]):
    """Usage of the hours from `since` to before `until`, added up by what `by` names.

    Of one's own tenant; of every tenant where one may audit.
    """

    by: tuple[str, ...] = ()
    since: datetime.datetime | None = None
    until: datetime.datetime | None = None
    tenant: str = ""
    key: str = ""
    model: str = ""


@operation("POST", "/usage/reconcile", Verb.AUDIT, tag="usage", is_global=True, is_slow=True)
@dataclass(frozen=True, slots=True, kw_only=True)
class ReconcileUsage(Request[Reconciliation]):
    """Prove that the spools of the server's machine and the database say the same."""


@operation("GET", "/usage/events", Verb.READ, tag="usage", gives=Body.LINES)
@dataclass(frozen=True, slots=True, kw_only=True)
class ListUsageEvents(Request[Iterator[bytes]]):
    """Single calls that arrived from `since` to before `until`, a `UsageEvent` a line.

    Of one's own tenant; of every tenant where one may audit.
    """

    call: str = ""
    since: datetime.datetime | None = None
    until: datetime.datetime | None = None
    tenant: str = ""
    key: str = ""
    model: str = ""

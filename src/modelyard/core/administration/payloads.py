"""What was captured of calls. Who looks is audited."""

import datetime
from collections.abc import Iterator
from dataclasses import dataclass

from modelyard.core.administration.operation import USUAL_PAGE, Body, Page, Request, operation
from modelyard.core.identity import Verb
from modelyard.core.payloads import Erasure, Payload, PayloadRecord

# Whom a payload is about travels in bodies only: addresses are written into logs on their way.


@operation("POST", "/payloads/search", Verb.AUDIT, tag="payloads", is_global=True)
@dataclass(frozen=True, slots=True, kw_only=True)
class ListPayloads(Request[Page[PayloadRecord]]):
    """What is kept, newest first, without its content."""

    model: str = ""
    tenant: str = ""
    subject: str = ""
    since: datetime.datetime | None = None
    until: datetime.datetime | None = None
    limit: int = USUAL_PAGE
    cursor: str = ""


@operation("GET", "/payloads/{id}", Verb.AUDIT, tag="payloads", is_global=True)
@dataclass(frozen=True, slots=True, kw_only=True)
class GetPayload(Request[Payload]):
    """A payload with its content."""

    id: int


@operation("POST", "/payloads/export", Verb.AUDIT, tag="payloads", is_global=True, gives=Body.LINES)
@dataclass(frozen=True, slots=True, kw_only=True)
class ExportPayloads(Request[Iterator[bytes]]):
    """Payloads with their content, oldest first, a `Payload` a line."""

    model: str = ""
    tenant: str = ""
    subject: str = ""
    since: datetime.datetime | None = None
    until: datetime.datetime | None = None
    reason: str = ""


@operation("POST", "/payloads/erase", Verb.ADMIN, tag="payloads", is_global=True, once=False)
@dataclass(frozen=True, slots=True, kw_only=True)
class ErasePayloads(Request[Erasure]):
    """Erase all that is kept about somebody, of every model or of one.

    The audit tells that and how many; not whom, unless the reason does.
    """

    subject: str
    model: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """How many payloads had expired and were deleted."""

    deleted: int


@operation("POST", "/payloads/sweep", Verb.ADMIN, tag="payloads", is_global=True, once=False)
@dataclass(frozen=True, slots=True, kw_only=True)
class SweepPayloads(Request[Swept]):
    """Delete what has expired, as servers do by themselves."""

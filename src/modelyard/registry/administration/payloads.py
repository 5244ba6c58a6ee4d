"""Captured payloads."""

from collections.abc import Iterator

import msgspec

from modelyard.core.administration import payloads as ask
from modelyard.core.administration.operation import Page
from modelyard.core.payloads import Erasure, Payload, PayloadRecord
from modelyard.registry.administration.office import Office, perform
from modelyard.registry.administration.paging import checked_limit, cut, read_number


@perform.register
def list_payloads(request: ask.ListPayloads, office: Office) -> Page[PayloadRecord]:
    """What is kept."""
    limit = checked_limit(request)
    found = office.registry.payloads.list(
        actor=office.actor,
        model=request.model or None,
        tenant=request.tenant or None,
        subject=request.subject or None,
        since=request.since,
        until=request.until,
        before=read_number(request.cursor),
        limit=limit + 1,
    )
    return cut(found, lambda each: each.id, limit)


@perform.register
def get_payload(request: ask.GetPayload, office: Office) -> Payload:
    """One of them, decrypted."""
    return office.registry.payloads.show(request.id, actor=office.actor)


@perform.register
def export_payloads(request: ask.ExportPayloads, office: Office) -> Iterator[bytes]:
    """All that fit, decrypted, as lines."""
    found = office.registry.payloads.export(
        actor=office.actor,
        reason=request.reason,
        model=request.model or None,
        tenant=request.tenant or None,
        subject=request.subject or None,
        since=request.since,
        until=request.until,
    )
    return (msgspec.json.encode(each) + b"\n" for each in found)


@perform.register
def erase_payloads(request: ask.ErasePayloads, office: Office) -> Erasure:
    """All about somebody."""
    return office.registry.payloads.erase(
        request.subject,
        actor=office.actor,
        model=request.model or None,
        reason=request.reason,
    )


@perform.register
def sweep_payloads(request: ask.SweepPayloads, office: Office) -> ask.Swept:
    """All that has expired."""
    return ask.Swept(deleted=office.registry.payloads.sweep())

"""The audit."""

from collections.abc import Iterator

from modelyard.core.administration import audit as ask
from modelyard.core.administration.operation import Page
from modelyard.core.audit import Verdict
from modelyard.core.records import AuditRow
from modelyard.registry.administration.office import Office, perform
from modelyard.registry.administration.paging import checked_limit, cut, read_number


@perform.register
def list_audit(request: ask.ListAudit, office: Office) -> Page[AuditRow]:
    """The newest rows, newest first."""
    limit = checked_limit(request)
    found = office.registry.trail.rows(
        model=request.model or None,
        kind=request.kind or None,
        action=request.action or None,
        tenant=request.tenant or None,
        since=request.since,
        until=request.until,
        before=read_number(request.cursor),
        limit=limit + 1,
    )
    return cut(found, lambda each: each.id, limit)


@perform.register
def verify_audit(request: ask.VerifyAudit, office: Office) -> Verdict:
    """Every row of every chain."""
    return office.registry.trail.verify(keys=request.keys, earlier=request.earlier)


@perform.register
def export_audit(request: ask.ExportAudit, office: Office) -> Iterator[bytes]:
    """As lines."""
    return office.registry.trail.export(since=request.since, until=request.until)

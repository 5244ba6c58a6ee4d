"""The audit."""

from modelyard.core.administration import audit as ask
from modelyard.core.administration.operation import Page
from modelyard.core.records import AuditRow
from modelyard.registry.administration.office import Office, perform
from modelyard.registry.administration.paging import bad_cursor, checked_limit, cut, read_cursor


@perform.register
def list_audit(request: ask.ListAudit, office: Office) -> Page[AuditRow]:
    """The newest rows, newest first."""
    office.check_whole()
    limit, before = checked_limit(request), read_cursor(request.cursor)
    if not isinstance(before, int | None):
        raise bad_cursor()
    found = office.registry.audit(model=request.model or None, limit=limit + 1, before=before)
    return cut(found, lambda each: each.id, limit)

"""Usage."""

from modelyard.core.administration import usage as ask
from modelyard.core.identity import Verb
from modelyard.core.usage import Reconciliation, UsageReport
from modelyard.gateway.metering.metering import FOLDER
from modelyard.registry.administration.office import Office, perform


@perform.register
def report_usage(request: ask.ReportUsage, office: Office) -> UsageReport:
    """Of one tenant, or of all where who asks may know of all."""
    tenant = request.tenant
    if office.principal is not None and not office.principal.may(Verb.AUDIT):
        tenant = tenant or office.principal.tenant
        office.check_tenant(tenant, only_own=True)
    return office.registry.usage.report(
        request.by,
        since=request.since,
        until=request.until,
        tenant=office.own_tenant(tenant) or None,
        key=request.key or None,
        model=request.model or None,
    )


@perform.register
def reconcile_usage(request: ask.ReconcileUsage, office: Office) -> Reconciliation:
    """Spools against database."""
    return office.registry.usage.reconcile(office.home / FOLDER)

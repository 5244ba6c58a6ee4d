"""Usage."""

from collections.abc import Iterator

import msgspec

from modelyard.core.administration import usage as ask
from modelyard.core.identity import Verb
from modelyard.core.usage import Reconciliation, UsageReport
from modelyard.gateway.metering.metering import FOLDER
from modelyard.registry.administration.office import Office, perform


@perform.register
def report_usage(request: ask.ReportUsage, office: Office) -> UsageReport:
    """Of one tenant, or of all where who asks may know of all."""
    return office.registry.usage.report(
        request.by,
        since=request.since,
        until=request.until,
        tenant=_tenant(request.tenant, office),
        key=request.key or None,
        model=request.model or None,
    )


@perform.register
def list_events(request: ask.ListUsageEvents, office: Office) -> Iterator[bytes]:
    """Call by call."""
    found = office.registry.usage.events(
        call=request.call or None,
        since=request.since,
        until=request.until,
        tenant=_tenant(request.tenant, office),
        key=request.key or None,
        model=request.model or None,
    )
    return (msgspec.json.encode(event) + b"\n" for event in found)


@perform.register
def reconcile_usage(request: ask.ReconcileUsage, office: Office) -> Reconciliation:
    """Spools against database."""
    return office.registry.usage.reconcile(office.home / FOLDER)


def _tenant(asked: str, office: Office) -> str | None:
    """The tenant whose usage is told, None for all; raises `Denied` for one of others'."""
    who = office.principal
    if who is not None and not who.may(Verb.AUDIT):
        office.check_tenant(asked or who.tenant, only_own=True)
        return who.tenant
    return office.own_tenant(asked) or None

"""Limits."""

from modelyard.core.administration import limits as ask
from modelyard.core.administration.access import Removed
from modelyard.core.administration.operation import Page
from modelyard.core.errors import NotFound
from modelyard.core.limits import Limit
from modelyard.registry.administration.office import Office, perform
from modelyard.registry.administration.paging import page_of


@perform.register
def list_limits(request: ask.ListLimits, office: Office) -> Page[ask.LimitReport]:
    """Those that who asks may know of, with their standings."""
    own = office.own_tenant("")
    standings = office.registry.limits.standings()
    found = (
        ask.LimitReport(
            limit=limit,
            standings=tuple(
                each
                for each in standings
                if each.limit == limit.id and own in ("", each.counted_for.get("tenant", own))
            ),
        )
        for limit in sorted(office.registry.limits.list(), key=lambda each: each.id)
        if _is_seen(limit, own)
    )
    return page_of(found, lambda each: each.limit.id, request)


@perform.register
def get_limit(request: ask.GetLimit, office: Office) -> Limit:
    """One of them; of others' nobody hears that it is there."""
    limit = office.registry.limits.get(request.id)
    if not _is_seen(limit, office.own_tenant("")):
        raise NotFound("unknown_limit", f"there is no limit '{request.id:.40}'", field="limit")
    return limit


@perform.register
def set_limit(request: ask.SetLimit, office: Office) -> Limit:
    """Limit calls."""
    return office.registry.limits.set(
        request.kind,
        request.amount,
        unit=request.unit,
        tenant=request.tenant,
        key=request.key,
        models=request.models,
        per=request.per,
        period=request.period,
        burst=request.burst,
        actor=office.actor,
        reason=request.reason,
    )


@perform.register
def remove_limit(request: ask.RemoveLimit, office: Office) -> Removed:
    """Limit them so no more."""
    office.registry.limits.remove(request.id, actor=office.actor, reason=request.reason)
    return Removed(removed=request.id)


def _is_seen(limit: Limit, own: str) -> bool:
    return own == "" or limit.tenant in ("", own)

"""Four eyes, and the eras of a model."""

from modelyard.core.administration import approvals as ask
from modelyard.core.administration.operation import Page
from modelyard.core.approval import Approval
from modelyard.core.history import Era
from modelyard.core.identity import Verb
from modelyard.core.names import check_name
from modelyard.registry.administration.office import Office, perform
from modelyard.registry.administration.paging import (
    checked_limit,
    cut,
    page_of,
    read_number,
)


@perform.register
def list_approvals(request: ask.ListApprovals, office: Office) -> Page[Approval]:
    """Of the models that who asks may know of, newest first."""
    limit, before = checked_limit(request), read_number(request.cursor)
    every = office.registry.approvals.list(
        model=request.model or None, state=None if request.everything else "pending"
    )
    found = [
        each for each in every if office.sees(each.model) and (before is None or each.id < before)
    ]
    return cut(found[: limit + 1], lambda each: each.id, limit)


@perform.register
def get_approval(request: ask.GetApproval, office: Office) -> Approval:
    """One of them."""
    return _reached(request.number, Verb.READ, office)


@perform.register
def approve(request: ask.Approve, office: Office) -> Approval:
    """Yes."""
    _reached(request.number, Verb.DEPLOY, office)
    return office.registry.approvals.approve(
        request.number, actor=office.actor, reason=request.reason
    )


@perform.register
def reject(request: ask.Reject, office: Office) -> Approval:
    """No."""
    _reached(request.number, Verb.DEPLOY, office)
    return office.registry.approvals.reject(
        request.number, actor=office.actor, reason=request.reason
    )


@perform.register
def list_eras(request: ask.ListEras, office: Office) -> Page[Era]:
    """Each from one change of the route to the next."""
    found = office.registry.history(check_name(request.model))
    return page_of(found, lambda each: each.generation, request)


@perform.register
def get_era(request: ask.GetEra, office: Office) -> Era:
    """The one of a moment."""
    return office.registry.answering(check_name(request.model), request.at)


def _reached(number: int, verb: Verb, office: Office) -> Approval:
    """A request about a model to which who asks may do this."""
    found = office.registry.approvals.get(number)
    if office.principal is not None:
        office.principal.check(verb, found.model)
    return found

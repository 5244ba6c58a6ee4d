"""Routes and roll-outs."""

from modelyard.core.administration import routes as ask
from modelyard.core.administration.operation import Page
from modelyard.core.errors import NotFound
from modelyard.core.names import check_name
from modelyard.core.rollout import Guard, Plan, Rollout
from modelyard.core.route import Route
from modelyard.registry.administration.office import LONGEST_WAIT_S, Office, perform
from modelyard.registry.administration.paging import page_of


@perform.register
def list_routes(request: ask.ListRoutes, office: Office) -> Page[Route]:
    """The routes of those models that who asks may know of."""
    found = (each for each in office.registry.routes() if office.sees(each.model))
    return page_of(found, lambda each: each.model, request)


@perform.register
def get_route(request: ask.GetRoute, office: Office) -> Route:
    """A model's route; raises `NotFound` for a model that has none."""
    office.registry.versions(check_name(request.model))
    for route in office.registry.routes():
        if route.model == request.model:
            return route
    raise NotFound("not_deployed", f"'{request.model}' is not deployed", field="model")


@perform.register
def deploy(request: ask.Deploy, office: Office) -> Route:
    """Route calls to a version."""
    return office.registry.deploy(
        check_name(request.model),
        request.number,
        actor=office.actor,
        canary=request.canary,
        shadow=request.shadow,
        sticky=request.sticky,
        options=request.options,
        force=request.force,
        reason=request.reason,
    )


@perform.register
def promote(request: ask.Promote, office: Office) -> Route:
    """All calls to the version on trial."""
    return office.registry.promote(
        check_name(request.model), actor=office.actor, force=request.force, reason=request.reason
    )


@perform.register
def rollback(request: ask.Rollback, office: Office) -> Route:
    """The route before."""
    return office.registry.rollback(
        check_name(request.model), actor=office.actor, reason=request.reason
    )


@perform.register
def undeploy(request: ask.Undeploy, office: Office) -> ask.Undeployed:
    """No route."""
    model = check_name(request.model)
    office.registry.undeploy(model, actor=office.actor, reason=request.reason)
    return ask.Undeployed(model=model)


@perform.register
def follow(request: ask.Follow, office: Office) -> ask.Followed:
    """Wait for the servers of this home."""
    patience_s = min(max(request.patience_s, 0.0), LONGEST_WAIT_S)
    reasons = office.settle(check_name(request.model), request.generation, patience_s)
    return ask.Followed(reasons=tuple(reasons))


@perform.register
def list_rollouts(request: ask.ListRollouts, office: Office) -> Page[Rollout]:
    """A model's roll-outs."""
    office.registry.versions(check_name(request.model))
    found = sorted(office.registry.rollouts.of(request.model), key=lambda each: each.id)
    return page_of(found, lambda each: each.id, request)


@perform.register
def roll_out(request: ask.RollOut, office: Office) -> Rollout:
    """Begin a roll-out."""
    plan = Plan(
        steps=request.steps,
        every_s=request.every_s,
        guards=tuple(map(Guard.parse, request.guards)),
        least_calls=request.least_calls,
    )
    return office.registry.roll_out(
        check_name(request.model),
        request.number,
        plan=plan,
        actor=office.actor,
        sticky=request.sticky,
        options=request.options,
        force=request.force,
        reason=request.reason,
    )

"""Where calls go: routes, and roll-outs that move them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from modelyard.core.administration.operation import USUAL_PAGE, Page, Request, operation
from modelyard.core.identity import Verb
from modelyard.core.rollout import LEAST_CALLS, Rollout
from modelyard.core.route import Route


@operation("GET", "/routes", Verb.READ, tag="routes")
@dataclass(frozen=True, slots=True, kw_only=True)
class ListRoutes(Request[Page[Route]]):
    """Every model's present route, by model."""

    limit: int = USUAL_PAGE
    cursor: str = ""


@operation("GET", "/routes/{model}", Verb.READ, tag="routes")
@dataclass(frozen=True, slots=True, kw_only=True)
class GetRoute(Request[Route]):
    """Where calls to a model go now."""

    model: str


@operation("POST", "/routes/{model}/deploy", Verb.DEPLOY, tag="routes", guards=GetRoute)
@dataclass(frozen=True, slots=True, kw_only=True)
class Deploy(Request[Route]):
    """Route a model's calls to a version, by default the newest that passed its gate.

    `canary` is the percent of the calls that it takes, `shadow` that of which it gets a copy;
    `sticky` names the header that keeps a caller on one version; `options` sets some options of the
    route, and null unsets one. `force` deploys a rejected version too.
    """

    model: str
    number: int | None = None
    canary: float | None = None
    shadow: float | None = None
    sticky: str | None = None
    options: Mapping[str, Any] | None = None
    force: bool = False
    reason: str = ""


@operation("POST", "/routes/{model}/promote", Verb.DEPLOY, tag="routes", guards=GetRoute)
@dataclass(frozen=True, slots=True, kw_only=True)
class Promote(Request[Route]):
    """Route all calls to the canary, or else to the shadow."""

    model: str
    force: bool = False
    reason: str = ""


@operation("POST", "/routes/{model}/rollback", Verb.DEPLOY, tag="routes", guards=GetRoute)
@dataclass(frozen=True, slots=True, kw_only=True)
class Rollback(Request[Route]):
    """Route calls as they were routed before the last change."""

    model: str
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Undeployed:
    """A model that calls do not go to any more."""

    model: str
    number: None = None


@operation("DELETE", "/routes/{model}", Verb.DEPLOY, tag="routes", guards=GetRoute)
@dataclass(frozen=True, slots=True, kw_only=True)
class Undeploy(Request[Undeployed]):
    """Take a model's route away: calls to it get 404."""

    model: str
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Followed:
    """Why servers do not answer by a route; nothing where all do."""

    reasons: tuple[str, ...] = ()


@operation("POST", "/routes/{model}/follow", Verb.READ, tag="routes", is_slow=True)
@dataclass(frozen=True, slots=True, kw_only=True)
class Follow(Request[Followed]):
    """Wait until the servers of the administered home follow a model's route, 60 s at most.

    Without a generation, until they have seen that it was taken away.
    """

    model: str
    generation: int | None = None
    patience_s: float = 10.0


@operation("GET", "/routes/{model}/rollouts", Verb.READ, tag="routes")
@dataclass(frozen=True, slots=True, kw_only=True)
class ListRollouts(Request[Page[Rollout]]):
    """A model's roll-outs, oldest first, with every move and the numbers it was made on."""

    model: str
    limit: int = USUAL_PAGE
    cursor: str = ""


@operation(
    "POST", "/routes/{model}/rollouts", Verb.DEPLOY, tag="routes", status=201, guards=GetRoute
)
@dataclass(frozen=True, slots=True, kw_only=True)
class RollOut(Request[Rollout]):
    """Begin to move a model's calls to a version step by step; running servers do the rest.

    `guards` are texts such as `error_rate<=0.1%`, `p99<=1.2x`, `agreement>=99%`.
    """

    model: str
    number: int | None = None
    steps: tuple[float, ...]
    every_s: float = 60.0
    guards: tuple[str, ...] = ()
    least_calls: int = LEAST_CALLS
    sticky: str | None = None
    options: Mapping[str, Any] | None = None
    force: bool = False
    reason: str = ""

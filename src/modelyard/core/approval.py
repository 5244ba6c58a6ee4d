"""A change that waits until a second person approves it."""

import datetime
from dataclasses import dataclass
from typing import Literal

from modelyard.core.identity import Actor
from modelyard.core.rollout import Plan
from modelyard.core.route import Route

ApprovalState = Literal["pending", "approved", "rejected", "expired", "stale"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A change of a model's route, exactly as it will be made.

    `action` is what the audit calls it, `number` the version that it is about, `route` what it
    leads to; with a `plan` step by step, `route` being the one that it begins from.
    """

    action: str
    number: int
    route: Route
    plan: Plan | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """A change that somebody has asked for, and what became of it.

    It is of the route as it was at `generation`: `stale` when that has changed since. `result` is
    the generation of the route that it led to.
    """

    id: int
    model: str
    change: Change
    generation: int
    asked: datetime.datetime
    asked_by: Actor
    asked_reason: str
    expires: datetime.datetime
    state: ApprovalState
    decided: datetime.datetime | None = None
    decided_by: Actor | None = None
    decided_reason: str = ""
    result: int | None = None


def is_same_person(one: Actor, other: Actor) -> bool:
    """Whether two actors may be one person, as far as can be told.

    They are for having one key, or one name within a tenant; of somebody whose tenant is not known,
    as of a user of the machine itself, the name alone decides.
    """
    if one.key and one.key == other.key:
        return True
    knows_both = bool(one.tenant and other.tenant)
    return one.name == other.name and (one.tenant == other.tenant or not knows_both)

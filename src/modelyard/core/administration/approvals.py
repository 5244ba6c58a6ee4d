"""Changes that wait for a second person, and which version answered when."""

import datetime
from dataclasses import dataclass

from modelyard.core.administration.operation import USUAL_PAGE, Page, Request, operation
from modelyard.core.approval import Approval
from modelyard.core.history import Era
from modelyard.core.identity import Verb


@operation("GET", "/approvals", Verb.READ, tag="approvals")
@dataclass(frozen=True, slots=True, kw_only=True)
class ListApprovals(Request[Page[Approval]]):
    """The changes that wait, newest first; with `everything` also those that were decided."""

    model: str = ""
    everything: bool = False
    limit: int = USUAL_PAGE
    cursor: str = ""


@operation("GET", "/approvals/{number}", Verb.READ, tag="approvals")
@dataclass(frozen=True, slots=True, kw_only=True)
class GetApproval(Request[Approval]):
    """Exactly what was asked for, by whom and why, and what became of it."""

    number: int


@operation("POST", "/approvals/{number}/approve", Verb.DEPLOY, tag="approvals", guards=GetApproval)
@dataclass(frozen=True, slots=True, kw_only=True)
class Approve(Request[Approval]):
    """Let a change that somebody else has asked for take place."""

    number: int
    reason: str = ""


@operation("POST", "/approvals/{number}/reject", Verb.DEPLOY, tag="approvals", guards=GetApproval)
@dataclass(frozen=True, slots=True, kw_only=True)
class Reject(Request[Approval]):
    """Refuse a change, or take one's own request back."""

    number: int
    reason: str


@operation("GET", "/models/{model}/history", Verb.READ, tag="models")
@dataclass(frozen=True, slots=True, kw_only=True)
class ListEras(Request[Page[Era]]):
    """What answered a model's calls since when, oldest first."""

    model: str
    limit: int = USUAL_PAGE
    cursor: str = ""


@operation("GET", "/models/{model}/answering", Verb.READ, tag="models")
@dataclass(frozen=True, slots=True, kw_only=True)
class GetEra(Request[Era]):
    """What answered a model's calls at a moment: by whom, and on which evidence."""

    model: str
    at: datetime.datetime

"""What answered a model's calls, and since when: by whom, who approved, and on which evidence."""

import datetime
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from modelyard.core.identity import Actor
from modelyard.core.route import Route


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """A version that a route led to: its bundle, who published it, and how it was evaluated.

    `evaluation` is that of the bundle's manifest (datasets, metrics, thresholds, verdict); None
    where the bundle is damaged. `percent` is its share of the calls; a shadow has none of them.
    """

    version: int
    percent: float
    state: str
    digest: str
    published: datetime.datetime
    published_by: str
    evaluation: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Era:
    """The time between two changes of a model's route; `until` is None for the present one.

    Without a `route` nothing answered. `approved_by` and `approval` are set where a second person
    had to approve; `evidence` only where one moment was asked for.
    """

    model: str
    generation: int
    action: str
    since: datetime.datetime
    until: datetime.datetime | None
    route: Route | None
    changed_by: Actor
    reason: str
    approval: int | None = None
    approved_by: Actor | None = None
    evidence: tuple[Evidence, ...] = ()

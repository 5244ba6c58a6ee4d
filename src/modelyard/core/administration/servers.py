"""The servers of the home that is administered."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from modelyard.core.administration.operation import Request, operation
from modelyard.core.identity import Verb


@operation("GET", "/status", Verb.READ, tag="servers", is_global=True)
@dataclass(frozen=True, slots=True, kw_only=True)
class Status(Request[tuple[Mapping[str, Any], ...]]):
    """What the running servers of the home do: workers, endpoints, queues, rates, memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who is asking, as the administration knows them."""

    name: str
    key: str
    tenant: str
    role: str
    verbs: tuple[str, ...]
    models: tuple[str, ...]


@operation("GET", "/whoami", Verb.READ, tag="servers")
@dataclass(frozen=True, slots=True, kw_only=True)
class WhoAmI(Request[Identity]):
    """Who is asking, and what they may."""

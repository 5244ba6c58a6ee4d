"""What operations are done with, and the table of who does which."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import singledispatch
from pathlib import Path
from typing import Any, Final

from modelyard.core.administration.operation import Request
from modelyard.core.errors import Denied
from modelyard.core.identity import DEFAULT_TENANT, EVERY_MODEL, Actor, Principal
from modelyard.core.ports import BlobStore
from modelyard.registry.registry import Registry

Settle = Callable[[str, int | None, float], Sequence[str]]
"""Waits until the running servers of a home follow a model's route; why some do not."""
Look = Callable[[], Sequence[Mapping[str, Any]]]
"""What the running servers of a home say of themselves."""

LONGEST_WAIT_S: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Office:
    """Where an operation is done, and for whom; without a principal, for this machine's user."""

    registry: Registry
    blobs: BlobStore
    home: Path
    actor: Actor
    settle: Settle
    look: Look
    principal: Principal | None = None

    def sees(self, model: str) -> bool:
        """Whether who asks may know of a model."""
        return self.principal is None or self.principal.sees(model)

    @property
    def sees_all(self) -> bool:
        """Whether who asks is confined to no models, and to no tenant but the one of the house."""
        who = self.principal
        return who is None or (
            who.tenant == DEFAULT_TENANT and who.tenant_models == who.scope.models == EVERY_MODEL
        )

    def check_whole(self) -> None:
        """Raise `Denied` where what is asked for is about all models, and who asks is confined."""
        if not self.sees_all:
            raise Denied(
                "whole_scope_needed",
                "this is about all models, and the key is confined to some; "
                "ask an administrator for a key that sees every model",
            )

    def own_tenant(self, asked: str) -> str:
        """The tenant that is asked about, empty for all; raises `Denied` for one of others'."""
        who = self.principal
        if who is None or who.tenant == DEFAULT_TENANT:
            return asked
        self.check_tenant(asked or who.tenant)
        return who.tenant

    def check_tenant(self, tenant: str, *, only_own: bool = False) -> None:
        """Raise `Denied` for another tenant than one's own, but for those of the house.

        Where that is confined itself, its administrators could see more through another.
        """
        who = self.principal
        if who is None or who.tenant == tenant:
            return
        if only_own or who.tenant != DEFAULT_TENANT or who.tenant_models != EVERY_MODEL:
            raise Denied(
                "other_tenant",
                f"'{who.name}' is of tenant '{who.tenant}', and this is of another",
                field="tenant",
            )

    def check_pattern(self, pattern: str) -> None:
        """Raise `Denied` for a pattern of models some of which who asks may not know of."""
        who = self.principal
        if who is None or "*" in who.scope.models or pattern in who.scope.models:
            return
        # A pattern within a pattern is only told for sure where it is one name.
        if any(sign in pattern for sign in "*?[") or not who.sees(pattern):
            raise Denied(
                "model_not_allowed",
                f"'{who.name}' sees {', '.join(who.scope.models)} and cannot let others see "
                f"'{pattern:.140}'",
                field="models",
            )


@singledispatch
def perform(request: Request[Any], office: Office) -> Any:
    """Do what is asked; each request's own function is registered where it stands."""
    raise NotImplementedError(type(request).__name__)

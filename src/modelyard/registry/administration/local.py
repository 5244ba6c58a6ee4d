"""The administration on the machine itself."""

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final, TypeVar

from modelyard.bundle.archive import export_bundle, import_bundle
from modelyard.core.administration.models import Export, Publish
from modelyard.core.administration.operation import Request
from modelyard.core.identity import Actor, Principal, Verb
from modelyard.core.names import Reference
from modelyard.core.records import Version
from modelyard.registry.administration import (
    access,
    approvals,
    audit,
    limits,
    models,
    payloads,
    routes,
    rules,
    servers,
    usage,
)
from modelyard.registry.administration.office import Office, perform

A = TypeVar("A")

_AREAS = (
    models,
    routes,
    approvals,
    servers,
    access,
    limits,
    rules,
    usage,
    audit,
    payloads,
)
"""Imported for what they register."""


class LocalAdministration:
    """The port `Administration` over a registry and the files of a home."""

    def __init__(self, office: Office) -> None:
        self._office = office

    def do(self, request: Request[A]) -> A:
        """Do what is asked."""
        answer: A = self._perform(request)
        return answer

    def publish(self, request: Publish, archive: Path) -> Version:
        """Publish the bundle in a file that `export` wrote, under the name that it carries."""
        office = self._office
        # Held until published: in between, nothing refers to what was put.
        with office.blobs.hold():
            bundle = import_bundle(archive, office.blobs)
            if office.principal is not None:
                # What it is called stands inside: only now is it known whether they may.
                office.principal.check(Verb.DEPLOY, bundle.manifest.name)
            return office.registry.publish(
                bundle,
                actor=office.actor,
                reason=request.reason,
            )

    def export(self, request: Export, target: Path) -> None:
        """Write a version's bundle to a file."""
        registry = self._office.registry
        version = registry.resolve(Reference.parse(request.reference))
        export_bundle(registry.bundle(version), target)

    def lines(self, request: Request[Iterator[bytes]]) -> Iterator[bytes]:
        """The lines that are asked for."""
        found: Iterator[bytes] = self._perform(request)
        return found

    def _perform(self, request: Request[Any]) -> Any:
        if request.operation.is_global:
            self._office.check_whole()
        return perform(request, self._office)


class LocalReception:
    """The port `Reception` over a registry and the files of a home.

    `staging` makes the private folders that archives lie in on their way.
    """

    def __init__(
        self,
        office: Office,
        max_bundle_bytes: int,
        staging: Callable[[], AbstractContextManager[Path]],
    ) -> None:
        self._office = office
        self._staging = staging
        self.max_bundle_bytes: Final = max_bundle_bytes

    def on_behalf_of(self, principal: Principal, actor: Actor) -> LocalAdministration:
        """The administration, for somebody who asks over the network."""
        return LocalAdministration(
            dataclasses.replace(self._office, principal=principal, actor=actor)
        )

    def staging(self) -> AbstractContextManager[Path]:
        """A private folder, gone when the block ends."""
        return self._staging()

    def together(self) -> AbstractContextManager[None]:
        """One transaction."""
        return self._office.registry.repeats.together()

    def once(self, mark: str, request: str, perform: Callable[[], bytes]) -> tuple[bytes, bool]:
        """Done once."""
        return self._office.registry.repeats.once(mark, request, perform)

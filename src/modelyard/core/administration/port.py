"""The port: whoever can do what is asked, on the machine itself or over the network."""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol, TypeVar

from modelyard.core.administration.models import Export, Publish
from modelyard.core.administration.operation import Request
from modelyard.core.identity import Actor, Principal
from modelyard.core.records import Version

A = TypeVar("A")


class Administration(Protocol):
    """Does what is asked. Its methods block, and raise errors of `core.errors`."""

    def do(self, request: Request[A]) -> A:
        """The answer to any request that travels as JSON."""
        ...

    def publish(self, request: Publish, archive: Path) -> Version:
        """Publish the bundle in a file."""
        ...

    def export(self, request: Export, target: Path) -> None:
        """Write a version's bundle to a file, replacing it."""
        ...

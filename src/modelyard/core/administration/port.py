"""The port: whoever can do what is asked, on the machine itself or over the network."""

import dataclasses
import itertools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol, TypeVar

from modelyard.core.administration.models import Export, Publish
from modelyard.core.administration.operation import LEAST_PAGE, LONGEST_PAGE, Page, Request
from modelyard.core.identity import Actor, Principal
from modelyard.core.records import Version

A = TypeVar("A")
T = TypeVar("T")


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

    def lines(self, request: Request[Iterator[bytes]]) -> Iterator[bytes]:
        """The answer to a request that comes as JSON lines, as it comes."""
        ...


def every(administration: Administration, request: Request[Page[T]]) -> Iterator[T]:
    """The items of all pages of a list, from the one that is asked for on."""
    asked: Any = request
    while True:
        page = administration.do(request)
        yield from page.items
        if page.next is None:
            return
        request = asked = dataclasses.replace(asked, cursor=page.next)


def first(count: int, administration: Administration, request: Request[Page[T]]) -> list[T]:
    """At most so many items of a list, in no more pages than they need."""
    asked: Any = request
    page = dataclasses.replace(asked, limit=min(max(count, LEAST_PAGE), LONGEST_PAGE))
    return list(itertools.islice(every(administration, page), count))


class Reception(Protocol):
    """The administration of a home, as a server offers it to those who ask over the network."""

    @property
    def max_bundle_bytes(self) -> int:
        """The largest archive that may be published."""
        ...

    def on_behalf_of(self, principal: Principal, actor: Actor) -> Administration:
        """What somebody asks is done for them, as far as their models and tenant go."""
        ...

    def staging(self) -> AbstractContextManager[Path]:
        """A private folder on the home's disk, gone when the block ends."""
        ...

    def together(self) -> AbstractContextManager[None]:
        """All that this thread asks for within is one transaction."""
        ...

    def once(self, mark: str, request: str, perform: Callable[[], bytes]) -> tuple[bytes, bool]:
        """The answer to a request that may be sent again, and whether it was done before.

        `mark` and `request` are digests: of who asks and the key that they gave it, and of what
        they ask. Raises `Conflict` where the same mark came with another request.
        """
        ...

"""An operation: a request with its answer, and how both travel."""

import re
from collections.abc import Callable
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any, ClassVar, Final, Generic, TypeVar

from modelyard.core.identity import Verb
from modelyard.core.names import Reference

A = TypeVar("A")
R = TypeVar("R", bound="type[Request[Any]]")
T = TypeVar("T")

LEAST_PAGE: Final = 1
USUAL_PAGE: Final = 100
LONGEST_PAGE: Final = 1000

_PLACE: Final = re.compile(r"\{(\w+)\}")


class Request(Generic[A]):
    """What somebody asks; its answer is an `A`. Subclasses are frozen dataclasses.

    Fields that the path names travel there, the others in the query of a GET or DELETE and in the
    JSON body of everything else.
    """

    __slots__ = ()
    operation: ClassVar["Operation"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Page(Generic[T]):
    """A part of a list, and the cursor of the next; None after the last.

    What is added or removed between two pages neither repeats nor hides anything else.
    """

    items: tuple[T, ...]
    next: str | None = None


class Body(StrEnum):
    """What travels instead of JSON."""

    JSON = "application/json"
    ARCHIVE = "application/x-tar"
    LINES = "application/jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One thing that can be done. `verb` is what it asks of its caller.

    `guards` is the operation that reads what this one changes: its ETag is what `If-Match` is held
    against, and with `must_match` nothing is changed without one. `is_secret` answers are kept
    nowhere on their way, `is_global` things are for those alone who see every model and belong to
    the house's own tenant, `is_slow` ones may take minutes. What is not `once` may be done again
    with the same `Idempotency-Key`, to no harm.
    """

    name: str
    method: str
    path: str
    verb: Verb
    tag: str
    request: "type[Request[Any]]"
    answer: Any
    status: int = 200
    takes: Body = Body.JSON
    gives: Body = Body.JSON
    guards: "type[Request[Any]] | None" = None
    must_match: bool = False
    is_secret: bool = False
    is_global: bool = False
    is_slow: bool = False
    once: bool = True
    location: str = ""

    @property
    def summary(self) -> str:
        """What it does, in a sentence."""
        return (self.request.__doc__ or "").strip().partition("\n\n")[0].replace("\n    ", " ")

    @property
    def changes(self) -> bool:
        """Whether it changes anything that a repeat could change once more."""
        return self.method != "GET" and self.verb in (Verb.DEPLOY, Verb.ADMIN)

    @property
    def in_path(self) -> tuple[str, ...]:
        """The fields that travel in the path."""
        return tuple(_PLACE.findall(self.path))

    @property
    def elsewhere(self) -> tuple[str, ...]:
        """The fields that travel in the query or the body."""
        named = set(self.in_path)
        declared: Any = self.request
        return tuple(field.name for field in fields(declared) if field.name not in named)

    @property
    def in_query(self) -> tuple[str, ...]:
        """The fields that travel in the query."""
        in_query = self.method in ("GET", "DELETE") or self.takes is not Body.JSON
        return self.elsewhere if in_query else ()

    @property
    def in_body(self) -> tuple[str, ...]:
        """The fields that travel in the body."""
        return () if self.in_query else self.elsewhere


def operation(method: str, path: str, verb: Verb, *, tag: str, **traits: Any) -> Callable[[R], R]:
    """Declare what a request is: its place in the API, and the verb that it asks for."""

    def declare(request: R) -> R:
        [base] = (each for each in request.__orig_bases__ if each.__origin__ is Request)  # type: ignore[attr-defined]
        name = request.__name__
        request.operation = Operation(
            name=name[0].lower() + name[1:],
            method=method,
            path=path,
            verb=verb,
            tag=tag,
            request=request,
            answer=base.__args__[0],
            **traits,
        )
        return request

    return declare


def model_of(request: Request[Any]) -> str | None:
    """The model that a request names, for the check of who may; None where it names none."""
    model = getattr(request, "model", None)
    if model is None:
        reference = getattr(request, "reference", None)
        model = None if reference is None else Reference.parse(reference).model
    return model or None

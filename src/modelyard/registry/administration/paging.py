"""Pages of lists: a cursor is the place of the last item that was given, not a count of items."""

import base64
import json
from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol, TypeVar

from modelyard.core.administration.operation import LEAST_PAGE, LONGEST_PAGE, Page
from modelyard.core.errors import Invalid

T = TypeVar("T")
Place = str | int
_LARGEST: Final = 2**63


class Paged(Protocol):
    """A request for a page."""

    @property
    def limit(self) -> int:
        """At most so many items."""
        ...

    @property
    def cursor(self) -> str:
        """Where the page before ended; empty for the first."""
        ...


def page_of(items: Iterable[T], place: Callable[[T], Place], request: Paged) -> Page[T]:
    """The items that come after the cursor, out of all of them in the order of their places."""
    limit, after = checked_limit(request), read_cursor(request.cursor)
    if after is not None:
        items = (item for item in items if _is_after(place(item), after))
    found = list(_first(items, limit + 1))
    return cut(found, place, limit)


def cut(found: list[T], place: Callable[[T], Place], limit: int) -> Page[T]:
    """A page out of what was looked up for it, which is one more than it may have."""
    items = tuple(found[:limit])
    return Page(items=items, next=make_cursor(place(items[-1])) if len(found) > limit else None)


def checked_limit(request: Paged) -> int:
    """How many items are wanted; raises `Invalid` for too few and too many."""
    if not LEAST_PAGE <= request.limit <= LONGEST_PAGE:
        raise Invalid(
            "bad_limit", f"a page has {LEAST_PAGE} to {LONGEST_PAGE} items", field="limit"
        )
    return request.limit


def make_cursor(place: Place) -> str:
    """A place as an opaque text."""
    return base64.urlsafe_b64encode(json.dumps(place).encode()).decode().rstrip("=")


def read_cursor(cursor: str) -> Any:
    """The place that a cursor stands for, None for the beginning; raises `Invalid`."""
    if not cursor:
        return None
    try:
        place = json.loads(base64.b64decode(cursor + "=" * (-len(cursor) % 4), b"-_", True))
    except (ValueError, RecursionError):
        raise bad_cursor() from None
    if not isinstance(place, str | int) or isinstance(place, bool):
        raise bad_cursor()
    if isinstance(place, int) and abs(place) >= _LARGEST:
        raise bad_cursor()
    return place


def read_number(cursor: str) -> int | None:
    """The number that a cursor stands for, None for the beginning; raises `Invalid`."""
    place = read_cursor(cursor)
    if not isinstance(place, int | None):
        raise bad_cursor()
    return place


def bad_cursor() -> Invalid:
    """What somebody hears who made a cursor up."""
    return Invalid("bad_cursor", "this is no cursor: give the 'next' of a page", field="cursor")


def _is_after(place: Place, after: Place) -> bool:
    if type(place) is not type(after):
        raise bad_cursor()
    return place > after  # type: ignore[operator]


def _first(items: Iterable[T], count: int) -> Iterable[T]:
    for _, item in zip(range(count), items, strict=False):
        yield item

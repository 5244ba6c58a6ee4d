"""Headers that every answer of the application has, whoever made it."""

from typing import Final

from litestar.types import Message, Scope

from modelyard.api.asks import REQUEST_ID
from modelyard.api.http.guard import id_of_scope

PAGE_HEADERS: Final = {
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
}
"""What a page for people has beside them: it runs nothing, and lies in no other page's frame."""
_ALWAYS: Final = (
    # What is said to one key is not for a cache that others read.
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
)


async def add_headers(message: Message, scope: Scope) -> None:
    """Add those headers that the answer does not set itself."""
    if message["type"] != "http.response.start":
        return
    headers = list(message["headers"])
    names = {name.lower() for name, _ in headers}
    for name, value in (*_ALWAYS, (REQUEST_ID, id_of_scope(scope).encode())):
        if name not in names:
            headers.append((name, value))
    message["headers"] = headers

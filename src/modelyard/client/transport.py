"""HTTP with httpx: requests to it, its responses and exceptions back to values of ours."""

import asyncio
import os
import time
from dataclasses import dataclass, field
from typing import Final

import httpx

from modelyard.client.messages import Request, Response
from modelyard.client.steps import Failure
from modelyard.core.errors import Invalid, TimedOut, Unavailable

# Shorter than servers and proxies keep a silent connection (ours 75 s, many 60 s): a call must not
# go into one that is just being closed, since nobody could say whether it ran.
_LIMITS: Final = httpx.Limits(
    max_connections=100, max_keepalive_connections=20, keepalive_expiry=30.0
)


def key_of(given: str | None) -> str | None:
    """The key to send: what is given, or the environment's; raises `Invalid` for no key at all."""
    key = os.environ.get("MODELYARD_KEY", "") if given is None else given
    key = key.strip()
    if not key.isascii() or any(not each.isprintable() for each in key):
        raise Invalid("bad_key", "the key holds characters that no key has", field="key")
    return key or None


@dataclass(frozen=True, slots=True)
class Server:
    """Where a client's requests go, and how long it waits for their answers."""

    url: str
    timeout_s: float
    key: str | None = field(repr=False)

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://")):
            raise Invalid(
                "bad_url",
                f"'{self.url}' is no address of a server: write http://host:port",
                field="url",
            )

    @property
    def headers(self) -> dict[str, str]:
        """Headers of every request."""
        # Numbers in binary hardly shrink, and packing them costs the server more than the call.
        headers = {"accept-encoding": "identity"}
        if self.key is not None:
            headers["authorization"] = f"Bearer {self.key}"
        return headers

    def failure(self, error: httpx.TransportError) -> Failure:
        """What a request without a response means for its caller."""
        if isinstance(error, httpx.ConnectError) and "CERTIFICATE_VERIFY_FAILED" in str(error):
            return Failure(
                Unavailable(
                    "untrusted_server",
                    f"{self.url} shows a certificate that this machine does not trust; if it is "
                    "one of your own authority's, name that authority's file in SSL_CERT_FILE",
                ),
                was_sent=False,
            )
        if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
            return Failure(
                Unavailable(
                    "cannot_connect",
                    f"nothing answers at {self.url}: is the server running? Start one with "
                    "'modelyard serve'",
                ),
                was_sent=False,
            )
        if isinstance(error, httpx.TimeoutException):
            return Failure(
                TimedOut("no_answer", f"{self.url} did not answer within {self.timeout_s:g} s"),
                was_sent=True,
            )
        return Failure(
            Unavailable(
                "connection_lost",
                f"the connection to {self.url} broke before the answer came; "
                "the call may have been run",
            ),
            was_sent=True,
        )


class Transport:
    """Sends and waits by blocking."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._http = httpx.Client(
            base_url=server.url, timeout=server.timeout_s, headers=server.headers, limits=_LIMITS
        )

    def send(self, request: Request) -> Response | Failure:
        """The response, or why there is none."""
        try:
            return _received(
                self._http.request(
                    request.method, request.path, headers=request.headers, content=request.body
                )
            )
        except httpx.TransportError as error:
            return self._server.failure(error)

    def pause(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()


class AsyncTransport:
    """Sends and waits on the running event loop."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._http = httpx.AsyncClient(
            base_url=server.url, timeout=server.timeout_s, headers=server.headers, limits=_LIMITS
        )

    async def send(self, request: Request) -> Response | Failure:
        """The response, or why there is none."""
        try:
            return _received(
                await self._http.request(
                    request.method, request.path, headers=request.headers, content=request.body
                )
            )
        except httpx.TransportError as error:
            return self._server.failure(error)

    async def pause(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()


def _received(response: httpx.Response) -> Response:
    # httpx gives header names in lower case.
    return Response(response.status_code, dict(response.headers), response.content)

"""The administration of a server elsewhere, spoken over `/api/v1`."""

import contextlib
import os
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar
from urllib.parse import quote

import httpx
import msgspec

from modelyard.client.transport import Server
from modelyard.core.administration.models import Export, Publish
from modelyard.core.administration.operation import Body, Operation, Request
from modelyard.core.administration.paths import PREFIX
from modelyard.core.errors import (
    Exhausted,
    Kind,
    ModelyardError,
    NotFound,
    Unavailable,
    make_error,
)
from modelyard.core.records import Version

A = TypeVar("A")
_CHUNK_BYTES: Final = 1024 * 1024
_TRIES: Final = 3
_PAUSE_S: Final = 0.2
_PATIENCE_S: Final = 90.0
"""Longer than the longest wait that a server takes for its own servers."""


class RemoteAdministration:
    """The port `Administration` over a server, with a key. Close it, or use it as a context.

    What changes something carries a key of its own, and is sent again where no answer came: it is
    done once all the same.
    """

    def __init__(self, url: str, key: str, *, timeout_s: float = _PATIENCE_S) -> None:
        self._server = Server(url, timeout_s, key or None)
        self._http = httpx.Client(
            base_url=url.rstrip("/") + PREFIX,
            timeout=timeout_s,
            headers=self._server.headers,
        )
        self._etags: dict[str, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def do(self, request: Request[A]) -> A:
        """Ask the server to do it."""
        operation = type(request).operation
        path, options = self._asked(request)
        options["headers"] |= self._headers(operation, path)
        response = self._send(operation.method, path, **options)
        if "etag" in response.headers:
            self._etags[path] = response.headers["etag"]
        answer: A = _read(response.content, operation.answer)
        return answer

    def publish(self, request: Publish, archive: Path) -> Version:
        """Send a bundle's archive, a piece at a time."""
        operation = Publish.operation
        try:
            size_bytes = archive.stat().st_size
        except FileNotFoundError:
            raise NotFound(
                "no_such_file", f"there is no file {archive}", field=str(archive)
            ) from None
        values = msgspec.to_builtins(request)
        response = self._send(
            operation.method,
            make_path(operation, values),
            params=make_query(operation, values),
            headers={"content-type": Body.ARCHIVE, "content-length": str(size_bytes)},
            archive=archive,
            # The answer comes when every byte of it was read twice.
            timeout=self._patience(operation),
        )
        version: Version = _read(response.content, operation.answer)
        return version

    def export(self, request: Export, target: Path) -> None:
        """Fetch a version's archive into a file, replacing it once all of it is there."""
        operation = Export.operation
        path = make_path(operation, msgspec.to_builtins(request))
        if not target.parent.is_dir():
            raise NotFound("no_such_folder", f"there is no folder {target.parent}; make it first")
        with (
            _draft(target) as draft,
            self._named(),
            self._http.stream(
                operation.method, path, timeout=self._patience(operation)
            ) as response,
        ):
            if response.status_code >= 400:
                response.read()
                raise _error_of(response)
            with draft.open("wb") as file:
                for chunk in response.iter_raw(_CHUNK_BYTES):
                    _write(file.write, chunk)

    def lines(self, request: Request[Iterator[bytes]]) -> Iterator[bytes]:
        """The lines that are asked for, as they come."""
        path, options = self._asked(request)
        with (
            self._named(),
            self._http.stream(type(request).operation.method, path, **options) as response,
        ):
            if response.status_code >= 400:
                response.read()
                raise _error_of(response)
            rest = b""
            for chunk in response.iter_bytes(_CHUNK_BYTES):
                *whole, rest = (rest + chunk).split(b"\n")
                for line in whole:
                    yield line + b"\n"
            if rest:
                raise Unavailable("cut_off", "the server's answer ended in the middle of a line")

    def _asked(self, request: Request[Any]) -> tuple[str, dict[str, Any]]:
        """Where a request goes, and the rest of it as httpx takes it."""
        operation = type(request).operation
        values = msgspec.to_builtins(request)
        body = {name: values[name] for name in operation.in_body}
        return make_path(operation, values), {
            "params": make_query(operation, values),
            "headers": {"content-type": Body.JSON.value} if body else {},
            "content": msgspec.json.encode(body) if body else None,
            "timeout": self._patience(operation),
        }

    def _patience(self, operation: Operation) -> httpx.Timeout:
        is_long = operation.is_slow or operation.gives is not Body.JSON
        return httpx.Timeout(
            self._server.timeout_s, read=None if is_long else self._server.timeout_s
        )

    def _headers(self, operation: Operation, path: str) -> dict[str, str]:
        headers = {}
        if operation.changes:
            headers["idempotency-key"] = str(uuid.uuid4())
        if operation.must_match and operation.guards is not None:
            if path not in self._etags:
                self.do(operation.guards())
            headers["if-match"] = self._etags[path]
        return headers

    def _send(
        self, method: str, path: str, *, archive: Path | None = None, **options: Any
    ) -> httpx.Response:
        """The good response; what may not have been heard is said again."""
        tries = _TRIES
        while True:
            tries -= 1
            try:
                with contextlib.ExitStack() as stack, self._named():
                    if archive is not None:
                        file = stack.enter_context(archive.open("rb"))
                        options["content"] = _pieces(file)
                    response = self._http.request(method, path, **options)
            except Unavailable:
                if not tries:
                    raise
            else:
                if response.status_code < 400:
                    return response
                error = _error_of(response)
                if not tries or error.kind is not Kind.UNAVAILABLE or error.retry_after_s is None:
                    raise error
            time.sleep(_PAUSE_S)

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except httpx.TransportError as error:
            raise self._server.failure(error).error from None


def make_path(operation: Operation, values: Mapping[str, Any]) -> str:
    """Where a request with these values goes, below the administration."""
    return operation.path.format_map(
        {name: quote(str(values[name]), safe="") for name in operation.in_path}
    )


def make_query(operation: Operation, values: Mapping[str, Any]) -> dict[str, str]:
    """What of it travels in the query; what is empty is left out."""
    return {
        name: _text(value)
        for name in operation.in_query
        if (value := values[name]) not in (None, "", [], ())
    }


def _text(value: object) -> str:
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def _pieces(file: Any) -> Iterator[bytes]:
    while chunk := file.read(_CHUNK_BYTES):
        yield chunk


def _read(content: bytes, wanted: Any) -> Any:
    try:
        return msgspec.json.decode(content, type=wanted)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise Unavailable(
            "not_understood",
            f"the server's answer is not one of the administration's: {error!s:.200}; is it a "
            "Modelyard server of this release?",
        ) from None


def _error_of(response: httpx.Response) -> ModelyardError:
    try:
        said = msgspec.json.decode(response.content)
        error = make_error(
            Kind(said["kind"]), str(said["code"]), str(said["detail"]), field=said.get("field")
        )
    except (msgspec.DecodeError, KeyError, TypeError, ValueError, AttributeError):
        return Unavailable(
            "not_understood",
            f"the server answered with status {response.status_code} and no problem of the "
            "administration's; is it a Modelyard server of this release?",
        )
    after = response.headers.get("retry-after", "")
    error.retry_after_s = float(after[:9]) if after.isdecimal() else None
    return error


@contextlib.contextmanager
def _draft(target: Path) -> Iterator[Path]:
    """A file beside the target that takes its place when the block ends well."""
    descriptor, name = tempfile.mkstemp(prefix=f".{target.name}-", dir=target.parent)
    os.close(descriptor)
    draft = Path(name)
    try:
        yield draft
        draft.chmod(0o666 & ~_umask())
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)


def _umask() -> int:
    present = os.umask(0o077)
    os.umask(present)
    return present


def _write(write: Any, chunk: bytes) -> None:
    try:
        write(chunk)
    except OSError as error:
        raise Exhausted("disk_full", f"the file cannot be written: {error.strerror}") from None
